"""The command line as a user types it, mostly in this process."""

from __future__ import annotations

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from napari_weakseg.cli import main
from napari_weakseg.io.points import write_points

pytestmark = pytest.mark.usefixtures("fake_method")


@pytest.fixture
def desk(tmp_path, blob, blob_points, monkeypatch):
    """A folder with an image, its mask and its points, and in it the working directory."""
    for volume, name in zip(blob, ("image", "reference"), strict=True):
        image = nib.Nifti1Image(volume.array, volume.affine)
        image.set_sform(volume.affine, 1)
        image.set_qform(volume.affine, 1)
        image.header.set_xyzt_units("mm")
        nib.save(image, tmp_path / f"{name}.nii.gz")
    write_points(blob_points, tmp_path / "points.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


SEGMENT = ["segment", "image.nii.gz", "--points", "points.json", "--output", "mask.nii.gz", "--method", "fake"]


def _refused(capsys, code, expected=2):
    out, err = capsys.readouterr()
    assert code == expected
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert len(err.split()) <= 40
    assert "Traceback" not in err
    return err


def test_segment_writes_a_mask_on_the_image(desk, capsys):
    assert main([*SEGMENT, "--record", "record.json"]) == 0
    mask, image = nib.load("mask.nii.gz"), nib.load("image.nii.gz")
    np.testing.assert_array_equal(mask.affine, image.affine)
    assert mask.shape == image.shape
    assert mask.get_data_dtype() == np.uint8
    out, err = capsys.readouterr()
    assert out.startswith("mask.nii.gz: lesion ")
    assert "note: a note of the method" in err.splitlines()
    assert json.loads((desk / "record.json").read_text())["method"] == "fake"
    assert str(desk) not in (desk / "record.json").read_text()


def test_time_and_memory_are_said_before_learning(desk, capsys):
    assert main([*SEGMENT, "--max-seconds", "7"]) == 0
    assert "learning takes up to 7 s and about 1 MB of memory" in capsys.readouterr().err
    assert main([*SEGMENT, "--max-seconds", "0"]) == 0
    assert "learning" not in capsys.readouterr().err


def test_more_memory_than_is_free_is_refused(desk, capsys, monkeypatch):
    monkeypatch.setattr("napari_weakseg.api.expected_memory", lambda case, **_: 10**13)
    assert "needs about 10000.0 GB" in _refused(capsys, main(SEGMENT))
    assert not (desk / "mask.nii.gz").exists()


def test_settings_reach_the_recipe(desk):
    options = [
        "--max-seconds",
        "7",
        "--device",
        "cpu",
        "--preset",
        "paper",
        "--seed",
        "4",
        "--set",
        "noise=0.5",
        "--set",
        "steps=2",
    ]
    assert main([*SEGMENT, "--record", "record.json", *options]) == 0
    recipe = json.loads((desk / "record.json").read_text())["recipe"]
    assert recipe == {"preset": "paper", "seed": 4, "device": "cpu", "max_seconds": 7.0, "steps": 2, "noise": 0.5}


def test_zero_seconds_give_the_first_mask(desk):
    assert main([*SEGMENT, "--max-seconds", "0"]) == 0
    box = np.argwhere(nib.load("mask.nii.gz").get_fdata())
    assert len(box) == np.prod(np.ptp(box, axis=0) + 1)


def test_replay_makes_the_same_file(desk, capsys):
    main([*SEGMENT, "--record", "record.json"])
    assert main(["replay", "record.json", "image.nii.gz", "-o", "again.nii.gz"]) == 0
    assert "the same mask" in capsys.readouterr().out
    assert (desk / "again.nii.gz").read_bytes() == (desk / "mask.nii.gz").read_bytes()


def test_a_reference_is_scored(desk, capsys):
    assert main([*SEGMENT, "--reference", "reference.nii.gz"]) == 0
    header, row = capsys.readouterr().out.splitlines()[1:]
    assert header.split("\t")[1] == "Dice"
    assert 0.3 < float(row.split("\t")[1]) < 1


def test_evaluate_prints_a_table_or_json(desk, capsys):
    assert main(["evaluate", "reference.nii.gz", "reference.nii.gz"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split("\t")[:3] == ["label 1", "1.000", "0.00"]
    assert main(["evaluate", "reference.nii.gz", "reference.nii.gz", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["structures"]["label 1"]["dice"] == 1


def test_simulated_points_segment(desk, capsys):
    assert main(["simulate-points", "reference.nii.gz", "-o", "six.json", "--jitter", "1", "--seed", "3"]) == 0
    points = json.loads((desk / "six.json").read_text())
    assert points["space"] == "voxel"
    assert np.shape(points["structures"][0]["objects"]) == (1, 6, 3)
    again = (desk / "six.json").read_bytes()
    main(["simulate-points", "reference.nii.gz", "-o", "six.json", "--jitter", "1", "--seed", "3"])
    assert (desk / "six.json").read_bytes() == again
    assert main(["segment", "image.nii.gz", "--points", "six.json", "-o", "mask.nii.gz", "--method", "fake"]) == 0


def test_methods_lists_methods_and_settings(capsys):
    assert main(["methods"]) == 0
    assert any(line.startswith("fake\tBoxes\textreme points") for line in capsys.readouterr().out.splitlines())
    assert main(["methods", "fake"]) == 0
    assert "noise\t0.2\t0.2\tpaper\tShare of voxels dropped at random" in capsys.readouterr().out.splitlines()


# -- refusals -----------------------------------------------------------------------------------------------------------


def test_a_missing_image_is_one_sentence(desk, capsys):
    code = main(["segment", "none.nii.gz", "--points", "points.json", "-o", "mask.nii.gz", "--method", "fake"])
    assert "none.nii.gz" in _refused(capsys, code)
    assert not (desk / "mask.nii.gz").exists()


def test_four_dimensions_ask_for_the_option(desk, capsys):
    nib.save(
        nib.Nifti1Image(np.random.default_rng(0).random((20, 18, 12, 2)).astype(np.float32), np.diag([1, 1, 2, 1])),
        "image.nii.gz",
    )
    assert "--volume-index" in _refused(capsys, main(SEGMENT))
    assert not (desk / "mask.nii.gz").exists()
    assert main([*SEGMENT, "--volume-index", "1"]) == 0


def test_a_long_series_asks_in_few_words_and_a_mask_of_several_volumes_is_refused(desk, capsys):
    series = np.random.default_rng(0).integers(0, 9, (5, 5, 4, 40)).astype(np.uint8)
    nib.save(nib.Nifti1Image(series, np.eye(4)), "image.nii.gz")
    assert "{0..39}" in _refused(capsys, main(SEGMENT))
    assert "several volumes" in _refused(capsys, main(["evaluate", "image.nii.gz", "reference.nii.gz"]))


def test_two_places_ask_which(desk, capsys):
    image = nib.load("image.nii.gz")
    image = nib.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine)
    image.set_sform(image.affine, 1)
    moved = image.affine.copy()
    moved[0, 3] += 10
    image.set_qform(moved, 1)
    nib.save(image, "image.nii.gz")
    assert "--prefer {sform,qform}" in _refused(capsys, main(SEGMENT))
    assert main([*SEGMENT, "--prefer", "sform"]) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--output", "image.nii.gz"], "input of this command"),
        (["--output", "mask.png"], "end in .nii.gz"),
        (["--output", "nowhere/mask.nii.gz"], "does not exist"),
        (["--record", "points.json"], "input of this command"),
        (["--method", "magic"], "magic"),
        (["--set", "noise"], "knob=value"),
        (["--set", "noise=2"], "noise is 2"),
        (["--set", "colour=2"], "colour"),
        (["--set", "nois=0.5"], "did you mean one of noise"),
        (["--max-seconds", "-1"], "max_seconds"),
        (["--points", "image.nii.gz"], "image.nii.gz"),
    ],
)
def test_options_that_cannot_be_used_are_refused(desk, capsys, options, words):
    before = (desk / "image.nii.gz").read_bytes()
    assert words in _refused(capsys, main([*SEGMENT, *options]))
    assert (desk / "image.nii.gz").read_bytes() == before
    assert {path.name for path in desk.iterdir()} == {"image.nii.gz", "reference.nii.gz", "points.json"}


def test_points_are_needed(desk, capsys):
    assert "--points" in _refused(capsys, main(["segment", "image.nii.gz", "-o", "mask.nii.gz", "--method", "fake"]))


def test_evaluate_refuses_other_grids_unless_told(desk, capsys):
    small = nib.Nifti1Image(np.ones((10, 9, 12), np.uint8), np.diag([2, 2, 2.0, 1]))
    nib.save(small, "small.nii.gz")
    assert "small.nii.gz" in _refused(capsys, main(["evaluate", "small.nii.gz", "reference.nii.gz"]))
    assert main(["evaluate", "small.nii.gz", "reference.nii.gz", "--resample"]) == 0
    assert any(line.startswith("note:") for line in capsys.readouterr().err.splitlines())


def test_a_name_cannot_break_lines_or_steer_the_terminal(desk, capsys):
    points = json.loads((desk / "points.json").read_text())
    points["structures"][0]["name"] = "../le\x1b[2Jsion\tx\n=cmd|[red]"
    (desk / "points.json").write_text(json.dumps(points))
    assert main([*SEGMENT, "--reference", "reference.nii.gz", "--overview", "picture.png"]) == 0
    out, _ = capsys.readouterr()
    assert "\x1b" not in out
    assert len(out.splitlines()) == 3
    assert "=cmd|[red]" in out
    assert {path.name for path in desk.iterdir()} == {
        "image.nii.gz",
        "reference.nii.gz",
        "points.json",
        "mask.nii.gz",
        "picture.png",
    }


def test_a_record_that_would_hold_a_path_is_refused_and_no_mask_is_left(desk, capsys):
    points = json.loads((desk / "points.json").read_text())
    points["structures"][0]["name"] = "/home/somebody/lesion"
    (desk / "points.json").write_text(json.dumps(points))
    assert main([*SEGMENT, "--record", "record.json"]) == 2
    assert "path" in capsys.readouterr().err.splitlines()[-1]
    assert {path.name for path in desk.iterdir()} == {"image.nii.gz", "reference.nii.gz", "points.json"}


def test_a_source_that_changed_is_noted(desk, capsys, monkeypatch):
    import fake_method

    original = fake_method.predict

    def meddling(case, weights):
        (desk / "image.nii.gz").write_bytes(b"changed")
        return original(case, weights)

    monkeypatch.setattr(fake_method, "predict", meddling)
    assert main([*SEGMENT, "--record", "record.json"]) == 0
    assert any(line.startswith("note:") and "changed" in line for line in capsys.readouterr().err.splitlines())
    image = json.loads((desk / "record.json").read_text())["image"]
    assert image["file_sha256"] != image["file_sha256_now"]


def test_a_file_in_place_of_the_folder_is_refused_before_the_run(desk, capsys, monkeypatch):
    import fake_method

    monkeypatch.setattr(fake_method, "fit", lambda *a, **k: pytest.fail("the run was started"))
    _refused(capsys, main([*SEGMENT[:-4], "--output", "points.json/mask.nii.gz", "--method", "fake"]))


def test_an_empty_result_is_a_note(desk, capsys):
    assert main([*SEGMENT, "--set", "noise=1"]) == 0
    assert any(line.startswith("note:") and "empty" in line for line in capsys.readouterr().err.splitlines())


def test_two_empty_masks_have_nothing_to_compare(desk, capsys):
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), "empty.nii.gz")
    assert main(["evaluate", "empty.nii.gz", "empty.nii.gz", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["structures"] == {}
    assert "note: both masks are empty; there is nothing to compare." in err.splitlines()


@pytest.mark.parametrize("option", ["--jitter", "--seed"])
def test_negative_numbers_draw_no_points(desk, capsys, option):
    code = main(["simulate-points", "reference.nii.gz", "-o", "six.json", option, "-1"])
    assert option in _refused(capsys, code)
    assert not (desk / "six.json").exists()


@pytest.mark.parametrize("words", [[], ["segment"], ["nonsense"], ["evaluate", "a", "b", "--device", "cpu"]])
def test_a_command_line_that_is_none_is_one_line(capsys, words):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert "--help" in _refused(capsys, ended.value.code)


def test_an_empty_mask_has_no_points(desk, capsys):
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), "empty.nii.gz")
    code = main(["simulate-points", "empty.nii.gz", "-o", "six.json"])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert "empty.nii.gz" in err.splitlines()[-1]


