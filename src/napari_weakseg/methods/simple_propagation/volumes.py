"""The published way: whole volumes, resampled and z-scored, cut into patches around lesion and background voxels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from ...arrays.intensity import finite_intensity
from ...training.partial_losses import IGNORE
from .fields import Field
from .first_masks import FloatMap, ObjectMask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ...case import Case
    from ...prompts import Structure
    from . import SimplePropagationRecipe


def resampled_field(
    case: Case,
    masks: Sequence[ObjectMask],
    labels: Sequence[NDArray[np.int8]] | None,
    structures: tuple[Structure, ...],
    recipe: SimplePropagationRecipe,
) -> Field:
    """The case on the grid of the paper: axes (z, y, x) of RAS, spacing as in the recipe, intensities z-scored.

    Lesion labels win over unlabelled voxels, and these over background. Where the spacing is unknown the grid is kept.
    """
    from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

    volume = case.volume
    to_ras = ornt_transform(io_orientation(volume.affine), axcodes2ornt("RAS"))
    to_file = ornt_transform(axcodes2ornt("RAS"), io_orientation(volume.affine))

    def turned(array: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(apply_orientation(array, to_ras)).transpose(2, 1, 0)

    image = turned(finite_intensity(volume.array))
    spacing = turned_spacing = np.array(volume.spacing)[np.argsort(to_ras[:, 0])][::-1]
    target = np.array(recipe.grid_spacing) if volume.spacing_known else spacing
    shape = np.maximum(1, np.floor(turned_spacing / target * np.array(image.shape)).astype(int))
    zoom = shape / np.array(image.shape)
    resampled = ndimage.zoom(image, zoom, order=3, mode="nearest", grid_mode=True)
    z_score = (resampled - resampled.mean()) / max(float(resampled.std()), 1e-8)
    code = np.zeros(volume.shape, dtype=np.int8)
    box = np.zeros(volume.shape, dtype=bool)
    order = {structure.value: index + 1 for index, structure in enumerate(structures)}
    if labels is not None:
        placed = [(item.window.index, item.value, pseudo) for item, pseudo in zip(masks, labels, strict=True) if item.window]
        for place, _, pseudo in placed:
            code[place][pseudo == IGNORE] = IGNORE
            box[place] |= pseudo != 0
        for place, value, pseudo in placed:
            code[place][pseudo == 1] = order[value]

    def nearest(array: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(ndimage.zoom(turned(array), zoom, order=0, mode="nearest", grid_mode=True))

    def back(probability: FloatMap) -> list[ObjectMask]:
        zoomed = [
            ndimage.zoom(p, np.array(image.shape) / np.array(p.shape), order=1, mode="nearest", grid_mode=True)
            for p in probability
        ]
        whole = [np.ascontiguousarray(apply_orientation(p.transpose(2, 1, 0), to_file), dtype=np.float32) for p in zoomed]
        return [ObjectMask(None, structure.value, p) for structure, p in zip(structures, whole, strict=True)]

    return Field(
        z_score[None].astype(np.float32),
        nearest(code),
        nearest(box),
        back,
    )


def padded_patch(
    image: Tensor, labels: Tensor, patch: tuple[int, ...], foreground: bool, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A patch around a random lesion (or background) voxel; beyond the volume there are zeros without a label."""
    candidates = torch.nonzero(labels > 0 if foreground else labels == 0)
    if len(candidates) == 0:
        candidates = torch.nonzero(labels > IGNORE - 1)
    centre = candidates[int(torch.randint(len(candidates), (1,), generator=generator))].tolist()
    out_image = image.new_zeros((image.shape[0], *patch))
    out_labels = labels.new_full(tuple(patch), IGNORE)
    source, target = [], []
    for middle, size, side in zip(centre, labels.shape, patch, strict=True):
        start = min(max(0, middle - side // 2), max(0, size - side))
        stop = min(size, start + side)
        source.append(slice(start, stop))
        target.append(slice(0, stop - start))
    out_image[(slice(None), *target)] = image[(slice(None), *source)]
    out_labels[tuple(target)] = labels[tuple(source)]
    return out_image, out_labels


def whole_volume(network: nn.Module, image: Tensor, patch: tuple[int, ...]) -> Tensor:
    """Class probabilities of a volume (K, d, h, w): MONAI's sliding window, half overlap, uniform mean."""
    from monai.inferers import sliding_window_inference

    def softmax(part: Tensor) -> Tensor:
        return cast("Tensor", network(part)[0].softmax(1))

    # two windows at a time: a batch of one takes the CPU's slow convolution
    return cast("Tensor", sliding_window_inference(image[None], patch, 2, softmax, overlap=0.5))[0]
