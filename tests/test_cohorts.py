"""Training, predicting and scoring over a cohort in memory, with a method that learns a brightness."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import learning_method
import napari_weakseg as ws
from balls import a_case, a_cohort
from napari_weakseg.case import Case, Cohort
from napari_weakseg.cohorts import LearntCases, training_steps
from napari_weakseg.errors import CohortFaults, DataError, RecipeError
from napari_weakseg.evaluation import telling_cases
from napari_weakseg.io.evaluation import write_report
from napari_weakseg.io.runs import Run, read_weights
from napari_weakseg.method import Preview, Step
from napari_weakseg.prompts import ImageLabel, Structure

pytestmark = pytest.mark.usefixtures("learning")


def test_train_predict_evaluate(tmp_path):
    cohort = a_cohort()
    steps = []
    weights = ws.train(cohort, method="learning", run=tmp_path / "run", on_step=steps.append)
    assert [step.stage for step in steps] == ["check"] * 10 + ["train"] * 6
    assert weights.recipe.share == 0.25  # the laptop preset's values for cohorts
    assert all(case.reference is None for case in learning_method.seen)
    result = ws.predict(tmp_path / "run", cohort.testing[0].volume)
    assert result.labels.any()
    assert result.record["training"]["fitted"] is False
    learning_method.seen.clear()
    report = ws.evaluate(tmp_path / "run", cohort)
    assert report["part"] == "testing"
    assert [row["id"] for row in report["cases"]] == ["u0", "u1", "u2"]
    assert all(case.reference is None and case.points is None and case.image_label is None for case in learning_method.seen)
    lesion = report["summary"]["lesion"]
    assert lesion["cases"] == 2
    assert lesion["without"] == 1
    assert lesion["dice"]["mean"] > 0.9
    assert report["classification"]["slices"]["auroc"][1] > 0.9
    assert report["classification"]["volumes"]["count"] == [1, 2]
    assert report["slices"]["normal_without_mask"] == 1.0
    json.dumps(report, allow_nan=False)


def test_full_masks_are_seen_only_when_asked_for():
    recipe = ws.new_recipe("learning", supervision="masks")
    ws.train(a_cohort(), recipe)
    assert all(case.reference is not None for case in learning_method.seen)
    cohort = Cohort(training=(Case("bare", a_case("bare", 1).channels),))
    with pytest.raises(DataError, match="bare has no reference mask"):
        ws.train(cohort, recipe)


@pytest.mark.parametrize(
    ("classes", "values"),
    [
        (("normal", "lesion"), {"core": 1, "tumour": 2}),
        (("normal", "lesion"), {"tumour": 2}),
        (("normal", "glioma", "meningioma"), {"meningioma": 1, "glioma": 2}),
        (("normal", "glioma", "meningioma"), {"tumour": 1}),
    ],
)
def test_full_masks_whose_values_are_other_classes_are_refused(classes, values):
    structures = tuple(Structure(name, value) for name, value in values.items())
    cohort = replace(a_cohort(), structures=structures, image_classes=classes)
    with pytest.raises(DataError, match=r"full masks teach classes by value: .* are 0 normal, 1") as refused:
        ws.train(cohort, ws.new_recipe("explainable_heatmap", supervision="masks"))
    assert len(str(refused.value).split()) <= 30


def test_cases_that_cannot_be_learnt_from_are_found_first():
    with pytest.raises(DataError, match="no case to learn from"):
        ws.train(Cohort("none"), method="learning")
    bare = Case("bare", a_case("bare", 1).channels)
    twin = Case("twin", a_case("t", 2).channels, points=a_case("t", 2).points)
    with pytest.raises(CohortFaults, match="bare has no extreme points or image label"):
        ws.train(Cohort(training=(bare,)), method="learning")
    with pytest.raises(CohortFaults, match="cases t and twin hold the same image; leave one out"):
        ws.train(Cohort(training=(a_case("t", 2), bare, twin)), method="learning")
    with pytest.raises(RecipeError, match="settings"):
        ws.train(a_cohort(), ws.new_recipe("learning"), method="simple_propagation")
    assert learning_method.seen == []


def test_a_run_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "due", lambda self: True)
    cohort = a_cohort()
    whole = ws.train(cohort, method="learning", run=tmp_path / "whole")
    running = training_steps(cohort, method="learning", run=tmp_path / "broken")
    for step in running:
        if step.stage == "train" and step.index == 4:
            break
    running.close()
    with pytest.raises(DataError, match="resume"):
        ws.train(cohort, method="learning", run=tmp_path / "broken")
    steps = []
    again = ws.train(cohort, method="learning", run=tmp_path / "broken", resume=True, on_step=steps.append)
    assert [step.index for step in steps if step.stage == "train"] == [4, 5, 6]
    assert again.tensors["level"] == whole.tensors["level"]
    assert (tmp_path / "broken" / "metrics.csv").read_bytes() == (tmp_path / "whole" / "metrics.csv").read_bytes()
    with pytest.raises(RecipeError, match="share"):
        ws.train(cohort, ws.new_recipe("learning", share=0.5), run=tmp_path / "broken", resume=True)
    other = Cohort("balls", structures=cohort.structures, training=cohort.training[:5], testing=cohort.testing)
    with pytest.raises(DataError, match="other cases"):
        ws.train(other, method="learning", run=tmp_path / "broken", resume=True)


@pytest.mark.parametrize("changed", ["image", "points", "label", "reference"])
def test_a_run_is_not_resumed_with_files_that_changed(tmp_path, changed):
    cohort = a_cohort(training=2)
    ws.train(cohort, method="learning", run=tmp_path / "run")
    first = cohort.training[0]
    shifted = replace(first.points, points=np.clip(first.points.points - 1, 0, None))
    image = first.volume.with_array(first.volume.array + 1)
    other = {
        "image": replace(first, channels={"image": image}),
        "points": replace(first, points=shifted),
        "label": replace(first, image_label=ImageLabel(("normal", "lesion"), 1)),
        "reference": replace(first, reference=image.with_array(np.ones(image.shape, np.uint8))),
    }[changed]
    again = replace(cohort, training=(other, *cohort.training[1:]))
    if changed == "reference":  # nobody learnt from it
        ws.train(again, method="learning", run=tmp_path / "run", resume=True)
        return
    with pytest.raises(DataError, match="changed since run was begun") as refused:
        ws.train(again, method="learning", run=tmp_path / "run", resume=True)
    assert len(str(refused.value).split()) <= 30


def test_a_run_of_an_earlier_version_goes_on(tmp_path):
    cohort = a_cohort(training=2)
    ws.train(cohort, method="learning", run=tmp_path / "run")
    path = tmp_path / "run" / "cohort.json"
    facts = json.loads(path.read_text())
    for part, entries in facts["parts"].items():
        for entry in entries:
            for key in ("voxels", *(("image",) if part == "testing" else ())):
                del entry[key]
    path.write_text(json.dumps(facts))
    ws.train(cohort, method="learning", run=tmp_path / "run", resume=True)
    image = cohort.training[0].volume.with_array(cohort.training[0].volume.array + 1)
    other = replace(cohort.training[0], channels={"image": image})
    with pytest.raises(DataError, match="changed since run was begun"):
        changed = replace(cohort, training=(other, *cohort.training[1:]))
        ws.train(changed, method="learning", run=tmp_path / "run", resume=True)


def test_what_is_tested_is_looked_at_before_anything_is_learnt(tmp_path):
    cohort = a_cohort(training=2)
    twin = replace(a_case("twin", 0), patient="somebody", points=None, image_label=None)
    with pytest.raises(CohortFaults, match="t0 and twin hold the same image, in training and in testing; leave one out"):
        ws.train(replace(cohort, testing=(twin,)), method="learning", run=tmp_path / "run")
    bare = replace(cohort.testing[0], points=None, image_label=None, reference=None)
    ws.train(replace(cohort, testing=(bare,)), method="learning")  # marks are asked of what is learnt from alone


def test_a_run_keeps_a_few_small_pictures(tmp_path, monkeypatch):
    cohort = a_cohort(training=2)
    ws.train(cohort, method="learning", run=tmp_path / "run")
    (picture,) = (tmp_path / "run" / "previews").iterdir()
    assert picture.name == "0001_train_1.png"
    assert 2000 < picture.stat().st_size < 200_000
    run = Run(tmp_path / "run")
    step = Step("train", 7, 9, preview=Preview(np.zeros((1, 2, 2, 2), np.float32), (0, 0, 0), (2, 2, 2), ()))
    monkeypatch.setattr("napari_weakseg.io.runs.PICTURE_EVERY", 0.0)
    for _ in range(20):
        run.picture_of(step).write_bytes(b"")
    names = sorted(path.name for path in (tmp_path / "run" / "previews").iterdir())
    assert len(names) == 12
    assert (names[0], names[-1]) == ("0001_train_1.png", "0021_train_7.png")
    monkeypatch.setattr("napari_weakseg.io.runs.PICTURE_EVERY", 60.0)
    assert run.picture_of(step) is None


def test_cases_without_marks_are_left_out_and_counted(tmp_path):
    bare = [Case(f"bare {n}", a_case("bare", 20 + n).channels) for n in range(3)]
    cohort = Cohort("partly", training=(bare[0], *a_cohort(training=2).training), validation=tuple(bare[1:]))
    steps = []
    weights = ws.train(cohort, method="learning", run=tmp_path / "run", on_step=steps.append)
    assert "1 case of the part 'training' without extreme points or image label left out." in weights.meta["notes"]
    assert "2 cases of the part 'validation' without extreme points or image label left out." in weights.meta["notes"]
    parts = Run(tmp_path / "run").cohort()["parts"]
    assert [entry["id"] for entry in parts["training"]] == ["t0", "t1"]
    assert parts["validation"] == []
    assert any("this training takes about" in step.note for step in steps)
    ws.train(cohort, method="learning", run=tmp_path / "run", resume=True)


def test_what_a_run_refuses_is_said_before_a_case_is_read(tmp_path):
    cohort = a_cohort(training=2)
    ws.train(cohort, ws.new_recipe("learning", share=0.5), run=tmp_path / "run")
    steps = []
    with pytest.raises(DataError, match="holds a run already"):
        ws.train(cohort, method="learning", run=tmp_path / "run", on_step=steps.append)
    with pytest.raises(RecipeError, match="share"):
        ws.train(cohort, ws.new_recipe("learning", share=0.1), run=tmp_path / "run", resume=True, on_step=steps.append)
    assert steps == []
    assert ws.train(cohort, run=tmp_path / "run", resume=True).recipe.share == 0.5  # its own method and settings


def test_weights_that_learnt_nothing_are_refused_and_others_say_how_far_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "due", lambda self: True)
    cohort = a_cohort(training=3)
    running = training_steps(cohort, method="learning", run=tmp_path / "run")
    while next(running).index != 2 or not (tmp_path / "run" / "weights.json").exists():
        pass
    running.close()
    result = ws.predict(tmp_path / "run", cohort.testing[0].volume)
    assert "the training was stopped at step 1" in result.notes[0]
    weights = read_weights(tmp_path / "run")
    none = replace(weights, meta={"steps": [0, 0]})
    for refused in (lambda: ws.predict(none, cohort.testing[0].volume), lambda: ws.evaluate(none, cohort)):
        with pytest.raises(DataError, match="learnt nothing yet"):
            refused()


def test_a_picture_never_ends_a_run(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    real = Run.begin

    def begin(self, *given, **more):
        real(self, *given, **more)
        (self.folder / "previews").write_text("no folder")
        (self.folder / "curves.png").mkdir()

    monkeypatch.setattr(Run, "begin", begin)
    weights = ws.train(a_cohort(training=2), method="learning", run=tmp_path / "run")
    assert read_weights(tmp_path / "run").tensors["level"] == weights.tensors["level"]
    assert "curves.png is a folder" in (tmp_path / "run" / "log.txt").read_text()


def test_what_a_method_sees_tells_its_cases_apart():
    cases = a_cohort(training=2).training
    seen = LearntCases(cases, "marks")
    assert seen.fingerprint(0) != seen.fingerprint(1)
    assert seen.fingerprint(0) == LearntCases(cases[:1], "marks").fingerprint(0)


def test_folds_are_by_patient_and_written_into_the_run(tmp_path):
    cohort = a_cohort()
    tested = []
    for number in (1, 2, 3):
        ws.train(cohort, method="learning", run=tmp_path / str(number), fold=(number, 3), split_seed=5)
        facts = Run(tmp_path / str(number)).cohort()
        assert facts["split"] == {"fold": number, "folds": 3, "seed": 5}
        learnt, held = ({entry["id"] for entry in facts["parts"][part]} for part in ("training", "testing"))
        assert not learnt & held
        assert learnt | held == {case.id for case in cohort.training}
        report = ws.evaluate(tmp_path / str(number), cohort)
        assert {row["id"] for row in report["cases"]} == held
        tested += held
    assert sorted(tested) == sorted(case.id for case in cohort.training)
    with pytest.raises(DataError, match="fold 4 of 3"):
        ws.train(cohort, method="learning", fold=(4, 3))


def test_no_patient_and_no_path_is_in_a_run(tmp_path):
    ws.train(a_cohort(), method="learning", run=tmp_path / "run")
    text = b"".join(path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file())
    assert b"patient 3" not in text
    assert str(tmp_path).encode() not in text


def test_what_was_learnt_from_is_named_and_does_not_count(tmp_path):
    cohort = a_cohort()
    ws.train(cohort, method="learning", run=tmp_path / "run")
    copied = a_case("another name", 3)  # the image of t3
    other = Cohort("other", structures=cohort.structures, testing=(copied, a_case("v", 50)))
    report = ws.evaluate(tmp_path / "run", other)
    assert report["part"] == "new"
    assert report["learnt_from"] == ["another name"]
    assert report["summary"]["lesion"]["cases"] == 1
    assert ws.evaluate(tmp_path / "run", cohort, part="training")["part"] == "training"
    with pytest.raises(DataError, match="validation"):
        ws.evaluate(tmp_path / "run", cohort, part="validation")


def test_a_case_that_fails_scores_zero_and_is_listed(monkeypatch, tmp_path):
    cohort = a_cohort()
    weights = ws.train(cohort, method="learning")
    real = learning_method.predict

    def sometimes(case, weights):
        if case.id == "u1":
            raise DataError("u1 cannot be read; look at it.")
        return real(case, weights)

    monkeypatch.setattr(learning_method, "predict", sometimes)
    report = ws.evaluate(weights, cohort)
    assert report["failed"] == ["u1"]
    assert report["cases"][1]["structures"]["lesion"]["dice"] == 0
    assert report["worst"][0] == "u1"
    assert telling_cases(report) == {"worst": "u1", "median": "u0", "best": "u0"}
    _, table, classes = write_report(report, tmp_path)
    rows = table.read_text().splitlines()
    assert len(rows) == 4
    assert "u1 cannot be read" in rows[2]
    header, *rows = classes.read_text().splitlines()
    assert header == "case,class,probability normal,probability lesion,of the right class,learnt from"
    assert [row.split(",")[:2] for row in rows] == [["u0", "lesion"], ["u2", "normal"]]  # u1 has no prediction


def test_a_case_that_fails_counts_as_guessed_wrongly(monkeypatch):
    cohort = a_cohort()
    weights = ws.train(cohort, method="learning")
    whole = ws.evaluate(weights, cohort)["classification"]
    assert whole["slices"]["f1"][1] > 0.9
    real = learning_method.predict

    def sometimes(case, weights):
        if case.id == "u1":
            raise DataError("u1 cannot be read; look at it.")
        return real(case, weights)

    monkeypatch.setattr(learning_method, "predict", sometimes)
    found = ws.evaluate(weights, cohort)["classification"]
    assert found["volumes"]["count"] == whole["volumes"]["count"]
    assert found["slices"]["count"] == whole["slices"]["count"]
    assert found["volumes"]["accuracy"] == pytest.approx(2 / 3)
    assert found["slices"]["f1"][1] < 0.8


def test_the_mask_of_the_heatmap_alone_is_scored_beside_the_refined_one(monkeypatch, tmp_path):
    cohort = a_cohort()
    weights = ws.train(cohort, method="learning")
    assert ws.evaluate(weights, cohort)["summary"]["lesion"]["heatmap_dice"] is None
    real = learning_method.predict

    def with_half(case, weights):
        if case.id == "u1":
            raise DataError("u1 cannot be read; look at it.")
        result = real(case, weights)
        half = result.labels.copy()
        half[:8] = 0
        return replace(result, maps={**result.maps, "heatmap mask": half.astype(np.float32)})

    monkeypatch.setattr(learning_method, "predict", with_half)
    report = ws.evaluate(weights, cohort)
    first, failed, empty = (row["structures"]["lesion"] for row in report["cases"])
    assert 0.5 < first["heatmap_dice"] < first["dice"]
    assert failed["dice"] == 0
    assert empty["heatmap_dice"] is None
    found = report["summary"]["lesion"]
    assert found["heatmap_dice"]["mean"] == pytest.approx(first["heatmap_dice"] / 2)  # the failed case counts here too
    assert 0 <= report["slices"]["heatmap_dice"]["median"] <= report["slices"]["dice"]["median"]
    _, table, _ = write_report(report, tmp_path)
    header, row, *_ = table.read_text().splitlines()
    place = header.split(",").index("heatmap_dice")
    assert float(row.split(",")[place]) == first["heatmap_dice"]


def test_without_masks_cases_are_ranked_by_the_probability_of_their_class():
    cohort = a_cohort()
    weights = ws.train(cohort, method="learning")
    classes = tuple(replace(case, reference=None) for case in cohort.testing)
    wrong = replace(classes[0], image_label=ImageLabel(("normal", "lesion"), 0))
    report = ws.evaluate(weights, replace(cohort, testing=(wrong, *classes[1:])))
    assert report["cases"][0]["classes"] == {
        "class": "normal",
        "probability": {"normal": 0.0, "lesion": 1.0},
        "of the right class": 0.0,
    }
    assert report["cases"][1]["classes"]["of the right class"] > 0.9  # mean over the slices
    assert telling_cases(report)["worst"] == "u0"
    assert report["summary"]["lesion"]["dice"] is None


def test_masks_and_cohorts_are_not_mixed_up(blob):
    with pytest.raises(DataError, match="one reference mask"):
        ws.evaluate(blob[1], a_cohort())
    weights = ws.train(a_cohort(), method="learning")
    with pytest.raises(DataError, match="cohort"):
        ws.evaluate(weights, blob[1])


def test_weights_in_a_file_predict_as_those_in_memory(tmp_path):
    cohort = a_cohort()
    weights = ws.train(cohort, method="learning", run=tmp_path / "run")
    volume = cohort.testing[0].volume
    first, second = ws.predict(weights, volume), ws.predict(read_weights(tmp_path / "run"), volume)
    assert first.mask.sha256 == second.mask.sha256