def test_ctrl_c_writes_nothing(desk, capsys, monkeypatch):
    import fake_method

    def interrupted(cases, recipe, weights=None):
        yield from ()
        raise KeyboardInterrupt

    monkeypatch.setattr(fake_method, "fit", interrupted)
    assert "nothing was written" in _refused(capsys, main(SEGMENT), 130)
    assert not (desk / "mask.nii.gz").exists()


def test_no_memory_is_one_sentence(desk, capsys, monkeypatch):
    import fake_method

    def hungry(cases, recipe, weights=None):
        yield from ()
        raise MemoryError

    monkeypatch.setattr(fake_method, "fit", hungry)
    assert "memory" in _refused(capsys, main(SEGMENT), 1)


# -- as a program -------------------------------------------------------------------------------------------------------


def test_the_module_runs_without_a_display(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "napari_weakseg", "methods", "nothing"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("weakseg: there is no method 'nothing'")


def test_what_nobody_foresaw_is_one_line(tmp_path):
    code = "import sys, napari_weakseg.cli as c; c._methods = lambda *a: 1 / 0; sys.argv[1:] = ['methods']; sys.exit(c.main())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.slow
def test_first_mask_training_goes_on_where_it_stopped_and_exports_weights(tmp_path, capsys, monkeypatch):
    from functools import partial

    from napari_weakseg.networks.first_mask_model import read_first_mask_model
    from napari_weakseg.training import first_mask

    small = partial(first_mask.FirstMaskTraining, widths=(4, 4, 4, 4), validation=1, workers=0, warm_up=1)
    monkeypatch.setattr(first_mask, "FirstMaskTraining", small)
    monkeypatch.setattr(first_mask, "fitted_temperature", lambda *_: 1.5)
    words = ["train-first-mask", str(tmp_path / "run"), "--batch", "2", "--steps"]
    assert main([*words, "1"]) == 0
    weights = tmp_path / "other" / "net.safetensors"
    weights.parent.mkdir()
    assert main([*words, "2", "--export", str(weights)]) == 0
    assert read_first_mask_model(weights).temperature == 1.5
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "net.safetensors: 2 steps of 2 made-up cubes, seed 0"
    assert "step 2/2, 100%" in err
    assert (tmp_path / "run" / "log.csv").read_text().count("\n") == 3
    assert "at least as many" in _refused(capsys, main([*words, "1"]))
    assert "seed 0" in _refused(capsys, main([*words, "2", "--seed", "1"]))
    assert "--batch" in _refused(capsys, main([*words, "0"]))
