"""What follows from a background stroke that is closed around the structures, and what does not."""

from __future__ import annotations

import numpy as np

from napari_weakseg.arrays.background_contours import outside_background_contours


def ring(gap: int = 0) -> np.ndarray:
    """A square contour of background in one slice of 40 x 40, open over `gap` pixels."""
    background = np.zeros((1, 40, 40), dtype=bool)
    background[0, 10, 10:31] = background[0, 30, 10:31] = background[0, 10:31, 10] = background[0, 10:31, 30] = True
    background[0, 10, 15 : 15 + gap] = False
    return background


def stroke(row: int = 20, column: int = 20) -> np.ndarray:
    structures = np.zeros((1, 40, 40), dtype=bool)
    structures[0, row, column : column + 4] = True
    return structures


def test_what_lies_outside_of_a_closed_contour_is_background():
    outside = outside_background_contours(ring(), stroke())
    assert outside[0, 0, 0]
    assert outside[0, 9, 20]
    assert not outside[0, 10:31, 10:31].any()
    assert outside.sum() == 40 * 40 - 21 * 21


def test_a_diagonal_contour_is_closed():
    background = np.zeros((1, 40, 40), dtype=bool)
    for n in range(10):
        background[0, 20 - 10 + n, 20 + n] = background[0, 20 + n, 30 - n] = True
        background[0, 30 - n, 20 - n] = background[0, 20 - n, 10 + n] = True
    assert outside_background_contours(background, stroke(20, 18))[0, 0, 0]


def test_a_small_gap_is_bridged_and_a_large_one_says_nothing():
    assert outside_background_contours(ring(gap=5), stroke())[0, 0, 0]
    assert not outside_background_contours(ring(gap=14), stroke()).any()


def test_a_structure_outside_of_the_contour_says_that_it_bounds_nothing():
    assert not outside_background_contours(ring(), stroke() | stroke(2, 2)).any()


def test_a_slice_without_structure_strokes_is_left_alone():
    assert not outside_background_contours(ring(), np.zeros((1, 40, 40), dtype=bool)).any()


def test_a_line_bounds_nothing_but_what_it_cuts_off():
    background = np.zeros((2, 40, 40), dtype=bool)
    background[0, 20, 5:35] = True
    structures = np.concatenate([stroke(30), stroke()])
    assert not outside_background_contours(background, structures).any()
