"""From a case to what the network sees, and from its maps back onto the volume's grid.

The network's images are (channels, slices, height, width): slices first, in file order; the body cut out and, if it is larger,
shrunk within the slices. The slice axis itself is never resampled, so that a label per slice stays one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...arrays.body import body_mask, box_of_mask
from ...arrays.intensity import finite_intensity
from ...errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ...case import Case
    from ...volume import Volume
    from . import ExplainableHeatmapRecipe

MARGIN = 3
"""Voxels around the body that are kept."""

BRIGHTEST = 5.0
"""Cap on intensities, in units of the body's median."""


@dataclass(frozen=True)
class Frame:
    """Where the network's images lie in the volume.

    Parameters
    ----------
    shape : tuple of int
        The volume's.
    axes : tuple of int
        Its axes in the order slices, height, width.
    box : tuple of slice
        The part that was cut out, in the volume's own axis order; all slices.
    inner : tuple of int
        Height and width of that part after shrinking.
    canvas : tuple of int
        Height and width of the images; the part lies in their middle and the rest is 0.
    """

    shape: tuple[int, int, int]
    axes: tuple[int, int, int]
    box: tuple[slice, slice, slice]
    inner: tuple[int, int]
    canvas: tuple[int, int]

    @property
    def corner(self) -> tuple[int, int]:
        """Height and width index of the part's first voxel on the canvas."""
        top, left = ((outer - inner) // 2 for outer, inner in zip(self.canvas, self.inner, strict=True))
        return top, left

    def to_numbers(self) -> NDArray[np.int64]:
        """All of it as 16 whole numbers, to be kept beside the images."""
        box = [edge for part in self.box for edge in (part.start, part.stop)]
        return np.array([*self.shape, *self.axes, *box, *self.inner, *self.canvas], dtype=np.int64)

    @classmethod
    def from_numbers(cls, numbers: NDArray[np.integer[Any]]) -> Frame:
        """The frame that `to_numbers` described."""
        n = numbers.tolist()
        box = (slice(n[6], n[7]), slice(n[8], n[9]), slice(n[10], n[11]))
        return cls((n[0], n[1], n[2]), (n[3], n[4], n[5]), box, (n[12], n[13]), (n[14], n[15]))

    def to_images(self, array: NDArray[Any]) -> Tensor:
        """A volume (I, J, K) to images (slices, height, width), float32."""
        part = np.ascontiguousarray(array[self.box].transpose(self.axes), dtype=np.float32)
        images = _resized(torch.from_numpy(part), self.inner)
        (top, left), (height, width) = self.corner, self.canvas
        below, right = height - top - self.inner[0], width - left - self.inner[1]
        return functional.pad(images, (left, right, top, below))

    def to_volume(self, maps: Tensor) -> NDArray[np.float32]:
        """Maps (slices, height, width) to the volume's grid (I, J, K); outside the part it has the map's least value."""
        (top, left), (height, width) = self.corner, self.inner
        part = maps[:, top : top + height, left : left + width].float()
        wanted = tuple(self.box[axis].stop - self.box[axis].start for axis in self.axes[1:])
        grown = _resized(part, wanted).cpu().numpy().transpose(np.argsort(self.axes))
        full = np.full(self.shape, grown.min(), dtype=np.float32)
        full[self.box] = grown
        return full

    def to_voxels(self, places: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Indices (N, 3) of slice, height, width on the images to the nearest voxels (i, j, k)."""
        out = np.empty((len(places), 3), dtype=np.int64)
        out[:, self.axes[0]] = places[:, 0]
        for number, axis in enumerate(self.axes[1:]):
            start, length = self.box[axis].start, self.box[axis].stop - self.box[axis].start
            exact = (places[:, number + 1] - self.corner[number] + 0.5) * length / self.inner[number] - 0.5
            out[:, axis] = np.clip(np.rint(exact) + start, 0, self.shape[axis] - 1)
        return out

    def voxel_size(self, volume: Volume) -> tuple[float, float, float]:
        """Size of the images' voxels along slices, height and width; equal where the volume's spacing is unknown."""
        if not volume.spacing_known:
            return 1.0, 1.0, 1.0
        spacing = volume.spacing
        slices, height, width = (spacing[axis] for axis in self.axes)
        box = [self.box[axis].stop - self.box[axis].start for axis in self.axes[1:]]
        return slices, height * box[0] / self.inner[0], width * box[1] / self.inner[1]


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """(slices, height, width) to another height and width: linear, averaging where it shrinks."""
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    resized: Tensor = functional.interpolate(
        maps[:, None], size=tuple(size), mode="bilinear", align_corners=False, antialias=True
    )
    return resized[:, 0]


@dataclass(frozen=True, eq=False)
class Images:
    """What the network sees of one case.

    Parameters
    ----------
    tensor : Tensor, shape (channels, slices, height, width)
        float16, to hold many cases at once.
    frame : Frame
        Where they lie.
    """

    tensor: Tensor
    frame: Frame

    @property
    def slices(self) -> int:
        """Number of slices."""
        return int(self.tensor.shape[1])


def images_of(case: Case, recipe: ExplainableHeatmapRecipe, *, channels: Sequence[str], slice_axis: int) -> Images:
    """Cut, shrink and scale the channels of a case.

    Parameters
    ----------
    case : Case
        With all `channels`; a single channel may have another name.
    recipe : ExplainableHeatmapRecipe
        Working size or spacing, and how intensities are scaled.
    channels : sequence of str
        In the order of the network's inputs.
    slice_axis : int
        Array axis of the slices.

    Raises
    ------
    DataError
        A channel is missing, or the image shows nothing.
    """
    arrays = [finite_intensity(volume.array) for volume in case.in_order(channels)]
    if not any(float(array.max()) > float(array.min()) for array in arrays):
        raise DataError(f"the image of {case.id} is the same everywhere; choose another image.")
    bodies = [body_mask(array) for array in arrays]
    body = np.logical_or.reduce(bodies)
    frame = _frame(body, case.volume.spacing, recipe, slice_axis)
    tensors = [frame.to_images(_scaled(a, b, recipe.intensity)) for a, b in zip(arrays, bodies, strict=True)]
    tensor = torch.stack(tensors)
    if recipe.intensity == "slice maximum":  # of all channels together, as the authors' code has it
        tensor = tensor / tensor.amax(dim=(0, 2, 3), keepdim=True).clamp_min(1e-6)
    return Images(tensor.half(), frame)


def _scaled(array: NDArray[np.float32], body: NDArray[np.bool_], how: str) -> NDArray[np.float32]:
    """Air at 0 and the body's median at 1, capped; or, for the published scaling, merely not negative."""
    low = float(np.percentile(array.ravel()[:: max(1, array.size // 200_000)], 0.5))
    if how == "slice maximum":
        return np.asarray(np.maximum(array - min(low, 0.0), 0), dtype=np.float32)
    inside = array[body]
    middle = float(np.median(inside[:: max(1, inside.size // 200_000)])) - low
    return np.asarray(np.clip((array - low) / (middle if middle > 0 else 1.0), 0, BRIGHTEST), dtype=np.float32)


def _frame(
    body: NDArray[np.bool_], spacing: tuple[float, float, float], recipe: ExplainableHeatmapRecipe, slice_axis: int
) -> Frame:
    """The part of the volume that is used and the size that it is brought to."""
    shape = body.shape
    axes = (slice_axis, *(axis for axis in range(3) if axis != slice_axis))
    found = box_of_mask(body, margin=MARGIN) if recipe.crop_body else box_of_mask(np.ones_like(body))
    box = tuple(slice(0, shape[axis]) if axis == slice_axis else found[axis] for axis in range(3))
    lengths = [box[axis].stop - box[axis].start for axis in axes[1:]]
    sizes = [length * spacing[axis] for length, axis in zip(lengths, axes[1:], strict=True)]
    finest = min(spacing[axis] for axis in axes[1:])
    pixel = recipe.working_spacing
    if pixel == 0:
        pixel = max(finest, max(sizes) / recipe.working_size) if recipe.working_size else 0.0
    inner = tuple(max(2, round(size / pixel)) for size in sizes) if pixel else tuple(lengths)
    side = recipe.working_size if recipe.working_size and not recipe.working_spacing else 0
    canvas = tuple(max(side, n) for n in inner)
    return Frame(shape, axes, box, inner, canvas)  # type: ignore[arg-type]
