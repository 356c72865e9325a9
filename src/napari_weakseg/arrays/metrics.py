"""How far two masks are apart: Dice, surface distances, volumes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Mask = NDArray[Any]
Distances = NDArray[np.float64]


def dice(a: Mask, b: Mask) -> float:
    """Overlap 2|A∩B| / (|A| + |B|) without smoothing; nan where both are empty.

    Parameters
    ----------
    a, b : ndarray, same shape
        Non-zero is the object.
    """
    first, second = _pair(a, b)
    total = int(first.sum()) + int(second.sum())
    return 2.0 * int((first & second).sum()) / total if total else float("nan")


def surface_distances(a: Mask, b: Mask, spacing: ArrayLike = (1.0, 1.0, 1.0)) -> tuple[Distances, Distances]:
    """Distance of each surface voxel to the other mask's surface.

    A surface voxel is one that a face neighbour outside the mask (or the array's border) touches, as in MONAI.

    Parameters
    ----------
    a, b : ndarray, shape (I, J, K)
        Non-zero is the object.
    spacing : (3,) floats
        Distance of neighbouring voxels per axis; it gives the unit of the result.

    Returns
    -------
    tuple of ndarray
        From each surface voxel of `a` to the surface of `b`, and the other way round; infinite where the other is empty.
    """
    from scipy.spatial import KDTree

    scale = np.asarray(spacing, dtype=np.float64)
    first, second = (_surface(mask).astype(np.float64) * scale for mask in _pair(a, b))

    def towards(origin: Distances, target: Distances) -> Distances:
        if len(target) == 0:
            return np.full(len(origin), np.inf)
        distances: Distances = KDTree(target, leafsize=32).query(origin, k=1)[0]
        return distances

    return towards(first, second), towards(second, first)


def hd95(a: Mask, b: Mask, spacing: ArrayLike = (1.0, 1.0, 1.0)) -> float:
    """Larger of the two directed 95th percentiles of surface distance, in the unit of `spacing`; nan if a mask is empty."""
    return compare(a, b, spacing)["hd95"]


def assd(a: Mask, b: Mask, spacing: ArrayLike = (1.0, 1.0, 1.0)) -> float:
    """Mean of all surface distances, both ways together, in the unit of `spacing`; nan if a mask is empty."""
    return compare(a, b, spacing)["assd"]


def compare(a: Mask, b: Mask, spacing: ArrayLike = (1.0, 1.0, 1.0)) -> dict[str, float]:
    """Return `dice`, `hd95` and `assd` of `a` against `b`, with the surfaces measured once."""
    distances = surface_distances(a, b, spacing)
    both = all(len(part) for part in distances)
    return {
        "dice": dice(a, b),
        "hd95": max(float(np.percentile(part, 95)) for part in distances) if both else float("nan"),
        "assd": float(np.concatenate(distances).mean()) if both else float("nan"),
    }


def _pair(a: Mask, b: Mask) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    first, second = np.asarray(a) != 0, np.asarray(b) != 0
    if first.shape != second.shape:
        raise ValueError(f"masks of shapes {first.shape} and {second.shape} cannot be compared")
    return first, second


def _surface(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Indices (N, 3) of the surface voxels."""
    from scipy.ndimage import binary_erosion

    inside = np.argwhere(mask)
    if len(inside) == 0:
        return inside
    start, stop = inside.min(axis=0), inside.max(axis=0) + 1
    box = mask[tuple(slice(low, high) for low, high in zip(start, stop, strict=True))]
    surface: NDArray[np.int64] = np.argwhere(box & ~binary_erosion(box)) + start
    return surface
