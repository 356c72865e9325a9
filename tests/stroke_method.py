"""A method for strokes in tests: a structure is what is as bright as its strokes; counts steps, keeps its state; no torch."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np

from napari_weakseg.method import Card, Preview, Result, Step, TrainingState, Weights
from napari_weakseg.prompts import BACKGROUND_STROKE
from napari_weakseg.recipe import Recipe, knob

card = Card("strokes", "Brightness of strokes", ("scribbles",), learns_masks=True)
gates: dict[str, threading.Event] = {}
"""``"hold"`` makes a fit wait in front of every step until it is set."""
begun: list[int] = []
"""The step at which each fit began: more than 0 where it went on."""
closed: list[str] = []


@dataclass(frozen=True, kw_only=True)
class StrokeRecipe(Recipe):
    """Settings of the fake."""

    steps: int = knob(6, min=0, max=10000, tooltip="Steps after the first mask")
    work: float = knob(0.02, min=0.0, max=10.0, unit="s", tooltip="Time of each step")
    fails: bool = knob(False, tooltip="The third step raises")


recipe_class = StrokeRecipe


def _maps(case, reach):
    """Share of each structure, by brightness; `reach` grows with the steps."""
    image, strokes = case.volume.array, case.scribbles.labels
    background = image[strokes == BACKGROUND_STROKE]
    maps = []
    for structure in case.structures:
        own = image[strokes == structure.value]
        near = np.zeros(image.shape, dtype=np.float32)
        if own.size:
            near[np.abs(image - own.mean()) < reach] = 0.9
        maps.append(near)
    maps = np.stack(maps)
    if background.size:
        maps[:, np.abs(image - background.mean()) < reach / 2] = 0.05
    maps[:, strokes != 0] = 0
    for index, structure in enumerate(case.structures):
        maps[index][strokes == structure.value] = 1
    return maps


def _preview(case, reach):
    return Preview(_maps(case, reach), (0, 0, 0), case.volume.shape, case.structures)


def fit(cases, recipe, weights=None, *, validation=(), checkpoints=None, unpaired_masks=()):
    """Yield the first mask, then one per step."""
    try:
        (case,) = cases
        note = f"{len(unpaired_masks)} unpaired masks" if unpaired_masks else "without unpaired masks"
        yield Step("first mask", 1, 1, preview=_preview(case, 8), note=note)
        state = None if checkpoints is None else checkpoints.latest()
        done, started = 0 if state is None else int(state.meta["index"]), time.monotonic()
        if recipe.max_seconds:
            begun.append(done)
        while done < recipe.steps and time.monotonic() - started < recipe.max_seconds:
            if "hold" in gates:
                gates["hold"].wait(20)
            time.sleep(recipe.work)
            done += 1
            if recipe.fails and done == 3:
                raise ValueError("bad")
            yield Step("train", done, recipe.steps, {"loss": 1 / done}, _preview(case, 24), done / recipe.steps)
            if checkpoints is not None and checkpoints.due():
                checkpoints.save(_state(case, recipe, done, note, ended=False))
        learnt = _state(case, recipe, done, note, ended=True)
        if checkpoints is not None:
            checkpoints.save(learnt)
        return learnt.weights
    finally:
        closed.append("fit")


def _state(case, recipe, done, note, *, ended):
    tensors = {"done": np.array([done])}
    meta = {"steps": [done], "notes": [note], "slice_axis": 2, "grid_spacing": 0.0}
    weights = Weights(card.name, recipe, case.structures, tensors, meta)
    finished = {"train": done} if ended else {}
    return TrainingState(weights, tensors, {"stage": "train", "index": done, "total": recipe.steps, "finished": finished})


def predict(case, weights):
    """The mask of the last step, with a doubt per slice and how far two gates are open."""
    done = int(weights.tensors["done"][0])
    preview = _preview(case, 24 if done else 8)
    maps = {f"probability {s.name}": preview.on_volume(index) for index, s in enumerate(weights.structures)}
    tables = {}
    if done:
        maps |= {f"attention 1/{2**level}": preview.on_volume(0) for level in range(4)}
        tables["discriminator doubt"] = np.linspace(0, 1, case.volume.shape[2], dtype=np.float32)
    return Result(case.volume.with_array(preview.labels(), name="mask"), weights.structures, maps, tables=tables)
