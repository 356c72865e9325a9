"""Whose marks are whose: a case's points, strokes and earlier mask, object by object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ...errors import PromptError
from ...prompts import BACKGROUND_STROKE

if TYPE_CHECKING:
    from ...case import Case

Index = tuple[slice, slice, slice]
Codes = NDArray[np.uint8]

NEAR = 0.5
"""A stroke belongs to an object with points if it lies within so many of its box's sides around that box."""


@dataclass(frozen=True, eq=False)
class MarkedObject:
    """One object and all that is marked on it.

    Parameters
    ----------
    value : int
        Its structure.
    points : ndarray, shape (N, 3)
        Its extreme points, none to six.
    strokes : ndarray, shape (I, J, K), uint8, or None
        1 on it, 255 on anything else, 0 elsewhere.
    previous : ndarray of bool, shape (I, J, K), or None
        Its earlier mask.
    kept : bool
        No mark touches it: its earlier mask stays as it is.
    """

    value: int
    points: NDArray[np.floating[Any]]
    strokes: Codes | None = None
    previous: NDArray[np.bool_] | None = None
    kept: bool = False

    @property
    def six_alone(self) -> bool:
        """Whether six points are all there is."""
        return len(self.points) == 6 and self.strokes is None and self.previous is None


def objects_of(case: Case) -> list[MarkedObject]:
    """The objects that a case's marks are on.

    Every object with points is one. A connected stroke of its structure near its box is its own; what is left of a
    structure's strokes is one more object. Strokes on one object are background for all others. With an earlier mask,
    structures that no mark touches keep theirs.

    Raises
    ------
    PromptError
        Nothing says where an object is.
    """
    volume = case.volume
    points = None if case.points is None else case.points.on(volume).checked(volume)
    placed = [] if points is None else list(zip(points.values.tolist(), points.placed, strict=True))
    if case.scribbles is None and case.previous is None:
        return [MarkedObject(value, six) for value, six in placed]
    codes = np.zeros(volume.shape, dtype=np.uint8) if case.scribbles is None else case.scribbles.labels
    earlier = None if case.previous is None else case.previous.array
    found: list[MarkedObject] = []
    for value in sorted({structure.value for structure in case.structures}):
        own = codes == value
        previous = None if earlier is None else earlier == value
        boxes = [six for number, six in placed if number == value]
        shares, rest = _shared_out(own, boxes)
        for index, six in enumerate(boxes):
            part = previous if len(boxes) == 1 else None if previous is None else previous & _near(six, volume.shape)
            found.append(_marked(value, six, shares[index], codes, part))
        if rest.any() or (not boxes and previous is not None and previous.any()):
            before = previous if not boxes else None
            kept = not rest.any() and before is not None and not (before & (codes != 0)).any()
            nothing = np.zeros((0, 3))
            found.append(
                MarkedObject(value, nothing, None, before, True) if kept else _marked(value, nothing, rest, codes, before)
            )
    if not found:
        raise PromptError(f"the strokes of {case.id} mark only background; draw one on the object, or give its points.")
    return found


def _marked(
    value: int, points: NDArray[np.floating[Any]], own: NDArray[np.bool_], codes: Codes, previous: NDArray[np.bool_] | None
) -> MarkedObject:
    strokes = np.where(own, np.uint8(1), np.where(codes != 0, np.uint8(BACKGROUND_STROKE), np.uint8(0)))
    used = previous is not None and bool(previous.any())
    return MarkedObject(value, points, strokes if strokes.any() else None, previous if used else None)


def _shared_out(
    own: NDArray[np.bool_], boxes: list[NDArray[np.floating[Any]]]
) -> tuple[list[NDArray[np.bool_]], NDArray[np.bool_]]:
    """The strokes of each object with points, and those that lie near none."""
    rest = own.copy()
    if not boxes or not own.any():
        return [np.zeros_like(own) for _ in boxes], rest
    if len(boxes) == 1 and bool((_near(boxes[0], own.shape) | ~own).all()):
        return [rest], np.zeros_like(own)
    components, number = ndimage.label(own, np.ones((3, 3, 3), dtype=bool))
    shares = [np.zeros_like(own) for _ in boxes]
    for component in range(1, number + 1):
        voxels = np.argwhere(components == component)
        distance = [_boxes_away(voxels, box) for box in boxes]
        nearest = int(np.argmin(distance))
        if distance[nearest] <= NEAR:
            where = tuple(voxels.T)
            shares[nearest][where], rest[where] = True, False
    return shares, rest


def _boxes_away(voxels: NDArray[Any], points: NDArray[np.floating[Any]]) -> float:
    """How far the nearest of some voxels lies outside the box of points, in sides of that box; 0 inside."""
    low, high = points.min(axis=0), points.max(axis=0)
    side = np.maximum(high - low, max(float((high - low).max()) / 4, 4.0))
    away = np.maximum(np.maximum(low - voxels, voxels - high), 0) / side
    return float(away.max(axis=1).min())


def _near(points: NDArray[np.floating[Any]], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The box of points with half its side around it."""
    low, high = points.min(axis=0), points.max(axis=0)
    grow = NEAR * np.maximum(high - low, max(float((high - low).max()) / 4, 4.0))
    inside = np.zeros(shape, dtype=bool)
    start, stop = np.maximum(np.ceil(low - grow), 0).astype(int), np.floor(high + grow).astype(int) + 1
    inside[tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))] = True
    return inside
