"""A cohort, its cases and their marks, without a window."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from napari.components import ViewerModel

import napari_weakseg.methods as methods
from fake_classifier import FakeClassifierRecipe
from fake_cohort import AFFINE, make_cohort
from napari_weakseg.errors import DataError, PromptError
from napari_weakseg.io.cohort import read_cohort, update_case
from napari_weakseg.io.nifti import write_mask
from napari_weakseg.io.runs import Run
from napari_weakseg.method import Card
from napari_weakseg.plugin.cohort_book import CohortBook
from napari_weakseg.plugin.cohort_desk import CohortDesk
from napari_weakseg.plugin.cohort_jobs import Figures, News, mark_predicted, predict, train
from napari_weakseg.volume import Volume


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "_modules", lambda: {"fake_classifier": "fake_classifier"})
    return make_cohort(tmp_path)


@pytest.fixture
def desk(path):
    made = CohortDesk(ViewerModel())
    made.open_cohort(path)
    return made


def _open(desk, case_id):
    desk.show(*desk.load(case_id))


def _drained(steps):
    news = []
    while True:
        try:
            news.append(next(steps))
        except StopIteration as end:
            return end.value, news


def test_rows_say_marks_and_states(path):
    book = CohortBook(path)
    assert [(row.id, row.state) for row in book.rows()] == [
        ("case_0", "marked"), ("case_1", "marked"), ("case_2", "unmarked"), ("case_3", "unmarked")
    ]  # fmt: skip
    assert book.rows()[0].marks == "lesion on 5 of 12 slices"
    assert book.rows()[1].marks == "normal on all of 12 slices"
    assert book.counts() == {"unmarked": 2, "marked": 2, "segmented": 0, "reviewed": 0}


def test_a_label_is_on_disk_when_it_was_given(desk, path):
    _open(desk, "case_2")
    desk.go_to(6)
    assert desk.slice_shown() == 6
    words = desk.label(1, by_slice=True)
    assert "slice 6 is labelled lesion" in words
    assert "All other slices took normal" in words
    kept = read_cohort(path).training.image_labels[2]
    assert kept.label == tuple(int(n == 6) for n in range(12))
    desk.go_to(7)
    assert "All other" not in desk.label(1, by_slice=True)
    assert desk.slice_labels().tolist() == [int(n in (6, 7)) for n in range(12)]
    assert read_cohort(path).training.states[2] == "marked"
    desk.label(1, by_slice=False)
    assert read_cohort(path).training.image_labels[2].label == 1
    desk.label(None, by_slice=True)
    assert read_cohort(path).training.image_labels[2] is None
    assert read_cohort(path).training.states[2] == "unmarked"


def test_a_change_by_another_program_is_not_overwritten(desk, path):
    _open(desk, "case_3")
    update_case(path, "case_2", state="reviewed")
    with pytest.raises(DataError, match="changed by another"):
        desk.label(1, by_slice=False)
    assert desk.book.rows()[2].state == "reviewed"  # what the file says now is shown
    desk.label(1, by_slice=False)
    assert read_cohort(path).training.image_labels[3].label == 1


def test_a_case_opens_with_its_layers_and_leaves_with_them(desk, path, tmp_path):
    own = desk.viewer.add_points(np.zeros((1, 3)), name="mine")
    results = desk.book.results
    results.mkdir()
    mask = np.zeros((20, 18, 12), np.uint8)
    mask[5:9, 5:9, 4:7] = 1
    write_mask(Volume(mask, AFFINE), results / "case_0_mask.nii.gz")
    _open(desk, "case_0")
    assert {layer.name for layer in desk.viewer.layers} == {"mine", "case_0", "case_0 mask"}
    assert np.array_equal(desk.layers.mask_voxels(), mask)
    assert desk.slice_shown() == 6  # the middle of the labelled slices
    assert not desk.painted()
    _open(desk, "case_1")
    assert {layer.name for layer in desk.viewer.layers} == {"mine", "case_1"}
    assert own in desk.viewer.layers


def test_a_corrected_mask_is_written_beside_the_prediction_and_the_case_is_reviewed(desk):
    desk.book.results.mkdir()
    write_mask(Volume(np.zeros((20, 18, 12), np.uint8), AFFINE), desk.book.results / "case_0_mask.nii.gz")
    _open(desk, "case_0")
    desk.layers.mask_voxels()[3, 4, 5] = 1
    assert desk.painted()
    assert "case_0_reviewed.nii.gz" in desk.save_reviewed().write()
    desk.reviewed("case_0")
    assert not desk.painted()
    assert desk.book.rows()[0].state == "reviewed"
    assert nib.load(desk.book.results / "case_0_mask.nii.gz").get_fdata().sum() == 0
    _open(desk, "case_0")
    assert np.argwhere(desk.layers.mask_voxels()).tolist() == [[3, 4, 5]]
    record = json.loads((desk.book.results / "case_0_reviewed.weakseg.json").read_text())
    assert record["saved"]["corrected"] is True


def test_points_are_kept_with_the_case_once_an_object_is_complete(desk, path):
    from napari_weakseg.plugin.workbench import Workbench
    from napari_weakseg.recipe import Recipe

    _open(desk, "case_2")
    bench = Workbench(desk.viewer, "fake_classifier", Recipe())
    bench.choose_image(desk.layers.image)
    six = [[3, 8, 6], [15, 8, 6], [9, 3, 6], [9, 13, 6], [9, 8, 4], [9, 8, 8]]
    for number, voxel in enumerate(six):
        bench.layers.find("points").add(desk.layers.grid.points_to_layer(voxel)[0])
        bench.points_changed()
        assert desk.keep_points() == (number == 5)
    assert not desk.keep_points()
    kept = read_cohort(path).training[2].points
    assert np.array_equal(np.sort(kept.points[0], axis=0), np.sort(np.array(six, float), axis=0))
    _open(desk, "case_1")
    _open(desk, "case_2")
    assert np.allclose(np.sort(desk.layers.read_points(), axis=0), np.sort(np.array(six, float), axis=0))
    assert len(desk.layers.kept_document().marks) == 6


def test_training_predicting_and_walking_through(desk, path):
    book = desk.book
    assert book.next_useful() == "case_2"
    recipe = FakeClassifierRecipe(steps=3)
    _, news = _drained(train(book, "fake_classifier", recipe, book.runs / "run_1"))
    assert [n.latest.index for n in news if n.latest.stage == "train"] == [1, 2, 3]
    assert news[-1].rows[0][1]["loss"] == pytest.approx(1 / 3)
    weights = Run(book.runs / "run_1").weights()
    words, _ = _drained(predict(book, weights, book.unpredicted()))
    assert words == "predicted 4 of 4 cases."
    mark_predicted(book, book.unpredicted())
    assert book.counts()["segmented"] == 4
    scores = json.loads((book.results / "case_0_scores.json").read_text())
    assert scores["classes"] == ["normal", "lesion"]
    assert np.shape(scores["slices"]) == (12, 2)
    doubts = {row.id: row.doubt for row in book.rows()}
    assert all(0 <= doubt <= 1 for doubt in doubts.values())
    first = book.next_useful()
    assert doubts[first] == max(doubts.values())
    book.set_state(first, "reviewed")
    assert book.next_useful() != first
    _open(desk, "case_0")
    assert {"case_0 heatmap lesion", "case_0 mask"} <= {layer.name for layer in desk.viewer.layers}
    heights, predicted = desk.slice_heights()
    assert predicted
    assert heights == pytest.approx(np.array(scores["slices"])[:, 1])


def test_a_stopped_training_goes_on(desk):
    book, folder = desk.book, desk.book.runs / "run_1"
    steps = train(book, "fake_classifier", FakeClassifierRecipe(steps=5), folder)
    while (news := next(steps).latest).stage != "train" or news.index < 2:
        pass
    steps.close()
    _, news = _drained(train(book, "fake_classifier", FakeClassifierRecipe(steps=5), folder, resume=True))
    assert [n.latest.index for n in news if n.latest.stage == "train"] == [3, 4, 5]


def test_a_case_that_fails_does_not_stop_the_others(desk, tmp_path):
    (tmp_path / "case_1.nii.gz").write_bytes(b"broken")
    from napari_weakseg.method import Weights
    from napari_weakseg.prompts import LESION

    weights = Weights("fake_classifier", FakeClassifierRecipe(), (LESION,), {})
    words, news = _drained(predict(desk.book, weights, desk.book.unpredicted()))
    assert words.startswith("predicted 3 of 4 cases. case_1:")
    assert any("case_1" in one.latest.note for one in news)


def test_only_marked_cases_are_learnt_from(desk):
    assert desk.book.trainable(Card("a", "A", ("image_label",))).training.ids == ("case_0", "case_1")
    with pytest.raises(PromptError, match="extreme points"):
        desk.book.trainable(Card("b", "B", ("extreme_points",)))


def test_unmarked_cases_take_part_where_a_method_learns_from_them_and_some_are_marked(desk):
    semi = Card("a", "A", ("image_label",), learns_unmarked=True)
    assert desk.book.trainable(semi).training.ids == ("case_0", "case_1", "case_2", "case_3")
    with pytest.raises(PromptError, match="extreme points"):
        desk.book.trainable(Card("b", "B", ("extreme_points",), learns_unmarked=True))


def test_joined_news_keep_all_figures():
    joined = Figures.join(
        Figures(News("train", 1, note="a note"), ((1, {"loss": 1.0}),)), Figures(News("train", 2), ((2, {}),))
    )
    assert joined.latest.index == 2
    assert joined.latest.note == "a note"
    assert [step for step, _ in joined.rows] == [1, 2]


def test_a_file_that_is_no_cohort_leaves_what_was_open(desk, tmp_path):
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(DataError):
        desk.open_cohort(tmp_path / "x.json")
    assert desk.book.name.endswith("cohort.json")
