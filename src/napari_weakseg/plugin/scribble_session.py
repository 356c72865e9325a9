"""What the scribbles panel knows, without Qt or napari: structures and strokes, and the run that follows from them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..case import Case
from ..errors import PromptError, WeaksegError
from ..prompts import BACKGROUND_STROKE, Scribbles, Structure, free_name
from .session import Document, ObjectKey, Problem
from .strokes import Stroke

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ..recipe import Recipe
    from ..volume import Volume

MOST_KEYS = 9
"""Structures that have a key of their own: 1 to 9."""


def structure_key(value: int) -> ObjectKey:
    """A structure as a whole; 255 stands for the background."""
    return ObjectKey(value, 1)


def new_document(structures: Sequence[Structure] = (Structure("structure 1", 1),)) -> Document:
    """Structures without a stroke; the first is what the brush draws."""
    keys = tuple(structure_key(structure.value) for structure in structures)
    return Document(tuple(structures), keys, keys[0])


def with_structure(document: Document) -> Document:
    """A further structure with the next free value, which the brush draws from now on.

    Raises
    ------
    PromptError
        No value is free.
    """
    used = {structure.value for structure in document.structures}
    value = next((n for n in range(1, BACKGROUND_STROKE) if n not in used), None)
    if value is None:
        raise PromptError(f"there are {BACKGROUND_STROKE - 1} structures, as many as a mask can hold; use one of them.")
    added = Structure(free_name(document.structures, value), value)
    return _with(document, (*document.structures, added), structure_key(value))


def _with(document: Document, structures: tuple[Structure, ...], current: ObjectKey) -> Document:
    keys = tuple(structure_key(structure.value) for structure in structures)
    return replace(document, structures=structures, objects=keys, current=current)


def renamed(document: Document, value: int, name: str) -> Document:
    """The same structure under another name.

    Raises
    ------
    PromptError
        No name, or that of another structure.
    """
    name = name.strip()
    if not name:
        raise PromptError("a structure needs a name; type one.")
    if any(structure.name == name and structure.value != value for structure in document.structures):
        raise PromptError(f"there is a structure {name} already; give this one another name.")
    return document.rename_structure(value, name)


def coloured(document: Document, value: int, colour: str) -> Document:
    """The same structure in another colour, ``"#RRGGBB"``."""
    changed = tuple(replace(s, colour=colour) if s.value == value else s for s in document.structures)
    return replace(document, structures=changed)


def renumbered(document: Document, old: int, new: int) -> Document:
    """The same structure with another value in masks; its strokes go with it.

    Raises
    ------
    PromptError
        The value is none of a structure, or another structure has it.
    """
    if new == old:
        return document
    if any(structure.value == new for structure in document.structures):
        raise PromptError(f"another structure has the value {new}; choose a free one.")
    colour = document.structure(old).colour
    changed = tuple(Structure(s.name, new, colour, s.concept) if s.value == old else s for s in document.structures)
    strokes = tuple(
        Stroke(
            structure_key(new) if stroke.object.structure == old else stroke.object,
            new if stroke.code == old else stroke.code,
            stroke.voxels,
        )
        for stroke in document.strokes
    )
    current = structure_key(new) if document.current.structure == old else document.current
    locked = frozenset(new if value == old else value for value in document.locked)
    return replace(_with(document, changed, current), strokes=strokes, locked=locked)


def with_lock(document: Document, value: int, *, locked: bool) -> Document:
    """A structure whose mask stays as it is, or may change again."""
    changed = document.locked | {value} if locked else document.locked - {value}
    return replace(document, locked=changed)


def drawing(document: Document, code: int) -> Document:
    """The brush draws this structure, or the background (255)."""
    known = {structure.value for structure in document.structures} | {BACKGROUND_STROKE}
    return replace(document, current=structure_key(code)) if code in known else document


def replaced_strokes(document: Document, scribbles: Scribbles) -> Document:
    """All strokes anew from elsewhere; structures that the document lacks are added, under names that are free."""
    known = {structure.value: structure for structure in document.structures}
    marked = [structure for structure in scribbles.structures if (scribbles.labels == structure.value).any()]
    untouched = not document.strokes and len(document.structures) == 1 and document.structures[0].name == "structure 1"
    if untouched and marked:
        known = {}
    for structure in marked:
        others = [other for other in known.values() if other.value != structure.value]
        clash = any(other.name == structure.name for other in others)
        named = replace(structure, name=free_name(others, structure.value)) if clash else structure
        known.setdefault(structure.value, named)
    flat = np.ascontiguousarray(scribbles.labels).reshape(-1)
    where = np.flatnonzero(flat)
    codes = flat[where]
    strokes = tuple(
        Stroke(structure_key(int(code)), int(code), where[codes == code].astype(np.int64).tobytes())
        for code in np.unique(codes)
    )
    structures = tuple(known[value] for value in sorted(known))
    current = (
        document.current if document.current.structure in {*known, BACKGROUND_STROKE} else structure_key(structures[0].value)
    )
    return replace(_with(document, structures, current), strokes=strokes)


class Count(NamedTuple):
    """How much of a structure, or of the background, is marked."""

    voxels: int
    slices: int


def counts(codes: NDArray[np.uint8], document: Document, axis: int) -> dict[int, Count]:
    """Marked voxels and slices per structure and for the background.

    Parameters
    ----------
    codes : ndarray, shape (I, J, K), uint8
        What is drawn.
    document : Document
        The structures.
    axis : int
        Array axis along which slices are counted.
    """
    where = np.flatnonzero(codes)
    values = codes.reshape(-1)[where]
    index = np.unravel_index(where, codes.shape)[axis]
    return {
        value: Count(int((values == value).sum()), len(np.unique(index[values == value])))
        for value in (*(structure.value for structure in document.structures), BACKGROUND_STROKE)
    }


def slice_axis(volume: Volume) -> int:
    """The array axis along which slices are counted: the one with the thickest voxels, the last among equals."""
    spacing = np.asarray(volume.spacing)
    return int(2 - np.argmax(spacing[::-1] > 0.999 * spacing.max()))


@dataclass(frozen=True, eq=False)
class ScribbleJob:
    """A run: its inputs are its own, whatever happens in the viewer meanwhile.

    Parameters
    ----------
    case : Case
        Image and strokes.
    method : str
        Name in the register.
    recipe : Recipe
        Its settings.
    masks : sequence of Volume
        Masks of other patients.
    document : Document
        The strokes that it is of; while one is being drawn, those before it.
    """

    case: Case
    method: str
    recipe: Recipe
    masks: Sequence[Volume] = ()
    document: Document = field(default_factory=new_document)

    def still_of(self, document: Document) -> bool:
        """Whether the strokes are those that the run saw."""
        return self.document.strokes == document.strokes

    @property
    def network(self) -> tuple[Any, ...]:
        """What decides which weights fit: a run may go on from those of another with the same."""
        structures = tuple(structure.value for structure in self.case.structures)
        left = {"preset", "max_seconds", "seed", "steps", "device", "preview_seconds", "first_mask", "stop_after"}
        knobs = {name: value for name, value in self.recipe.to_json().items() if name not in left}
        image = tuple(id(volume.array) for volume in self.case.channels.values())
        return self.method, structures, image, repr(sorted(knobs.items())), bool(self.masks)


def resolve(
    document: Document,
    volumes: Sequence[Volume],
    method: str,
    recipe: Recipe,
    *,
    codes: NDArray[np.uint8],
    masks: Sequence[Volume] = (),
    **changes: Any,
) -> ScribbleJob | Problem:
    """What would run now, or why nothing can.

    Parameters
    ----------
    document : Document
        Structures and strokes.
    volumes : sequence of Volume
        The image, and further channels on its grid.
    method : str
        Name in the register.
    recipe : Recipe
        Its settings.
    codes : ndarray, shape (I, J, K), uint8
        What is drawn, in our codes.
    masks : sequence of Volume
        Masks of other patients.
    **changes : object
        Knobs to set for this run, for example ``max_seconds=0`` for the first mask alone.
    """
    try:
        return ScribbleJob(
            _case_of(document, volumes, codes), method, recipe.changed(**changes) if changes else recipe, masks, document
        )
    except WeaksegError as error:
        return Problem(str(error))


def _case_of(document: Document, volumes: Sequence[Volume], codes: NDArray[np.uint8]) -> Case:
    """Image and strokes, under names that hold nothing of the files' own: those may hold a patient's."""
    if not any((codes == structure.value).any() for structure in document.structures):
        some = ", ".join(structure.name for structure in document.structures[:3])
        raise PromptError(f"draw a stroke on each structure ({some}) and one on the background.")
    names = ["image", *(f"channel {number}" for number in range(2, len(volumes) + 1))]
    channels: Mapping[str, Volume] = dict(zip(names, volumes, strict=True))
    return Case("image", dict(channels), scribbles=Scribbles(codes, document.structures))
