"""Simulated strokes lie where they say, are sparse, and are the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from napari_weakseg.arrays.simulated_scribbles import simulate_scribbles
from napari_weakseg.prompts import BACKGROUND_STROKE


@pytest.fixture
def mask():
    """Two structures, one around the other, in slices 2 to 8 of a box that is not square."""
    i, j, k = np.ogrid[:60, :44, :10]
    radius = np.hypot(i - 28, j - 20) + 0 * k
    labels = np.where(radius < 7, 2, np.where(radius < 13, 1, 0))
    labels[:, :, :2] = labels[:, :, 9:] = 0
    return labels.astype(np.uint8)


def test_strokes_lie_in_their_structure_and_the_background_s_in_none(mask):
    strokes = simulate_scribbles(mask, seed=1)
    for value in (1, 2):
        assert (strokes == value).any()
        assert (mask[strokes == value] == value).all()
    assert (mask[strokes == BACKGROUND_STROKE] == 0).all()
    for k in range(2, 9):
        assert set(np.unique(strokes[:, :, k])) == {0, 1, 2, BACKGROUND_STROKE}
    assert not strokes[:, :, :2].any()
    assert (strokes != 0).mean() < 0.06


def test_a_seed_draws_the_same_again(mask):
    np.testing.assert_array_equal(simulate_scribbles(mask, seed=4), simulate_scribbles(mask, seed=4))
    assert (simulate_scribbles(mask, seed=4) != simulate_scribbles(mask, seed=5)).any()


def test_some_slices_only_and_any_axis(mask):
    strokes = simulate_scribbles(mask, every=3)
    assert np.flatnonzero(strokes.any(axis=(0, 1))).tolist() == [2, 5, 8]
    turned = simulate_scribbles(np.moveaxis(mask, 2, 0), axis=0, every=3)
    np.testing.assert_array_equal(np.moveaxis(turned, 0, 2), strokes)


def test_strokes_along_borders_may_be_left_out(mask):
    inside = simulate_scribbles(mask, border=False)
    assert ((inside > 0) & (inside < 255)).sum() < ((strokes := simulate_scribbles(mask)) > 0)[strokes < 255].sum()


def test_tiny_structures_and_full_slices_get_a_stroke():
    tiny = np.zeros((9, 9, 2), dtype=np.uint8)
    tiny[4, 4, 0] = 7
    tiny[:, :, 1] = 3
    tiny[0, 0, 1] = 0
    strokes = simulate_scribbles(tiny)
    assert strokes[4, 4, 0] == 7
    assert (strokes[:, :, 1] == 3).any()
    assert strokes[0, 0, 1] == BACKGROUND_STROKE


def test_an_empty_mask_gets_none():
    assert not simulate_scribbles(np.zeros((5, 5, 5), dtype=np.uint8)).any()
