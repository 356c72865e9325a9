"""Image labels to weights."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np

from ...case import known, pick
from ...errors import DataError, PromptError
from ...method import Preview, Step, Weights
from ...training.cache import default_memory
from ...training.devices import describe_device, pick_device
from ...training.loop import restore_module, train_steps
from . import ExplainableHeatmapRecipe, card
from .learner import Learner, structures_of
from .training_images import TrainingImages

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from ...case import Case
    from ...method import Checkpoints
    from ...prompts import ImageLabel
    from ...recipe import Recipe

STAGES = ("train", "self-training")


def fit(
    cases: Sequence[Case],
    recipe: Recipe,
    weights: Weights | None = None,
    *,
    validation: Sequence[Case] = (),
    checkpoints: Checkpoints | None = None,
) -> Generator[Step, None, Weights]:
    """See `napari_weakseg.methods.explainable_heatmap.fit`."""
    recipe = cast("ExplainableHeatmapRecipe", recipe)
    began = time.monotonic()
    classes, labels = image_labels(cases)
    device, note = pick_device(recipe.device)
    yield Step("first mask", 1, 1, preview=_nothing_yet(cases[0], classes), note=note)
    memory = default_memory()
    shown = [number for number, label in enumerate(known(validation, "image_label")) if label is not None]
    images = TrainingImages(cases, classes, labels, recipe, memory_bytes=memory - memory // 4 if shown else memory)
    yield from images.prepare()
    learner = Learner(images, recipe, device)
    if shown:  # the loss on these beside the training's; nothing is chosen by it
        held = pick(validation, shown)
        marks = recipe.changed(supervision="marks")
        learner.validation = TrainingImages(held, classes, known(held, "image_label"), marks, memory_bytes=memory // 4)
        yield from learner.validation.prepare(like=images)
    if weights is not None and weights.tensors:
        learner.take(weights)
    notes = [*([note] if note else []), *images.notes]

    def weights_now() -> Weights:
        meta = learner.meta | {"device": describe_device(device), "seconds": time.monotonic() - began, "notes": tuple(notes)}
        return Weights(card.name, recipe, structures_of(classes), learner.tensors(), meta)

    done: list[int] = []
    stopped = False  # by a loss that was not finite
    parts = [0.0, learner.totals[0] / sum(learner.totals), 1.0]
    for number, (stage, total) in enumerate(zip(STAGES, learner.totals, strict=True)):
        if number and (stopped or not total):
            done.append(0)
            continue
        if number:
            learner.become_teacher()
            state = checkpoints.latest() if checkpoints is not None else None
            if state is not None and state.meta.get("stage") == stage:
                restore_module(state, "teacher", learner.teacher)
            for step in learner.draw_masks():
                yield replace(step, progress=parts[number])
        before = len(notes)
        steps = yield from train_steps(
            stage=stage,
            total=total,
            step=partial(learner.step, number),
            modules=learner.modules,
            optimisers={"adam": learner.optimiser},
            weights_now=weights_now,
            checkpoints=checkpoints,
            seed=recipe.seed,
            max_seconds=recipe.max_seconds * (parts[number + 1] - parts[number]),
            stop_after=recipe.stop_after[number] if recipe.stop_after else None,
            preview=learner.preview if recipe.preview_seconds else None,
            notes=notes,
            share=(parts[number], parts[number + 1]),
        )
        stopped = len(notes) > before
        done.append(steps)
    if sum(done) < sum(learner.totals) and not recipe.stop_after and not stopped:
        notes.append(
            f"time ran out after {sum(done)} of {sum(learner.totals)} steps; allow more seconds for a better classifier."
        )
    learner.meta |= {"thresholds": learner.thresholds(), "steps": tuple(done)}
    recipe = recipe.changed(stop_after=tuple(done))
    return weights_now()


def image_labels(cases: Sequence[Case]) -> tuple[tuple[str, ...], list[ImageLabel]]:
    """The classes and one label per case, read without opening an image where the cases are lazy.

    Raises
    ------
    DataError, PromptError
        No case, one without a label, labels of other classes or another kind, or a class that none shows.
    """
    if len(cases) == 0:
        raise DataError("there is no case to learn from; give volumes with image-level labels.")
    labels: list[ImageLabel] = []
    for name, label in zip(known(cases, "id"), known(cases, "image_label"), strict=True):
        if label is None:
            raise PromptError(f"case {name} has no image-level label; give one to every training case.")
        labels.append(label)
        if label.classes != labels[0].classes or label.slice_axis != labels[0].slice_axis:
            raise PromptError(f"case {name} has other classes or another slice axis than the first case; use the same ones.")
        if isinstance(label.label, tuple | list) != isinstance(labels[0].label, tuple | list):
            raise PromptError(f"case {name} is labelled by volume or by slice, unlike the first case; label all in one way.")
    shown = {int(value) for label in labels for value in np.atleast_1d(label.label)}
    missing = [name for number, name in enumerate(labels[0].classes) if number not in shown]
    if missing:
        raise PromptError(f"no training image is labelled {missing[0]}; add some, or take the class out.")
    return labels[0].classes, labels


def _nothing_yet(case: Case, classes: Sequence[str]) -> Preview:
    """An empty mask: before training, image-level labels say nothing of a place."""
    structures = structures_of(classes)
    empty = np.zeros((len(structures), 1, 1, 1), dtype=np.float32)
    return Preview(empty, (0, 0, 0), case.volume.shape, structures)
