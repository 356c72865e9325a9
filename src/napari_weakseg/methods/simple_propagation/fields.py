"""What SimPLe's network sees of a case: a `Field` per object (with marks) or per volume (as published), and the way back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ...arrays.extreme_points import box_of
from ...arrays.first_mask import Window, clean_mask, first_mask, sharpened
from ...arrays.intensity import finite_intensity
from ...arrays.marks import marked_cube
from ...arrays.pseudo_mask import published_pseudo_mask
from ...errors import PromptError
from ...method import Preview

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...case import Case
    from ...prompts import Structure
    from ...volume import Volume
    from . import SimplePropagationRecipe

FloatMap = NDArray[np.float32]
UNLABELLED = -1


@dataclass(frozen=True, eq=False)
class ObjectMask:
    """A probability of one object in its window (None: of a structure on the whole volume), and its mask."""

    window: Window | None
    value: int
    probability: FloatMap

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The object's one component, without holes; on a whole volume all that is more likely than not."""
        return clean_mask(self.probability, self.window) if self.window is not None else self.probability > 0.5


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


def windows_of(case: Case, recipe: SimplePropagationRecipe) -> list[tuple[Window, int]]:
    """One window per object of the case, with the value of its structure.

    Raises
    ------
    PromptError
        The case has no extreme points, or unusable ones.
    """
    if case.points is None:
        raise PromptError(f"{case.id} has no extreme points; place six on each object.")
    volume = case.volume
    points = case.points.on(volume).checked(volume)
    if recipe.pseudo_mask == "paths":
        margin = np.array(volume.in_voxels(recipe.crop_margin, minimum=2))
        made = []
        for six in points.points:
            start, stop = box_of(six, volume.shape, margin=margin)
            (i, j, k), (a, b, c) = start.tolist(), stop.tolist()
            made.append(Window((i, j, k), (a, b, c), six - start, np.array(volume.spacing)))
    else:
        made = [Window.around(six, volume.shape, volume.spacing) for six in points.points]
    return list(zip(made, points.values.tolist(), strict=True))


FIRST_MASK_KNOBS = ("pseudo_mask", "rounds", "beta", "crop_margin", "ring", "sure_inside", "sure_outside")
"""Settings that first mask and pseudo-labels depend on."""

_LAST: WeakKeyDictionary[Case, tuple[Any, tuple[list[ObjectMask], list[NDArray[np.int8]]]]] = WeakKeyDictionary()
"""What `object_masks` found last for a case that is still in use: fitting and predicting ask for the same."""


def object_masks(case: Case, recipe: SimplePropagationRecipe) -> tuple[list[ObjectMask], list[NDArray[np.int8]]]:
    """First mask and pseudo-labels (-1, 0, 1) of every object, each in its window."""
    asked = (
        recipe.pseudo_mask,
        recipe.rounds,
        recipe.beta,
        recipe.crop_margin,
        recipe.ring,
        recipe.sure_inside,
        recipe.sure_outside,
    )
    known = _LAST.get(case)
    if known is None or known[0] != asked:
        known = _LAST[case] = (asked, _object_masks(case, recipe))
    return known[1]


def _object_masks(case: Case, recipe: SimplePropagationRecipe) -> tuple[list[ObjectMask], list[NDArray[np.int8]]]:
    masks, labels = [], []
    image = case.volume.array
    for window, value in windows_of(case, recipe):
        part = image[window.index]
        if recipe.pseudo_mask == "paths":
            ring = case.volume.in_voxels(recipe.ring, minimum=2)
            pseudo, probability = published_pseudo_mask(part, window, ring=ring, rounds=recipe.rounds, beta=recipe.beta)
        else:
            probability = first_mask(part, window)
            sure = clean_mask(probability, window) & (probability > recipe.sure_inside)
            pseudo = np.where(sure, 1, np.where(probability < recipe.sure_outside, 0, UNLABELLED)).astype(np.int8)
        masks.append(ObjectMask(window, int(value), probability))
        labels.append(pseudo)
    return masks, labels


def marked_fields(
    case: Case, masks: Sequence[ObjectMask], labels: Sequence[NDArray[np.int8]] | None, recipe: SimplePropagationRecipe
) -> list[Field]:
    """One cube per object, with its points as channels: the network answers for the object whose points it sees.

    The way back joins network and first mask (they err in different places) and lets the walker draw the boundary.
    """
    fields = []
    for index, item in enumerate(masks):
        window = item.window
        if window is None:
            continue
        part = case.volume.array[window.index]
        cube = marked_cube(finite_intensity(part), _triple(window.spacing), points=window.points)
        frame = cube.frame
        pseudo = np.zeros(cube.channels.shape[1:], dtype=np.int8)
        if labels is not None:
            # linear resampling of both kinds keeps thin parts; where neither kind is clear the voxel stays unlabelled
            inside = frame.to_cube((labels[index] == 1).astype(np.float32))
            outside = frame.to_cube((labels[index] == 0).astype(np.float32))
            pseudo = np.where(inside > 0.5, 1, np.where(outside > 0.5, 0, UNLABELLED)).astype(np.int8)
            pseudo[cube.channels[-1] == 0] = UNLABELLED
        box = cube.channels[4] > -0.15

        def back(
            probability: FloatMap, item: ObjectMask = item, window: Window = window, frame: Any = frame
        ) -> list[ObjectMask]:
            full = np.zeros(window.shape, dtype=np.float32)
            full[frame.window] = frame.from_cube(probability[0])
            joined = np.zeros(window.shape, dtype=np.float32)
            joined[window.box] = (1 - recipe.first_share) * full[window.box] + recipe.first_share * item.probability[window.box]
            if recipe.sharpen:
                joined = sharpened(case.volume.array[window.index], joined, window, reach=0.03)
            return [ObjectMask(window, item.value, joined)]

        fields.append(Field(cube.channels, pseudo, box, back, cube.condition))
    return fields


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    i, j, k = (float(value) for value in values)
    return i, j, k


def merged(masks: Sequence[ObjectMask], volume: Volume, structures: tuple[Structure, ...]) -> Preview:
    """All objects on the smallest box that holds their windows; where two overlap the more probable one wins."""
    start = np.min([item.window.start if item.window else (0, 0, 0) for item in masks], axis=0)
    stop = np.max([item.window.stop if item.window else volume.shape for item in masks], axis=0)
    out = np.zeros((len(structures), *(stop - start)), dtype=np.float32)
    order = {structure.value: index for index, structure in enumerate(structures)}
    for item in masks:
        first = np.array(item.window.start if item.window else (0, 0, 0)) - start
        place = tuple(slice(int(a), int(a) + n) for a, n in zip(first, item.probability.shape, strict=True))
        mask = item.mask
        # the mask is what counts: a filled hole is inside, a stray component is not
        shown = np.where(mask, np.maximum(item.probability, 0.51), np.minimum(item.probability, 0.49))
        target = out[order[item.value]][place]
        np.maximum(target, shown, out=target)
    i, j, k = (int(n) for n in start)
    return Preview(out, (i, j, k), volume.shape, structures)
