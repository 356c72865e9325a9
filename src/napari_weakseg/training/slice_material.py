"""All that a training on slices learns from: cases cut into stacks, prepared within a stated bound of memory."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ..arrays.background_contours import outside_background_contours
from ..arrays.pairing import ALL_EMPTY, Drawn, paired_note
from ..arrays.scribbles import NO_BACKGROUND, held_out_strokes
from ..case import known
from ..errors import DataError, PromptError
from ..method import Step
from .cache import PreparedCases, bounds, default_memory
from .partial_losses import IGNORE
from .slice_inference import first_maps
from .stacks import Cut, Frame, Labels, Stack, frame_of, mask_labels, stack_of, structures_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    from ..case import Case
    from ..prompts import Structure
    from ..volume import Volume
    from .cache import Arrays
    from .slice_recipe import SliceRecipe

PREPARED_VERSION = 3
"""Goes up when what is prepared of a case changes."""

FRAMED = 12
"""Cases, evenly chosen, that decide how slices are cut."""

CHECKED = 0.125
"""Share of the memory that validation cases and unpaired masks may take, each."""


class Stacks(Sequence[Stack]):
    """Stacks of many cases, in memory while they fit.

    Parameters
    ----------
    prepared : PreparedCases
        With ``image``, ``box``, and one array of labels or more.
    labels : str
        Which of them.
    places : sequence of int, optional
        Which of the cases; default all.
    """

    def __init__(self, prepared: PreparedCases[Any], labels: str = "labels", places: Sequence[int] | None = None) -> None:
        self.prepared, self.labels = prepared, labels
        self.places = range(len(prepared)) if places is None else tuple(places)

    def __len__(self) -> int:
        """Return the number of stacks."""
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Stack: ...
    @overload
    def __getitem__(self, index: slice) -> Stacks: ...
    def __getitem__(self, index: int | slice) -> Stack | Stacks:
        """One stack, or some; their arrays are read-only."""
        if isinstance(index, slice):
            return Stacks(self.prepared, self.labels, self.places[index])
        arrays = self.prepared[self.places[index]]
        box = arrays["box"].tolist()
        place = (box[0], box[1], box[2], box[3]) if box else None
        return Stack(arrays["image"], arrays[self.labels], place, arrays.get("first"))


@dataclass(frozen=True, eq=False)
class Material:
    """All that a training learns from.

    Parameters
    ----------
    structures : tuple of Structure
    channels : int
    frame : Frame
    stacks, checked, masks : Stacks
        To learn from, to choose the weights by, and of unpaired masks.
    notes : list of str
    """

    structures: tuple[Structure, ...]
    channels: int
    frame: Frame
    stacks: Stacks
    checked: Stacks
    masks: Stacks
    notes: list[str]

    @property
    def classes(self) -> int:
        """Structures and the background."""
        return len(self.structures) + 1


def gather(
    cases: Sequence[Case], validation: Sequence[Case], masks: Sequence[Volume], recipe: SliceRecipe
) -> Generator[Step, None, Material]:
    """Cut all cases into slices; whole strokes are held out where the recipe asks for it and no validation case has strokes.

    Raises
    ------
    DataError, PromptError, RecipeError
        No case, cases with different channels, nothing marked, or unusable masks.
    """
    if not cases:
        raise DataError("there is no case to learn from; give at least one volume with strokes.")
    memory = default_memory()
    total = len(cases) + len(validation) + len(masks)
    yield Step("prepare", 0, total, note=bounds(memory) if len(cases) > 1 else "")
    structures = structures_of(cases, recipe)
    few = (cases[n] for n in np.unique(np.linspace(0, len(cases) - 1, FRAMED).astype(int)))
    frame = frame_of(few, structures, recipe)
    settings = {
        "version": PREPARED_VERSION,
        "supervision": recipe.supervision,
        "frame": [frame.axis, frame.spacing],
        "values": [structure.value for structure in structures],
        "flat": recipe.dimensions == "2D",
        "first": recipe.first_weight > 0,
    }

    def prepare(case: Case, hold_out: float = 0.0, *, outside: bool = False) -> Arrays:
        stack = stack_of(case, frame, structures, recipe)
        labels = stack.labels
        more: dict[str, NDArray[Any]] = {}
        if hold_out:
            # the draw follows the strokes, not their place in the cohort: prepared once, they serve every fold
            out = held_out_strokes(labels, hold_out, seed=(recipe.seed, zlib.crc32(labels.tobytes())), unmarked=IGNORE)
            if recipe.supervision == "marks" and (labels != IGNORE).all():
                out[:] = False  # a case that is marked in full: weights are chosen by strokes, never by a mask
            more = {"held out": np.where(out, labels, np.int8(IGNORE))}
            labels = np.where(out, np.int8(IGNORE), labels)
            stack = Stack.of(stack.image, labels)
        if outside:
            labels = with_outside(labels, recipe.seed)
        if recipe.first_weight > 0 and recipe.supervision == "marks" and case.scribbles is not None:
            more["first"] = Cut(case.volume, frame).maps(first_maps(case, structures))
        return {**_arrays(stack.image, labels, stack.box, Cut(case.volume, frame).axis), **more}

    small = int(CHECKED * memory)
    watched = PreparedCases(validation, prepare, settings=settings, memory_bytes=small if len(validation) else 0)
    for place in range(len(watched)):
        watched[place]
        yield Step("prepare", place + 1, total)
    checked = Stacks(watched, places=_marked(watched, "labels"))
    hold_out = 0.0 if len(checked) else recipe.hold_out
    shapes = PreparedCases(
        masks,
        lambda mask: _of_mask(mask, frame, structures),
        settings={**settings, "kind": "mask"},
        memory_bytes=small if len(masks) else 0,
    )
    outside = recipe.background_contours and recipe.supervision == "marks"
    left = memory - watched.memory_bytes - shapes.memory_bytes
    prepared = PreparedCases(
        cases,
        lambda case: prepare(case, hold_out, outside=outside),
        settings={**settings, "hold_out": hold_out, "outside": outside, "seed": recipe.seed if hold_out or outside else 0},
        memory_bytes=left,
    )
    kept: list[int] = []
    held: set[int] = set()
    for place, arrays in enumerate(shapes):
        kept += [place] if len(arrays["labels"]) else []
        held |= set(np.unique(arrays["labels"]).tolist())
        yield Step("prepare", len(validation) + place + 1, total)
    if len(masks) and not kept:
        raise DataError(ALL_EMPTY)
    ids, channels, unmarked = known(cases, "id"), 0, 0
    axes: set[int] = set()
    counts = np.zeros(len(structures) + 2, dtype=np.int64)
    for place, arrays in enumerate(prepared):
        own = len(arrays["image"])
        if channels and own != channels:
            raise DataError(f"{ids[place]} has {own} channels and others have {channels}; give each case the same.")
        channels = own
        axes |= set(arrays["axis"].tolist())
        before = counts[1:].sum()
        for name in ("labels", "held out"):
            if name in arrays:
                counts += np.bincount(arrays[name].ravel() + 1, minlength=len(counts))
        unmarked += int(counts[1:].sum() == before)
        yield Step("prepare", len(validation) + len(masks) + place + 1, total)
    if not counts[1:].any():
        raise PromptError("no case has strokes; draw some on each structure and on the background.")
    if hold_out:
        checked = Stacks(prepared, "held out", _marked(prepared, "held out"))
    notes = [
        f"no stroke marks {structure.name}: the network cannot learn it; draw some."
        for structure, count in zip(structures, counts[2:], strict=True)
        if not count
    ]
    notes += [] if counts[1] else [NO_BACKGROUND]
    if unmarked:
        notes.append(f"{unmarked} of {len(cases)} cases have no strokes: the loss on strokes does not see them.")
    if kept:
        absent = [structure.name for index, structure in enumerate(structures, start=1) if index not in held]
        turned = [place for place in kept if int(shapes[place]["axis"][0]) not in axes]
        notes += _unsuitable(known(masks, "name"), len(masks) - len(kept), absent, turned)
    notes += [*dict.fromkeys(note for part in (prepared, watched, shapes) for note in part.notes), *_paired(masks, cases)]
    return Material(structures, channels, frame, Stacks(prepared), checked, Stacks(shapes, places=kept), notes)


def with_outside(labels: Labels, seed: int) -> Labels:
    """Labels (S, H, W) with some voxels outside of closed background strokes labelled as background.

    In each slice as many of them, chosen by chance, as there are voxels of the stroke: all of them would drown the structures.
    """
    outside = outside_background_contours(labels == 0, labels > 0) & (labels == IGNORE)
    more = labels.copy()
    rng = np.random.default_rng((seed, zlib.crc32(labels.tobytes())))
    for s in np.flatnonzero(outside.any(axis=(1, 2))):
        free = np.flatnonzero(outside[s])
        more[s].flat[rng.choice(free, min(len(free), int((labels[s] == 0).sum())), replace=False)] = 0
    return more


def _marked(prepared: PreparedCases[Any], labels: str) -> list[int]:
    """The cases that have marks."""
    return [place for place, arrays in enumerate(prepared) if bool((arrays[labels] != IGNORE).any())]


def _of_mask(mask: Volume, frame: Frame, structures: Sequence[Structure]) -> Arrays:
    """An unpaired mask as a stack without image."""
    labels = mask_labels(mask, frame, structures)
    stack = Stack.of(np.zeros((0, *labels.shape), dtype=np.float32), labels)
    return _arrays(stack.image, labels, stack.box, Cut(mask, frame).axis)


def _arrays(image: NDArray[np.float32], labels: Labels, box: tuple[int, ...] | None, axis: int) -> Arrays:
    """What is kept of a case or a mask; the axis is the one that its slices are stacked along."""
    return {"image": image, "labels": labels, "box": np.array(box or (), dtype=np.int64), "axis": np.array([axis])}


def _unsuitable(names: Sequence[str], empty: int, absent: Sequence[str], turned: Sequence[int]) -> list[str]:
    """What is wrong with unpaired masks but no reason to refuse them.

    Parameters
    ----------
    names : sequence of str
        Of the masks.
    empty : int
        How many are.
    absent : sequence of str
        Structures that no mask holds.
    turned : sequence of int
        Masks whose slices are stacked along another axis than those of every case.
    """
    notes = []
    if empty:
        notes.append(f"{'1 unpaired mask is' if empty == 1 else f'{empty} unpaired masks are'} empty and left out.")
    if absent:
        what = " or ".join(absent)
        notes.append(f"no unpaired mask holds {what}, and what none holds is taught to be never real; add masks that do.")
    if turned:
        which = f"{names[turned[0]]}" + (f" and {len(turned) - 1} more" if len(turned) > 1 else "")
        notes.append(
            f"the slices of {which} lie along another axis than the cases', so shapes of another view are taught; "
            "leave such masks out."
        )
    return notes


def _paired(masks: Sequence[Volume], cases: Sequence[Case]) -> list[str]:
    """A note for each mask that fits the strokes of a case so well that it must be its own.

    Of a cohort, whose cases are read one by one, `napari_weakseg.cohorts.training_steps` has compared them already.
    """
    drawn = [Drawn.of(case) for case in cases] if masks and isinstance(cases, list | tuple) else []
    return [note for mask in masks if (note := paired_note(mask, drawn))] if drawn else []
