"""Whole volumes as the network without marks sees them: resampled, z-scored, cut into patches; and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from ...arrays.intensity import finite_intensity
from ...training.inference import Sizes, with_fallback
from ...training.partial_losses import IGNORE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ...prompts import Structure
    from ...volume import Volume
    from .first_masks import FirstMasks, FloatMap


@dataclass(frozen=True, eq=False)
class Grid:
    """Axes (z, y, x) of RAS at the network's spacing, for one volume.

    Parameters
    ----------
    to_ras, to_file : ndarray, shape (3, 2)
        Turns of nibabel's kind, there and back.
    turned : tuple of int
        Shape after the turn, in the order (z, y, x).
    shape : tuple of int
        Shape on the grid.
    """

    to_ras: NDArray[Any]
    to_file: NDArray[Any]
    turned: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, volume: Volume, spacing: Sequence[float]) -> Grid:
        """The grid of a volume; where its spacing is unknown, or `spacing` is empty, its own steps are kept."""
        from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

        own, ras = io_orientation(volume.affine), axcodes2ornt("RAS")
        to_ras = ornt_transform(own, ras)
        order = np.argsort(to_ras[:, 0])[::-1]
        turned, steps = np.array(volume.shape)[order], np.array(volume.spacing)[order]
        target = np.array(spacing) if volume.spacing_known and len(spacing) else steps
        shape = np.maximum(1, np.floor(steps / target * turned + 1e-6).astype(int))
        return cls(to_ras, ornt_transform(ras, own), tuple(turned.tolist()), tuple(shape.tolist()))

    def there(self, array: NDArray[Any], *, order: int) -> NDArray[Any]:
        """An array (I, J, K) on the grid; splines of `order`, 0 for labels."""
        from nibabel.orientations import apply_orientation

        turned = np.asarray(apply_orientation(array, self.to_ras)).transpose(2, 1, 0)
        if self.shape == self.turned:
            return np.ascontiguousarray(turned)
        zoom = np.array(self.shape) / np.array(self.turned)
        return np.asarray(ndimage.zoom(turned, zoom, order=order, mode="nearest", grid_mode=True))

    def back(self, array: FloatMap) -> FloatMap:
        """An array of the grid on (I, J, K), linearly."""
        from nibabel.orientations import apply_orientation

        if self.shape != self.turned:
            zoom = np.array(self.turned) / np.array(self.shape)
            array = ndimage.zoom(array, zoom, order=1, mode="nearest", grid_mode=True)
        return np.ascontiguousarray(apply_orientation(array.transpose(2, 1, 0), self.to_file), dtype=np.float32)


def spacing_of(volume: Volume) -> tuple[float, ...]:
    """Spacing along (z, y, x) of RAS."""
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    to_ras = ornt_transform(io_orientation(volume.affine), axcodes2ornt("RAS"))
    return tuple(np.array(volume.spacing)[np.argsort(to_ras[:, 0])[::-1]].tolist())


def z_scored(volumes: Sequence[Volume], grid: Grid) -> FloatMap:
    """Each channel on the grid with mean 0 and deviation 1, shape (C, d, h, w)."""
    channels = []
    for volume in volumes:
        resampled = grid.there(finite_intensity(volume.array), order=3)
        channels.append((resampled - resampled.mean()) / max(float(resampled.std()), 1e-8))
    return np.asarray(np.stack(channels), dtype=np.float32)


def pseudo_volume(
    first: FirstMasks, volume: Volume, structures: Sequence[Structure]
) -> tuple[NDArray[np.int8], NDArray[np.bool_], FloatMap]:
    """All objects' labels, boxes and probabilities on the volume (I, J, K).

    An object's label wins over unlabelled voxels, and these over background. Where two objects claim a voxel, or one is
    sure of what another leaves open, the more probable one has it.

    Returns
    -------
    labels : ndarray of int8
        -1 unlabelled, 0 background, 1..C the place of a structure.
    box : ndarray of bool
        Where an object may be.
    probability : ndarray, float32, shape (C, I, J, K)
    """
    labels = np.zeros(volume.shape, dtype=np.int8)
    box = np.zeros(volume.shape, dtype=bool)
    best = np.zeros(volume.shape, dtype=np.float32)
    probability = np.zeros((len(structures), *volume.shape), dtype=np.float32)
    order = {structure.value: index for index, structure in enumerate(structures)}
    placed = [(item, pseudo, item.window.index) for item, pseudo in zip(first.masks, first.labels, strict=True) if item.window]
    for _, pseudo, place in placed:
        labels[place][pseudo == IGNORE] = IGNORE
        box[place] |= pseudo != 0
    for item, pseudo, place in placed:
        wins = (pseudo == 1) & (item.probability >= best[place])
        labels[place][wins] = order[item.value] + 1
        best[place][wins] = item.probability[wins]
        part = probability[order[item.value]][place]
        np.maximum(part, item.probability, out=part)
    return labels, box, probability


def padded_patch(image: Tensor, labels: Tensor, patch: tuple[int, ...], foreground: bool) -> tuple[Tensor, Tensor]:
    """A patch around a random lesion (or background) voxel; beyond the volume there are zeros without a label."""
    candidates = torch.nonzero(labels > 0 if foreground else labels == 0)
    if len(candidates) == 0:
        candidates = torch.nonzero(labels > IGNORE - 1)
    centre = candidates[int(torch.randint(len(candidates), (1,)))].tolist()
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


def varied(image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Patches turned by up to 10 degrees, scaled by up to 12 %, with other brightness and contrast; no mirror images.

    Parameters
    ----------
    image : Tensor, shape (B, C, d, h, w)
        Intensities.
    labels : Tensor, shape (B, d, h, w)
        What comes from outside the patch is unlabelled.

    Notes
    -----
    Ours; the authors only crop at random. A mirror would swap sides that tell structures apart.
    """
    count, sides = len(image), torch.tensor(image.shape[2:], dtype=torch.float32).flip(0)
    turn = torch.linalg.matrix_exp(_skew((torch.rand(count, 3) - 0.5) * 0.35))
    matrix = turn * (1 + (torch.rand(count, 1, 3) - 0.5) * 0.24)
    matrix = matrix * sides[None, None, :] / sides[None, :, None]  # angles of voxels, not of the patch's own square
    theta = torch.cat([matrix, torch.zeros(count, 3, 1)], dim=2).to(image.device)
    where = nn.functional.affine_grid(theta, list(image.shape), align_corners=False)
    moved = nn.functional.grid_sample(image, where, align_corners=False)
    known = nn.functional.grid_sample((labels + 1)[:, None].to(image.dtype), where, mode="nearest", align_corners=False)
    contrast = 1 + (torch.rand(count, 1, 1, 1, 1) - 0.5) * 0.4
    shift = (torch.rand(count, 1, 1, 1, 1) - 0.5) * 0.4
    return moved * contrast.to(image.device) + shift.to(image.device), known[:, 0].round().long() - 1


