"""Doubt per slice, on arrays that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from napari_weakseg.arrays.doubt import doubtful_slices, slice_doubt


def test_a_slice_weighs_by_its_doubtful_area():
    probability = np.zeros((4, 4, 3), dtype=np.float32)
    probability[:2, :2, 0] = 1  # certain
    probability[:2, :2, 1] = 0.5  # a guess
    probability[0, 0, 2] = 0.02  # too little to look at
    doubt = slice_doubt(probability, probability >= 0.5, axis=2)
    assert doubt == pytest.approx([0, 4 / (4 + 4 + 4), 0])
    assert doubtful_slices(doubt) == [1]


def test_nothing_is_doubtful_in_an_empty_volume():
    doubt = slice_doubt(np.zeros((3, 3, 3), dtype=np.float32), np.zeros((3, 3, 3), dtype=bool), axis=0)
    assert doubt.tolist() == [0, 0, 0]
    assert doubtful_slices(doubt) == []
