"""`weakseg train`, `predict` and `evaluate` on a cohort on disk, as a user types them."""

from __future__ import annotations

import csv
import json
import signal

import nibabel as nib
import numpy as np
import pytest

import learning_method
from napari_weakseg.arrays.extreme_points import simulate_points
from napari_weakseg.cli import main
from napari_weakseg.io.runs import Run, read_weights

pytestmark = pytest.mark.usefixtures("learning")


@pytest.fixture
def cohort(tmp_path):
    """Four cases to learn from and two to test, each a bright ball."""
    folder = tmp_path / "balls"
    folder.mkdir()
    entries = []
    for number in range(6):
        rng = np.random.default_rng(number)
        i, j, k = np.ogrid[:16, :14, :10]
        mask = (((i - 8) ** 2 + (j - 7) ** 2 + (k - 5) ** 2) <= (3 + number / 5) ** 2).astype(np.uint8)
        image = rng.normal(20, 3, mask.shape) + 80 * mask
        affine = np.diag([1, 1, 2, 1.0])
        nib.save(nib.Nifti1Image(image.astype(np.float32), affine), folder / f"b{number}.nii.gz")
        nib.save(nib.Nifti1Image(mask, affine), folder / f"b{number}_mask.nii.gz")
        points = {"space": "voxel", "structures": [{"name": "lesion", "value": 1, "objects": [simulate_points(mask).tolist()]}]}
        (folder / f"b{number}_points.json").write_text(json.dumps(points))
        entry = {"id": f"b{number}", "patient": f"Mrs Miller {number}", "image": f"b{number}.nii.gz"}
        entry |= {"points": f"b{number}_points.json", "label": f"b{number}_mask.nii.gz"}
        entries.append(entry | {"image_label": "lesion"})
    data = {"name": "balls", "structures": [{"name": "lesion", "value": 1}], "image_classes": ["normal", "lesion"]}
    data |= {"channels": ["image"], "training": entries[:4], "testing": entries[4:]}
    (folder / "cohort.json").write_text(json.dumps(data))
    return folder / "cohort.json"


def weakseg(*arguments):
    return main([str(argument) for argument in arguments])


