"""Strokes: what is held out, and those of several people together."""

from __future__ import annotations

import numpy as np
import pytest

from napari_weakseg.arrays.scribbles import held_out_strokes, joined_scribbles
from napari_weakseg.errors import PromptError
from napari_weakseg.prompts import Scribbles, Structure


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


def test_where_people_disagree_nothing_is_marked():
    first, second = np.zeros((2, 3, 3, 1), dtype=np.uint8)
    first[0, :, 0], second[:, 0, 0] = 1, 2
    second[0, 2, 0] = 1
    a, b = Scribbles(first, (Structure("a", 1),)), Scribbles(second, (Structure("a", 1), Structure("b", 2)))
    joined = joined_scribbles([a, b])
    assert joined.labels[:, :, 0].tolist() == [[0, 1, 1], [2, 0, 0], [2, 0, 0]]
    assert [structure.value for structure in joined.structures] == [1, 2]
    assert any("1 voxels are marked differently" in note for note in joined.notes)
    with pytest.raises(PromptError, match="two structures"):
        joined_scribbles([a, Scribbles(second, (Structure("c", 1), Structure("b", 2)))])
    with pytest.raises(PromptError, match="different images"):
        joined_scribbles([a, Scribbles(second[:2], b.structures)])
    with pytest.raises(PromptError, match="no strokes"):
        joined_scribbles([])
