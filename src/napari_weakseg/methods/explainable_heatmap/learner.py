"""The classifier in training: its images, its steps, and what it has learnt."""

from __future__ import annotations

import hashlib
import json
import math
import time
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from ...arrays.heatmap_refinement import refined_probability
from ...arrays.heatmaps import multi_otsu, negatives_threshold, threshold_at
from ...method import Preview
from ...prompts import Structure
from ...training.inference import mixed_precision
from ...training.partial_losses import IGNORE, partial_cross_entropy_loss
from .augmentation import augmented
from .bags import bag_loss
from .explaining import context_of, explained, network_of

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from numpy.typing import NDArray

    from ...method import Step, Weights
    from ...training.cache import Arrays
    from . import ExplainableHeatmapRecipe
    from .training_images import TrainingImages

NEGATIVE_SLICES = 400
"""Training slices without a class that set its threshold, evenly spaced; more do not change it."""

WARM_UP = 30
"""Steps in which the learning rate rises."""

DOUBT = (0.4, 0.6)
"""Refined probabilities between which self-training says nothing."""

AIR = 0.1
"""Intensity, in units of the body's median, below which a voxel is air."""


def structures_of(classes: Sequence[str]) -> tuple[Structure, ...]:
    """What is drawn for each class: class 0 is what is without a finding, and is not drawn."""
    return tuple(Structure(name, value) for value, name in enumerate(classes) if value)


