"""Cases that stay on disk until they are asked for, each read through the gate."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ..case import Case
from ..errors import Ask, DataError, PromptError, WeaksegError
from ..prompts import ExtremePoints, ImageLabel, Scribbles
from ..volume import Volume
from .names import shown
from .nifti import read_mask, read_volume
from .points import read_points
from .scribble_codes import counted, fit_ours, in_ours
from .scribbles import on_image

if TYPE_CHECKING:
    from .cohort_file import CaseEntry, CohortFile, MaskEntry


class CasesOnDisk(Sequence[Case]):
    """Cases of a cohort file, read when they are indexed and not kept.

    Parameters
    ----------
    file : CohortFile
        What the cohort file says.
    entries : sequence of CaseEntry
        The cases.
    references : bool
        Whether cases come with their reference masks; without, the masks' files are not opened.
    """

    def __init__(self, file: CohortFile, entries: Sequence[CaseEntry], *, references: bool = False) -> None:
        self.file, self.entries, self.references = file, tuple(entries), references

    @property
    def ids(self) -> tuple[str, ...]:
        """The id of every case."""
        return tuple(entry.id for entry in self.entries)

    @property
    def patients(self) -> tuple[str, ...]:
        """The patient of every case."""
        return tuple(entry.patient for entry in self.entries)

    @property
    def image_labels(self) -> tuple[ImageLabel | None, ...]:
        """The image-level label of every case, not yet compared with the number of slices."""
        return tuple(entry.image_label for entry in self.entries)

    @property
    def masked(self) -> tuple[bool, ...]:
        """Whether each case has a reference mask."""
        return tuple(entry.label is not None for entry in self.entries)

    @property
    def states(self) -> tuple[str, ...]:
        """``"unmarked"``, ``"marked"``, ``"segmented"`` or ``"reviewed"``, for every case."""
        return tuple(entry.state for entry in self.entries)

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> Case: ...
    @overload
    def __getitem__(self, index: slice) -> CasesOnDisk: ...
    def __getitem__(self, index: int | slice) -> Case | CasesOnDisk:
        """Read one case from disk, or select some.

        Raises
        ------
        DataError, GeometryError, PromptError
            A file is damaged or does not fit; the sentence begins with the id of the case.
        """
        if isinstance(index, slice):
            return self.pick(range(*index.indices(len(self))))
        return self._read(self.entries[index])

    def pick(self, indices: Iterable[int]) -> CasesOnDisk:
        """Some of the cases, in the order of `indices`."""
        return CasesOnDisk(self.file, [self.entries[index] for index in indices], references=self.references)

    def image_of(self, index: int) -> Case:
        """One case's images alone: marks and masks are not opened, so that they cannot be refused."""
        entry = self.entries[index]
        with of_case(entry.id):
            channels = dict(zip(self.file.channels, self.read_channels(entry), strict=True))
            return Case(entry.id, channels, patient=entry.patient)

    def with_references(self) -> CasesOnDisk:
        """The same cases with their reference masks."""
        return CasesOnDisk(self.file, self.entries, references=True)

    def fingerprint(self, index: int) -> str:
        """SHA-256 of all that a case is made of: the bytes of its files, its marks and how they are read; no names.

        Raises
        ------
        DataError
            A file is missing or cannot be read.
        """
        entry, digest = self.entries[index], hashlib.sha256()
        label = None if entry.image_label is None else entry.image_label.label
        points = None if isinstance(entry.points, Path) else entry.points
        codes = [stated and stated.to_json() for stated in entry.codes]
        how = [[s.value, s.name] for s in self.file.structures], codes, self.file.prefer, self.file.units
        said = (self.file.channels, self.file.image_classes, self.file.slice_axis, how, label, points)
        digest.update(json.dumps(said, sort_keys=True).encode())
        reference = entry.label if self.references else None
        for path in (*entry.images, entry.points, *(entry.scribble or (None,)), reference):
            digest.update(_file_hash(path, entry.id) if isinstance(path, Path) else b"-" * 32)
        return digest.hexdigest()

    def _read(self, entry: CaseEntry) -> Case:
        with of_case(entry.id):
            channels = dict(zip(self.file.channels, self.read_channels(entry), strict=True))
            volume = channels[self.file.channels[0]]
            return Case(
                entry.id,
                channels,
                points=self.read_points(entry, volume),
                scribbles=self.read_scribbles(entry, volume),
                image_label=None if entry.image_label is None else entry.image_label.checked(volume),
                reference=self.read_reference(entry, volume) if self.references else None,
                patient=entry.patient,
            )

    # -- the parts of a case, one by one: `check_cohort` goes on where one of them is refused ---------------------------

    def read_channels(self, entry: CaseEntry) -> list[Volume]:
        """Every channel's image; whether they share a grid is for `Case` to say."""
        single = len(entry.images) == 1
        names = [entry.id if single else f"{entry.id} {channel}" for channel in self.file.channels]
        return [
            read_volume(path, name=name, prefer=self.file.prefer, units=self.file.units)
            for path, name in zip(entry.images, names, strict=True)
        ]

    def read_points(self, entry: CaseEntry, volume: Volume) -> ExtremePoints | None:
        """The extreme points, with the cohort's structures."""
        if entry.points is None:
            return None
        if isinstance(entry.points, Path):
            points = read_points(entry.points, volume)
        else:
            points = ExtremePoints.from_json(entry.points, volume).checked(volume)
        return _renumbered(points, self.file)

    def read_scribbles(self, entry: CaseEntry, volume: Volume) -> Scribbles | None:
        """The strokes, translated from the files' codes to ours; those of several files joined."""
        if entry.scribble is None:
            return None
        sources = []
        for path, codes in zip(entry.scribble, entry.codes, strict=True):
            stored = on_image(self._mask(path), volume, path)
            labels = in_ours(stored.array, codes, self.file.structures, shown(path))
            sources.append(Scribbles(labels, self.file.structures, stored.notes))
        if len(sources) == 1:
            return sources[0].checked(volume)
        from ..arrays.scribbles import joined_scribbles

        return joined_scribbles(sources).checked(volume)

    def unstated(self, entry: CaseEntry, volume: Volume) -> dict[int, int]:
        """How often each value occurs in stroke files whose codes are not stated and not our own; empty without such files."""
        counts: Counter[int] = Counter()
        for path, codes in zip(entry.scribble or (), entry.codes, strict=True):
            found = counted(on_image(self._mask(path), volume, path).array) if codes is None else {}
            if found and not fit_ours(found, self.file.structures):
                counts.update(found)
        return dict(counts)

    def read_reference(self, entry: CaseEntry, volume: Volume) -> Volume | None:
        """The reference mask on the image's grid."""
        return None if entry.label is None else self._labelled(entry.label, like=volume)

    def reference(self, index: int) -> Volume | None:
        """The reference mask of one case as it is stored; its image is not read."""
        entry = self.entries[index]
        return None if entry.label is None else self._labelled(entry.label)

    def _labelled(self, path: Path, like: Volume | None = None) -> Volume:
        mask = self._mask(path, like=like)
        unknown = set(np.unique(mask.array).tolist()) - {0, *(structure.value for structure in self.file.structures)}
        if unknown:
            raise DataError(f"{shown(path)} holds the value {min(unknown)}, which no structure has; add it to structures.")
        return mask

    def _mask(self, path: Path, like: Volume | None = None) -> Volume:
        return read_mask(path, like=like, prefer=self.file.prefer, units=self.file.units)


