"""What lies apart from the largest component, on a row of voxels that can be counted."""

from __future__ import annotations

import numpy as np
import pytest

from napari_weakseg.arrays.largest_component import largest_component, strokes_apart

LABELS = np.array([1, 2, 2, 0, 0, 1, 0, 0, 3, 3])[:, None, None]


def test_structures_that_touch_are_one_component_and_the_largest_stays():
    assert largest_component(LABELS).ravel().tolist() == [True, True, True] + 7 * [False]


def test_a_component_that_a_stroke_touches_stays():
    strokes = np.zeros(LABELS.shape, dtype=bool)
    strokes[[3, 5]] = True
    assert np.flatnonzero(largest_component(LABELS, strokes)).tolist() == [0, 1, 2, 5]


def test_voxels_that_touch_at_a_corner_belong_together():
    labels = np.zeros((3, 3, 3), dtype=np.uint8)
    labels[0, 0, 0] = labels[1, 1, 1] = 1
    assert largest_component(labels).sum() == 2


@pytest.mark.parametrize("value", [0, 1])
def test_a_mask_without_a_second_component_stays_as_it_is(value):
    labels = np.full((2, 2, 2), value)
    assert (largest_component(labels) == (labels > 0)).all()


def test_found_strokes_are_counted_and_those_apart():
    """Strokes on 1 (found), 2 (missed: there it says 1), 1 far away (found, apart), background and nothing (not counted)."""
    marked = np.array([1, 1, -1, 0, 0, 1, -1, -1, 2, 3])[:, None, None]
    assert strokes_apart(LABELS, marked) == (3, 2)
