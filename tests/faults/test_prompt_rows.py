"""Rows P2 to P14 of the fault catalogue as far as they need no viewer."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_weakseg.errors import PromptError
from napari_weakseg.io.nifti import read_mask, write_mask
from napari_weakseg.io.points import read_points
from napari_weakseg.prompts import LESION, ExtremePoints, Scribbles, Structure
from napari_weakseg.volume import Volume

SHAPE = (10, 20, 30)
SIX = np.array([[1, 9, 14], [8, 9, 14], [4, 3, 14], [4, 15, 14], [4, 9, 5], [4, 9, 25]], dtype=float)
VOLUME = Volume(np.zeros(SHAPE), np.diag([-3.0, -1.0, 1.0, 1.0]), name="scan")  # LPS


def placed(points) -> ExtremePoints:
    return ExtremePoints.from_objects([(LESION, points)], VOLUME).checked(VOLUME)


def refused(points, *parts: str) -> None:
    with pytest.raises(PromptError) as caught:
        placed(points)
    assert len(str(caught.value).split()) <= 30
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("points", [[], np.zeros((0, 3))])
def test_no_points_P1(points):
    refused(points, "six")


@pytest.mark.parametrize(
    ("count", "missing"),
    [
        (5, ["top"]),
        (4, ["bottom", "top"]),
        (3, ["bottom", "top"]),
        (2, ["bottom", "top", "front", "back"]),
        (1, ["left", "bottom", "top", "front", "back"]),
    ],
    ids=lambda value: f"P2-{value}" if isinstance(value, int) else None,
)
def test_too_few_points_name_the_missing_directions(count, missing):
    refused(SIX[:count], f"{count} of six", *missing)


@pytest.mark.parametrize("count", [7, 50], ids=lambda n: f"P3-{n}")
def test_more_than_six_use_the_extremes(count):
    rng = np.random.default_rng(0)
    inner = rng.uniform((2, 4, 6), (7, 14, 24), (count - 6, 3))
    points = placed(rng.permutation(np.concatenate([SIX, inner])))
    np.testing.assert_array_equal(points.points[0].min(axis=0), SIX.min(axis=0))
    np.testing.assert_array_equal(points.points[0].max(axis=0), SIX.max(axis=0))
    assert str(count) in points.notes[0]


def test_identical_points_make_no_box_P4():
    refused(np.tile(SIX[0], (6, 1)), "span no box")
    flat = SIX.copy()
    flat[:, 2] = 14
    refused(flat, "axis k")


def test_a_repeated_point_among_six_still_makes_a_box_P4():
    points = SIX.copy()
    points[5] = points[4] = (4, 9, 25)
    points[0] = (1, 9, 5)
    assert len(placed(points)) == 1


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("high", [False, True])
def test_slightly_outside_is_clamped_far_outside_is_refused_P5(axis, high):
    points = SIX.copy()
    number, border = 2 * axis + high, SHAPE[axis] - 1 if high else 0
    points[number, axis] = border + (0.4 if high else -0.4)
    assert placed(points).points[0, number, axis] == border
    points[number, axis] = border + (10 if high else -10)
    refused(points, f"point {number + 1} of object 1", "outside")


def test_index_of_the_offending_object_P5():
    far = SIX + np.array((0, 0, 100))
    with pytest.raises(PromptError, match="point 1 of object 2"):
        ExtremePoints.from_points([SIX, far], VOLUME).checked(VOLUME)


def test_border_values_P6():
    points = SIX.copy()
    points[0, 0], points[1, 0] = -0.0, SHAPE[0] - 0.5
    points[2, 1], points[3, 1] = -0.5, SHAPE[1] - 1
    got = placed(points).points[0]
    assert got[:, 0].min() == 0
    assert got[:, 0].max() == SHAPE[0] - 1
    assert got[:, 1].min() == 0
    assert got[:, 1].max() == SHAPE[1] - 1


def test_reversed_axis_order_is_refused_with_a_hint_P9(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps({"space": "voxel", "points": SIX[:, ::-1].tolist()}))
    with pytest.raises(PromptError, match=r"outside.*\(i, j, k\)"):
        read_points(tmp_path / "p.json", VOLUME)


def test_two_lesions_are_two_objects_where_grouped_P10(tmp_path):
    data = {
        "space": "voxel",
        "structures": [{"name": "lesion", "value": 1, "objects": [SIX.tolist(), (SIX + np.array((0, 2, 2))).tolist()]}],
    }
    (tmp_path / "p.json").write_text(json.dumps(data))
    assert len(read_points(tmp_path / "p.json", VOLUME)) == 2


def test_two_lesions_without_groups_are_one_box_and_noted_P10(tmp_path):
    both = np.concatenate([SIX, SIX + np.array((0, 2, 2))])
    (tmp_path / "p.json").write_text(json.dumps({"space": "voxel", "points": both.tolist()}))
    points = read_points(tmp_path / "p.json", VOLUME)
    assert len(points) == 1
    assert points.notes


def test_label_ids_with_gaps_and_255_stay_what_they_are_P14(tmp_path):
    ids = np.array([0, 3, 17, 255])
    labels = ids[np.arange(6000).reshape(SHAPE) % 4]
    again = read_mask(write_mask(VOLUME.with_array(labels), tmp_path / "mask.nii.gz"), like=VOLUME)
    np.testing.assert_array_equal(again.array, labels)


def test_strokes_mean_only_what_was_stated_P14():
    labels = np.zeros((3, 3, 3), np.uint8)
    labels[0], labels[1] = 3, 17
    three, seventeen = Structure("a", 3), Structure("b", 17)
    assert Scribbles(labels, (three, seventeen)).structures == (three, seventeen)
    with pytest.raises(PromptError, match="17"):
        Scribbles(labels, (three,))