class MasksOnDisk(Sequence[Volume]):
    """Unpaired masks of a cohort file, read when they are indexed and not kept."""

    def __init__(self, file: CohortFile, entries: Sequence[MaskEntry]) -> None:
        self.file, self.entries = file, tuple(entries)

    @property
    def patients(self) -> tuple[str, ...]:
        """Whose each mask is; empty where the cohort file does not say."""
        return tuple(entry.patient for entry in self.entries)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of every mask's file, with its folder."""
        return tuple(f"{entry.path.parent.name}/{entry.path.name}" for entry in self.entries)

    def __len__(self) -> int:
        """Return the number of masks."""
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> Volume: ...
    @overload
    def __getitem__(self, index: slice) -> MasksOnDisk: ...
    def __getitem__(self, index: int | slice) -> Volume | MasksOnDisk:
        """Read one mask from disk, or select some."""
        if isinstance(index, slice):
            return MasksOnDisk(self.file, self.entries[index])
        with of_case(f"unpaired mask {self.names[index]}"):
            return CasesOnDisk(self.file, ())._labelled(self.entries[index].path)

    def pick(self, indices: Iterable[int]) -> MasksOnDisk:
        """Some of the masks, in the order of `indices`."""
        return MasksOnDisk(self.file, [self.entries[index] for index in indices])

    def fingerprint(self, index: int) -> str:
        """SHA-256 of the bytes of a mask's file and of how it is read."""
        how = json.dumps((self.file.prefer, self.file.units)).encode()
        return hashlib.sha256(_file_hash(self.entries[index].path, "unpaired mask") + how).hexdigest()


@contextmanager
def of_case(whose: str) -> Iterator[None]:
    """Say whose file is refused: in many cohorts every image has the same base name."""
    try:
        yield
    except Ask as question:
        stated = question.argument in ("prefer", "units")
        answer = (
            f"State {question.argument!r} in the cohort file." if stated else "Save the one that is meant in a file of its own."
        )
        raise DataError(f"{whose}: {question} {answer}") from question
    except WeaksegError as error:
        raise type(error)(f"{whose}: {error}") from error


def _renumbered(points: ExtremePoints, file: CohortFile) -> ExtremePoints:
    """With the cohort's structures: those of the same name, else those of the same value."""
    by_name = {structure.name: structure for structure in file.structures}
    by_value = {structure.value: structure for structure in file.structures}
    new: dict[int, Any] = {}
    notes = list(points.notes)
    for theirs in points.structures:
        ours = by_name.get(theirs.name) or by_value.get(theirs.value)
        if ours is None:
            raise PromptError(f"the points are of {theirs.name!r} (value {theirs.value}), which is no structure of the cohort.")
        if ours in new.values():
            raise PromptError(f"two structures of the points file are {ours.name!r} here; give both the names of the cohort.")
        if ours.name != theirs.name:
            notes.append(f"the points of {theirs.name!r} are taken for {ours.name!r}, which has the same value.")
        new[theirs.value] = ours
    values = np.array([new[int(value)].value for value in points.values])
    return replace(points, values=values, structures=file.structures, notes=tuple(notes))


def _file_hash(path: Path, whose: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise DataError(f"{whose}: {shown(path)} is missing or cannot be read; check the name and the folder.") from error
