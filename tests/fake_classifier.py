"""A classifier for tests: bright voxels are lesion, slice by slice; its decision points add up to its scores exactly."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from napari_weakseg.method import Card, Result, Step, TrainingState, Weights
from napari_weakseg.plugin.explanation import Explanation
from napari_weakseg.prompts import Structure
from napari_weakseg.recipe import Recipe, knob

CLASSES = ("normal", "lesion")
LESION = Structure("lesion", 1)
BIAS = -1.5
WEIGHTS = np.array([2.0, -0.5, 1.0])


def classify(volume, slice_axis=2):
    """The result of a classifier with three feature maps and max pooling."""
    from scipy import ndimage

    image = np.asarray(volume.array, dtype=np.float64)
    features = [ndimage.gaussian_filter((image - 100) / 80, s) for s in (1.0, 3.0, 0.5)]
    heat = sum(w * f for w, f in zip(WEIGHTS, features, strict=True)) + BIAS
    rows, logits = [], []
    for index in range(volume.shape[slice_axis]):
        total = BIAS
        for channel, (weight, feature) in enumerate(zip(WEIGHTS, features, strict=True)):
            plane = feature.take(index, axis=slice_axis)
            place = np.unravel_index(plane.argmax(), plane.shape)
            rows.append([*np.insert(np.array(place, dtype=float), slice_axis, index), weight * plane.max(), channel])
            total += weight * plane.max()
        logits.append(total)
    lesion = 1 / (1 + np.exp(-np.array(logits)))
    points = np.array(rows)
    table = np.stack([1 - lesion, lesion], axis=1).astype(np.float32)
    mask = (heat > 0) & np.moveaxis((lesion > 0.5)[:, None, None], 0, slice_axis)
    return Result(
        volume.with_array(mask.astype(np.uint8), name="mask"),
        (LESION,),
        maps={"heatmap normal": (-heat).astype(np.float32), "heatmap lesion": heat.astype(np.float32)},
        scores={"probability normal": float(table[:, 0].min()), "probability lesion": float(table[:, 1].max())},
        record={"method": "fake classifier"},
        tables={
            "slice probabilities": table,
            "decision points lesion": points,
            "decision points normal": points * [1, 1, 1, -1, 1],
            "decision bias lesion": np.array([BIAS]),
            "decision bias normal": np.array([-BIAS]),
        },
    )


card = Card("fake_classifier", "Image labels", ("image_label",))
gates: dict[str, threading.Event] = {}
"""``"hold"`` makes a fit wait in front of every step until it is set."""
reached = threading.Event()
"""Set when a fit waits."""
closed: list[threading.Thread] = []
"""The thread in which a fit was closed before its end."""


@dataclass(frozen=True, kw_only=True)
class FakeClassifierRecipe(Recipe):
    """Settings of the fake."""

    steps: int = knob(6, min=1, max=10000, tooltip="Steps")


recipe_class = FakeClassifierRecipe


def fit(cases, recipe, weights=None, *, validation=(), checkpoints=None):
    """Count the labels, step by step; a stop in between can be resumed."""
    state = checkpoints.latest() if checkpoints is not None else None
    done = 0 if state is None else int(state.tensors["done"])
    if state is None:
        for case in cases:
            assert case.image_label is not None
    learnt = Weights("fake_classifier", recipe, (LESION,), {"done": np.array(done)}, {"channels": ["flair"], "slice_axis": 2})
    while done < recipe.steps:
        if "hold" in gates:
            reached.set()
            gates["hold"].wait(600)
        done += 1
        learnt = Weights("fake_classifier", recipe, (LESION,), {"done": np.array(done)}, learnt.meta)
        if checkpoints is not None:
            checkpoints.save(TrainingState(learnt, {"done": np.array(done)}, {"stage": "train", "index": done}))
        scores = {"loss": 1 / done, "accuracy": 1 - 1 / (1 + done)}
        try:
            yield Step("train", done, recipe.steps, scores, progress=done / recipe.steps)
        except GeneratorExit:
            closed.append(threading.current_thread())
            raise
    return learnt


def predict(case, weights):
    """Bright voxels are lesion."""
    return classify(case.volume)


class FakeTrained:
    """Stands for `plugin.trained.Trained` without a network."""

    channels = ("flair",)
    slice_axis = 2
    name = "fake_run"
    card = Card("fake classifier", "Fake", ("image_label",))

    def __init__(self, folder="fake_run", error=None, gate=None):
        self.folder, self.error, self.gate = Path(folder), error, gate
        self.weights = Weights("fake classifier", Recipe(), (LESION,), {})
        self.calls = SimpleNamespace(count=0)

    about = "Method: fake"

    def line(self):
        return "gp unet · preset laptop · normal / lesion"

    def steps(self, case):
        self.calls.count += 1
        yield "looking for the classes"
        if self.gate is not None:
            self.gate.wait(600)
            yield "still looking"
        if self.error is not None:
            raise self.error
        return Explanation(case.volume, classify(case.volume, self.slice_axis), self.slice_axis)
