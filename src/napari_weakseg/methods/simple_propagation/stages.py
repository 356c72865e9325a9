"""The three trainings of SimPLe in order: train with contrast, propagate, retrain; and the prediction."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ...arrays.metrics import dice
from ...errors import DataError, PromptError
from ...method import Preview, Step, Weights
from ...networks.first_mask import FirstMaskNet
from ...networks.first_mask_model import read_first_mask_model
from ...training.devices import describe_device, has_fast_bfloat16, pick_device
from ...training.partial_losses import IGNORE, partial_cross_entropy_loss
from . import SimplePropagationRecipe, card
from .contrast import contrastive_loss, draw_voxels
from .fields import Field, marked_fields
from .first_masks import FloatMap, ObjectMask, all_structures, first_masks, merged, result_of
from .propagation import propagated

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from ...case import Case
    from ...method import Result
    from ...prompts import Structure
    from ...recipe import Recipe

UNLIKE = 0.5
"""Dice of refined and first mask below which a note asks the user to look."""

STAGES = ("train", "propagate", "retrain")
SHARES = (0.6, 0.12, 0.28)
"""Shares of the time budget."""


@dataclass
class Clock:
    """When stages have to end; the counts of a record override it, so that a replay does not depend on speed."""

    begin: float
    seconds: float
    stop_after: tuple[int, ...]

    def is_over(self, stage: int, done: int) -> bool:
        """Whether `stage` has to end after `done` steps."""
        if self.stop_after:
            return done >= self.stop_after[stage]
        return time.monotonic() - self.begin > self.seconds * sum(SHARES[: stage + 1])


class Learner:
    """Networks, fields and random draws of one fit.

    Parameters
    ----------
    fields : sequence of Field
    classes : int
        Classes with background.
    recipe : SimplePropagationRecipe
    """

    def __init__(self, fields: Sequence[Field], classes: int, recipe: SimplePropagationRecipe, device: torch.device) -> None:
        self.recipe, self.device, self.classes = recipe, device, classes
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.fields = fields
        self.channels = [torch.from_numpy(field.channels) for field in fields]
        self.labels = [torch.from_numpy(field.labels.astype(np.int64)) for field in fields]
        self.conditions = [
            torch.from_numpy(field.condition if field.condition is not None else np.zeros(0)) for field in fields
        ]
        self.network = self.fresh()

    def fresh(self) -> nn.Module:
        """The network that a training starts from; the seed decides what is random in it."""
        torch.manual_seed(self.recipe.seed)
        return MarkedNet(self.recipe.start).to(self.device)

    def optimiser(self, learning_rate: float) -> torch.optim.Optimizer:
        """Adam, or SGD as published."""
        if self.recipe.optimiser == "adam":
            return torch.optim.Adam(self.network.parameters(), lr=learning_rate, weight_decay=1e-5)
        return torch.optim.SGD(self.network.parameters(), lr=learning_rate, momentum=0.99, nesterov=True, weight_decay=1e-4)

    def patches(self) -> tuple[Tensor, Tensor, Tensor]:
        """A batch of objects' cubes, mirrored at random: channels (B, C, ...), labels (B, ...), conditions (B, N)."""
        drawn = []
        for _ in range(self.recipe.batch):
            index = int(torch.randint(len(self.fields), (1,), generator=self.generator))
            axes = [axis for axis in range(1, 4) if torch.rand((), generator=self.generator) < 0.5]
            image, label = self.channels[index].flip(axes), self.labels[index].flip([axis - 1 for axis in axes])
            drawn.append((image, label, self.conditions[index]))
        image, label, condition = (torch.stack(part).to(self.device) for part in zip(*drawn, strict=True))
        return image, label, condition

    def run(self, image: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K + 1, ...) and features (B, C, ...), in bfloat16 where the processor is good at it."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=has_fast_bfloat16(self.device.type)):
            logits, features = self.network(image, condition)
        return logits.float(), features.float()

    def loss(self, stage: str) -> tuple[Tensor, dict[str, float]]:
        """The loss of one step (equations L1, L2 of the paper; stage 3 has the cross-entropy alone)."""
        recipe = self.recipe
        image, labels, condition = self.patches()
        logits, features = self.run(image, condition)
        loss = balanced_loss(logits, labels)
        scores = {"cross-entropy": float(loss.detach())}
        flat = features.movedim(1, -1).reshape(-1, features.shape[1])
        for value in range(1, self.classes):
            drawn = draw_voxels(labels, value, recipe.voxels, self.generator)
            if stage == "train":
                others = draw_voxels(labels, 0, recipe.voxels, self.generator)
                contrast = contrastive_loss(flat[drawn], flat[others], temperature=recipe.temperature)
                loss = loss + contrast
                scores["contrast"] = float(contrast.detach())
            elif stage == "propagate":
                free = torch.nonzero(labels.reshape(-1) == IGNORE)[:, 0]
                votes = propagated(
                    flat[free].detach(), flat[drawn].detach(), similarity=recipe.similarity, agreement=recipe.agreement
                )
                voted = torch.full_like(labels.reshape(-1), IGNORE)
                voted[free[votes]] = value
                loss = loss + recipe.propagation_weight * partial_cross_entropy_loss(logits, voted.reshape(labels.shape))
                scores["voted"] = float(votes.float().mean()) if len(votes) else 0.0
        return loss, scores

    @torch.inference_mode()
    def probabilities(self, index: int) -> FloatMap:
        """Class probabilities without the background, shape (K, d, h, w), of one field."""
        self.network.eval()
        image = self.channels[index].to(self.device)
        # a cube and its mirror image: batch 2 keeps the CPU's convolutions off their slow path
        condition = self.conditions[index].to(self.device).expand(2, -1)
        softmax = self.run(torch.stack([image, image.flip(1)]), condition)[0].softmax(1)
        mean = (softmax[0] + softmax[1].flip(1)) / 2
        self.network.train()
        return cast("FloatMap", mean[1:].float().cpu().numpy())

    def join_labels(self) -> None:
        """Label what first mask and network, before any training here, agree on; leave open what they do not."""
        recipe = self.recipe
        for index, field in enumerate(self.fields):
            first = np.where(field.labels == 1, 0.95, np.where(field.labels == 0, 0.05, 0.5))
            both = (first + self.probabilities(index)[0]) / 2
            sure = np.where(both > recipe.sure_inside, 1, np.where(both < recipe.sure_outside, 0, IGNORE))
            sure[(field.channels[-1] == 0)] = IGNORE
            if (sure == 1).any():
                self.labels[index] = torch.from_numpy(sure.astype(np.int64))

    @torch.no_grad()
    def blend(self, share: float) -> None:
        """Move the weights back towards those of the start: keeps what they knew of shapes (Wortsman et al., CVPR 2022)."""
        for now, start in zip(self.network.parameters(), self.fresh().parameters(), strict=True):
            now.lerp_(start, share)

    def relabel(self) -> list[str]:
        """Stage 2's result becomes the labels of stage 3: binary and inside the box; an empty one keeps the old labels."""
        notes = []
        for index, field in enumerate(self.fields):
            probability = self.probabilities(index)
            best = np.where(probability.max(axis=0) > 0.5, probability.argmax(axis=0) + 1, 0) * field.box
            if best.any():
                padding = field.channels[-1] == 0
                self.labels[index] = torch.from_numpy(np.where(padding, IGNORE, best).astype(np.int64))
            else:
                notes.append("the second stage found nothing; the third one learnt from the first labels.")
        return notes