def test_train_predict_evaluate(cohort, tmp_path, capsys):
    run = tmp_path / "run"
    assert weakseg("train", cohort, "--method", "learning", "--run", run, "--set", "share=0.9") == 0
    assert "learnt from 4 cases of cohort.json" in capsys.readouterr().out
    assert read_weights(run).recipe.share == 0.9
    assert all(case.reference is None for case in learning_method.seen)

    output = tmp_path / "masks"
    assert weakseg("predict", run, cohort.parent / "b4.nii.gz", cohort.parent / "b5.nii.gz", "--output", output) == 0
    names = {"mask.nii.gz", "probability_lesion.nii.gz", "heatmap_lesion.nii.gz", "record.json", "scores.json"}
    assert {path.name for path in output.iterdir()} == {f"b{number}_{name}" for number in (4, 5) for name in names}
    scores = json.loads((output / "b4_scores.json").read_text())
    assert scores["classes"] == ["normal", "lesion"]
    assert len(scores["slices"]) == 10
    assert len(scores["volume"]) == 2
    assert nib.load(output / "b4_mask.nii.gz").get_fdata().sum() > 0

    capsys.readouterr()
    assert weakseg("evaluate", run, cohort) == 0
    shown = capsys.readouterr()
    assert "testing: 2 cases scored" in shown.out
    assert "lesion" in shown.out
    assert "b4" in shown.out and "b5" in shown.out
    with (run / "evaluation" / "evaluation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["b4", "b5"]
    assert all(float(row["dice"]) > 0.8 for row in rows)
    assert (run / "evaluation" / "evaluation.png").stat().st_size > 10_000
    report = json.loads((run / "evaluation" / "evaluation.json").read_text())
    assert report["part"] == "testing"


def test_prepared_images_are_removed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("napari_weakseg.training.cache.default_folder", lambda: tmp_path)
    entry = tmp_path / ("0" * 64)
    entry.mkdir()
    (entry / "0.npy").write_bytes(bytes(2_000_000))
    assert weakseg("clear-prepared") == 0
    assert "2.0 MB removed" in capsys.readouterr().out
    assert not entry.exists()


def test_folds_and_resuming(cohort, tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    monkeypatch.setattr(Run, "due", lambda self: True)
    arguments = ("train", cohort, "--method", "learning", "--run", run, "--folds", 2, "--fold", 1)
    assert weakseg(*arguments) == 0
    assert weakseg(*arguments) == 2
    assert "--resume" in capsys.readouterr().err
    seen = len(learning_method.seen)
    assert weakseg(*arguments, "--resume") == 0
    assert len(learning_method.seen) == seen  # it was through
    assert Run(run).cohort()["split"] == {"fold": 1, "folds": 2, "seed": 0}
    assert b"Miller" not in b"".join(path.read_bytes() for path in run.iterdir() if path.is_file())
    assert weakseg("evaluate", run, cohort, "--output", tmp_path / "scores") == 0
    assert "testing: 2 cases" in capsys.readouterr().out
    assert (tmp_path / "scores" / "evaluation.json").exists()


def test_a_run_is_resumed_with_its_own_method_settings_and_fold(cohort, tmp_path, capsys):
    run = tmp_path / "run"
    arguments = ("--method", "learning", "--set", "share=0.9", "--folds", 2, "--fold", 2)
    assert weakseg("train", cohort, "--run", run, *arguments) == 0
    assert weakseg("train", cohort, "--run", run, "--resume") == 0
    assert "learning learnt from fold 2 of 2" in capsys.readouterr().out
    assert weakseg("train", cohort, "--run", run, "--resume", "--preset", "laptop", "--max-seconds", 9) == 0
    assert weakseg("train", cohort, "--run", run, "--resume", "--set", "share=0.1") == 2
    assert "share" in capsys.readouterr().err


def test_a_partly_marked_cohort_trains_and_says_its_memory_beforehand(cohort, tmp_path, capsys):
    data = json.loads(cohort.read_text())
    del data["training"][0]["points"], data["training"][0]["image_label"]
    cohort.write_text(json.dumps(data))
    assert weakseg("train", cohort, "--method", "learning", "--run", tmp_path / "run") == 0
    words = capsys.readouterr().err
    assert "1 case of the part 'training' without" in words
    assert words.index("this training takes about") < words.index("train 1/3")


def test_one_odd_case_does_not_end_a_prediction(cohort, tmp_path, capsys):
    run, output = tmp_path / "run", tmp_path / "masks"
    assert weakseg("train", cohort, "--method", "learning", "--run", run) == 0
    folder = cohort.parent
    (folder / "b4_points.json").write_text("odd")  # marks are not read
    image = nib.load(folder / "b5.nii.gz")
    skew = image.affine.copy()
    skew[:3, 2] = 0
    damaged = nib.Nifti1Image(image.get_fdata().astype(np.float32), None)
    damaged.header["pixdim"][1:4] = 0
    damaged.set_sform(skew, 1)
    nib.save(damaged, folder / "b5.nii.gz")  # refused with a GeometryError
    assert weakseg("predict", run, cohort, "--output", output) == 1
    assert {path.name[:2] for path in output.glob("*_mask.nii.gz")} == {"b0", "b1", "b2", "b3", "b4"}
    error = capsys.readouterr().err
    assert "1 of 6 images got no mask: b5" in error
    assert "b5: b5" not in error


def test_a_run_that_fell_back_or_learnt_nothing_is_said(cohort, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Run, "due", lambda self: True)
    run, image = tmp_path / "run", cohort.parent / "b4.nii.gz"
    assert weakseg("train", cohort, "--method", "learning", "--run", run) == 0
    (run / "weights.json").write_text("damaged")
    capsys.readouterr()
    assert weakseg("predict", run, image, cohort.parent / "b5.nii.gz", "--output", tmp_path / "masks") == 0
    assert capsys.readouterr().err.count("generation before") == 1
    assert weakseg("evaluate", run, cohort) == 0
    assert "generation before" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_an_output_folder_that_cannot_be_made_is_one_sentence(cohort, tmp_path, capsys, command):
    run = tmp_path / "run"
    assert weakseg("train", cohort, "--method", "learning", "--run", run) == 0
    (tmp_path / "afile").write_text("")
    for folder in ("afile", "afile/sub"):
        assert weakseg(command, run, cohort, "--output", tmp_path / folder) == 2
        assert "folder" in capsys.readouterr().err


def test_ctrl_c_ends_a_training_between_two_steps(cohort, tmp_path, capsys, monkeypatch):
    real, before = learning_method.box_of, signal.getsignal(signal.SIGINT)

    def interrupted(*given):
        if len(learning_method.seen) == 2:
            signal.raise_signal(signal.SIGINT)
        return real(*given)

    monkeypatch.setattr(learning_method, "box_of", interrupted)
    monkeypatch.setattr(Run, "due", lambda self: True)
    arguments = ("train", cohort, "--method", "learning", "--run", tmp_path / "run")
    assert weakseg(*arguments) == 130
    assert "--resume goes on" in capsys.readouterr().err
    assert len(learning_method.seen) == 2  # the step was done to its end
    assert signal.getsignal(signal.SIGINT) is before
    assert weakseg(*arguments, "--resume") == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "COHORT", "--run", "RUN", "--method", "nothing"), "there is no method"),
        (("train", "COHORT", "--run", "RUN", "--method", "learning", "--folds", "3"), "go together"),
        (("train", "COHORT", "--run", "RUN", "--method", "learning", "--folds", "2", "--fold", "3"), "no fold 3"),
        (("train", "COHORT", "--run", "RUN", "--method", "learning", "--set", "share=7"), "share"),
        (("train", "nowhere.json", "--run", "RUN", "--method", "learning"), "nowhere.json"),
        (("train", "COHORT", "--run", "COHORT", "--method", "learning"), "is a file"),
        (("predict", "RUN", "image.nii.gz", "--output", "out"), "RUN"),
        (("evaluate", "RUN", "COHORT"), "RUN"),
        (("evaluate", "RUN", "image.nii.gz", "--part", "testing"), "run and a cohort"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(cohort, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    filled = [str(cohort) if word == "COHORT" else word for word in arguments]
    assert weakseg(*filled) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("weakseg: ")
    assert words in error
    assert str(tmp_path) not in error


def test_images_that_would_share_a_mask_are_refused_and_damaged_ones_skipped(cohort, tmp_path, capsys):
    run, output = tmp_path / "run", tmp_path / "masks"
    assert weakseg("train", cohort, "--method", "learning", "--run", run) == 0
    image = cohort.parent / "b0.nii.gz"
    assert weakseg("predict", run, image, image, "--output", output) == 2
    assert "'b0'" in capsys.readouterr().err
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(image.read_bytes()[:200])
    assert weakseg("predict", run, broken, image, "--output", output) == 1
    assert (output / "b0_mask.nii.gz").exists()
    assert "broken" in capsys.readouterr().err
    assert weakseg("predict", run, cohort, "--output", tmp_path / "all") == 0
    assert len(list((tmp_path / "all").glob("*_mask.nii.gz"))) == 6


def test_a_file_that_cannot_be_read_scores_zero_and_is_listed(cohort, tmp_path, capsys):
    run = tmp_path / "run"
    assert weakseg("train", cohort, "--method", "learning", "--run", run) == 0
    broken = cohort.parent / "b5.nii.gz"
    broken.write_bytes(broken.read_bytes()[:300])
    capsys.readouterr()
    assert weakseg("evaluate", run, cohort) == 0
    assert "b5 could not be read or predicted; it scores 0 and counts as wrong." in capsys.readouterr().err
    report = json.loads((run / "evaluation" / "evaluation.json").read_text())
    assert report["failed"] == ["b5"]
    assert report["worst"][0] == "b5"
    assert report["summary"]["lesion"]["cases"] == 2
    lesion = report["cases"][1]["structures"]["lesion"]
    assert (lesion["dice"], lesion["volume"]) == (0, 0)
    assert lesion["reference_volume"] > 0
    assert report["classification"]["volumes"]["count"] == [0, 2]
    assert report["classification"]["volumes"]["accuracy"] == 0.5

    mask = cohort.parent / "b5_mask.nii.gz"
    whole = mask.read_bytes()
    nib.save(nib.Nifti1Image(np.zeros((16, 14, 10), np.uint8), np.diag([1, 1, 2, 1.0])), mask)
    assert weakseg("evaluate", run, cohort) == 0
    report = json.loads((run / "evaluation" / "evaluation.json").read_text())
    assert report["cases"][1]["structures"]["lesion"]["dice"] is None  # there was nothing to find
    mask.write_bytes(whole[:200])
    assert weakseg("evaluate", run, cohort) == 0
    report = json.loads((run / "evaluation" / "evaluation.json").read_text())
    assert report["cases"][1]["structures"]["lesion"]["dice"] == 0
    assert report["cases"][1]["structures"]["lesion"]["reference_volume"] is None


def test_nothing_of_an_earlier_evaluation_stays(cohort, tmp_path, capsys):
    run = tmp_path / "run"
    assert weakseg("train", cohort, "--method", "learning", "--run", run) == 0
    assert weakseg("evaluate", run, cohort) == 0
    written = run / "evaluation"
    assert {path.name for path in written.iterdir()} == {"classes.csv"} | {f"evaluation.{s}" for s in ("csv", "json", "png")}
    data = json.loads(cohort.read_text())
    for entry in data["testing"]:
        del entry["image_label"]
    cohort.write_text(json.dumps(data))
    assert weakseg("evaluate", run, cohort) == 0
    assert not (written / "classes.csv").exists()
    for entry in data["testing"]:
        del entry["label"]
    cohort.write_text(json.dumps(data))
    capsys.readouterr()
    assert weakseg("evaluate", run, cohort) == 2
    assert "no testing case of cohort 'balls' has a reference mask" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["afile", "afile/below"])
@pytest.mark.parametrize("more", [(), ("--faithfulness",)])
def test_an_evaluation_goes_into_no_file(cohort, tmp_path, monkeypatch, capsys, place, more):
    monkeypatch.setattr(learning_method, "faithfulness", lambda *a, **k: {}, raising=False)
    run = tmp_path / "run"
    assert weakseg("train", cohort, "--method", "learning", "--run", run) == 0
    (tmp_path / "afile").write_text("kept")
    capsys.readouterr()
    assert weakseg("evaluate", run, cohort, "-o", tmp_path / place, *more) == 2
    error = capsys.readouterr().err
    assert "name a folder" in error or "choose another place" in error
    assert str(tmp_path) not in error
    assert (tmp_path / "afile").read_text() == "kept"
