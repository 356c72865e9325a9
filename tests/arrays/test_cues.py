"""Classical answers to strokes: they follow the edge between the strokes, at any size and voxel shape."""

from __future__ import annotations

import numpy as np
import pytest

from napari_weakseg.arrays.cues import stroke_votes, stroke_walk
from napari_weakseg.arrays.metrics import dice


def _ball(side: int) -> np.ndarray:
    lines = np.linspace(-1.3, 1.3, side)
    return lines[:, None, None] ** 2 + lines[:, None] ** 2 + lines**2 < 1


@pytest.mark.parametrize("side", [24, 100])
def test_the_votes_find_a_ball_between_a_stroke_inside_and_one_outside(side: int) -> None:
    ball = _ball(side)
    image = ball + np.random.default_rng(0).normal(0, 0.1, ball.shape)
    strokes = np.zeros(ball.shape, dtype=np.uint8)
    middle = side // 2
    strokes[middle - side // 6 : middle + side // 6, middle, middle] = 1
    strokes[2:-2, 2, middle] = 255
    votes = stroke_votes(image, strokes, (1.0, 1.0, 1.0))
    assert votes.shape == image.shape
    assert 0 <= votes.min() <= votes.max() <= 1
    assert dice(votes > 0.5, ball) > 0.9


def test_an_object_that_may_fill_a_thin_volume_has_all_of_it() -> None:
    strokes = np.zeros((8, 8, 4), dtype=np.uint8)
    strokes[4, 4, 2] = 1
    assert (stroke_votes(np.zeros((8, 8, 4)), strokes, (1.0, 1.0, 1.0)) == 1).all()


def test_the_walk_between_strokes_keeps_to_the_box() -> None:
    picture = np.zeros((16, 16, 16), dtype=np.float32)
    box = np.full(picture.shape, -1.0, dtype=np.float32)
    box[4:12, 4:12, 4:12] = 1
    foreground = np.zeros_like(picture)
    foreground[8, 8, 8] = 1
    walk = stroke_walk(picture, box, foreground, np.zeros_like(picture))
    assert walk[8, 8, 8] == pytest.approx(1)
    assert (walk[box < 0] == -1).all()
