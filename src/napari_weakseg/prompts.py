"""The marks a user makes: `ExtremePoints`, `Scribbles`, `ImageLabel`, and the `Structure` they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import PromptError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .volume import FloatArray, Volume

BACKGROUND_STROKE = 255
"""Code of a background stroke in `Scribbles`: fixed, so that adding a structure never renumbers it."""

PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
"""Okabe and Ito's colours, told apart by colour-blind readers; structures take them in turn."""


@dataclass(frozen=True)
class Structure:
    """One thing to segment.

    Parameters
    ----------
    name : str
        For example ``"lesion"``.
    value : int
        Its number in masks, 1 to 254.
    colour : str
        ``"#RRGGBB"``; empty takes the palette's colour for `value`.
    concept : tuple of (scheme, code, meaning) or None
        Coded concept for DICOM, for example ``("SCT", "4147007", "Mass")``.
    """

    name: str
    value: int
    colour: str = ""
    concept: tuple[str, str, str] | None = None

    def __post_init__(self) -> None:
        if not 1 <= int(self.value) < BACKGROUND_STROKE:
            raise PromptError(f"structure {self.name!r} has the value {self.value}; use 1 to {BACKGROUND_STROKE - 1}.")
        if not self.colour:
            object.__setattr__(self, "colour", PALETTE[(self.value - 1) % len(PALETTE)])


LESION = Structure("lesion", 1)


def free_name(structures: Iterable[Structure], value: int, word: str = "structure") -> str:
    """``"structure <value>"``, or with the next number that makes it no other structure's name."""
    taken = {structure.name for structure in structures}
    return next(name for name in (f"{word} {number}" for number in count(value)) if name not in taken)


def distinct(structures: Iterable[Structure]) -> tuple[Structure, ...]:
    """The structures, if each has a value and a name of its own: masks tell them apart by the one, maps by the other.

    Raises
    ------
    PromptError
    """
    given = tuple(structures)
    if len({structure.value for structure in given}) < len(given):
        raise PromptError("two structures have the same value; give each its own.")
    names = [structure.name for structure in given]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise PromptError(f"two structures are called {twice!r:.40}; give each its own name.")
    return given


