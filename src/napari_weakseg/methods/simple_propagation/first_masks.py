"""The first mask of every object, learned or classical, and what of it SimPLe learns from. It needs no torch of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ...arrays.extreme_points import box_of
from ...arrays.first_mask import Window, clean_mask, first_mask
from ...arrays.pseudo_mask import published_pseudo_mask
from ...arrays.scribbles import classical_stroke_mask, foreground_of, stroked_mask
from ...arrays.structure_masks import structure_masks
from ...errors import DataError, PromptError
from ...method import Preview, Result, Step, Weights
from ...prompts import BACKGROUND_STROKE
from .objects import MarkedObject, objects_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from ...case import Case
    from ...prompts import Structure
    from ...volume import Volume
    from . import SimplePropagationRecipe

FloatMap = NDArray[np.float32]
UNLABELLED = -1

KEPT = 0.9
"""Probability of an earlier mask that no mark touches: a stroke (1) on another structure wins over it."""

NO_TORCH = "PyTorch cannot be loaded here, so the first mask was made without a network."


@dataclass(frozen=True, eq=False)
class ObjectMask:
    """A probability of one object in its window (None: of a structure on the whole volume), and its mask."""

    window: Window | None
    value: int
    probability: FloatMap
    marks: MarkedObject | None = None

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The object without holes: one component, or those that a stroke touches; on a whole volume all that is likely."""
        if self.window is None:
            return self.probability > 0.5
        if self.marks is None or self.marks.six_alone:
            return clean_mask(self.probability, self.window)
        return stroked_mask(self.probability, self.strokes, previous=self.previous)

    @property
    def strokes(self) -> NDArray[np.uint8] | None:
        """The object's strokes in its window."""
        known = self.marks is not None and self.marks.strokes is not None and self.window is not None
        return self.marks.strokes[self.window.index] if known else None  # type: ignore[union-attr, index]

    @property
    def previous(self) -> NDArray[np.bool_] | None:
        """The object's earlier mask in its window."""
        known = self.marks is not None and self.marks.previous is not None and self.window is not None
        return self.marks.previous[self.window.index] if known else None  # type: ignore[union-attr, index]


@dataclass(frozen=True, eq=False)
class FirstMasks:
    """What stands before any training.

    Parameters
    ----------
    masks : list of ObjectMask
        One per object.
    labels : list of ndarray, int8
        What to learn from, in the same windows: 1 object, 0 background, -1 unlabelled.
    made_by : dict
        ``kind`` (``"learned"``, ``"classical"``, ``"paths"``) and the ``sha256`` of the network's weights: for the record.
    note : str
        A sentence for the user, where it was made in another way than asked for.
    """

    masks: list[ObjectMask]
    labels: list[NDArray[np.int8]]
    made_by: dict[str, str]
    note: str = ""


_LAST: WeakKeyDictionary[Case, tuple[Any, FirstMasks]] = WeakKeyDictionary()
"""What `first_masks` found last for a case that is still in use: fitting and predicting ask for the same."""


def first_masks(case: Case, recipe: SimplePropagationRecipe) -> FirstMasks:
    """First mask and pseudo-labels of every object, each in its window.

    Raises
    ------
    PromptError
        No marks, or some that this recipe cannot use.
    """
    knobs = ("first_mask", "pseudo_mask", "rounds", "beta", "crop_margin", "ring", "sure_inside", "sure_outside")
    asked = tuple(getattr(recipe, knob) for knob in knobs)
    known = _LAST.get(case)
    if known is None or known[0] != asked:
        known = _LAST[case] = (asked, _first_masks(case, recipe))
    return known[1]


def _first_masks(case: Case, recipe: SimplePropagationRecipe) -> FirstMasks:
    if case.points is None and case.scribbles is None and case.previous is None:
        raise PromptError(f"{case.id} has no extreme points; place six on each object, or draw strokes.")
    objects = objects_of(case)
    masks: list[ObjectMask] = []
    labels: list[NDArray[np.int8]] = []
    made_by, note = {"kind": "classical"}, ""
    learned: Callable[..., Any] | None = None
    if recipe.pseudo_mask == "paths":
        made_by = {"kind": "paths"}
    elif recipe.first_mask == "learned":
        try:
            from ...networks.first_mask_model import read_first_mask_model
            from ...networks.joined_first_mask import learned_first_mask

            made_by = {"kind": "learned", "sha256": read_first_mask_model().digest}
            learned = learned_first_mask
        except (ImportError, OSError):  # torch is not installed, or its libraries do not load
            note = NO_TORCH
        except DataError as error:
            note = f"{error} The first mask was made without a network."
    alone = _from_strokes(case, objects, learned) if recipe.pseudo_mask != "paths" else {}
    for marks in objects:
        item, pseudo = _published(case, marks, recipe) if recipe.pseudo_mask == "paths" else (None, None)
        if item is None or pseudo is None:
            item = _kept(case.volume, marks) if marks.kept else alone.get(marks.value) or _first(case.volume, marks, learned)
            pseudo = pseudo_labels(item, recipe)
        masks.append(item)
        labels.append(pseudo)
    return FirstMasks(masks, labels, made_by, note)


def _first(volume: Volume, marks: MarkedObject, learned: Callable[..., Any] | None) -> ObjectMask:
    """One object's first mask, by the network or without one."""
    image, spacing, points = volume.array, volume.spacing, marks.points
    if learned is None and marks.six_alone:
        window = Window.around(points, volume.shape, spacing)
        return ObjectMask(window, marks.value, first_mask(image[window.index], window), marks)
    make = learned or classical_stroke_mask
    six = points if len(points) else None
    probability, index = make(image, spacing, points=six, strokes=marks.strokes, previous=marks.previous)
    return ObjectMask(_window(index, marks, spacing), marks.value, probability, marks)


