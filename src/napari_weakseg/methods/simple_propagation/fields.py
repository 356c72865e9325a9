"""What SimPLe's network sees of a case: a `Field` per object (with marks) or per volume (as published), and the way back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ...arrays.first_mask import sharpened
from ...arrays.intensity import finite_intensity
from ...arrays.marks import CubeFrame, MarkedCube, marked_cube
from ...arrays.scribbles import walked
from .first_masks import UNLABELLED, FloatMap, ObjectMask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ...case import Case
    from . import SimplePropagationRecipe


@dataclass(frozen=True, eq=False)
class Field:
    """One array that the network trains and predicts on.

    Parameters
    ----------
    channels : ndarray, shape (C, d, h, w), float32
    labels : ndarray, shape (d, h, w), int8
        -1 unlabelled or padding, 0 background, 1..K classes.
    box : ndarray of bool, shape (d, h, w)
        Where the object may be: the new mask of stage 2 stays inside it.
    back : callable
        Class probabilities (K, d, h, w) to a list of `ObjectMask` on the volume's grid.
    condition : ndarray, float32, or None
        What describes a whole cube with marks (see `arrays.marks.CONDITIONS`).
    """

    channels: FloatMap
    labels: NDArray[np.int8]
    box: NDArray[np.bool_]
    back: Callable[[FloatMap], list[ObjectMask]] = field(repr=False)
    condition: FloatMap | None = None


def marked_fields(
    case: Case, masks: Sequence[ObjectMask], labels: Sequence[NDArray[np.int8]] | None, recipe: SimplePropagationRecipe
) -> list[Field]:
    """One cube per object, with its marks as channels: the network answers for the object whose marks it sees.

    The way back joins network and first mask (they err in different places) and lets the walker draw the boundary.
    """
    fields = []
    for index, item in enumerate(masks):
        if item.window is None:
            continue
        cube, place = _cube(case, item)
        frame = cube.frame
        pseudo = np.zeros(cube.channels.shape[1:], dtype=np.int8)
        if labels is not None:
            # linear resampling of both kinds keeps thin parts; where neither kind is clear the voxel stays unlabelled
            inside = frame.to_cube(place((labels[index] == 1).astype(np.float32)))
            outside = frame.to_cube(place((labels[index] == 0).astype(np.float32)))
            pseudo = np.where(inside > 0.5, 1, np.where(outside > 0.5, 0, UNLABELLED)).astype(np.int8)
            pseudo[cube.channels[-1] == 0] = UNLABELLED
        box = cube.channels[4] > -0.15 if item.marks is None or item.marks.six_alone else np.ones(pseudo.shape, dtype=bool)

        def back(probability: FloatMap, item: ObjectMask = item, frame: CubeFrame = frame) -> list[ObjectMask]:
            return [_joined(case, item, frame.from_cube(probability[0]), frame, recipe)]

        fields.append(Field(cube.channels, pseudo, box, back, cube.condition))
    return fields


def _cube(case: Case, item: ObjectMask) -> tuple[MarkedCube, Callable[[FloatMap], FloatMap]]:
    """What the network sees of an object, and what brings a map of its window onto the grid that the cube lies in."""
    window, marks, volume = item.window, item.marks, case.volume
    assert window is not None
    if marks is None or marks.six_alone:
        i, j, k = (float(step) for step in window.spacing)
        return marked_cube(finite_intensity(volume.array[window.index]), (i, j, k), points=window.points), lambda part: part
    six = marks.points if len(marks.points) else None
    image = finite_intensity(volume.array)
    cube = marked_cube(image, volume.spacing, points=six, strokes=marks.strokes, previous=marks.previous)

    def place(part: FloatMap) -> FloatMap:
        whole = np.zeros(volume.shape, dtype=np.float32)
        whole[window.index] = part
        return whole

    return cube, place


def _joined(case: Case, item: ObjectMask, learnt: FloatMap, frame: CubeFrame, recipe: SimplePropagationRecipe) -> ObjectMask:
    """What the network learnt here and the first mask, weighed, in the object's window."""
    window, marks = item.window, item.marks
    assert window is not None
    alone = marks is None or marks.six_alone
    full = np.zeros(window.shape if alone else case.volume.shape, dtype=np.float32)
    full[frame.window] = learnt
    full = full if alone else full[window.index]
    joined = np.zeros(window.shape, dtype=np.float32)
    joined[window.box] = (1 - recipe.first_share) * full[window.box] + recipe.first_share * item.probability[window.box]
    part = case.volume.array[window.index]
    if recipe.sharpen and alone:
        joined = sharpened(part, joined, window, reach=0.03)
    elif not alone:
        whole = tuple(slice(0, n) for n in window.shape)
        side, spacing = frame.high - frame.low, window.spacing
        joined = walked(part, joined, item.strokes, inside=whole, side=side, spacing=spacing, reach=0.03)
    return ObjectMask(window, item.value, joined, marks)
