"""Directions, boxes and simulated points."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from napari_weakseg.arrays.extreme_points import (
    DIRECTIONS,
    assign_directions,
    box_of,
    direction_names,
    extremes_of,
    missing_directions,
    order_points,
    simulate_points,
)
from napari_weakseg.volume import Volume

ORDERED = np.array([[1, 5, 6], [9, 4, 5], [5, 2, 6], [4, 8, 5], [5, 5, 3], [5, 5, 7]], dtype=float)


def ellipsoid(shape=(20, 22, 24), centre=(9, 11, 12), radii=(6, 7, 8)) -> np.ndarray:
    grid = np.indices(shape).T - np.array(centre)
    return ((grid / np.array(radii)) ** 2).sum(axis=-1).T <= 1


def test_any_order_gives_the_same_directions():
    for order in itertools.permutations(range(6)):
        np.testing.assert_array_equal(order_points(ORDERED[list(order)]), ORDERED)


def test_point_that_is_outermost_twice_serves_once():
    points = ORDERED.copy()
    points[0] = (1, 2, 6)  # as far out in j as the third
    assert {tuple(p) for p in order_points(points)} == {tuple(p) for p in points}


def test_extremes_of_many_points():
    inner = np.random.default_rng(0).uniform(4, 5, (40, 3))
    found = extremes_of(np.concatenate([inner, ORDERED, inner]))
    np.testing.assert_array_equal(found, ORDERED)
    assert len(DIRECTIONS) == 6


@pytest.mark.parametrize("left_out", range(6))
def test_missing_direction_is_named(left_out):
    volume = Volume(np.zeros((12, 12, 12)))  # RAS
    names = ("left", "right", "back", "front", "bottom", "top")
    assert direction_names(volume) == names
    assert missing_directions(np.delete(ORDERED, left_out, axis=0), volume) == (names[left_out],)


def test_missing_directions_of_few_points():
    volume = Volume(np.zeros((12, 12, 12)), np.diag([-1.0, -1.0, 1.0, 1.0]))  # LPS
    assert direction_names(volume)[:4] == ("right", "left", "front", "back")
    assert len(missing_directions([], volume)) == 6
    assert missing_directions([[0, 6, 6]], volume) == ("left", "front", "back", "bottom", "top")
    assert direction_names(Volume(np.zeros((3, 3, 3)), orientation_known=False))[0] == "axis i low"


def test_directions_taken():
    assert assign_directions(ORDERED, (12, 12, 12)) == (0, 1, 2, 3, 4, 5)
    assert assign_directions(ORDERED[[3, 0]], (12, 12, 12)) in {(3, 0), (3, 2), (1, 0)}
    assert assign_directions(np.zeros((0, 3)), (12, 12, 12)) == ()


class TestBox:
    def test_is_half_open(self):
        np.testing.assert_array_equal(box_of(ORDERED, (12, 12, 12)), [[1, 2, 3], [10, 9, 8]])

    def test_margin_per_axis(self):
        np.testing.assert_array_equal(box_of(ORDERED, (12, 12, 12), margin=(1, 2, 0)), [[0, 0, 3], [11, 11, 8]])

    @pytest.mark.parametrize("axis", range(3))
    @pytest.mark.parametrize("high", [False, True])
    def test_object_that_touches_a_face_of_the_volume(self, axis, high):
        shape = (12, 12, 12)
        points = ORDERED.copy()
        points[2 * axis + high, axis] = shape[axis] - 1 if high else 0
        for margin in (0, 3, 50):
            start, stop = box_of(points, shape, margin=margin)
            assert (start >= 0).all()
            assert (stop <= shape).all()
            assert (np.round(points) >= start).all()
            assert (np.round(points) < stop).all()
        assert (stop[axis] == shape[axis]) if high else (start[axis] == 0)

    def test_exact_border_of_the_last_voxel(self):
        points = ORDERED.copy()
        points[1, 0] = 11.4
        np.testing.assert_array_equal(box_of(points, (12, 12, 12))[1], [12, 9, 8])


class TestSimulatedPoints:
    def test_exact_points_span_the_masks_box(self):
        mask = ellipsoid()
        points = simulate_points(mask)
        voxels = np.argwhere(mask)
        np.testing.assert_array_equal(box_of(points, mask.shape), [voxels.min(axis=0), voxels.max(axis=0) + 1])
        assert mask[tuple(points.T)].all()
        np.testing.assert_array_equal(points, order_points(points))

    def test_takes_the_voxel_nearest_to_the_middle_of_the_face(self):
        mask = np.zeros((10, 10, 10), bool)
        mask[2:7, 3:8, 4:9] = True
        np.testing.assert_array_equal(simulate_points(mask)[0], (2, 5, 6))

    def test_jitter_is_bounded_reproducible_and_stays_inside(self):
        mask = ellipsoid(centre=(6, 7, 8))
        plain = simulate_points(mask)
        moved = simulate_points(mask, jitter=1, rng=np.random.default_rng(3))
        np.testing.assert_array_equal(moved, simulate_points(mask, jitter=1, rng=np.random.default_rng(3)))
        assert 0 < np.abs(moved - plain).max() <= 1
        for seed in range(20):
            far = simulate_points(mask, jitter=9, rng=np.random.default_rng(seed))
            assert (far >= 0).all()
            assert (far < mask.shape).all()

    def test_single_voxel_and_nothing(self):
        mask = np.zeros((4, 4, 4), bool)
        mask[1, 2, 3] = True
        np.testing.assert_array_equal(simulate_points(mask), [(1, 2, 3)] * 6)
        with pytest.raises(ValueError, match="empty"):
            simulate_points(np.zeros((4, 4, 4)))
