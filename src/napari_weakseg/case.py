"""`Case`: one patient's channels on one grid, with the marks made on them. `Cohort`: cases, and their folds by patient."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import DataError, GeometryError
from .prompts import distinct

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from .prompts import ExtremePoints, ImageLabel, Scribbles, Structure
    from .volume import Volume

PARTS = ("training", "validation", "testing")
"""What a cohort's cases are for."""


@dataclass(frozen=True, eq=False)
class Case:
    """Named channels on one grid, prompts, and a reference mask that only scoring reads.

    Parameters
    ----------
    id : str
        Short name; names files of results, so never patient data.
    channels : dict of str to Volume
        One entry per sequence; all on one grid.
    points, scribbles, image_label : prompts or None
        The marks on it.
    reference : Volume or None
        Full mask, read for evaluation and for full supervision only.
    patient : str
        Cases of one person share it and stay in one fold; default the id.
    previous : Volume or None
        An earlier mask of this image, which the strokes correct; integer labels with the structures' values.

    Raises
    ------
    DataError, GeometryError, PromptError
        No channel, channels that do not share a grid, or points and strokes that call two structures by one name.
    """

    id: str
    channels: dict[str, Volume]
    points: ExtremePoints | None = None
    scribbles: Scribbles | None = None
    image_label: ImageLabel | None = None
    reference: Volume | None = None
    patient: str = ""
    previous: Volume | None = None

    def __post_init__(self) -> None:
        if not self.channels:
            raise DataError(f"case {self.id} has no image; give at least one channel.")
        for name, volume in self.channels.items():
            if not self.volume.same_grid(volume):
                raise GeometryError(f"channel {name} of case {self.id} lies on another grid; resample it first.")
        distinct(self.structures)
        if not self.patient:
            object.__setattr__(self, "patient", self.id)

    @property
    def volume(self) -> Volume:
        """The first channel: it gives the grid."""
        return next(iter(self.channels.values()))

    def in_order(self, channels: Sequence[str]) -> tuple[Volume, ...]:
        """The volumes of some channels, as a network learnt them; a single one is taken whatever it is called.

        Raises
        ------
        DataError
            One is missing.
        """
        if len(channels) == 1 and len(self.channels) == 1:
            return (self.volume,)
        missing = [name for name in channels if name not in self.channels]
        if missing:
            raise DataError(f"case {self.id} lacks the channel {missing[0]}; the network learnt from {', '.join(channels)}.")
        return tuple(self.channels[name] for name in channels)

    @property
    def structures(self) -> tuple[Structure, ...]:
        """The structures that the marks refer to; empty without marks."""
        found = {s.value: s for marks in (self.scribbles, self.points) if marks is not None for s in marks.structures}
        return tuple(found[value] for value in sorted(found)) if self.scribbles is not None else tuple(found.values())

    @property
    def image_sha256(self) -> str:
        """Hash of the voxels and places of all channels."""
        return hashlib.sha256("".join(channel.sha256 for channel in self.channels.values()).encode()).hexdigest()

    @property
    def voxels_sha256(self) -> str:
        """Hash of all channels' voxels alone: the same for an image that was saved in another type or another place."""
        return hashlib.sha256("".join(sorted(c.voxels_sha256 for c in self.channels.values())).encode()).hexdigest()

    @property
    def marks_sha256(self) -> str:
        """Hash of all that a method may learn from beside the image: points, strokes, classes, reference, earlier mask."""
        points = None if self.points is None else self.points.to_json()
        given = self.image_label
        label = None if given is None else (given.classes, np.asarray(given.label).tolist(), given.slice_axis)
        masks = [None if volume is None else volume.sha256 for volume in (self.reference, self.previous)]
        values = [] if self.scribbles is None else [(s.value, s.name) for s in self.scribbles.structures]
        digest = hashlib.sha256(json.dumps([points, label, masks, values], sort_keys=True).encode())
        if self.scribbles is not None:
            digest.update(np.ascontiguousarray(self.scribbles.labels).tobytes())
        return digest.hexdigest()

    @property
    def sha256(self) -> str:
        """Hash of image and marks; not of names."""
        return hashlib.sha256(f"{self.image_sha256}{self.marks_sha256}".encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Fold:
    """One way of splitting cases: no patient is on both sides.

    Parameters
    ----------
    training, testing : sequence of Case
        Lazy where the cohort's own sequence is.
    """

    training: Sequence[Case]
    testing: Sequence[Case]


@dataclass(frozen=True, eq=False)
class Cohort:
    """Cases of many patients, and masks of others that belong to no image.

    Parameters
    ----------
    name : str
        What the user calls it.
    channels : tuple of str
        Names of the sequences that every case has, in order.
    structures : tuple of Structure
        What points, scribbles and masks refer to.
    image_classes : tuple of str
        What image-level labels refer to; empty where there are none.
    slice_axis : int
        Array axis (0, 1 or 2) along which slices are counted.
    training, validation, testing : sequence of Case
        In memory (a tuple), or `io.cohort.CasesOnDisk`, which reads a case when it is indexed and knows ``ids``,
        ``patients`` and ``image_labels`` without reading an image.
    unpaired_masks : sequence of Volume
        Masks of other patients.
    notes : tuple of str
        What is odd about it but usable.

    Raises
    ------
    DataError, PromptError
        Two cases of one id, a patient in two parts, a slice axis that there is not, or two structures of one name or value.
    """

    name: str = "cohort"
    channels: tuple[str, ...] = ("image",)
    structures: tuple[Structure, ...] = ()
    image_classes: tuple[str, ...] = ()
    slice_axis: int = 2
    training: Sequence[Case] = ()
    validation: Sequence[Case] = ()
    testing: Sequence[Case] = ()
    unpaired_masks: Sequence[Volume] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.slice_axis not in (0, 1, 2):
            raise DataError(f"the slice axis {self.slice_axis!r} is none of the array axes 0, 1 and 2.")
        distinct(self.structures)
        ids: set[str] = set()
        homes: dict[str, str] = {}
        for part in PARTS:
            cases = getattr(self, part)
            for case, patient in zip(known(cases, "id"), known(cases, "patient"), strict=True):
                if case in ids:
                    raise DataError(f"two cases have the id {case}; give each its own.")
                ids.add(case)
                if homes.setdefault(patient, part) != part:
                    raise DataError(f"patient {patient} is in {homes[patient]} and in {part}; keep a patient in one part.")

    def with_references(self) -> Cohort:
        """The same cohort, whose cases come with their reference masks: for evaluation and for full supervision only."""
        parts = {}
        for part in PARTS:
            cases = getattr(self, part)
            lazy = getattr(cases, "with_references", None)
            parts[part] = cases if lazy is None else lazy()
        return replace(self, **parts)

    def folds(self, count: int, seed: int = 0) -> tuple[Fold, ...]:
        """Split the training cases into `count` folds by patient.

        Folds are balanced in patients, cases and, where image-level labels are known, in cases or slices per class.

        Parameters
        ----------
        count : int
            At least 2 and at most the number of patients.
        seed : int
            The same seed gives the same folds.

        Returns
        -------
        tuple of Fold
            Every training case is in the testing part of exactly one; validation and testing cases are in none.

        Raises
        ------
        DataError
            Fewer than two folds, or more than patients.
        """
        owner = np.array(known(self.training, "patient"), dtype=object)
        patients = sorted(set(owner))
        if not 2 <= count <= len(patients):
            raise DataError(f"{count} folds cannot be made of {len(patients)} patients; each needs one, two are the fewest.")
        per_case = _counts(known(self.training, "image_label"), len(self.image_classes))
        fold_of = _assigned(np.stack([per_case[owner == patient].sum(axis=0) for patient in patients]), count, seed)
        of_case = np.array([fold_of[patients.index(patient)] for patient in owner])
        return tuple(
            Fold(pick(self.training, np.flatnonzero(of_case != fold)), pick(self.training, np.flatnonzero(of_case == fold)))
            for fold in range(count)
        )


def known(cases: Sequence[Any], name: str) -> tuple[Any, ...]:
    """One field (``"id"``, ``"patient"`` or ``"image_label"``) of every case, without reading an image where that is lazy.

    Of masks it is their ``"name"``.
    """
    lazy = getattr(cases, f"{name}s", None)
    return tuple(getattr(case, name) for case in cases) if lazy is None else tuple(lazy)


def pick(cases: Sequence[Case], indices: Iterable[int]) -> Sequence[Case]:
    """Some of the cases, in the order of `indices`; lazy where `cases` is."""
    chosen = [int(index) for index in indices]
    lazy = getattr(cases, "pick", None)
    return tuple(cases[index] for index in chosen) if lazy is None else lazy(chosen)


def fingerprint(cases: Sequence[Any], index: int) -> str:
    """What tells a case (or volume) from every other: its content; from the files' bytes where `cases` is lazy."""
    lazy = getattr(cases, "fingerprint", None)
    return str(cases[index].sha256 if lazy is None else lazy(index))


def _counts(labels: Sequence[ImageLabel | None], classes: int) -> NDArray[np.float64]:
    """Per case: 1, then how many of its labels are of each class; shape (cases, 1 + classes)."""
    counts = np.zeros((len(labels), 1 + classes))
    counts[:, 0] = 1
    for row, label in zip(counts, labels, strict=True):
        if label is not None:
            np.add.at(row, 1 + np.atleast_1d(label.label), 1)
    return counts


def _assigned(counts: NDArray[np.float64], folds: int, seed: int) -> NDArray[np.int64]:
    """Fold of each patient: those that weigh most first, each to where the totals stay closest to equal.

    Parameters
    ----------
    counts : ndarray, shape (patients, D)
        What each brings.
    folds : int
        How many there are.
    seed : int
        Decides among equals.
    """
    shares = np.column_stack([np.ones(len(counts)), counts])
    shares = shares / np.maximum(shares.sum(axis=0), 1)
    order = np.random.default_rng(seed).permutation(len(shares))
    order = order[np.argsort(-shares[order].max(axis=1), kind="stable")]
    totals = np.zeros((folds, shares.shape[1]))
    assigned = np.zeros(len(shares), dtype=np.int64)
    for patient in order:
        room = totals[:, 0] < np.ceil(len(shares) / folds) / len(shares) - 1e-9  # as many patients in each as in the others
        cost = ((totals + shares[patient]) ** 2 - totals**2).sum(axis=1)
        assigned[patient] = int(np.argmin(np.where(room, cost, np.inf)))
        totals[assigned[patient]] += shares[patient]
    return assigned
