"""What a fit learns from: the images of all cases, prepared within stated bounds of memory, and the batches drawn from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...case import known
from ...errors import DataError
from ...method import Step
from ...training.cache import PreparedCases, bounds, default_memory
from .augmentation import mirror_axis
from .explaining import context_of
from .images import Frame, Images, images_of
from .sequence import learnt_chain
from .symmetry import with_excess

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from numpy.typing import NDArray

    from ...case import Case
    from ...prompts import ImageLabel
    from ...training.cache import Arrays
    from . import ExplainableHeatmapRecipe

PREPARED_VERSION = 1
"""Goes up when what is prepared of a case changes."""

SLAB = 16
"""Slices that a 3D network sees at once where labels are per slice."""


class TrainingImages:
    """Images and labels of many cases; `prepare` comes first.

    Parameters
    ----------
    cases : sequence of Case
        Opened one by one.
    classes : tuple of str
        Names of the classes.
    labels : sequence of ImageLabel
        One per case.
    recipe : ExplainableHeatmapRecipe
        Settings.
    memory_bytes : int, optional
        So much of the images is kept in memory, see `PreparedCases`.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        classes: tuple[str, ...],
        labels: Sequence[ImageLabel],
        recipe: ExplainableHeatmapRecipe,
        *,
        memory_bytes: int | None = None,
    ) -> None:
        self.recipe, self.classes = recipe, classes
        self.by_slice = isinstance(labels[0].label, tuple | list)
        self.slice_axis = labels[0].slice_axis
        self.channels = tuple(cases[0].channels)
        self.ids = known(cases, "id")
        self.truth = [torch.as_tensor(np.atleast_1d(label.label), dtype=torch.long) for label in labels]
        self.memory_bytes = default_memory() if memory_bytes is None else memory_bytes
        self.mirror: int | None = None
        self.spacing: tuple[float, ...] = ()
        knobs = ("supervision", "working_spacing", "working_size", "crop_body", "intensity")
        settings = {name: recipe.to_json()[name] for name in knobs}
        settings |= {"version": PREPARED_VERSION, "channels": self.channels, "slice_axis": self.slice_axis}
        # what the other side adds is as large again as the images, and these are let go when it is there
        share = self.memory_bytes // 3
        self.prepared: PreparedCases[Any] = PreparedCases(cases, self._of_case, settings=settings, memory_bytes=share)
        self.drawn: PreparedCases[Any] | None = None
        self.units = np.zeros((0, 2), dtype=np.int64)

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.truth)

    def __getitem__(self, place: int) -> Images:
        """The whole images of one case."""
        arrays = self.prepared[place]
        return Images(torch.from_numpy(np.array(arrays["images"])), Frame.from_numbers(arrays["frame"]))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of how the images are kept."""
        kept = (self.prepared, *([] if self.drawn is None else [self.drawn]))
        return tuple(dict.fromkeys(note for part in kept for note in part.notes))

    # -- beginning ------------------------------------------------------------------------------------------------------

    def prepare(self, like: TrainingImages | None = None) -> Generator[Step, None, None]:
        """Read every case, find the axis across which bodies are symmetric (or take that of others), add the other side.

        Raises
        ------
        DataError, PromptError
            A case that cannot be learnt from.
        """
        yield Step("prepare", 0, len(self), note=bounds(self.memory_bytes) if len(self) > 1 else "")
        spacings = []
        for place in range(len(self)):
            spacings.append(self.prepared[place]["voxel_size"])
            yield Step("prepare", place + 1, len(self))
        self.spacing = tuple(float(size) for size in np.median(spacings, axis=0))
        means = (torch.from_numpy(np.array(arrays["mean"]))[None] for arrays in self.prepared)
        self.mirror = mirror_axis(means) if like is None else like.mirror
        if self.mirror is not None and self.recipe.symmetry != "off":
            first = self.prepared
            settings = {"mirror": self.mirror, "symmetry": self.recipe.symmetry, "version": PREPARED_VERSION}
            self.prepared = PreparedCases(
                first, self._with_other_side, settings=settings, memory_bytes=self.memory_bytes - first.memory_bytes
            )
            for place in range(len(self)):
                self.prepared[place]
                yield Step("other side", place + 1, len(self))
            first.release()
        self.units = self._all_units()

    def _of_case(self, case: Case) -> Arrays:
        """A case's images, what they are of, and for full supervision its mask."""
        assert case.image_label is not None
        case.image_label.checked(case.volume)
        images = images_of(case, self.recipe, channels=self.channels, slice_axis=self.slice_axis)
        arrays = {
            "images": images.tensor.numpy(),
            "frame": images.frame.to_numbers(),
            "voxel_size": np.array(images.frame.voxel_size(case.volume)),
            "mean": images.tensor.float().flatten(0, 1).mean(dim=0).numpy(),
            "truth": np.atleast_1d(case.image_label.label).astype(np.int64),
        }
        return arrays | ({"mask": _working_mask(case, images, self.classes)} if self.recipe.supervision == "masks" else {})

    def _with_other_side(self, arrays: Arrays) -> Arrays:
        images = Images(torch.from_numpy(np.array(arrays["images"])), Frame.from_numbers(arrays["frame"]))
        return {**arrays, "images": with_excess(images, self.mirror, self.recipe.symmetry).tensor.numpy()}

    def _all_units(self) -> NDArray[np.int64]:
        """What a batch is drawn from, rows (case, slice): slices, slabs by their first slice, or whole volumes."""
        rows = []
        for number, arrays in enumerate(self.prepared):
            slices = arrays["images"].shape[1]
            if not self.by_slice:
                rows.append((number, 0))
            elif self.recipe.dimensions == "2D":
                rows += [(number, index) for index in range(slices)]
            else:
                rows += [(number, first) for first in range(0, max(1, slices - SLAB // 2), SLAB // 2)]
        return np.array(rows, dtype=np.int64)

    @property
    def meta(self) -> dict[str, Any]:
        """What a network is built from, and a prediction needs."""
        about: dict[str, Any] = {
            "channels": self.channels,
            "classes": self.classes,
            "slice_axis": self.slice_axis,
            "by_slice": self.by_slice,
            "spacing": self.spacing,
            "mirror": self.mirror,
            "inputs": len(self.prepared[0]["images"]) * (1 + 2 * context_of(self.recipe)),
        }
        if self.by_slice:
            about["chain"] = learnt_chain([truth.tolist() for truth in self.truth], len(self.classes))
        return about

    def class_weights(self) -> Tensor:
        """n / (K n_k) over the labels, or ones."""
        counts = torch.bincount(torch.cat(self.truth), minlength=len(self.classes)).float()
        balanced = counts.sum() / (len(counts) * counts.clamp_min(1))
        return balanced if self.recipe.class_weights else torch.ones_like(counts)

    # -- masks to learn from as well ------------------------------------------------------------------------------------

    def draw(self, masks_of: Callable[[Arrays], NDArray[Any]], by: str) -> Generator[Step, None, None]:
        """Let masks be drawn on all images, which later batches then bring along.

        Parameters
        ----------
        masks_of : callable
            Gets a case's arrays; returns labels (slices, height, width).
        by : str
            What tells whoever draws them from every other.
        """
        self.drawn = PreparedCases(
            self.prepared,
            lambda arrays: {"mask": masks_of(arrays)},
            settings={"by": by, "version": PREPARED_VERSION},
            memory_bytes=self.memory_bytes // 3,
        )
        for place in range(len(self)):
            self.drawn[place]
            yield Step("relabel", place + 1, len(self))

    # -- batches --------------------------------------------------------------------------------------------------------

    def rows(self, number: int) -> NDArray[np.int64]:
        """The units of the batch of that number: every epoch is a permutation of its own."""
        recipe = self.recipe
        places = np.arange(number * recipe.batch, (number + 1) * recipe.batch)
        epochs = {int(epoch) for epoch in places // len(self.units)}
        order = {epoch: np.random.default_rng((recipe.seed, epoch)).permutation(len(self.units)) for epoch in epochs}
        return self.units[[order[int(place) // len(self.units)][place % len(self.units)] for place in places]]

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Images, their labels and, where there are any, masks of some units; smaller images are padded with air."""
        parts, truth, masks = [], [], []
        context = context_of(self.recipe)
        for case, first in rows.tolist():
            images, mask = self.prepared[case]["images"], self._mask(case)
            slices = images.shape[1]
            if self.recipe.dimensions == "2D":
                near = np.clip(np.arange(first - context, first + context + 1), 0, slices - 1)
                parts.append(torch.from_numpy(images[:, near]).float().flatten(0, 1))
                place: slice | int = first
                truth.append(self.truth[case][first : first + 1])
            else:
                start = max(0, min(first, slices - SLAB))
                place = slice(start, start + SLAB)
                parts.append(torch.from_numpy(np.array(images[:, place])).float())
                truth.append(self.truth[case][place])
            if mask is not None:
                masks.append(torch.from_numpy(np.array(mask[place])))
        return stacked(parts), torch.cat(truth), stacked(masks).long() if masks else None

    def _mask(self, place: int) -> NDArray[Any] | None:
        if self.drawn is not None:
            return self.drawn[place]["mask"]
        return self.prepared[place].get("mask")


def stacked(parts: Sequence[Tensor]) -> Tensor:
    """A batch; smaller images are padded with air at their far ends."""
    sizes = [max(lengths) for lengths in zip(*(part.shape for part in parts), strict=True)]
    padded = []
    for part in parts:
        missing = [size - length for size, length in zip(sizes, part.shape, strict=True)]
        padded.append(functional.pad(part, [n for more in reversed(missing) for n in (0, more)]) if any(missing) else part)
    return torch.stack(padded)


def _working_mask(case: Case, images: Images, classes: Sequence[str]) -> NDArray[np.uint8]:
    """The reference mask as the network's images see it, (slices, height, width)."""
    if case.reference is None:
        raise DataError(f"case {case.id} has no reference mask; full supervision needs one for every training case.")
    mask = np.zeros(images.tensor.shape[1:], dtype=np.uint8)
    for value in (int(value) for value in np.unique(case.reference.array) if value):
        if value >= len(classes):
            raise DataError(
                f"the reference mask of case {case.id} holds the value {value}, but the image classes are "
                f"{', '.join(classes)}; full supervision needs a class for each value."
            )
        mask[images.frame.to_images(case.reference.array == value).numpy() > 0.5] = value
    return mask
