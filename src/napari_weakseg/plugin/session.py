"""What the panel knows, without Qt or napari: structures, objects, points, what is proposed; and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..arrays.extreme_points import assign_directions, box_of, direction_names, direction_of, order_points
from ..case import Case
from ..errors import WeaksegError
from ..prompts import LESION, ExtremePoints, Structure, free_name
from .strokes import Stroke, scribbles_of, stroke_from_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from ..recipe import Recipe
    from ..volume import Volume
    from .proposals import Proposal


class ObjectKey(NamedTuple):
    """One object: the value of its structure and its number in it, counted from 1."""

    structure: int
    number: int


_FIRST = ObjectKey(LESION.value, 1)


class Mark(NamedTuple):
    """One extreme point: its object and its voxel index (i, j, k)."""

    object: ObjectKey
    voxel: tuple[float, float, float]


@dataclass(frozen=True)
class Document:
    """The user's own work on one image: what undo steps through and what the journal keeps.

    Parameters
    ----------
    structures : tuple of Structure
        At least one.
    objects : tuple of ObjectKey
        Objects that were begun, also those without points.
    current : ObjectKey
        The object that the next click belongs to.
    marks : tuple of Mark
        All points, in the order of the clicks.
    finished : frozenset of ObjectKey
        Objects whose mask was accepted and whose points and strokes did not change since.
    strokes : tuple of Stroke
        What was drawn to correct masks, or to learn from, in order.
    locked : frozenset of int
        Values of structures whose mask stays as it is.
    """

    structures: tuple[Structure, ...] = (LESION,)
    objects: tuple[ObjectKey, ...] = (_FIRST,)
    current: ObjectKey = _FIRST
    marks: tuple[Mark, ...] = ()
    finished: frozenset[ObjectKey] = frozenset()
    strokes: tuple[Stroke, ...] = ()
    locked: frozenset[int] = frozenset()

    def structure(self, value: int) -> Structure:
        """The structure of that value."""
        return next(structure for structure in self.structures if structure.value == value)

    def rows_of(self, key: ObjectKey) -> list[int]:
        """Positions in `marks` of an object's points."""
        return [row for row, mark in enumerate(self.marks) if mark.object == key]

    def points_of(self, key: ObjectKey) -> NDArray[np.float64]:
        """An object's points as voxel indices (N, 3), in the order of the clicks."""
        return np.array([self.marks[row].voxel for row in self.rows_of(key)], dtype=np.float64).reshape(-1, 3)

    def strokes_of(self, key: ObjectKey) -> tuple[Stroke, ...]:
        """The strokes that were drawn for an object."""
        return tuple(stroke for stroke in self.strokes if stroke.object == key)

    def extent_of(self, key: ObjectKey, shape: tuple[int, int, int]) -> NDArray[np.float64]:
        """An object's points and the corners of the strokes on it, as voxel indices (N, 3)."""
        corners = [self.points_of(key)]
        for stroke in self.strokes_of(key):
            if stroke.code == key.structure:
                voxels = np.stack(np.unravel_index(stroke.where, shape), axis=1)
                corners += [voxels.min(axis=0)[None], voxels.max(axis=0)[None]]
        return np.concatenate(corners).astype(np.float64)

    def numbers_of(self, value: int) -> list[int]:
        """Numbers of a structure's objects."""
        return sorted(key.number for key in self.objects if key.structure == value)

    # -- what a user can do; each gives a new document ------------------------------------

    def place(self, voxel: ArrayLike, shape: tuple[int, int, int]) -> Document:
        """A click on the current object: a new point, or one that replaces the nearest of its direction."""
        i, j, k = (float(n) for n in np.asarray(voxel, dtype=np.float64))
        mark = Mark(self.current, (i, j, k))
        rows = self.rows_of(self.current)
        marks = list(self.marks)
        if len(rows) < points_needed(shape):
            marks.append(mark)
        else:
            points = self.points_of(self.current)
            held = assign_directions(points, shape)
            marks[rows[held.index(direction_of(mark.voxel, points, shape))]] = mark
        return self._touched(tuple(marks), {self.current})

    def move(self, row: int, voxel: ArrayLike) -> Document:
        """A point that was dragged."""
        i, j, k = (float(n) for n in np.asarray(voxel, dtype=np.float64))
        marks = list(self.marks)
        marks[row] = Mark(marks[row].object, (i, j, k))
        return self._touched(tuple(marks), {marks[row].object})

    def remove(self, rows: set[int]) -> Document:
        """Points that were deleted."""
        marks = tuple(mark for row, mark in enumerate(self.marks) if row not in rows)
        return self._touched(marks, {self.marks[row].object for row in rows})

    def draw(self, strokes: tuple[Stroke, ...]) -> Document:
        """Strokes for the current object; its mask is open again."""
        return replace(self, strokes=(*self.strokes, *strokes), finished=self.finished - {self.current})

    def add_structure(self) -> Document:
        """A further structure with the next free value, and its first object as the current one."""
        value = max(structure.value for structure in self.structures) + 1
        key = ObjectKey(value, 1)
        structures = (*self.structures, Structure(free_name(self.structures, value), value))
        return replace(self, structures=structures, objects=(*self.objects, key), current=key)

    def rename_structure(self, value: int, name: str) -> Document:
        """The same structure under another name."""
        renamed = tuple(replace(s, name=name) if s.value == value else s for s in self.structures)
        return replace(self, structures=renamed)

    def add_object(self) -> Document:
        """A further object of the current structure; an empty one that was begun is taken instead."""
        value = self.current.structure
        for key in self.objects:
            if key.structure == value and not self.rows_of(key):
                return replace(self, current=key)
        key = ObjectKey(value, max(self.numbers_of(value)) + 1)
        return replace(self, objects=(*self.objects, key), current=key)

    def choose(self, key: ObjectKey) -> Document:
        """Clicks go to another object."""
        return replace(self, current=key if key in self.objects else self.current)

    def finish(self, keys: tuple[ObjectKey, ...]) -> Document:
        """The masks of these objects were accepted; clicks go to a new object."""
        return replace(self, finished=self.finished | set(keys)).add_object()

    def _touched(self, marks: tuple[Mark, ...], keys: set[ObjectKey]) -> Document:
        return replace(self, marks=marks, finished=self.finished - keys)

    # -- disk ------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """JSON values for the journal."""
        return {
            "structures": [{"name": s.name, "value": s.value, "colour": s.colour} for s in self.structures],
            "objects": [list(key) for key in self.objects],
            "current": list(self.current),
            "marks": [[*mark.object, *mark.voxel] for mark in self.marks],
            "finished": sorted(list(key) for key in self.finished),
            "strokes": [stroke.to_json() for stroke in self.strokes],
            "locked": sorted(self.locked),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Document:
        """Read what `to_json` wrote."""
        return cls(
            tuple(Structure(str(s["name"]), int(s["value"]), str(s["colour"])) for s in data["structures"]),
            tuple(ObjectKey(*key) for key in data["objects"]),
            ObjectKey(*data["current"]),
            tuple(Mark(ObjectKey(a, b), (i, j, k)) for a, b, i, j, k in data["marks"]),
            frozenset(ObjectKey(*key) for key in data["finished"]),
            tuple(stroke_from_json(stroke, ObjectKey(*stroke[:2])) for stroke in data.get("strokes", ())),
            frozenset(int(value) for value in data.get("locked", ())),
        )


@dataclass(frozen=True, eq=False)
class Session:
    """Everything that decides what a run would do.

    Parameters
    ----------
    document : Document
        The user's marks.
    volume : Volume or None
        The chosen image.
    channels : tuple of Volume
        Further channels on its grid.
    method : str
        Name in the register.
    recipe : Recipe or None
        Settings; None until the method is known.
    problem : str
        Why the chosen layer cannot be used; empty where it can.
    bases : dict of ObjectKey to Proposal
        The masks that strokes correct, as they were before the first of these strokes.
    """

    document: Document = field(default_factory=Document)
    volume: Volume | None = None
    channels: tuple[Volume, ...] = ()
    method: str = "simple_propagation"
    recipe: Recipe | None = None
    problem: str = ""
    bases: Mapping[ObjectKey, Proposal] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """Why a run cannot start, and what to do, in one sentence."""

    sentence: str


@dataclass(frozen=True, eq=False)
class Job:
    """A run: its inputs are its own, whatever happens in the viewer meanwhile."""

    case: Case
    recipe: Recipe
    method: str
    objects: tuple[ObjectKey, ...]
    document: Document = field(default_factory=Document)

    def still_of(self, document: Document) -> bool:
        """Whether every object of the run still has the points and strokes that the run saw."""
        seen = self.document
        return all(
            np.array_equal(seen.points_of(key), document.points_of(key)) and seen.strokes_of(key) == document.strokes_of(key)
            for key in self.objects
        )


def points_needed(shape: tuple[int, int, int]) -> int:
    """How many points an object takes: two for every axis with more than one voxel."""
    return 2 * sum(n > 1 for n in shape)


def complete(session: Session, key: ObjectKey) -> bool:
    """Whether an object has all its points."""
    return session.volume is not None and len(session.document.rows_of(key)) >= points_needed(session.volume.shape)


def marked(session: Session, key: ObjectKey) -> bool:
    """Whether a mask can be made of an object: all its points, a stroke on it, or a stroke beside a mask that is there."""
    strokes = session.document.strokes_of(key)
    return (
        complete(session, key)
        or any(stroke.code == key.structure for stroke in strokes)
        or (bool(strokes) and key in session.bases)
    )


def open_objects(session: Session) -> tuple[ObjectKey, ...]:
    """Marked objects whose mask was not accepted yet: a run works on all of them together."""
    return tuple(key for key in session.document.objects if marked(session, key) and key not in session.document.finished)


def resolve(session: Session, **changes: Any) -> Job | tuple[Problem, ...]:
    """What would run now, or why nothing can.

    Parameters
    ----------
    session : Session
        The panel's state.
    **changes : object
        Knobs of the recipe to set for this run, for example ``max_seconds=0`` for the first mask alone.
    """
    if session.problem:
        return (Problem(session.problem),)
    if session.volume is None:
        return (Problem("open an image and choose it above."),)
    document, volume = session.document, session.volume
    keys = open_objects(session)
    if not keys:
        return (Problem(_what_is_missing(document, volume)),)
    if session.recipe is None:
        return (Problem(f"the method {session.method} is not installed."),)
    try:
        structures = tuple(s for s in document.structures if any(key.structure == s.value for key in keys))
        names = _channel_names((volume, *session.channels))
        case = Case(
            "image",
            dict(zip(names, (volume, *session.channels), strict=True)),
            points=_points_for(document, keys, structures, volume),
            scribbles=scribbles_of(document.strokes, keys, structures, volume.shape),
            previous=_earlier(session, keys, volume),
        )
        recipe = session.recipe.changed(**changes) if changes else session.recipe
    except WeaksegError as error:
        return (Problem(str(error)),)
    return Job(case, recipe, session.method, keys, document)


def _points_for(
    document: Document, keys: tuple[ObjectKey, ...], structures: tuple[Structure, ...], volume: Volume
) -> ExtremePoints | None:
    """The objects' points; fewer than six only where there are strokes, none where no object has any."""
    clicked = [key for key in keys if document.rows_of(key)]
    if not clicked:
        return None
    points = np.stack([six_of(document.points_of(key), volume.shape) for key in clicked])
    return ExtremePoints(points, np.array([key.structure for key in clicked]), structures, volume.affine).checked(volume)


def _earlier(session: Session, keys: tuple[ObjectKey, ...], volume: Volume) -> Volume | None:
    """The masks that the objects' strokes correct, as one."""
    bases = [(key, session.bases[key]) for key in keys if key in session.bases and session.document.strokes_of(key)]
    if not bases:
        return None
    mask = np.zeros(volume.shape, dtype=np.uint8)
    for key, base in bases:
        mask[base.window][base.labels == key.structure] = key.structure
    return volume.with_array(mask, name="the mask before the correction")


def _channel_names(volumes: tuple[Volume, ...]) -> list[str]:
    """Names without the files' own: those may hold a patient's."""
    return ["image", *(f"channel {number}" for number in range(2, len(volumes) + 1))]


def six_of(points: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Six points in the order of the directions; on an axis of one voxel the middle of the others stands for both ends.

    Fewer than are needed are filled up with rows of NaN.
    """
    flat = 6 - points_needed(shape)
    if len(points) < 6 - flat:
        return np.vstack([points, np.full((6 - len(points), 3), np.nan)])
    if flat:
        points = np.vstack([points, np.repeat(points.mean(axis=0, keepdims=True), flat, axis=0)])
    return order_points(points)


def _what_is_missing(document: Document, volume: Volume) -> str:
    missing = missing_of(document, volume)
    if len(missing) == points_needed(volume.shape):
        return f"click the {len(missing)} outermost points of the {document.structure(document.current.structure).name}."
    if not missing:
        return "this object is finished; begin another or move its points."
    names = direction_names(volume)
    words = [names[number] for number in missing]
    return f"still missing: {', '.join(words[:-1])}{' and ' if len(words) > 1 else ''}{words[-1]}."


def directions_of(document: Document, volume: Volume) -> dict[int, int]:
    """Direction number to the row of the mark that holds it, for the current object."""
    rows = document.rows_of(document.current)
    return dict(zip(assign_directions(document.points_of(document.current), volume.shape), rows, strict=True))


def missing_of(document: Document, volume: Volume) -> tuple[int, ...]:
    """Numbers of the directions that the current object still lacks."""
    held = directions_of(document, volume)
    return tuple(number for number in range(6) if number not in held and volume.shape[number // 2] > 1)


def box_size(document: Document, volume: Volume) -> str:
    """Size of the current object's box in words, along left-right, front-back and top-bottom where known."""
    points = document.points_of(document.current)
    if len(points) < 2:
        return ""
    start, stop = box_of(points, volume.shape)
    size = (stop - start) * np.array(volume.spacing)
    if volume.orientation_known:
        size = size[np.argsort(["RLAPSI".index(code) // 2 for code in volume.orientation])]
    return "box " + " × ".join(f"{length:.0f}" for length in size) + f" {volume.unit}"
