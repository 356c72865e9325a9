"""Marks as a cube: the box lies where it should, whatever its size, shape and side."""

from __future__ import annotations

import numpy as np
import pytest

from napari_weakseg.arrays.extreme_points import simulate_points
from napari_weakseg.arrays.marks import CHANNELS, CONDITIONS, GRID, HIGH, LOW, marked_cube
from napari_weakseg.prompts import BACKGROUND_STROKE

SPACING = (1.0, 0.5, 3.0)


def _ball(shape: tuple[int, int, int] = (40, 30, 14), radii: tuple[float, float, float] = (9, 7, 3)) -> np.ndarray:
    places = np.indices(shape)
    centre = np.array(shape)[:, None, None, None] / 2 - 0.5
    return (((places - centre) / np.array(radii)[:, None, None, None]) ** 2).sum(axis=0) <= 1


def _image(mask: np.ndarray) -> np.ndarray:
    return mask * 2.0 + np.random.default_rng(0).normal(0, 0.3, mask.shape)


@pytest.mark.parametrize("radii", [(9, 7, 3), (2, 12, 5), (18, 13, 6)])
def test_the_faces_of_the_box_lie_at_fixed_places(radii: tuple[float, float, float]) -> None:
    mask = _ball(radii=radii)
    cube = marked_cube(_image(mask), SPACING, points=simulate_points(mask))
    inside = np.argwhere(cube.frame.to_cube(mask) > 0.5)
    assert np.abs(inside.min(axis=0) - LOW).max() <= 1
    assert np.abs(inside.max(axis=0) - (HIGH - 1)).max() <= 1
    corners = np.stack([cube.frame.low, cube.frame.high])
    np.testing.assert_allclose(cube.frame.to_cube_coordinates(corners), [[LOW - 0.5] * 3, [HIGH - 0.5] * 3])


def test_a_mask_survives_the_way_to_the_cube_and_back() -> None:
    mask = _ball((60, 50, 20), (20, 15, 7))
    cube = marked_cube(_image(mask), SPACING, points=simulate_points(mask))
    back = cube.frame.from_cube(cube.frame.to_cube(mask)) > 0.5
    truth = mask[cube.frame.window]
    assert truth.sum() == mask.sum()
    assert 2 * (back & truth).sum() / (back.sum() + truth.sum()) > 0.97


@pytest.mark.parametrize("axis", range(3))
def test_a_mirrored_case_gives_a_mirrored_cube(axis: int) -> None:
    mask = _ball()
    image = _image(mask)
    points = simulate_points(mask, jitter=1)
    strokes = np.zeros(mask.shape, dtype=np.uint8)
    strokes[18:22, 15, 6] = 1
    strokes[5, 5:9, 6] = BACKGROUND_STROKE
    straight = marked_cube(image, SPACING, points=points, strokes=strokes, previous=mask)
    mirrored_points = points.astype(float)
    mirrored_points[:, axis] = mask.shape[axis] - 1 - mirrored_points[:, axis]
    mirrored = marked_cube(
        np.flip(image, axis), SPACING, points=mirrored_points, strokes=np.flip(strokes, axis), previous=np.flip(mask, axis)
    )
    np.testing.assert_allclose(mirrored.condition, straight.condition, atol=1e-6)
    different = np.abs(np.flip(mirrored.channels, axis + 1) - straight.channels) > 0.05
    assert different.mean() < 0.01  # percentiles are taken on every third voxel, and bins have edges


def test_a_scaled_and_shifted_image_gives_the_same_cube() -> None:
    mask = _ball()
    points = simulate_points(mask)
    first = marked_cube(_image(mask), SPACING, points=points).channels
    second = marked_cube(1000 * _image(mask) - 300, SPACING, points=points).channels
    assert (np.abs(first - second) > 1e-2).mean() < 0.01


@pytest.mark.parametrize("marks", ["points", "three points", "strokes", "both", "previous"])
def test_any_marks_give_finite_channels_and_say_what_was_given(marks: str) -> None:
    mask = _ball()
    points = simulate_points(mask)
    strokes = np.zeros(mask.shape, dtype=np.uint8)
    strokes[16:24, 15, 6] = 1
    given = {
        "points": {"points": points},
        "three points": {"points": points[:3]},
        "strokes": {"strokes": strokes},
        "both": {"points": points, "strokes": strokes},
        "previous": {"previous": mask.astype(np.float32), "strokes": strokes},
    }[marks]
    cube = marked_cube(_image(mask), SPACING, **given)
    assert cube.channels.shape == (len(CHANNELS), GRID, GRID, GRID)
    assert cube.condition.shape == (len(CONDITIONS),)
    assert np.isfinite(cube.channels).all()
    assert np.abs(cube.channels).max() < 5
    told = dict(zip(CONDITIONS[6:], cube.condition[6:], strict=True))
    assert told["points"] == pytest.approx(len(given.get("points", ())) / 6)
    assert told["foreground strokes"] == float("strokes" in given)
    assert told["previous mask"] == float("previous" in given)


def test_a_stroke_in_one_slice_still_gets_a_window_with_depth() -> None:
    mask = _ball()
    strokes = np.zeros(mask.shape, dtype=np.uint8)
    strokes[14:26, 15, 6] = 1
    frame = marked_cube(_image(mask), SPACING, strokes=strokes).frame
    side = (frame.high - frame.low) * SPACING
    assert side.min() > 0.5 * side.max()


def test_a_constant_image_gives_a_finite_cube_and_the_border_is_marked_as_outside() -> None:
    mask = _ball((20, 20, 8), (10, 9, 4))
    cube = marked_cube(np.full(mask.shape, 7, dtype=np.int16), SPACING, points=simulate_points(mask))
    assert np.isfinite(cube.channels).all()
    assert cube.channels[-1].min() == 0
    assert cube.channels[-1].max() == 1


def test_without_any_mark_there_is_no_cube() -> None:
    with pytest.raises(ValueError, match="where the object is"):
        marked_cube(np.zeros((5, 5, 5)), SPACING, strokes=np.zeros((5, 5, 5), dtype=np.uint8))
