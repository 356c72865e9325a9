"""First masks of several structures from strokes, on hand-made volumes."""

from __future__ import annotations

import numpy as np
import pytest

from napari_weakseg.arrays.structure_masks import DENSE, stroke_gap, structure_masks

THICK = (1.0, 1.0, 8.0)


@pytest.fixture
def rings():
    """A bright disc in a dark ring on a grey ground, on six thick slices; strokes on each: disc 1, ring 2, ground 255."""
    i, j = np.mgrid[:40, :44]
    radius = np.hypot(i - 19.5, j - 21.5)
    truth = np.where(radius < 7, 1, np.where(radius < 12, 2, 0)).astype(np.uint8)
    rng = np.random.default_rng(0)
    image = np.array([120, 200, 60])[truth][..., None] + rng.normal(0, 8, (40, 44, 6))
    marks = np.zeros(truth.shape, dtype=np.uint8)
    marks[np.abs(radius - 3) < 0.5] = 1
    marks[(np.abs(radius - 9.5) < 0.6) & (i > 16)] = 2  # not all the way round
    marks[np.abs(radius - 16) < 0.6] = 255
    return image, np.repeat(truth[..., None], 6, axis=2), np.repeat(marks[..., None], 6, axis=2)


def never(image, spacing, *, strokes):
    raise AssertionError("strokes are dense")


def labels_of(shape, maps, window):
    labels = np.zeros(shape, dtype=np.uint8)
    labels[window] = maps.argmax(axis=0)
    return labels


def dice(mask, truth):
    return 2 * (mask & truth).sum() / (mask.sum() + truth.sum())


def test_dense_strokes_give_all_structures_at_once(rings):
    image, truth, strokes = rings
    maps, window = structure_masks([image], strokes, THICK, (1, 2), never)
    np.testing.assert_allclose(maps.sum(axis=0), 1, atol=1e-5)
    labels = labels_of(image.shape, maps, window)
    assert dice(labels == 1, truth == 1) > 0.95
    assert dice(labels == 2, truth == 2) > 0.9


def test_strokes_are_obeyed_even_where_they_are_wrong(rings):
    image, _truth, strokes = rings
    strokes = strokes.copy()
    strokes[19:21, 21:23, 2] = 255
    strokes[2, 2:6, 0] = 2
    maps, window = structure_masks([image], strokes, THICK, (1, 2), never)
    labels = labels_of(image.shape, maps, window)
    assert (labels[strokes == 255] == 0).all()
    assert (labels[strokes == 1] == 1).all()
    assert (labels[strokes == 2] == 2).all()


def test_a_thick_slice_drawn_on_without_a_structure_has_none_of_it(rings):
    image, truth, strokes = rings
    image, strokes = image.copy(), strokes.copy()
    image[..., 5] = np.where(truth[..., 5] == 1, 60, image[..., 5])
    strokes[..., 5][strokes[..., 5] == 1] = 2
    maps, window = structure_masks([image], strokes, THICK, (1, 2), never)
    labels = labels_of(image.shape, maps, window)
    assert not (labels[..., 5] == 1).any()
    assert (labels[..., 3] == 1).any()


def test_what_no_stroke_touches_is_no_part_of_a_structure(rings):
    image, _truth, strokes = rings
    image = image.copy()
    image[30:33, 30:33] = 200
    maps, window = structure_masks([image], strokes, THICK, (1, 2), never)
    assert not (labels_of(image.shape, maps, window)[30:33, 30:33] == 1).any()


def test_a_structure_without_strokes_has_no_probability(rings):
    image, _, strokes = rings
    maps, _ = structure_masks([image], strokes, THICK, (1, 2, 7), never)
    assert maps.shape[0] == 4
    assert maps[3].max() < 1e-6


def test_sparse_strokes_are_drawn_one_by_one(rings):
    image, truth, strokes = rings
    sparse = np.zeros_like(strokes)
    sparse[19:21, 20:23, 3] = 1
    sparse[19, 29:32, 3] = 2
    assert stroke_gap(sparse, (1, 1, 1)) > DENSE
    seen = {}

    def one(image, spacing, *, strokes):  # two structures are drawn at the same time, in any order
        value = 1 if strokes[19, 20, 3] == 1 else 2
        seen[value] = (int((strokes == 1).sum()), int((strokes == 255).sum()))
        inside = (slice(10, 30), slice(10, 34), slice(0, 6))
        return np.where(truth[inside] == value, 0.9, 0.2).astype(np.float32), inside

    maps, window = structure_masks([image], sparse, (1, 1, 1), (1, 2), one)
    assert seen == {1: (6, 3), 2: (3, 6)}
    labels = labels_of(image.shape, maps, window)
    assert window == (slice(10, 30), slice(10, 34), slice(0, 6))
    assert dice(labels == 1, truth == 1) == 1
    assert labels[19, 29, 3] == 2


def test_values_that_are_not_finite_do_no_harm(rings):
    image, _truth, strokes = rings
    image = image.copy()
    image[0, 0, 0] = np.nan
    maps, _ = structure_masks([image], strokes, THICK, (1, 2), never)
    assert np.isfinite(maps).all()


def test_a_channel_that_shows_nothing_does_little_harm_whichever_comes_first(rings):
    image, truth, strokes = rings
    nothing = np.random.default_rng(0).normal(size=image.shape).astype(np.float32)
    blind, window = structure_masks([nothing], strokes, THICK, (1, 2), never)
    assert dice(blind.argmax(0) == 2, truth[window] == 2) < 0.8
    for channels in ([nothing, image], [image, nothing]):
        maps, _ = structure_masks(channels, strokes, THICK, (1, 2), never)
        labels = maps.argmax(0)
        for value in (1, 2):
            assert dice(labels == value, truth[window] == value) > 0.8
    twice, _ = structure_masks([image, image], strokes, THICK, (1, 2), never)
    alone, _ = structure_masks([image], strokes, THICK, (1, 2), never)
    np.testing.assert_allclose(twice, alone, atol=1e-5)


def test_strokes_on_the_structure_alone_fill_what_they_are_in(rings):
    image, _, strokes = rings
    small = image[14:26, 14:30]
    only = np.where(strokes == 1, strokes, 0)[14:26, 14:30]
    maps, _ = structure_masks(
        [small],
        only,
        THICK,
        (1,),
        lambda image, spacing, strokes: (np.ones(image.shape, np.float32), (slice(0, 12), slice(0, 16), slice(0, 6))),
    )
    assert np.isfinite(maps).all()
    assert maps[1].min() > 0.5


def test_the_larger_grid_changes_little(rings, monkeypatch):
    image, truth, strokes = rings
    monkeypatch.setattr("napari_weakseg.arrays.stroke_evidence.LARGEST", 3000)
    maps, window = structure_masks([image], strokes, THICK, (1, 2), never)
    labels = labels_of(image.shape, maps, window)
    assert dice(labels == 1, truth == 1) > 0.85
