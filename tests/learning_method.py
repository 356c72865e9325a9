"""A method for cohorts in tests: learns one brightness per structure from boxes or masks, with checkpoints; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from napari_weakseg.arrays.extreme_points import box_of
from napari_weakseg.method import Card, Preview, Result, Step, TrainingState, Weights
from napari_weakseg.prompts import Structure
from napari_weakseg.recipe import Recipe, knob

card = Card("learning", "Brightness", ("extreme_points", "image_label"), paper="None, 2026", doi="10.0000/none")


@dataclass(frozen=True, kw_only=True)
class LearningRecipe(Recipe):
    """Settings of the fake."""

    COHORT: ClassVar = {"laptop": {"share": 0.25}}

    share: float = knob(0.5, min=0.0, max=1.0, tooltip="How far it moves towards each case")
    supervision: str = knob("marks", choices=("marks", "masks"), tooltip="Boxes, or full masks for comparison")
    fail_on: str = knob("", tooltip="A channel name that makes predicting fail")


recipe_class = LearningRecipe
seen = []
"""Every case that a fit or a prediction got."""


def fit(cases, recipe, weights=None, *, validation=(), checkpoints=None):
    """One step per case."""
    structures = (Structure("lesion", 1),)
    state = checkpoints.latest() if checkpoints is not None else None
    level = np.array(float(state.tensors["level"]) if state else 50.0)
    learnt = state.weights if state else None
    for index in range(state.meta["index"] if state else 0, len(cases)):
        case = cases[index]
        seen.append(case)
        inside = np.zeros(case.volume.shape, dtype=bool)
        if recipe.supervision == "masks":
            inside |= case.reference.array > 0
        else:
            start, stop = box_of(case.points.points[0], case.volume.shape)
            inside[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
        target = np.percentile(case.volume.array[inside], 60) - 20
        level = level + recipe.share * (target - level)
        learnt = Weights(card.name, recipe, structures, {"level": level}, {"notes": ["learnt"]})
        shown = None
        if index == 0:
            probability = inside[None].astype(np.float32)
            shown = Preview(probability, (0, 0, 0), case.volume.shape, structures, case=case.id)
        yield Step("train", index + 1, len(cases), {"loss": float(abs(target - level))}, shown, (index + 1) / len(cases))
        if checkpoints is not None and checkpoints.due():
            meta = {"stage": "train", "index": index + 1, "finished": {}}
            checkpoints.save(TrainingState(learnt, {"level": level}, meta))
    return learnt


def predict(case, weights):
    """All that is brighter than the learnt level."""
    seen.append(case)
    mask = (case.volume.array > weights.tensors["level"]).astype(np.uint8)
    chance = float(mask.mean() > 0.02)
    scores = {"probability normal": 1 - chance, "probability lesion": chance}
    maps = {"probability lesion": mask.astype(np.float32), "heatmap lesion": mask.astype(np.float32)}
    per_slice = np.stack([1.0 - (mask.any(axis=(0, 1))), mask.any(axis=(0, 1))], axis=1)
    return Result(case.volume.with_array(mask), weights.structures, maps, scores, tables={"slice probabilities": per_slice})