@dataclass(frozen=True, eq=False)
class ExtremePoints:
    """Six outermost points per object: the surface passes through them and their box is tight.

    Parameters
    ----------
    points : ndarray, shape (N, 6, 3), float64
        Voxel indices (i, j, k) in the volume's own axis order; the six of an object in any order. A row of NaN is a point
        that was not placed: only together with strokes is fewer than six enough.
    values : ndarray, shape (N,), int
        Structure of each object, by value.
    structures : tuple of Structure
        The structures that `values` refer to.
    affine : ndarray, shape (4, 4)
        Affine of the volume on which they were placed, voxel index to RAS mm.
    notes : tuple of str
        How they were read where that was not plain, for example that an object had more than six points.

    Raises
    ------
    PromptError
        Wrong shape, non-finite coordinates, or a value without a structure.
    """

    points: FloatArray
    values: NDArray[np.integer[Any]]
    structures: tuple[Structure, ...]
    affine: FloatArray
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        points = np.asarray(self.points, dtype=np.float64)
        if points.size == 0:
            raise PromptError("there are no extreme points; place six on each object.")
        if points.ndim != 3 or points.shape[1:] != (6, 3):
            raise PromptError(f"extreme points come as six per object with three coordinates, not as {points.shape}.")
        there: NDArray[np.bool_] = np.asarray(np.isfinite(points).all(axis=2))
        absent: NDArray[np.bool_] = np.asarray(np.isnan(points).all(axis=2))
        unusable = np.asarray(~there.any(axis=1) | ~(absent | there).all(axis=1))
        if unusable.any():
            raise PromptError(f"object {int(unusable.argmax()) + 1} has a point that is not a finite number; place it again.")
        values = np.asarray(self.values, dtype=np.int64).reshape(-1)
        structures = distinct(self.structures)
        missing = set(values.tolist()) - {structure.value for structure in structures}
        if len(values) != len(points) or missing:
            raise PromptError("every object needs one structure with a known value.")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "structures", structures)
        object.__setattr__(self, "affine", np.asarray(self.affine, dtype=np.float64))

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.points)

    @classmethod
    def from_points(cls, points: ArrayLike, volume: Volume, *, structure: Structure = LESION) -> ExtremePoints:
        """One object (6, 3), or several of one structure (N, 6, 3), in voxel indices of `volume`."""
        array = np.asarray(points, dtype=np.float64)
        if array.ndim == 2:
            array = array[None]
        return cls(array, np.full(len(array), structure.value), (structure,), volume.affine)

    @property
    def placed(self) -> tuple[FloatArray, ...]:
        """The points that each object has, shape (1 to 6, 3)."""
        return tuple(six[np.isfinite(six).all(axis=1)] for six in self.points)

    def complete(self, volume: Volume) -> ExtremePoints:
        """The same points, if every object has all six.

        Raises
        ------
        PromptError
            Names the directions that an object lacks.
        """
        for number, (points, value) in enumerate(zip(self.placed, self.values, strict=True), start=1):
            if len(points) < 6:
                name = next(structure.name for structure in self.structures if structure.value == value)
                six_points(points, label=f"object {number} ({name})", volume=volume)
        return self

    @property
    def world(self) -> FloatArray:
        """The points as RAS positions in mm, shape (N, 6, 3)."""
        return self.points @ self.affine[:3, :3].T + self.affine[:3, 3]

    def on(self, volume: Volume) -> ExtremePoints:
        """The same places as voxel indices of another volume (through RAS mm)."""
        return replace(self, points=volume.to_voxel(self.world), affine=volume.affine)

    def checked(self, volume: Volume) -> ExtremePoints:
        """Clamp what lies at most half a voxel outside; refuse what lies further out or makes no box.

        Raises
        ------
        PromptError
            Names the first object and point that cannot be used.
        """
        last = np.array(volume.shape) - 1.0
        outside = np.nan_to_num(np.maximum(-self.points, self.points - last), nan=-1.0).max(axis=2)
        if outside.max() > 0.5 + 1e-6:
            object_index, point_index = (int(n) for n in np.argwhere(outside > 0.5 + 1e-6)[0])
            where = np.round(self.points[object_index, point_index], 1).tolist()
            raise PromptError(
                f"point {point_index + 1} of object {object_index + 1} at {where} lies outside the volume {volume.shape}; "
                "give indices in the order (i, j, k)."
            )
        points = np.clip(self.points, 0, last)
        size = np.round(points.max(axis=1)) - np.round(points.min(axis=1))
        needs = np.minimum(1, last)  # an axis of one voxel has no extent to ask for
        for index in range(len(points)):
            if (size[index] < needs).any():  # never so for NaN: no box is asked of fewer than six points
                raise PromptError(
                    f"the points of object {index + 1} span no box along axis {'ijk'[int(np.argmax(size[index] < needs))]}; "
                    "place them on its six outermost places."
                )
        return replace(self, points=points, affine=volume.affine)

    def to_json(self) -> dict[str, Any]:
        """Return the full form of ``POINTS.json``, in voxel space."""
        return {
            "space": "voxel",
            "structures": [
                {
                    "name": structure.name,
                    "value": structure.value,
                    "objects": [
                        six.tolist() for six, value in zip(self.placed, self.values, strict=True) if value == structure.value
                    ],
                }
                for structure in self.structures
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], volume: Volume, *, partial: bool = False) -> ExtremePoints:
        """Read either form of ``POINTS.json`` for `volume`; coordinates are not yet checked against its size.

        `partial` accepts objects with fewer than six points, as they are used together with strokes.
        """
        if not isinstance(data, Mapping):
            raise PromptError("a points file holds one JSON object with 'space' and 'points' or 'structures'.")
        space = data.get("space")
        if space not in ("voxel", "ras_mm"):
            raise PromptError(f"'space' of the points is {space!r}; state 'voxel' or 'ras_mm'.")
        entries = data.get("structures")
        if entries is None:
            if "points" not in data:
                raise PromptError("the points file holds neither 'points' nor 'structures'.")
            entries = [{"name": LESION.name, "value": LESION.value, "objects": [data["points"]]}]
        if not isinstance(entries, list | tuple) or not all(isinstance(entry, Mapping) for entry in entries):
            raise PromptError("'structures' of the points is not a list of objects with 'name', 'value' and 'objects'.")
        objects: list[tuple[Structure, Any]] = []
        structures: list[Structure] = []
        for number, entry in enumerate(entries, start=1):
            structure = Structure(str(entry.get("name", f"structure {number}")), _value(entry.get("value", number)))
            structures.append(structure)
            sixes = entry.get("objects", ())
            if not isinstance(sixes, list | tuple):
                raise PromptError(f"'objects' of {structure.name!r} is not a list of objects with six points each.")
            objects += [(structure, six) for six in sixes]
        return cls.from_objects(objects, volume, space=space, structures=structures, partial=partial)

    @classmethod
    def from_objects(
        cls,
        objects: Iterable[tuple[Structure, Any]],
        volume: Volume,
        *,
        space: str = "voxel",
        structures: Sequence[Structure] | None = None,
        notes: tuple[str, ...] = (),
        partial: bool = False,
    ) -> ExtremePoints:
        """From one structure and six or more points per object.

        Parameters
        ----------
        objects : iterable of (Structure, array of shape (6 or more, 3))
            Points in any order; of more than six the outermost per axis are used, which is noted.
        volume : Volume
            The image on which they lie.
        space : {"voxel", "ras_mm"}
            What the coordinates are.
        structures : sequence of Structure, optional
            All structures; default those that have objects.
        notes : tuple of str
            Notes to begin with.
        partial : bool
            Accept objects with fewer than six points.

        Raises
        ------
        PromptError
            Too few points, or coordinates in mm where the image's orientation is unknown.
        """
        points: list[FloatArray] = []
        owners: list[Structure] = []
        collected = list(notes)
        if space == "ras_mm" and not volume.orientation_known:
            raise PromptError(f"the orientation of {volume.name} is unknown; give the points as voxel indices instead of mm.")
        for structure, raw in objects:
            label = f"object {len(points) + 1} ({structure.name})"
            points.append(six_points(raw, label=label, volume=volume, space=space, partial=partial))
            owners.append(structure)
            if len(raw) > 6:
                collected.append(f"{label} has {len(raw)} points; the outermost per axis were used.")
        if not points:
            raise PromptError("there are no extreme points; place six on each object.")
        known = list(dict.fromkeys(owners)) if structures is None else structures
        values = np.array([structure.value for structure in owners])
        return cls(np.stack(points), values, distinct(known), volume.affine, tuple(collected))


