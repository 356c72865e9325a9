"""What every peer is given: one crop, one set of seeds, from the same six points.

The recipe is that of the project's notes on performance, in voxel units. A second recipe, ``core``, is there because
cheapest paths often leave the object; each peer is tuned over both and keeps the better one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_weakseg.arrays.extreme_points import box_of, order_points

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

RECIPES = ("paths", "core")
THIN = 20
"""Axes of the crop with fewer voxels are neither shrunk nor dilated along."""


@dataclass(frozen=True, eq=False)
class Problem:
    """One object, ready for any peer.

    Parameters
    ----------
    index : tuple of slice
        Where the crop lies in the volume.
    image : ndarray, float32
        The crop, its 1st and 99th percentile at 0 and 1, clipped.
    points : ndarray, shape (6, 3)
        The points in voxels of the crop, in the order of `DIRECTIONS`.
    spacing : ndarray, shape (3,)
        Voxel size.
    """

    index: tuple[slice, slice, slice]
    image: NDArray[np.float32]
    points: NDArray[np.float64]
    spacing: NDArray[np.float64]

    @classmethod
    def of(cls, volume: NDArray[Any], points: ArrayLike, spacing: ArrayLike) -> Problem:
        """Crop = box of the points + 15 % of its side (at least 2 voxels; 1 along axes under 20 voxels), clipped."""
        ordered = order_points(points)
        side = np.diff(box_of(ordered, volume.shape), axis=0)[0]
        margin = np.maximum(2, np.ceil(0.15 * side))
        margin = np.where(np.array(volume.shape) < THIN, 1, margin).astype(int)
        start, stop = box_of(ordered, volume.shape, margin=margin)
        i, j, k = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
        crop = volume[i, j, k].astype(np.float32)
        low, high = np.percentile(crop, (1, 99))
        scaled = np.clip((crop - low) / max(float(high - low), 1e-12), 0, 1).astype(np.float32)
        return cls((i, j, k), scaled, ordered - start, np.asarray(spacing, dtype=np.float64))

    @property
    def radius(self) -> NDArray[np.float32]:
        """Radius of each voxel in units of the ellipsoid inscribed in the box of the points."""
        low, high = self.points.min(axis=0) - 0.5, self.points.max(axis=0) + 0.5
        axes = [
            ((np.arange(n) - (a + b) / 2) / ((b - a) / 2)) ** 2 for n, a, b in zip(self.image.shape, low, high, strict=True)
        ]
        return np.sqrt(axes[0][:, None, None] + axes[1][:, None] + axes[2]).astype(np.float32)

    def seeds(self, recipe: str = "paths") -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Seeds of object and background, both of the crop's shape.

        Background: outside the box grown by one voxel, and outside 1.55 times the inscribed ellipsoid. Object:
        ``paths``, three cheapest paths between opposite points, or ``core``, the inscribed ellipsoid shrunk to half.
        """
        radius = self.radius
        background = np.ones(self.image.shape, dtype=bool)
        background[tuple(slice(a, b) for a, b in box_of(self.points, self.image.shape, margin=1).T)] = False
        background |= radius > 1.55
        foreground = (radius < 0.5 if recipe == "core" else self._paths()) & ~background
        if not foreground.any():
            foreground[np.unravel_index(int(radius.argmin()), radius.shape)] = True
        return foreground, background

    def _paths(self) -> NDArray[np.bool_]:
        """Cheapest paths on at most 40 voxels per axis, their ends trimmed, dilated."""
        from skimage.graph import MCP_Geometric

        shape = np.array(self.image.shape)
        gradient = ndimage.gaussian_gradient_magnitude(self.image, 1.0)
        factors = np.where(shape < THIN, 1, np.maximum(1, np.ceil(shape / 40))).astype(int)
        small = np.maximum(shape // factors, 1)
        coarse = ndimage.zoom(gradient, small / shape, order=1, grid_mode=True, mode="nearest")
        cost = 1 + 20 * coarse / max(float(coarse.max()), 1e-12)
        scale = (np.array(coarse.shape) - 1) / np.maximum(shape - 1, 1)
        ends = np.rint(self.points * scale).astype(int)
        ends = np.clip(ends, 0, np.array(coarse.shape) - 1)
        foreground = np.zeros(self.image.shape, dtype=bool)
        for start, stop in zip(ends[::2], ends[1::2], strict=True):
            search = MCP_Geometric(cost)
            search.find_costs([tuple(start)], [tuple(stop)])
            path = np.array(search.traceback(tuple(stop))) / np.maximum(scale, 1e-9)
            steps = np.linspace(0.15, 0.85, max(2, 2 * int(shape.max()))) * (len(path) - 1)
            fine = np.stack([np.interp(steps, np.arange(len(path)), path[:, axis]) for axis in range(3)], axis=1)
            foreground[tuple(np.clip(np.rint(fine).astype(int), 0, shape - 1).T)] = True
        side = self.points.max(axis=0) - self.points.min(axis=0) + 1
        times = max(1, round(0.05 * float(min((s for s in side if s >= 8), default=8))))
        element = ndimage.generate_binary_structure(3, 1)
        for axis in np.flatnonzero(shape < THIN):
            element &= np.abs(np.arange(-1, 2)).reshape([-1 if a == axis else 1 for a in range(3)]) == 0
        return np.asarray(ndimage.binary_dilation(foreground, element, iterations=times))


def finished(mask: NDArray[np.bool_], foreground: NDArray[np.bool_], background: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What follows every peer: no background seeds, the component with most object seeds, holes filled."""
    mask = mask & ~background
    components, count = ndimage.label(mask)
    if count > 1:
        held = np.bincount(components[foreground], minlength=count + 1)
        held[0] = 0
        sizes = np.bincount(components.ravel())
        sizes[0] = 0
        mask = components == (held if held.any() else sizes).argmax()
    return np.asarray(ndimage.binary_fill_holes(mask), dtype=bool)
