"""A simulated user: extreme points with a shaky hand, strokes, and a first mask that needs correcting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..prompts import BACKGROUND_STROKE
from .fields import Axes, SmoothField
from .scenes import FINE, MARGIN, SyntheticCase

Array = NDArray[np.floating[Any]]
Rng = np.random.Generator
Count = int | np.integer[Any]


@dataclass(frozen=True, eq=False)
class Marks:
    """What the simulated user gave: any of the three may be None, never all.

    Parameters
    ----------
    points : ndarray, shape (N, 3), float64, or None
    strokes : ndarray, shape of the volume, uint8, or None
    previous : ndarray, shape of the volume, float32, or None
    """

    points: Array | None
    strokes: NDArray[np.uint8] | None
    previous: Array | None


def random_marks(rng: Rng, case: SyntheticCase) -> Marks:
    """Draw what a user might give: mostly six points, now and then fewer, strokes, or a mask with correcting strokes."""
    draw = rng.random()
    mask = case.mask
    if draw < 0.62:
        return Marks(shaky_points(rng, mask), None, None)
    strokes = np.zeros(mask.shape, dtype=np.uint8)
    if draw < 0.72:  # points and strokes
        _add_strokes(rng, strokes, mask, rng.integers(0, 3), rng.integers(0, 3))
        return Marks(shaky_points(rng, mask), strokes, None)
    if draw < 0.77:  # fewer points, mostly with a stroke
        points = shaky_points(rng, mask)[rng.permutation(6)[: rng.integers(3, 6)]]
        _add_strokes(rng, strokes, mask, 1, rng.integers(0, 2))
        return Marks(points, strokes, None)
    if draw < 0.87:  # strokes alone
        _add_strokes(rng, strokes, mask, rng.integers(1, 4), rng.integers(0, 4))
        return Marks(None, strokes, None)
    previous = spoiled(rng, mask)
    wrong = (previous > 0.5) != mask
    for _ in range(rng.integers(1, 4)):
        _correct(rng, strokes, wrong, mask)
    if not ((strokes > 0) & (strokes < BACKGROUND_STROKE)).any() and not (previous > 0.5).any():
        _add_strokes(rng, strokes, mask, 1, 0)
    return Marks(shaky_points(rng, mask) if rng.random() < 0.7 else None, strokes, previous)


def shaky_points(rng: Rng, mask: NDArray[np.bool_]) -> Array:
    """Six extreme points, displaced by up to two voxels of the grid that the user would have seen.

    A scene never has more voxels across the target than it was drawn with; real targets do, and the same hand is then
    steadier in relation to them. So displacements shrink at random where the target has many voxels.

    Returns
    -------
    ndarray, shape (6, 3), float64
        Low and high along i, j, k; inside the volume.
    """
    voxels = np.argwhere(mask)
    points = []
    careful = rng.random() < 0.6
    for axis in range(3):
        for end in (voxels[:, axis].min(), voxels[:, axis].max()):
            face = voxels[voxels[:, axis] == end]
            near = ((face - face.mean(axis=0)) ** 2).sum(axis=1).argmin()
            points.append(face[near] if careful else face[rng.integers(len(face))])
    size = np.ptp(voxels, axis=0) + 1
    hand = rng.choice([0, 1, 2], p=[0.25, 0.5, 0.25])
    full = FINE / (1 + 2 * MARGIN) - 3
    steadier = np.where(size >= full, rng.uniform(0.2, 1.0), 1.0)
    moved = np.array(points, dtype=np.float64) + rng.integers(-hand, hand + 1, size=(6, 3)) * steadier
    moved = np.clip(moved, 0, np.array(mask.shape) - 1)
    for axis in range(3):  # a hand that shakes more than a flat target is thick still spans it
        if moved[2 * axis + 1, axis] - moved[2 * axis, axis] < 0.4 * (size[axis] - 1):
            moved[2 * axis, axis], moved[2 * axis + 1, axis] = voxels[:, axis].min(), voxels[:, axis].max()
    return moved


def spoiled(rng: Rng, mask: NDArray[np.bool_]) -> Array:
    """A mask with faults: parts missing, parts too many, and a soft edge, as probability."""
    axes = Axes(*(np.linspace(-1, 1, n, dtype=np.float32) for n in mask.shape))
    knots = int(rng.integers(4, 11))
    soft: Array = mask.astype(np.float32)
    for axis in range(3):
        for _ in range(rng.integers(1, 4)):
            soft = (soft + np.roll(soft, 1, axis) + np.roll(soft, -1, axis)) / 3
    value = soft + np.float32(rng.uniform(0.2, 0.8)) * SmoothField(rng, knots)(axes) - 0.5
    return np.asarray(1 / (1 + np.exp(-value * np.float32(rng.uniform(4, 20)))), dtype=np.float32)


def _add_strokes(rng: Rng, strokes: NDArray[np.uint8], mask: NDArray[np.bool_], inside: Count, outside: Count) -> None:
    """Draw strokes in place: `inside` of them within the mask, `outside` of them near it."""
    own = np.argwhere(mask)
    for _ in range(int(inside)):
        strokes[tuple(_stroke(rng, own, mask).T)] = 1
    if outside:
        low, high = own.min(axis=0), own.max(axis=0)
        reach = np.ceil((high - low + 1) * rng.uniform(0.05, 0.3)).astype(int)
        start, stop = np.maximum(low - reach, 0), np.minimum(high + reach + 1, mask.shape)
        part = ~mask[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
        around = np.argwhere(part) + start
        for _ in range(int(outside)):
            if len(around):
                strokes[tuple(_stroke(rng, around, ~mask).T)] = BACKGROUND_STROKE


def _correct(rng: Rng, strokes: NDArray[np.uint8], wrong: NDArray[np.bool_], mask: NDArray[np.bool_]) -> None:
    """One correcting stroke in place, in a part that is wrong and not yet marked."""
    places = np.argwhere(wrong & (strokes == 0))
    if len(places) == 0:
        return
    value = bool(mask[tuple(places[rng.integers(len(places))])])
    same = places[mask[tuple(places.T)] == value]
    strokes[tuple(_stroke(rng, same, wrong & (mask == value)).T)] = 1 if value else BACKGROUND_STROKE


def _stroke(rng: Rng, places: NDArray[np.intp], allowed: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Voxels of a bent line through allowed voxels, mostly within one slice."""
    start = places[rng.integers(len(places))]
    if rng.random() < 0.8:
        axis = 2 if rng.random() < 0.6 else rng.integers(3)
        places = places[places[:, axis] == start[axis]]
    nearest = places[np.argsort(((places - start) ** 2).sum(axis=1))[: max(3, int(len(places) * rng.uniform(0.05, 0.7)))]]
    end, middle = nearest[rng.integers(len(nearest))], nearest[rng.integers(len(nearest))]
    t = np.linspace(0, 1, 2 * int(np.abs(end - start).sum() + np.abs(middle - start).sum()) + 2)[:, None]
    path = np.round((1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end).astype(int)
    path = np.unique(np.concatenate([path, start[None]]), axis=0)
    return np.asarray(path[allowed[tuple(path.T)]])
