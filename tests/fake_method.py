"""A method for tests: fills the points' box, then shrinks it step by step; fast, and its steps can be counted."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from napari_weakseg.arrays.extreme_points import box_of
from napari_weakseg.method import Card, Preview, Result, Step, Weights
from napari_weakseg.recipe import Recipe, knob

card = Card("fake", "Boxes", ("extreme_points",), paper="None, 2026", doi="10.0000/none")


@dataclass(frozen=True, kw_only=True)
class FakeRecipe(Recipe):
    """Settings of the fake."""

    steps: int = knob(3, min=0, max=1000, tooltip="Steps after the first mask")
    noise: float = knob(0.2, min=0.0, max=1.0, tooltip="Share of voxels dropped at random", source="paper")


recipe_class = FakeRecipe


def _mask(case, recipe):
    labels = np.zeros(case.volume.shape, dtype=np.uint8)
    for six, value in zip(case.points.points, case.points.values, strict=True):
        start, stop = box_of(six, case.volume.shape)
        labels[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = value
    drop = np.random.default_rng((recipe.seed, recipe.steps)).random(labels.shape) < recipe.noise
    labels[drop & (recipe.steps > 0)] = 0
    return labels


def fit(cases, recipe, weights=None, *, validation=(), checkpoints=None):
    """Yield the boxes, then as many steps as the clock allows."""
    (case,) = cases
    structures = case.points.structures
    first = _mask(case, recipe.changed(steps=0))
    maps = np.stack([(first == s.value).astype(np.float32) for s in structures])
    yield Step("first mask", 1, 1, preview=Preview(maps, (0, 0, 0), case.volume.shape, structures), progress=0.0)
    started, done = time.monotonic(), 0
    while done < recipe.steps and time.monotonic() - started < recipe.max_seconds:
        done += 1
        yield Step("train", done, recipe.steps, {"loss": 1 / done}, progress=done / recipe.steps, note="a note of the method")
    tensors = {"steps": np.array([done])}
    return Weights(card.name, recipe.changed(steps=done), structures, tensors, {"device": "cpu", "steps": {"train": done}})


def predict(case, weights):
    """Return the boxes with as many voxels dropped as the steps say."""
    mask = case.volume.with_array(_mask(case, weights.recipe), name="mask")
    return Result(mask, weights.structures, notes=("a note of the result",))