class Learner:
    """Network, its mean, its teacher and the optimiser of one fit.

    Parameters
    ----------
    images : TrainingImages
        Prepared.
    recipe : ExplainableHeatmapRecipe
        Settings.
    device : torch.device
        Where it runs.
    """

    def __init__(self, images: TrainingImages, recipe: ExplainableHeatmapRecipe, device: torch.device) -> None:
        self.images, self.recipe, self.device, self.classes = images, recipe, device, images.classes
        self.meta = images.meta
        torch.manual_seed(recipe.seed)
        self.network = network_of(recipe, self.meta).to(device)
        self.average = deepcopy(self.network).requires_grad_(False)
        self.teacher = deepcopy(self.average)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        self.weight = images.class_weights().to(device)
        share = recipe.self_training if images.by_slice and recipe.supervision == "marks" else 0.0
        steps = recipe.epochs * len(images.units) / (recipe.batch * recipe.accumulation)
        self.totals = (max(1, math.ceil(steps * (1 - share))), math.ceil(steps * share))
        self.validation: TrainingImages | None = None
        self.previewed = time.monotonic()

    @property
    def modules(self) -> dict[str, Any]:
        """All that a checkpoint has to keep."""
        return {"network": self.network, "average": self.average, "teacher": self.teacher}

    # -- learning -------------------------------------------------------------------------------------------------------

    def step(self, stage: int, index: int) -> dict[str, float]:
        """One step of the optimiser; torch has been seeded for it."""
        recipe, total = self.recipe, self.totals[stage]
        self.network.train()
        rate = recipe.learning_rate * min(1.0, (index + 1) / min(WARM_UP, max(1, total // 4)))
        if recipe.schedule == "cosine":
            rate *= 0.01 + 0.99 * (1 + math.cos(math.pi * index / total)) / 2
        drawn = index + (self.totals[0] if stage else 0)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        scores: dict[str, float] = {"loss": 0.0, "accuracy": 0.0}
        for part in range(recipe.accumulation):
            rows = self.images.rows(drawn * recipe.accumulation + part)
            loss, right = self._slices(rows) if self.images.by_slice else self._bags(rows)
            scores["loss"] += loss / recipe.accumulation
            scores["accuracy"] += right / recipe.accumulation
        if recipe.clip:
            torch.nn.utils.clip_grad_value_(self.network.parameters(), recipe.clip)
        self.optimiser.step()
        self._move_average(drawn)
        if self.validation is not None and ((index + 1) % max(1, total // 10) == 0):
            scores["validation loss"] = self.mean_loss(self.average, self.validation)
        return scores

    def _slices(self, rows: NDArray[np.int64]) -> tuple[float, float]:
        """Forward and backward of labelled slices; returns loss and share of right answers."""
        images, truth, masks = self.images.batch(rows)
        images, truth = images.to(self.device), truth.to(self.device)
        images, masks = augmented(
            images, self.recipe.augmentation, self.images.mirror, None if masks is None else masks.to(self.device)
        )
        with mixed_precision(self.device):
            features = self.network.features(images.to(memory_format=torch.channels_last) if images.ndim == 4 else images)
        if features.ndim == 5:  # slabs: one image per slice
            features = features.transpose(1, 2).flatten(0, 1)
        logits = self.network.head(features.float())
        loss = functional.cross_entropy(logits, truth, weight=self.weight, label_smoothing=self.recipe.label_smoothing)
        if masks is not None:
            wanted = masks.reshape(len(features), *features.shape[2:])
            loss = loss + partial_cross_entropy_loss(self.network.head.heatmap(features.float()), wanted)
        (loss / self.recipe.accumulation).backward()  # type: ignore[no-untyped-call]
        return float(loss.detach()), float((logits.argmax(1) == truth).float().mean())

    def _bags(self, rows: NDArray[np.int64]) -> tuple[float, float]:
        """Forward and backward of labelled volumes, one after the other."""
        total, right = 0.0, 0.0
        for case, _ in rows.tolist():
            images = self.images[case].tensor.float()[None]
            images = augmented(images, self.recipe.augmentation, self.images.mirror)[0][0]
            truth = self.images.truth[case].to(self.device)
            loss, logits = bag_loss(
                self.network,
                images,
                truth,
                self.weight,
                context=context_of(self.recipe),
                scale=len(rows) * self.recipe.accumulation,
            )
            total += loss / len(rows)
            right += float(int(logits.argmax()) == int(truth[0])) / len(rows)
        return total, right

    @torch.no_grad()
    def _move_average(self, index: int) -> None:
        """The mean of the weights over the last steps is what predicts; it grows with the steps done."""
        share = min(self.recipe.averaging, (index + 1) / (index + 10)) if self.recipe.averaging else 0.0
        for mean, now in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - share)
            else:
                mean.copy_(now)

    # -- what comes out -------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The averaged network, with the head centred."""
        return {name: value.detach().cpu().numpy() for name, value in self._centred(self.average).state_dict().items()}

    @staticmethod
    def _centred(network: Any) -> Any:
        """A copy with the head centred."""
        copy = deepcopy(network)
        copy.head.centre()
        return copy

    def take(self, weights: Weights) -> None:
        """Start from weights learnt earlier."""
        state = {name: torch.from_numpy(np.array(value)) for name, value in weights.tensors.items()}
        self.network.load_state_dict(state)
        self.average.load_state_dict(state)

    def mean_loss(self, network: Any, images: TrainingImages) -> float:
        """Cross-entropy of a network on all of some images."""
        total, count, weight = 0.0, 0, images.class_weights()
        for place, truth in enumerate(images.truth):
            logits = explained(network, images[place].tensor, self.recipe, self.meta, self.device, heatmaps=False).logits
            total += float(functional.cross_entropy(logits, truth, weight=weight, reduction="sum"))
            count += len(truth)
        return total / count

    def preview(self, done: int) -> Preview | None:
        """From time to time: where the first case's classes are seen at the moment."""
        if time.monotonic() - self.previewed < self.recipe.preview_seconds:
            return None
        images = self.images[0]
        maps = explained(self.average, images.tensor, self.recipe, self.meta, self.device)
        share = torch.softmax(maps.heatmaps, dim=0)[1:]
        share = share * torch.softmax(maps.logits, dim=1)[:, 1:].T[:, :, None, None]
        volumes = np.stack([images.frame.to_volume(part) for part in share])
        self.previewed = time.monotonic()
        return Preview(volumes, (0, 0, 0), images.frame.shape, structures_of(self.classes), case=self.images.ids[0])

    def become_teacher(self) -> None:
        """Keep the classifier as it is now, as the one that `draw_masks` asks."""
        self.teacher.load_state_dict(self.average.state_dict())

    def draw_masks(self) -> Generator[Step, None, None]:
        """What the teacher's refined heatmaps say of the training slices, where their labels allow it; no mask is read.

        A slice without a class has nothing of it anywhere, and that is certain; where a class is labelled and its refined
        heatmap is in doubt, nothing is said.
        """
        network = self._centred(self.teacher)
        digest = hashlib.sha256(json.dumps(self.recipe.phi).encode())
        for value in network.state_dict().values():
            digest.update(value.detach().cpu().numpy().tobytes())

        def drawn_by_teacher(arrays: Arrays) -> NDArray[np.int16]:
            tensor, truth = torch.from_numpy(np.array(arrays["images"])), arrays["truth"]
            maps = explained(network, tensor, self.recipe, self.meta, self.device).heatmaps.numpy()
            channels = [channel.float().numpy() for channel in tensor[: len(self.meta["channels"])]]
            body = np.max(channels, axis=0) > AIR
            drawn = np.zeros(body.shape, dtype=np.int16)
            for value in range(1, len(self.classes)):
                allowed = body & (truth == value)[:, None, None]
                if not allowed.any():
                    continue
                threshold = threshold_at(multi_otsu(maps[value], allowed), self.recipe.phi)
                near = refined_probability(channels, maps[value], threshold, allowed=allowed)
                drawn[allowed & (near > DOUBT[0])] = IGNORE
                drawn[allowed & (near > DOUBT[1])] = value
                drawn[(truth == value) & ~(drawn == value).any(axis=(1, 2))] = IGNORE
            return drawn

        yield from self.images.draw(drawn_by_teacher, digest.hexdigest())

    def thresholds(self) -> list[float | None]:
        """Per class the value that only a given share of its heatmap exceeds in training images without the class."""
        network = self._centred(self.average)
        found: list[list[NDArray[np.float32]]] = [[] for _ in self.classes]
        counts = [len(arrays["images"][0]) for arrays in self.images.prepared]
        every = max(1, sum(counts) // NEGATIVE_SLICES)
        for place, truth in enumerate(self.images.truth):
            tensor = self.images[place].tensor
            chosen = torch.arange(0, tensor.shape[1], every)
            flat = self.recipe.dimensions == "2D"
            maps = explained(
                network, tensor, self.recipe, self.meta, self.device, only=chosen if flat else None
            ).heatmaps  # a 3D network sees all slices, of which the same ones count
            maps = maps if flat else maps[:, chosen]
            body = (tensor[:, chosen].amax(dim=0) > AIR).numpy()
            for value in range(1, len(self.classes)):
                other = (truth != value).expand(tensor.shape[1])[chosen].numpy()
                if other.any():
                    found[value].append(maps[value].numpy()[other][body[other]])
        return [
            negatives_threshold(parts, percentile=self.recipe.percentile) if any(part.size for part in parts) else None
            for parts in found
        ]
