"""The published pseudo-mask and each of its traps."""

from __future__ import annotations

import numpy as np
import pytest

from napari_weakseg.arrays.extreme_points import box_of, simulate_points
from napari_weakseg.arrays.first_mask import Window
from napari_weakseg.arrays.object_paths import object_paths
from napari_weakseg.arrays.pseudo_mask import background_ring, published_pseudo_mask


def ball(shape=(40, 40, 40), radius=10, centre=None):
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    return ((grid - (np.array(shape) // 2 if centre is None else centre)) ** 2).sum(axis=-1) < radius**2


def test_paths_lie_in_a_clear_object():
    body = ball()
    window = Window.around(simulate_points(body), body.shape)
    image = (body + 0.1 * np.random.default_rng(0).standard_normal(body.shape))[window.index]
    paths = object_paths(image, window.points)
    assert paths.any()
    assert (paths & body[window.index]).sum() / paths.sum() > 0.9


def test_the_pseudo_mask_labels_object_background_and_leaves_the_rest_open():
    body = ball()
    window = Window.around(simulate_points(body), body.shape, margin=0.6)
    image = (body + 0.2 * np.random.default_rng(0).standard_normal(body.shape))[window.index]
    labels, probability = published_pseudo_mask(image, window, ring=(3, 3, 3), rounds=3)
    inside = np.zeros(window.shape, dtype=bool)
    inside[tuple(slice(a, b) for a, b in box_of(window.points, window.shape).T)] = True
    assert set(np.unique(labels)) <= {-1, 0, 1}
    assert (labels[~inside] == 0).all()  # outside the box there is background, whatever the walker says
    assert (labels[inside] != 0).all()  # inside it, nothing is called background
    found = labels == 1
    assert 2 * (found & body[window.index]).sum() / (found.sum() + body[window.index].sum()) > 0.8
    assert probability.shape == window.shape


@pytest.mark.parametrize("centre", [(10, 20, 20), (29, 20, 20), (20, 10, 20), (20, 29, 20), (20, 20, 10), (20, 20, 29)])
def test_an_object_that_touches_a_face_keeps_its_seeds(centre):
    # the authors' negative slice index floods the crop with background here, and their windows lose the last slice
    body = ball(radius=11, centre=np.array(centre))
    window = Window.around(simulate_points(body), body.shape)
    image = (body * 1.0)[window.index]
    labels, _ = published_pseudo_mask(image, window, ring=(4, 4, 4), rounds=2)
    assert (labels == 1).sum() > 500


def test_a_window_without_room_for_a_ring_still_has_background():
    points = np.array([[0, 4, 4], [7, 4, 4], [4, 0, 4], [4, 7, 4], [4, 4, 0], [4, 4, 7]])
    assert background_ring(Window.around(points, (8, 8, 8)), (4, 4, 4)).any()


def test_the_ring_begins_where_it_should():
    points = np.array([[10, 15, 15], [20, 15, 15], [15, 10, 15], [15, 20, 15], [15, 15, 10], [15, 15, 20]])
    window = Window((0, 0, 0), (31, 31, 31), points.astype(float), np.ones(3))
    ring = background_ring(window, (4, 4, 4))
    assert not ring[7:24, 7:24, 7:24].any()
    assert ring[6, 15, 15]
    assert ring[24, 15, 15]


def test_a_tiny_object_is_not_swallowed_by_its_own_dilation():
    body = np.zeros((20, 20, 20), dtype=bool)
    body[9:11, 9:12, 9:11] = True
    window = Window.around(simulate_points(body), body.shape)
    assert object_paths((body * 1.0)[window.index], window.points).sum() <= 12