def _value(value: Any) -> int:
    """A structure's value as it stands in a file."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise PromptError(f"the structure value {value!r} is no whole number; use 1 to {BACKGROUND_STROKE - 1}.")
    return value


def six_points(points: Any, *, label: str, volume: Volume, space: str = "voxel", partial: bool = False) -> FloatArray:
    """One object's points as (6, 3) voxel indices; more than six are reduced to the extremes per axis.

    With `partial` fewer than six are filled up with rows of NaN.

    Raises
    ------
    PromptError
        Fewer than six points: the missing directions are named.
    """
    from .arrays.extreme_points import extremes_of, missing_directions

    try:
        array: FloatArray = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise PromptError(f"the points of {label} are not numbers; give three coordinates per point.") from error
    if array.size == 0:
        raise PromptError(f"{label} has no points; place six.")
    if array.ndim != 2 or array.shape[1] != 3:
        raise PromptError(f"the points of {label} need three coordinates each (shape {array.shape}).")
    if not np.isfinite(array).all():
        raise PromptError(f"point {int(np.argwhere(~np.isfinite(array))[0][0]) + 1} of {label} is not a finite number.")
    if space == "ras_mm":
        array = volume.to_voxel(array)
    if len(array) < 6 and partial:
        return np.vstack([array, np.full((6 - len(array), 3), np.nan)])
    if len(array) < 6:
        missing = ", ".join(missing_directions(array, volume))
        raise PromptError(f"{label} has {len(array)} of six points; still missing: {missing}.")
    return np.asarray(extremes_of(array) if len(array) > 6 else array)


@dataclass(frozen=True, eq=False)
class Scribbles:
    """Strokes on the volume's grid.

    Parameters
    ----------
    labels : ndarray, shape (I, J, K), uint8
        0 = not marked, 1..C = structures, 255 = background stroke.
    structures : tuple of Structure
        The structures that the values refer to.
    notes : tuple of str
        What is odd about them but usable.
    """

    labels: NDArray[np.uint8]
    structures: tuple[Structure, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        structures = distinct(self.structures)
        known = {structure.value for structure in structures} | {0, BACKGROUND_STROKE}
        unknown = sorted(set(np.unique(labels[labels != 0]).tolist()) - known)  # few are marked: no need to sort a volume
        if unknown:
            raise PromptError(f"the strokes hold the value {unknown[0]}, which no structure has; state what it means.")
        object.__setattr__(self, "labels", labels.astype(np.uint8, copy=False))
        object.__setattr__(self, "structures", structures)

    def checked(self, volume: Volume, *, alone: bool = True) -> Scribbles:
        """The strokes that can be used on `volume`; what was dropped or is scarce is in ``notes``.

        `alone`: there are no points and no earlier mask beside them, so that strokes of one kind say little.

        Raises
        ------
        PromptError
            Another shape than the volume's, or nothing is marked.
        """
        if self.labels.shape != volume.shape:
            raise PromptError(f"the strokes {self.labels.shape} do not fit the image {volume.shape}; draw them on it.")
        notes = list(self.notes)
        blind = ~np.isfinite(volume.array) & (self.labels != 0)
        if blind.any():
            notes.append(f"{int(blind.sum()):,} marked voxels are not finite in the image; their strokes were dropped.")
        labels = np.where(blind, np.uint8(0), self.labels)
        values, counts = np.unique(labels[labels != 0], return_counts=True)
        if len(values) == 0:
            raise PromptError("there are no strokes; draw some on each structure and on the background.")
        if len(values) == 1 and alone:
            notes.append("all strokes are of one kind: little can be learnt without some on the rest.")
        if (counts == 1).any():
            notes.append("a stroke is a single voxel: draw more, or the mask is little more than a guess.")
        return replace(self, labels=labels, notes=tuple(notes))

    def to_json(self) -> dict[str, Any]:
        """JSON values: the smallest box that holds all strokes, zlib-compressed in base64, C order, one byte per voxel."""
        import base64
        import zlib

        marked = np.argwhere(self.labels)
        start = marked.min(axis=0) if len(marked) else np.zeros(3, dtype=int)
        stop = marked.max(axis=0) + 1 if len(marked) else np.ones(3, dtype=int)
        box = self.labels[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
        return {
            "shape": list(self.labels.shape),
            "start": start.tolist(),
            "box": list(box.shape),
            "voxels": base64.b64encode(zlib.compress(np.ascontiguousarray(box).tobytes(), 9)).decode(),
            "structures": [{"name": s.name, "value": s.value} for s in self.structures],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Scribbles:
        """Read what `to_json` wrote.

        Raises
        ------
        PromptError
            It is damaged.
        """
        import base64
        import zlib

        try:
            shape, start, box = (tuple(int(n) for n in data[key]) for key in ("shape", "start", "box"))
            inflate = zlib.decompressobj()
            size = int(np.prod(box, dtype=object))
            raw = inflate.decompress(base64.b64decode(data["voxels"]), size + 1) if 0 < size <= 2**31 else b""
            labels = np.zeros(shape, dtype=np.uint8)
            place = tuple(slice(a, a + n) for a, n in zip(start, box, strict=True))
            labels[place] = np.frombuffer(raw, dtype=np.uint8).reshape(box)
            structures = tuple(Structure(str(s["name"]), _value(s["value"])) for s in data["structures"])
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise PromptError("the strokes in the record are damaged; take a record that segment wrote.") from error
        return cls(labels, structures)


@dataclass(frozen=True)
class ImageLabel:
    """What an image shows, for the whole volume or slice by slice.

    Parameters
    ----------
    classes : tuple of str
        The class names.
    label : int or tuple of int
        Class index of the volume, or one per slice along `slice_axis`.
    slice_axis : int
        Array axis along which slices are counted.
    """

    classes: tuple[str, ...]
    label: int | tuple[int, ...]
    slice_axis: int = 2

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise PromptError("image-level labels need two classes at least, for example normal and lesion.")
        labels: Iterable[Any] = self.label if isinstance(self.label, list | tuple) else (self.label,)
        for label in labels:
            if isinstance(label, bool) or not isinstance(label, int | np.integer):
                raise PromptError(f"the image-level label {label!r} is no number; give the place of its class, from 0.")
            if not 0 <= label < len(self.classes):
                raise PromptError(f"the image-level label {label} has no class name among {self.classes}.")

    def checked(self, volume: Volume) -> ImageLabel:
        """The same label, if it has one entry per slice of `volume` or is for the whole of it.

        Raises
        ------
        PromptError
            Fewer or more labels than slices.
        """
        count = volume.shape[self.slice_axis]
        if not isinstance(self.label, int | np.integer) and len(self.label) != count:
            raise PromptError(f"there are {len(self.label)} labels for {count} slices of {volume.name}; give one for each.")
        return self
