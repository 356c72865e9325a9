"""A method for tests of the window: an ellipsoid through the points that grows a little with every step, with real CPU work."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from napari_weakseg.method import Card, Preview, Result, Step, Weights
from napari_weakseg.recipe import Recipe, knob

card = Card("ellipsoid", "Ellipsoids", ("extreme_points", "scribbles"), corrects=True)
gates: dict[str, threading.Event] = {}
"""``"hold"`` makes a fit wait in front of every step until it is set."""
reached = threading.Event()
"""Set when a fit waits."""
closed: list[str] = []
"""One entry for every fit whose generator came to its end."""


@dataclass(frozen=True, kw_only=True)
class EllipsoidRecipe(Recipe):
    """Settings of the fake."""

    steps: int = knob(8, min=0, max=1000, tooltip="Steps after the first mask")
    work: float = knob(0.02, min=0.0, max=10.0, unit="s", tooltip="CPU work in each step")
    fails: str = knob("", tooltip="Name of the error that the third step raises")


recipe_class = EllipsoidRecipe
_ERRORS = {"value": ValueError("bad"), "memory": MemoryError(), "runtime": RuntimeError("inner"), "exit": SystemExit(1)}


def _preview(case, grown):
    if case.scribbles is not None:
        return _stroked(case)
    shape = case.volume.shape
    structures = case.points.structures
    low = np.maximum(np.floor(case.points.points.min(axis=(0, 1))).astype(int) - 4, 0)
    high = np.minimum(np.ceil(case.points.points.max(axis=(0, 1))).astype(int) + 5, shape)
    index = np.stack(np.meshgrid(*[np.arange(a, b) for a, b in zip(low, high, strict=True)], indexing="ij"))
    maps = np.zeros((len(structures), *index.shape[1:]), dtype=np.float32)
    for six, value in zip(case.points.points, case.points.values, strict=True):
        centre = (six.min(axis=0) + six.max(axis=0)) / 2
        radius = np.maximum((np.ptp(six, axis=0) + 1) / 2 + grown, 0.6)
        inside = (((index - centre[:, None, None, None]) / radius[:, None, None, None]) ** 2).sum(axis=0) <= 1
        maps[[s.value for s in structures].index(value)][inside] = 1
    return Preview(maps, tuple(int(n) for n in low), shape, structures)


def _stroked(case):
    """The earlier mask, or the box of the points, with the strokes painted into it and a doubtful rim around them."""
    shape, structures = case.volume.shape, case.structures
    maps = np.zeros((len(structures), *shape), dtype=np.float32)
    for index, structure in enumerate(structures):
        if case.previous is not None:
            maps[index] = 0.95 * (case.previous.array == structure.value)
        own = case.scribbles.labels == structure.value
        maps[index][ndimage.binary_dilation(own, iterations=2)] = 0.52
        maps[index][own] = 1
        maps[index][(case.scribbles.labels != 0) & ~own] = 0
    return Preview(maps, (0, 0, 0), shape, structures)


def _busy(seconds):
    """Hold the CPU the way array code does: in numpy, which lets other threads in."""
    until = time.monotonic() + seconds
    array = np.random.default_rng(0).random((200, 200))
    while time.monotonic() < until:
        array = array @ array
        array /= np.abs(array).max()


def fit(cases, recipe, weights=None, *, validation=(), checkpoints=None):
    """Yield the first mask, then masks that grow."""
    try:
        (case,) = cases
        yield Step("first mask", 1, 1, preview=_preview(case, 0.0))
        done, started = 0, time.monotonic()
        while done < recipe.steps and time.monotonic() - started < recipe.max_seconds:
            gate = gates.get("hold")
            if gate is not None:
                reached.set()
                gate.wait(600)
            _busy(recipe.work)
            done += 1
            if done == 3 and recipe.fails:
                raise _ERRORS[recipe.fails]
            share = done / recipe.steps
            yield Step("train", done, recipe.steps, {"loss": 1 / done}, _preview(case, share), share)
        return Weights(card.name, recipe, case.structures, {"done": np.array([done])}, {"steps": {"train": done}})
    finally:
        closed.append("fit")


def predict(case, weights):
    """The mask of the last step."""
    grown = float(weights.tensors["done"][0]) / max(weights.recipe.steps, 1)
    preview = _preview(case, grown)
    maps = {f"probability {s.name}": preview.on_volume(index) for index, s in enumerate(weights.structures)}
    return Result(case.volume.with_array(preview.labels(), name="mask"), weights.structures, maps)
