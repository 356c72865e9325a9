"""segment, evaluate, replay: with a fake method, as a script would call them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

import napari_weakseg as ws
from napari_weakseg.api import expected_memory, in_words, steps
from napari_weakseg.case import Case
from napari_weakseg.errors import DataError, GeometryError, PromptError, RecipeError
from napari_weakseg.prompts import ExtremePoints, Structure
from napari_weakseg.volume import SourceHeader, Volume

pytestmark = pytest.mark.usefixtures("fake_method")


def _segment(blob, points, **knobs):
    return ws.segment(blob[0], points, method="fake", recipe=ws.new_recipe("fake", **knobs))


def test_segment_yields_steps_and_a_mask_on_the_grid(blob, blob_points):
    seen = []
    result = ws.segment(blob[0], blob_points, method="fake", on_step=seen.append)
    assert seen[0].preview is not None
    assert [step.stage for step in seen] == ["first mask", "train", "train", "train"]
    assert result.mask.same_grid(blob[0])
    assert result.notes == ("a note of the method", "a note of the result")


def test_zero_seconds_give_the_first_mask(blob, blob_points):
    seen = []
    recipe = ws.new_recipe("fake", max_seconds=0)
    result = ws.segment(blob[0], blob_points, method="fake", recipe=recipe, on_step=seen.append)
    assert len(seen) == 1
    np.testing.assert_array_equal(result.labels, seen[0].preview.labels())


def test_points_of_another_grid_go_through_world_coordinates(blob, blob_points):
    volume, _ = blob
    mirror = np.array([[-1, 0, 0, 19], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    flipped = Volume(volume.array[::-1], volume.affine @ mirror, "b")
    straight = _segment(blob, blob_points, max_seconds=0).labels
    turned = _segment((flipped,), blob_points, max_seconds=0).labels
    np.testing.assert_array_equal(turned[::-1], straight)


@pytest.mark.parametrize(
    ("marks", "error", "words"),
    [
        (None, PromptError, "needs extreme points"),
        (np.full((6, 3), 40.0), PromptError, "outside"),
    ],
)
def test_marks_that_cannot_be_used_are_refused_before_any_step(blob, marks, error, words):
    seen = []
    points = None if marks is None else ExtremePoints.from_points(marks, blob[0])
    with pytest.raises(error, match=words):
        ws.segment(blob[0], points, method="fake", on_step=seen.append)
    assert not seen


def test_an_unknown_method_is_named(blob, blob_points):
    with pytest.raises(RecipeError, match="nothing"):
        ws.segment(blob[0], blob_points, method="nothing")


def test_a_reference_on_another_grid_is_refused(blob, blob_points):
    with pytest.raises(GeometryError, match="grid"):
        ws.segment(blob[0], blob_points, method="fake", reference=Volume(np.zeros((3, 3, 3), np.uint8)))


def test_stopping_closes_the_fit(blob, blob_points, monkeypatch):
    import fake_method

    closed = []
    original = fake_method.fit

    def watched(cases, recipe, weights=None):
        try:
            return (yield from original(cases, recipe, weights))
        finally:
            closed.append(True)

    monkeypatch.setattr(fake_method, "fit", watched)

    def stop(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ws.segment(blob[0], blob_points, method="fake", on_step=stop)
    assert closed

    closed.clear()
    running = steps(Case("c", {"image": blob[0]}, points=blob_points), method="fake")
    next(running)
    running.close()
    assert closed


# -- the record ---------------------------------------------------------------------------------------------------------


def test_the_record_is_json_and_says_how_it_was_made(blob, blob_points):
    record = json.loads(json.dumps(_segment(blob, blob_points, seed=5).record, allow_nan=False))
    assert record["schema_version"] == 1
    assert record["intended_use"] == "research only, not a medical device"
    assert record["method"] == "fake"
    assert record["recipe"]["seed"] == record["seed"] == 5
    assert record["image"]["sha256"] == blob[0].sha256
    assert record["image"]["affine"] == blob[0].affine.tolist()
    assert record["software"]["packages"]["numpy"] == np.__version__
    assert record["training"]["device"] == "cpu"
    assert record["durations"]["first_mask"] <= record["durations"]["total"]
    assert record["prompts"]["voxel"] == blob_points.to_json()
    np.testing.assert_allclose(record["prompts"]["ras_mm"], blob_points.world)


def test_each_run_has_its_own_id(blob, blob_points):
    assert len({_segment(blob, blob_points).record["run"] for _ in range(3)}) == 3


def test_no_name_and_no_path_reaches_the_record(blob, blob_points):
    canary = "Doe^Jane 1970-01-01"
    notes = (f"{canary}.nii.gz has a text field.", f"{canary}: odd.")
    volume = Volume(blob[0].array, blob[0].affine, canary, header=SourceHeader(), notes=notes)
    case = Case(canary, {canary: volume}, points=blob_points, patient=canary)
    record = json.dumps(ws.segment(case, method="fake").record)
    assert "Doe" not in record
    assert "1970" not in record
    assert "the image: odd." in record


def test_replay_gives_the_same_mask_though_no_clock_is_asked(blob, blob_points):
    result = _segment(blob, blob_points, steps=2, seed=3)
    again = ws.replay(json.loads(json.dumps(result.record)), blob[0])
    np.testing.assert_array_equal(again.labels, result.labels)
    assert again.record["output"]["sha256"] == result.record["output"]["sha256"]
    assert again.notes == result.notes


def test_replay_of_interleaved_objects(blob):
    rng = np.random.default_rng(1)
    six = [rng.uniform((0, 0, 0), (19, 17, 11), size=(6, 3)) for _ in range(4)]
    points = ExtremePoints(np.stack(six), np.array([2, 1, 2, 1]), (Structure("a", 1), Structure("b", 2)), blob[0].affine)
    result = _segment(blob, points)
    again = ws.replay(result.record, blob[0])
    np.testing.assert_array_equal(again.labels, result.labels)
    assert again.record["prompts"]["sha256"] == result.record["prompts"]["sha256"]


def test_replay_refuses_another_image(blob, blob_points):
    record = _segment(blob, blob_points).record
    with pytest.raises(DataError, match="not the image"):
        ws.replay(record, blob[0].with_array(blob[0].array + 1))


def test_replay_stays_on_the_processor_of_the_record(blob, blob_points):
    again = ws.replay(_segment(blob, blob_points).record, blob[0])
    assert again.record["recipe"]["device"] == "cpu"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 99}, "newer"),
        ({"prompts": None}, "lacks"),
        ({"training": {"fitted": False}}, "weights"),
    ],
)
def test_replay_refuses_a_record_it_cannot_repeat(blob, blob_points, change, words):
    record = {**_segment(blob, blob_points).record, **change}
    with pytest.raises(DataError, match=words):
        ws.replay(record, blob[0])


def test_replay_refuses_changed_points(blob, blob_points):
    record = json.loads(json.dumps(_segment(blob, blob_points).record))
    record["prompts"]["voxel"]["structures"][0]["objects"][0][0][0] += 1
    with pytest.raises(DataError, match="changed"):
        ws.replay(record, blob[0])


def test_replay_says_when_the_mask_differs(blob, blob_points):
    record = json.loads(json.dumps(_segment(blob, blob_points).record))
    record["output"]["sha256"] = "0" * 64
    assert "differs" in ws.replay(record, blob[0]).notes[-1]


# -- evaluate -----------------------------------------------------------------------------------------------------------


def test_evaluate_by_hand():
    grid = np.zeros((10, 10, 10), np.uint8)
    a, b = grid.copy(), grid.copy()
    a[2:6, 2:6, 2:6], b[2:6, 2:6, 3:7] = 1, 1
    affine = np.diag([1, 1, 2.0, 1])
    report = ws.evaluate(Volume(a, affine), Volume(b, affine))
    scores = report["structures"]["label 1"]
    assert (report["unit"], report["volume_unit"]) == ("mm", "ml")
    assert scores["dice"] == pytest.approx(0.75)
    assert scores["hd95"] == pytest.approx(2.0)
    assert scores["volume"] == scores["reference_volume"] == pytest.approx(0.128)
    assert scores["volume_difference"] == 0


def test_evaluate_leaves_out_a_structure_that_the_reference_lacks():
    a = np.zeros((5, 5, 5), np.uint8)
    a[1:3, 1:3, 1:3] = 2
    scores = ws.evaluate(Volume(a), Volume(np.zeros_like(a)))["structures"]["label 2"]
    assert scores["dice"] is None
    assert scores["hd95"] is None
    assert scores["volume"] == pytest.approx(0.008)


def test_evaluate_of_an_empty_mask_is_zero_and_gives_the_diagonal():
    b = np.zeros((4, 5, 6), np.uint8)
    b[1:3, 1:3, 1:3] = 1
    scores = ws.evaluate(Volume(np.zeros_like(b)), Volume(b))["structures"]["label 1"]
    assert scores["dice"] == 0
    assert scores["hd95"] is None
    assert scores["hd95_or_diagonal"] == pytest.approx(np.sqrt(16 + 25 + 36))


def test_evaluate_counts_voxels_where_the_spacing_is_unknown():
    b = np.zeros((4, 4, 4), np.uint8)
    b[1:3, 1:3, 1:3] = 1
    affine = np.diag([0.1, 0.1, 0.1, 1])
    report = ws.evaluate(Volume(b, affine, spacing_known=False), Volume(b, affine, spacing_known=False))
    assert (report["unit"], report["volume_unit"]) == ("voxels", "voxels")
    assert report["structures"]["label 1"]["volume"] == 8


def test_evaluate_names_structures_of_a_result(blob, blob_points):
    report = ws.evaluate(_segment(blob, blob_points, max_seconds=0), blob[1])
    assert list(report["structures"]) == ["lesion"]
    assert 0.4 < report["structures"]["lesion"]["dice"] < 1


def test_evaluate_refuses_other_grids(blob):
    with pytest.raises(GeometryError, match="grids"):
        ws.evaluate(blob[1], Volume(blob[1].array, np.eye(4)))


def test_memory_grows_with_objects_and_training_and_is_said_in_words(blob, blob_points):
    case = Case("case", {"image": blob[0]}, points=blob_points)
    result = 2 * 4 * blob[0].array.size
    assert expected_memory(case, method="fake") == result
    assert in_words(830_400_000) == "830 MB"
    assert in_words(3_140_000_000) == "3.1 GB"
    assert in_words(result) == "1 MB"


def test_more_memory_than_is_free_is_refused_with_the_numbers(blob, blob_points, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=9_000))
    seen = []
    with pytest.raises(DataError, match="needs about 1 MB of memory and 1 MB are free") as caught:
        ws.segment(blob[0], blob_points, method="fake", on_step=seen.append)
    assert not seen
    assert len(str(caught.value).split()) <= 30