def _from_strokes(case: Case, objects: Sequence[MarkedObject], learned: Callable[..., Any] | None) -> dict[int, ObjectMask]:
    """First masks by structure where strokes are all there is: they are weighed against each other."""
    if case.points is not None or case.previous is not None or case.scribbles is None:
        return {}
    volume, values = case.volume, [marks.value for marks in objects]
    images, make = [channel.array for channel in case.channels.values()], learned or classical_stroke_mask
    maps, index = structure_masks(images, case.scribbles.labels, volume.spacing, values, make)
    found = {}
    for place, marks in enumerate(objects, start=1):
        other = np.delete(maps, place, axis=0).max(axis=0)
        share = (maps[place] / np.maximum(maps[place] + other, 1e-12)).astype(np.float32)  # above 1/2 where it is the largest
        found[marks.value] = ObjectMask(_window(index, marks, volume.spacing), marks.value, share, marks)
    return found


def _window(index: tuple[slice, ...], marks: MarkedObject, spacing: tuple[float, float, float]) -> Window:
    """The window of a first mask; without six points alone, its own corners stand for them: the mask may fill it."""
    (i, a), (j, b), (k, c) = ((side.start, side.stop) for side in index)
    start, stop = np.array([i, j, k]), np.array([a, b, c])
    points = marks.points - start if marks.six_alone else np.stack([start, stop - 1]) - start
    return Window((i, j, k), (a, b, c), points.astype(np.float64), np.array(spacing))


def _kept(volume: Volume, marks: MarkedObject) -> ObjectMask:
    """An earlier mask that stays as it is."""
    assert marks.previous is not None
    start, stop = box_of(np.argwhere(marks.previous), volume.shape)
    index = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return ObjectMask(
        _window(index, marks, volume.spacing), marks.value, (KEPT * marks.previous[index]).astype(np.float32), marks
    )


def _published(case: Case, marks: MarkedObject, recipe: SimplePropagationRecipe) -> tuple[ObjectMask, NDArray[np.int8]]:
    if not marks.six_alone:
        raise PromptError("the published pseudo-mask takes six points per object alone; choose pseudo_mask 'first mask'.")
    volume = case.volume
    start, stop = box_of(marks.points, volume.shape, margin=np.array(volume.in_voxels(recipe.crop_margin, minimum=2)))
    (i, j, k), (a, b, c) = start.tolist(), stop.tolist()
    window = Window((i, j, k), (a, b, c), marks.points - start, np.array(volume.spacing))
    ring = volume.in_voxels(recipe.ring, minimum=2)
    pseudo, probability = published_pseudo_mask(
        volume.array[window.index], window, ring=ring, rounds=recipe.rounds, beta=recipe.beta
    )
    return ObjectMask(window, marks.value, probability, marks), pseudo


def pseudo_labels(item: ObjectMask, recipe: SimplePropagationRecipe) -> NDArray[np.int8]:
    """What to learn from a first mask: 1 where it is surely object, 0 where surely not, -1 elsewhere; strokes are sure."""
    sure = item.mask & (item.probability > recipe.sure_inside)
    pseudo = np.where(sure, 1, np.where(item.probability < recipe.sure_outside, 0, UNLABELLED)).astype(np.int8)
    if item.strokes is not None:
        pseudo[foreground_of(item.strokes)] = 1
        pseudo[item.strokes == BACKGROUND_STROKE] = 0
    return pseudo


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


def all_structures(cases: Sequence[Case]) -> tuple[Structure, ...]:
    """All structures of the cases, by value."""
    found = {structure.value: structure for case in cases for structure in case.structures}
    return tuple(found[value] for value in sorted(found))


def result_of(preview: Preview, case: Case, structures: tuple[Structure, ...], notes: tuple[str, ...]) -> Result:
    """Mask, probabilities and doubt of a finished segmentation."""
    from ...arrays.doubt import overall_doubt

    maps: dict[str, NDArray[Any]] = {f"probability {s.name}": preview.on_volume(index) for index, s in enumerate(structures)}
    doubt = overall_doubt(preview.probability.max(axis=0, initial=0), preview.box_labels() > 0)
    return Result(case.volume.with_array(preview.labels()), structures, maps, {"doubt": doubt}, {}, notes)


def fit_first(cases: Sequence[Case], recipe: SimplePropagationRecipe) -> Generator[Step, None, Weights]:
    """The first mask alone: what a fit of no seconds gives."""
    from . import card

    structures = all_structures(cases)
    first = first_masks(cases[0], recipe)
    yield Step("first mask", 1, 1, preview=merged(first.masks, cases[0].volume, structures), progress=0.0, note=first.note)
    notes = [first.note] if first.note else []
    meta = {"device": "CPU", "notes": notes, "channels": 0, "steps": (), "first_mask": first.made_by}
    return Weights(card.name, recipe, structures, {}, meta)


def predict_first(case: Case, weights: Weights) -> Result:
    """The first mask as a result: weights without tensors have learnt nothing."""
    first = first_masks(case, cast("SimplePropagationRecipe", weights.recipe))
    preview = merged(first.masks, case.volume, weights.structures)
    return result_of(preview, case, weights.structures, tuple(weights.meta.get("notes", ())))