class MarkedNet(nn.Module):
    """The first-mask network as a classifier of two classes that shows its features.

    Parameters
    ----------
    start : str
        ``"synthetic"``: the weights of this package, learnt from made-up volumes alone; ``"random"``: untrained.
    """

    def __init__(self, start: str) -> None:
        super().__init__()
        self.temperature: Tensor
        self.register_buffer("temperature", torch.ones(()))
        if start == "synthetic":
            shipped = read_first_mask_model()
            self.net = FirstMaskNet(shipped.net.widths)
            self.net.load_state_dict(shipped.net.state_dict())
            self.temperature.fill_(shipped.temperature)
        else:
            self.net = FirstMaskNet()

    def forward(self, image: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, D, H, W) and (B, N) to logits (B, 2, D, H, W), 0 for the background, and features (B, 16, D, H, W)."""
        features = self.net.features(image, condition)
        logits = self.net.head(features) / self.temperature
        return torch.cat([torch.zeros_like(logits), logits], dim=1), features


def balanced_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Partial cross-entropy of object and of background voxels, each averaged by itself.

    In a cube around an object this plays the part of the paper's two loaders (patches around lesion and around background).
    """
    object_labels = torch.where(labels > 0, labels, IGNORE)
    background_labels = torch.where(labels == 0, labels, IGNORE)
    return (partial_cross_entropy_loss(logits, object_labels) + partial_cross_entropy_loss(logits, background_labels)) / 2


