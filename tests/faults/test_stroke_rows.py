"""Rows P11 to P13, P16 and P18 of the fault catalogue: strokes and image-level labels, on the way to any method."""

from __future__ import annotations

import sys
import types
from importlib.metadata import EntryPoint

import numpy as np
import pytest

import napari_weakseg as ws
from napari_weakseg.errors import PromptError
from napari_weakseg.method import Card, Preview, Result, Step, Weights
from napari_weakseg.prompts import LESION, ImageLabel, Scribbles
from napari_weakseg.recipe import Recipe
from napari_weakseg.volume import Volume

SHAPE = (6, 7, 8)


@pytest.fixture(autouse=True)
def strokes_method(monkeypatch):
    """A method that gives strokes back as the mask."""
    module = types.ModuleType("strokes_method")
    module.card = Card("strokes", "Strokes", ("scribbles",))
    module.recipe_class = Recipe

    def mask(case):
        return (case.scribbles.labels == 1).astype(np.uint8)

    def fit(cases, recipe, weights=None, *, validation=(), checkpoints=None):
        yield Step("first mask", 1, 1, preview=Preview(mask(cases[0])[None].astype(np.float32), (0, 0, 0), SHAPE, (LESION,)))
        return Weights("strokes", recipe, (LESION,), {})

    def predict(case, weights):
        return Result(case.volume.with_array(mask(case)), weights.structures)

    module.fit, module.predict = fit, predict
    monkeypatch.setitem(sys.modules, "strokes_method", module)
    point = EntryPoint("strokes", "strokes_method", "napari_weakseg.methods")
    monkeypatch.setattr("napari_weakseg.methods.entry_points", lambda group: (point,))


def run(labels, array=None):
    volume = Volume(np.zeros(SHAPE, np.float32) if array is None else array, name="scan")
    return ws.segment(volume, Scribbles(labels, (LESION,)), method="strokes")


def two_kinds():
    labels = np.zeros(SHAPE, np.uint8)
    labels[1, 1:4, 3], labels[4, 1:4, 3] = 1, 255
    return labels


def test_two_kinds_of_stroke_need_no_note():
    assert run(two_kinds()).notes == ()


def test_strokes_of_one_kind_are_noted_P11():
    labels = two_kinds()
    labels[labels == 255] = 0
    assert "one kind" in " ".join(run(labels).notes)


def test_no_strokes_are_refused_P12():
    with pytest.raises(PromptError, match="no strokes"):
        run(np.zeros(SHAPE, np.uint8))


def test_a_volume_full_of_strokes_and_a_single_voxel_P13():
    assert run(np.ones(SHAPE, np.uint8)).labels.all()
    labels = two_kinds()
    labels[labels == 1] = 0
    labels[2, 2, 2] = 1
    assert "single voxel" in " ".join(run(labels).notes)


def test_strokes_where_the_image_is_not_finite_are_dropped_P16():
    array = np.zeros(SHAPE, np.float32)
    array[1, 1:3, 3] = np.nan
    result = run(two_kinds(), array)
    assert result.labels.sum() == 1
    assert any(note.startswith("2 marked voxels") for note in result.notes)
    with pytest.raises(PromptError, match="no strokes"):
        run(two_kinds(), np.where(two_kinds() > 0, np.nan, 0).astype(np.float32))


@pytest.mark.parametrize(
    ("classes", "label", "words"),
    [
        (("lesion",), 0, "two classes"),
        (("normal", "lesion"), "lesion", "no number"),
        (("normal", "lesion"), (0, "x"), "no number"),
    ],
    ids=["one class", "text", "text per slice"],
)
def test_image_level_labels_that_cannot_be_P18(classes, label, words):
    with pytest.raises(PromptError, match=words):
        ImageLabel(classes, label)


def test_fewer_labels_than_slices_P18():
    label = ImageLabel(("normal", "lesion"), (0, 1, 1))
    with pytest.raises(PromptError, match="3 labels for 8 slices"):
        label.checked(Volume(np.zeros(SHAPE), name="scan"))
    assert ImageLabel(("normal", "lesion"), (0, 1, 1), slice_axis=0).checked(Volume(np.zeros((3, 2, 2)))).label == (0, 1, 1)
