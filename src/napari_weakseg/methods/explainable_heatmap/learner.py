"""The classifier in training: its images, its steps, and what it has learnt."""

from __future__ import annotations

import math
import time
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...arrays.heatmap_refinement import refined_probability
from ...arrays.heatmaps import multi_otsu, negatives_threshold, threshold_at
from ...errors import DataError
from ...method import Preview
from ...prompts import Structure
from ...training.inference import mixed_precision
from ...training.partial_losses import IGNORE, partial_cross_entropy_loss
from .augmentation import augmented, mirror_axis
from .bags import bag_loss
from .explaining import context_of, explained, network_of, with_neighbours
from .images import Images, images_of
from .sequence import learnt_chain
from .symmetry import with_excess

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ...case import Case
    from ...method import Weights
    from ...prompts import ImageLabel
    from . import ExplainableHeatmapRecipe

SLAB = 16
"""Slices that a 3D network sees at once where labels are per slice."""

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
    """Network, images and random draws of one fit.

    Parameters
    ----------
    cases : sequence of Case
        Opened one by one.
    classes : tuple of str
        Names of the classes.
    labels : list of ImageLabel
        One per case.
    recipe : ExplainableHeatmapRecipe
        Settings.
    device : torch.device
        Where it runs.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        classes: tuple[str, ...],
        labels: Sequence[ImageLabel],
        recipe: ExplainableHeatmapRecipe,
        device: torch.device,
    ) -> None:
        self.recipe, self.device, self.classes = recipe, device, classes
        self.by_slice = isinstance(labels[0].label, tuple | list)
        channels = tuple(cases[0].channels)
        self.images: list[Images] = []
        self.truth: list[Tensor] = []
        self.masks: list[Tensor] = []  # of full supervision, or made by the classifier itself
        spacings = []
        for case, label in zip(cases, labels, strict=True):
            label.checked(case.volume)
            images = images_of(case, recipe, channels=channels, slice_axis=label.slice_axis)
            self.images.append(images)
            self.truth.append(torch.as_tensor(np.atleast_1d(label.label), dtype=torch.long))
            spacings.append(images.frame.voxel_size(case.volume))
            if recipe.supervision == "masks":
                self.masks.append(_working_mask(case, images))
        self.example = cases[0].volume.with_array(np.zeros(cases[0].volume.shape, dtype=np.uint8))
        spacing = tuple(float(size) for size in np.median(spacings, axis=0))
        self.mirror = mirror_axis([images.tensor for images in self.images])
        self.images = [with_excess(images, self.mirror, recipe.symmetry) for images in self.images]
        self.meta: dict[str, Any] = {
            "channels": channels,
            "classes": classes,
            "slice_axis": labels[0].slice_axis,
            "by_slice": self.by_slice,
            "spacing": spacing,
            "mirror": self.mirror,
            "inputs": len(self.images[0].tensor) * (1 + 2 * context_of(recipe)),
        }
        if self.by_slice:
            self.meta["chain"] = learnt_chain([truth.tolist() for truth in self.truth], len(classes))
        torch.manual_seed(recipe.seed)
        self.network = network_of(recipe, self.meta).to(device)
        self.average = deepcopy(self.network).requires_grad_(False)
        self.teacher = deepcopy(self.average)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        self.units = self._all_units()
        self.weight = self._class_weights()
        share = recipe.self_training if self.by_slice and recipe.supervision == "marks" else 0.0
        steps = recipe.epochs * len(self.units) / (recipe.batch * recipe.accumulation)
        self.totals = (max(1, math.ceil(steps * (1 - share))), math.ceil(steps * share))
        self.validation: Learner | None = None
        self.previewed = time.monotonic()

    @property
    def modules(self) -> dict[str, Any]:
        """All that a checkpoint has to keep."""
        return {"network": self.network, "average": self.average, "teacher": self.teacher}

    # -- data -----------------------------------------------------------------------------------------------------------

    def _all_units(self) -> NDArray[np.int64]:
        """What a batch is drawn from, rows (case, slice): slices, slabs by their first slice, or whole volumes."""
        rows = []
        for number, images in enumerate(self.images):
            if not self.by_slice:
                rows.append((number, 0))
            elif self.recipe.dimensions == "2D":
                rows += [(number, index) for index in range(images.slices)]
            else:
                rows += [(number, first) for first in range(0, max(1, images.slices - SLAB // 2), SLAB // 2)]
        return np.array(rows, dtype=np.int64)

    def _class_weights(self) -> Tensor:
        """n / (K n_k) over the training labels, or ones."""
        counts = torch.bincount(torch.cat(self.truth), minlength=len(self.classes)).float()
        balanced = counts.sum() / (len(counts) * counts.clamp_min(1))
        return (balanced if self.recipe.class_weights else torch.ones_like(counts)).to(self.device)

    def draw(self, number: int) -> NDArray[np.int64]:
        """The units of the batch of that number: every epoch is a permutation of its own."""
        places = np.arange(number * self.recipe.batch, (number + 1) * self.recipe.batch)
        epochs = {int(epoch) for epoch in places // len(self.units)}
        order = {epoch: np.random.default_rng((self.recipe.seed, epoch)).permutation(len(self.units)) for epoch in epochs}
        return self.units[[order[int(place) // len(self.units)][place % len(self.units)] for place in places]]

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Images, their labels and, for full supervision, masks of some units; smaller images are padded with air."""
        parts, truth, masks = [], [], []
        for case, first in rows.tolist():
            images = self.images[case]
            if self.recipe.dimensions == "2D":
                parts.append(with_neighbours(images.tensor, context_of(self.recipe), torch.tensor([first]))[:, 0])
                truth.append(self.truth[case][first : first + 1])
                masks += [self.masks[case][first]] if self.masks else []
            else:
                start = max(0, min(first, images.slices - SLAB))
                parts.append(images.tensor[:, start : start + SLAB].float())
                truth.append(self.truth[case][start : start + SLAB])
                masks += [self.masks[case][start : start + SLAB]] if self.masks else []
        return stacked(parts), torch.cat(truth), stacked(masks).long() if masks else None

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
            rows = self.draw(drawn * recipe.accumulation + part)
            loss, right = self._bags(rows) if not self.by_slice else self._slices(rows)
            scores["loss"] += loss / recipe.accumulation
            scores["accuracy"] += right / recipe.accumulation
        if recipe.clip:
            torch.nn.utils.clip_grad_value_(self.network.parameters(), recipe.clip)
        self.optimiser.step()
        self._move_average(drawn)
        if self.validation is not None and ((index + 1) % max(1, total // 10) == 0):
            scores["validation loss"] = self.validation.mean_loss(self.average)
        return scores

    def _slices(self, rows: NDArray[np.int64]) -> tuple[float, float]:
        """Forward and backward of labelled slices; returns loss and share of right answers."""
        images, truth, masks = self.batch(rows)
        images, truth = images.to(self.device), truth.to(self.device)
        images, masks = augmented(
            images, self.recipe.augmentation, self.mirror, None if masks is None else masks.to(self.device)
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
            images = augmented(images, self.recipe.augmentation, self.mirror)[0][0]
            truth = self.truth[case].to(self.device)
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
        network = deepcopy(self.average)
        network.head.centre()
        return {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}

    def take(self, weights: Weights) -> None:
        """Start from weights learnt earlier."""
        state = {name: torch.from_numpy(np.array(value)) for name, value in weights.tensors.items()}
        self.network.load_state_dict(state)
        self.average.load_state_dict(state)

    def validate_on(self, cases: Sequence[Case]) -> None:
        """Show the loss on these cases' labels beside the training's; nothing is chosen by it."""
        labelled = [case for case in cases if case.image_label is not None]
        if labelled:
            recipe = self.recipe.changed(supervision="marks")
            self.validation = Learner(labelled, self.classes, [_label(case) for case in labelled], recipe, self.device)

    def mean_loss(self, network: Any) -> float:
        """Cross-entropy of a network on all images of this learner."""
        total, count = 0.0, 0
        for images, truth in zip(self.images, self.truth, strict=True):
            logits = explained(network, images.tensor, self.recipe, self.meta, self.device, heatmaps=False).logits
            total += float(functional.cross_entropy(logits, truth, weight=self.weight.cpu(), reduction="sum"))
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
        return Preview(volumes, (0, 0, 0), images.frame.shape, structures_of(self.classes))

    def become_teacher(self) -> None:
        """Keep the classifier as it is now, as the one that `draw_masks` asks."""
        self.teacher.load_state_dict(self.average.state_dict())

    def draw_masks(self) -> None:
        """What the teacher's refined heatmaps say of the training slices, where their labels allow it; no mask is read.

        A slice without a class has nothing of it anywhere, and that is certain; where a class is labelled and its refined
        heatmap is in doubt, nothing is said.
        """
        network = deepcopy(self.teacher)
        network.head.centre()
        self.masks = []
        for images, truth in zip(self.images, self.truth, strict=True):
            maps = explained(network, images.tensor, self.recipe, self.meta, self.device).heatmaps.numpy()
            channels = [channel.float().numpy() for channel in images.tensor[: len(self.meta["channels"])]]
            body = np.max(channels, axis=0) > AIR
            drawn = np.zeros(body.shape, dtype=np.int64)
            for value in range(1, len(self.classes)):
                allowed = body & (truth.numpy() == value)[:, None, None]
                if not allowed.any():
                    continue
                threshold = threshold_at(multi_otsu(maps[value], allowed), self.recipe.phi)
                near = refined_probability(channels, maps[value], threshold, allowed=allowed)
                drawn[allowed & (near > DOUBT[0])] = IGNORE
                drawn[allowed & (near > DOUBT[1])] = value
                missed = (truth.numpy() == value) & ~(drawn == value).any(axis=(1, 2))
                drawn[missed] = IGNORE
            self.masks.append(torch.from_numpy(drawn))

    def thresholds(self) -> list[float | None]:
        """Per class the value that only a given share of its heatmap exceeds in training images without the class."""
        network = deepcopy(self.average)
        network.head.centre()
        found: list[list[NDArray[np.float32]]] = [[] for _ in self.classes]
        every = max(1, sum(images.slices for images in self.images) // NEGATIVE_SLICES)
        for images, truth in zip(self.images, self.truth, strict=True):
            chosen = torch.arange(0, images.slices, every) if self.recipe.dimensions == "2D" else torch.arange(images.slices)
            maps = explained(network, images.tensor, self.recipe, self.meta, self.device, only=chosen).heatmaps
            body = (images.tensor[:, chosen].amax(dim=0) > AIR).numpy()
            for value in range(1, len(self.classes)):
                other = (truth != value).expand(images.slices)[chosen].numpy()
                if other.any():
                    found[value].append(maps[value].numpy()[other][body[other]])
        return [
            negatives_threshold(parts, percentile=self.recipe.percentile) if any(part.size for part in parts) else None
            for parts in found
        ]


def _label(case: Case) -> ImageLabel:
    assert case.image_label is not None
    return case.image_label


def stacked(parts: Sequence[Tensor]) -> Tensor:
    """A batch; smaller images are padded with air at their far ends."""
    sizes = [max(lengths) for lengths in zip(*(part.shape for part in parts), strict=True)]
    padded = []
    for part in parts:
        missing = [size - length for size, length in zip(sizes, part.shape, strict=True)]
        padded.append(functional.pad(part, [n for more in reversed(missing) for n in (0, more)]) if any(missing) else part)
    return torch.stack(padded)


def _working_mask(case: Case, images: Images) -> Tensor:
    """The reference mask as the network's images see it, (slices, height, width)."""
    if case.reference is None:
        raise DataError(f"case {case.id} has no reference mask; full supervision needs one for every training case.")
    values = [int(value) for value in np.unique(case.reference.array) if value]
    mask = torch.zeros(images.tensor.shape[1:], dtype=torch.uint8)
    for value in values:
        mask[images.frame.to_images(case.reference.array == value) > 0.5] = value
    return mask
