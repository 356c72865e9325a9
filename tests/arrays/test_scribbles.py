"""Strokes: what is held out."""

from __future__ import annotations

import numpy as np

from napari_weakseg.arrays.scribbles import held_out_strokes


def test_whole_strokes_are_held_out_and_each_label_keeps_one():
    labels = np.zeros((4, 20, 20), dtype=np.int8)
    for s in range(4):
        labels[s, 2, 2:8] = labels[s, 6, 2:8] = 1
        labels[s, 12, 3:15] = 2
    out = held_out_strokes(labels, 0.5, seed=3)
    assert out.any()
    assert (labels[out] > 0).all()
    for s in range(4):
        for row in (2, 6, 12):
            marked = labels[s, row] > 0
            assert out[s, row][marked].all() or not out[s, row][marked].any()
    for value in (1, 2):
        assert (labels[~out] == value).any()


def test_nothing_is_held_out_of_a_single_stroke():
    labels = np.zeros((1, 9, 9), dtype=np.int8)
    labels[0, 4] = 1
    assert not held_out_strokes(labels, 0.9).any()
