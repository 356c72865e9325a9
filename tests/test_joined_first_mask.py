"""A first mask from any marks: points, strokes, both, and corrections of an earlier mask."""

from __future__ import annotations

import numpy as np
import pytest

from napari_weakseg.arrays.scribbles import stroked_mask
from napari_weakseg.networks.joined_first_mask import learned_first_mask

SHAPE = (24, 26, 28)
SIX = np.array([[6, 13, 14], [17, 13, 14], [12, 6, 14], [12, 19, 14], [12, 13, 7], [12, 13, 21]], dtype=float)


@pytest.fixture(scope="module")
def ball():
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"), axis=-1)
    inside = (((grid - [11.5, 12.5, 14]) / [6, 7, 7.5]) ** 2).sum(-1) < 1
    image = inside * 100 + np.random.default_rng(0).normal(0, 5, SHAPE)
    return image.astype(np.float32), inside


def overlap(probability, window, wanted):
    full = np.zeros(wanted.shape, bool)
    full[window] = probability > 0.5
    return 2 * (full & wanted).sum() / (full.sum() + wanted.sum())


def two_strokes():
    strokes = np.zeros(SHAPE, np.uint8)
    strokes[12, 9:17, 14] = 3
    strokes[2:22, 2, 14] = strokes[2:22, 23, 14] = 255
    return strokes


@pytest.mark.parametrize("marks", ["points", "strokes", "both", "three points and strokes"])
def test_any_marks_find_a_ball(ball, marks):
    image, inside = ball
    points = {"points": SIX, "both": SIX, "three points and strokes": SIX[:3]}.get(marks)
    strokes = None if marks == "points" else two_strokes()
    probability, window = learned_first_mask(image, (1, 1, 1), points=points, strokes=strokes)
    assert probability.dtype == np.float32
    assert overlap(probability, window, inside) > 0.85
    if strokes is not None:
        part = strokes[window]
        assert probability[part == 3].min() == 1
        assert probability[part == 255].max(initial=0) == 0


def test_a_stroke_outside_the_earlier_mask_adds_to_it(ball):
    image, inside = ball
    previous = inside.copy()
    previous[:, 14:] = False
    strokes = np.zeros(SHAPE, np.uint8)
    strokes[12, 15:18, 12:16] = 1
    probability, window = learned_first_mask(image, (1, 1, 1), strokes=strokes, previous=previous)
    before = 2 * (previous & inside).sum() / (previous.sum() + inside.sum())
    assert overlap(probability, window, inside) > before


def test_voxels_without_a_value_do_not_spread(ball):
    image, inside = ball
    holed = image.copy()
    holed[0] = np.nan
    for marks in ({"points": SIX}, {"strokes": two_strokes()}):
        probability, window = learned_first_mask(holed, (1, 1, 1), **marks)
        assert np.isfinite(probability).all()
        assert overlap(probability, window, inside) > 0.8


def test_nothing_to_go_by_is_refused(ball):
    with pytest.raises(ValueError, match="neither points"):
        learned_first_mask(ball[0], (1, 1, 1), strokes=np.zeros(SHAPE, np.uint8))


def test_components_without_a_stroke_are_left_out_and_background_strokes_are_no_holes_to_fill():
    probability = np.zeros((5, 9, 5), np.float32)
    probability[1:4, 1:4, 1:4] = probability[1:4, 6:8, 1:4] = 0.9
    probability[2, 2, 2] = 0.1
    strokes = np.zeros(probability.shape, np.uint8)
    strokes[1, 1, 1] = 1
    mask = stroked_mask(probability, strokes)
    assert mask[2, 2, 2]
    assert not mask[:, 5:].any()
    strokes[2, 2, 2] = 255
    assert not stroked_mask(probability, strokes)[2, 2, 2]