def fit(
    cases: Sequence[Case],
    recipe: Recipe,
    weights: Weights | None = None,
) -> Generator[Step, None, Weights]:
    """See `napari_weakseg.methods.simple_propagation.fit`; `recipe.marks` is True."""
    recipe = cast("SimplePropagationRecipe", recipe)
    if not cases:
        raise DataError("there is no case to learn from; give at least one volume with points.")
    structures = all_structures(cases)
    device, note = pick_device(recipe.device)
    notes = [note] if note else []
    fields: list[Field] = []
    made_by: dict[str, str] = {}
    for number, case in enumerate(cases):
        first = first_masks(case, recipe)
        if number == 0:
            preview = merged(first.masks, case.volume, structures)
            yield Step("first mask", 1, 1, preview=preview, progress=0.0, note=note or first.note)
            made_by = first.made_by
        notes += [first.note] if first.note and first.note not in notes else []
        fields += marked_fields(case, first.masks, first.labels, recipe)
    begin = time.monotonic()  # what is allowed is time to learn: a slow first mask must not use it up
    meta: dict[str, Any] = {
        "device": describe_device(device),
        "notes": notes,
        "channels": 0,
        "steps": (),
        "first_mask": made_by,
    }
    learner = Learner(fields, 2, recipe, device)
    if recipe.start == "synthetic":
        meta["start_sha256"] = read_first_mask_model().digest
    learner.network.train()
    if recipe.start == "synthetic" and recipe.pseudo_mask == "first mask":
        learner.join_labels()
    if weights is not None and weights.tensors:
        learner.network.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in weights.tensors.items()})
    steps: list[int] = []
    clock = Clock(begin, recipe.max_seconds, recipe.stop_after)
    for number, stage in enumerate(STAGES):
        if stage == "retrain":
            notes += learner.relabel()
            if recipe.steps_retrain:
                learner.network = learner.fresh()
        done = yield from _train(learner, stage, number, clock, cases[0], structures, notes)
        steps.append(done)
    if recipe.start == "synthetic":
        learner.blend(recipe.keep_start)
    done_recipe = recipe.changed(stop_after=tuple(steps))
    tensors = {name: value.detach().cpu().numpy() for name, value in learner.network.state_dict().items()}
    meta |= {
        "channels": learner.channels[0].shape[0],
        "classes": learner.classes,
        "steps": tuple(steps),
        "seconds": time.monotonic() - begin,
    }
    return Weights(card.name, done_recipe, structures, tensors, meta)


def _train(
    learner: Learner,
    stage: str,
    number: int,
    clock: Clock,
    case: Case,
    structures: tuple[Structure, ...],
    notes: list[str],
) -> Generator[Step, None, int]:
    """One stage; returns the steps done. Diverging ends it, with the weights that it began with."""
    recipe = learner.recipe
    total = (recipe.steps_train, recipe.steps_propagate, recipe.steps_retrain)[number]
    rate = recipe.learning_rate_propagate if stage == "propagate" else recipe.learning_rate
    optimiser = learner.optimiser(rate)
    before = {name: value.clone() for name, value in learner.network.state_dict().items()}
    shown = time.monotonic() if number else float("-inf")  # the network's first word comes at once
    done = 0
    for index in range(total):
        if clock.is_over(number, done):
            break
        for group in optimiser.param_groups:
            group["lr"] = rate * max(0.0, 1 - index / total) ** 0.9
        optimiser.zero_grad(set_to_none=True)
        loss, scores = learner.loss(stage)
        if not torch.isfinite(loss):
            learner.network.load_state_dict(before)
            notes.append(
                f"the loss of '{stage}' was not finite in step {index + 1}: that stage was undone; lower its learning rate."
            )
            break
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(learner.network.parameters(), 12.0)
        optimiser.step()
        done += 1
        preview = None
        if recipe.preview_seconds and time.monotonic() - shown > recipe.preview_seconds:
            preview = _preview(learner, case, structures)
            shown = time.monotonic()
        share = sum(SHARES[:number]) + SHARES[number] * done / total
        yield Step(stage, done, total, scores, preview, share)
    return done


def _preview(learner: Learner, case: Case, structures: tuple[Structure, ...]) -> Preview:
    """What the network says now of the first case."""
    objects: list[ObjectMask] = []
    for index in range(len(first_masks(case, learner.recipe).masks)):
        objects += learner.fields[index].back(learner.probabilities(index))
    return merged(objects, case.volume, structures)


def predict(case: Case, weights: Weights) -> Result:
    """See `napari_weakseg.methods.simple_propagation.predict`."""
    recipe = cast("SimplePropagationRecipe", weights.recipe)
    structures = weights.structures
    notes = tuple(weights.meta.get("notes", ()))
    device, _ = pick_device(recipe.device)
    if case.points is None and case.scribbles is None:
        raise PromptError(f"{case.id} has no extreme points; this network needs six on each object.")
    masks = first_masks(case, recipe).masks
    fields = marked_fields(case, masks, None, recipe)
    learner = Learner(fields, int(weights.meta["classes"]), recipe, device)
    learner.network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.tensors.items()})
    objects = [mask for index, field in enumerate(fields) for mask in field.back(learner.probabilities(index))]
    refined = merged(objects, case.volume, structures)
    overlap = dice(refined.labels() > 0, merged(masks, case.volume, structures).labels() > 0)
    if overlap < UNLIKE:
        notes += (f"the refined mask shares little with the first one (Dice {overlap:.2f}): compare them before you accept.",)
    return result_of(refined, case, structures, notes)
