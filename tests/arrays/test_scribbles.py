"""Strokes: what is held out, and those of several people together."""

from __future__ import annotations

import numpy as np
import pytest

from napari_weakseg.arrays.scribbles import LIKE_A_MASK, NO_BACKGROUND, held_out_strokes, joined_scribbles, stroke_notes
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


def disc(shape=(40, 40, 6), radius=9):
    i, j, k = np.ogrid[: shape[0], : shape[1], : shape[2]]
    return (i - 20) ** 2 + (j - 20) ** 2 + 0 * k < radius**2


@pytest.mark.parametrize("spacing", [(1, 1, 8), (1, 1, 1), (1, 1, 0.5)])
def test_a_full_mask_in_place_of_strokes_is_noticed(spacing):
    mask = disc().astype(np.uint8)
    mask[20:] *= 2
    assert stroke_notes(mask, spacing) == (NO_BACKGROUND, LIKE_A_MASK)
    assert stroke_notes(np.where(mask == 0, 255, mask).astype(np.uint8), spacing) == ()
    wall = np.where(disc() & ~disc(radius=7), 2, disc(radius=7)).astype(np.uint8)  # thin, but on what it surrounds
    assert stroke_notes(wall, spacing) == (NO_BACKGROUND, LIKE_A_MASK)


def test_broad_strokes_are_no_full_mask():
    """Contours and lines of up to five voxels, in every slice and turned any way."""
    for axes in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        ring = (disc(radius=14) & ~disc(radius=9)).astype(np.uint8).transpose(axes)
        assert stroke_notes(ring, np.array([1, 1, 8])[list(axes)]) == (NO_BACKGROUND,)
    i, j = np.indices((60, 60))
    line = np.repeat((abs(i - j) < 4)[:, :, None], 3, axis=2).astype(np.uint8)
    assert stroke_notes(line, (1, 1, 3)) == (NO_BACKGROUND,)
    assert stroke_notes(np.zeros((4, 4, 4), np.uint8), (1, 1, 1)) == ()