def _skew(angles: Tensor) -> Tensor:
    x, y, z = angles.unbind(1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).reshape(-1, 3, 3)


def whole_volume(
    network: nn.Module, image: Tensor, patch: Sizes, device: torch.device, *, multiple: int = 0
) -> tuple[FloatMap, tuple[str, ...]]:
    """Class probabilities of a volume (K, d, h, w), background included: sliding window, half overlap, uniform mean.

    Where memory runs out patches become smaller, down to twice `multiple`, of which they are multiples (0: they stay as they
    are), then the CPU takes over; notes say so.
    """
    from monai.inferers import sliding_window_inference

    from ...training.devices import has_fast_bfloat16

    def run(where: torch.device, window: Sizes) -> FloatMap:
        def softmax(part: Tensor) -> Tensor:
            with torch.autocast(where.type, dtype=torch.bfloat16, enabled=has_fast_bfloat16(where.type)):
                logits = network(part)[0]
            return cast("Tensor", logits.float().softmax(1))

        network.to(where)
        # two windows at a time: a batch of one takes the CPU's slow convolution; the maps, which are large, stay on the CPU
        places: dict[str, Any] = {"overlap": 0.5, "sw_device": where, "device": torch.device("cpu")}
        found = cast("Tensor", sliding_window_inference(image[None], window, 2, softmax, **places))
        return np.asarray(found[0].numpy())

    was_training = network.training
    network.eval()
    with torch.inference_mode():
        least = tuple(min(side, 2 * multiple or side) for side in patch)
        found, notes = with_fallback(run, device, patch, smallest=least, multiple=max(1, multiple))
    network.to(device).train(was_training)
    return found, notes
