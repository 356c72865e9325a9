"""Intensities on a common scale, and on a grid small enough to work on at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORKING_SIDE = 64
"""Largest side of the working grid in voxels."""


def block_factors(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Whole factors per axis by which a window is averaged down to at most `WORKING_SIDE` voxels."""
    return np.maximum(1, np.ceil(np.array(shape) / WORKING_SIDE)).astype(np.int64)


def finite_intensity(image: NDArray[Any]) -> NDArray[np.float32]:
    """Intensities as float32; voxels that are not finite take the minimum of the others (0 if there are none)."""
    array = np.asarray(image, dtype=np.float32)
    finite = np.isfinite(array)
    return array if finite.all() else np.where(finite, array, array[finite].min() if finite.any() else np.float32(0))


def scaled_intensity(image: NDArray[Any]) -> NDArray[np.float32]:
    """Intensities with the 1st and 99th percentile at 0 and 1, clipped; non-finite voxels become the minimum, float32."""
    array = finite_intensity(image)
    step = max(1, array.size // 200_000)  # percentiles of a part are as good and do not sort millions
    low, high = np.percentile(array.ravel()[::step], (1, 99))
    return np.asarray(np.clip((array - low) / max(float(high - low), 1e-12), 0, 1), dtype=np.float32)


def averaged(image: NDArray[np.float32], factors: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """Means over blocks of `factors` voxels; the last block repeats the edge."""
    if (factors == 1).all():
        return image
    pad = [(0, int(-n % f)) for n, f in zip(image.shape, factors, strict=True)]
    padded = np.pad(image, pad, mode="edge")
    i, j, k = (n // f for n, f in zip(padded.shape, factors, strict=True))
    blocks = padded.reshape(i, factors[0], j, factors[1], k, factors[2])
    return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32))


def interpolated(coarse: NDArray[np.float32], factors: NDArray[np.integer[Any]], box: tuple[slice, ...]) -> NDArray[np.float32]:
    """A map of the working grid that `averaged` made, interpolated linearly at the voxels of `box`."""
    out = coarse
    for axis, (factor, part) in enumerate(zip(factors, box, strict=True)):
        place = np.clip((np.arange(part.start, part.stop) + 0.5) / factor - 0.5, 0, coarse.shape[axis] - 1)
        low = np.minimum(place.astype(int), max(coarse.shape[axis] - 2, 0))
        share = (place - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        high = np.minimum(low + 1, coarse.shape[axis] - 1)
        out = np.take(out, low, axis=axis) * (1 - share) + np.take(out, high, axis=axis) * share
    return out
