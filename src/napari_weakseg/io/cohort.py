"""Cohorts on disk: read ``cohort.json``, check all that it names, and write back the marks that are made in the viewer."""

from __future__ import annotations

import hashlib
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arrays.pairing import own_mask
from ..case import Case, Cohort
from ..errors import CohortFaults, DataError, WeaksegError
from ..prompts import ExtremePoints, ImageLabel
from .atomic import write_atomically
from .cases import CasesOnDisk, MasksOnDisk, of_case
from .cohort_file import PARTS, CaseEntry, CohortFile, parse_cohort
from .cohort_guess import guess_cohort
from .cohort_text import as_text, load_json
from .names import shown
from .scribble_codes import in_words, question

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ..volume import Volume

__all__ = [
    "CasesOnDisk",
    "MasksOnDisk",
    "check_cohort",
    "guess_cohort",
    "read_cohort",
    "stamp_of",
    "update_case",
    "write_cohort",
]

CHANGEABLE = ("image_label", "points", "scribble", "scribble_codes", "marks", "state")


def read_cohort(path: str | os.PathLike[str], *, references: bool = False) -> Cohort:
    """Open a cohort file; its images are read case by case when they are asked for.

    Parameters
    ----------
    path : path
        A ``cohort.json``.
    references : bool
        Whether cases come with their reference masks (``label``): for evaluation and for full supervision only.

    Raises
    ------
    CohortFaults
        The file itself is wrong; all that can be seen without opening another is in ``faults``. What is wrong with the
        files that it names comes up when they are read, or all at once in `check_cohort`.
    """
    data, _ = load_json(path)
    file, faults = parse_cohort(data, path)
    if faults:
        raise CohortFaults(faults, where=shown(path))
    return _cohort_of(file, references=references)


def check_cohort(path: str | os.PathLike[str], *, on_case: Callable[[int, int], None] | None = None) -> tuple[str, ...]:
    """Read everything that a cohort file names, once, and say all that is wrong.

    Parameters
    ----------
    path : path
        A ``cohort.json``.
    on_case : callable, optional
        Gets the number of the case that was checked, from 1, and of all.

    Returns
    -------
    tuple of str
        One sentence for each fault; empty where there is none.
    """
    faults: list[str] = []
    with _collected(faults, ""):
        data, _ = load_json(path)
        file, found = parse_cohort(data, path)
        faults += found
        check = _Check(file, faults)
        for number, entry in enumerate(file.entries, start=1):
            check.case(entry)
            if on_case is not None:
                on_case(number, len(file.entries))
        check.unpaired_masks()
        check.codes()
    return tuple(dict.fromkeys(faults))


def write_cohort(data: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write a cohort file atomically, one case per line.

    Raises
    ------
    DataError
        The folder cannot be written.
    """
    return write_atomically(path, as_text(data))


def stamp_of(path: str | os.PathLike[str]) -> str:
    """What tells this state of a cohort file from every other (SHA-256 of its bytes), for `update_case`.

    Raises
    ------
    DataError
        It is missing or no cohort file.
    """
    return load_json(path)[1]


def update_case(path: str | os.PathLike[str], case_id: str, *, expected: str | None = None, **changes: Any) -> str:
    """Write marks or the state of one case back, at once and as a whole.

    Parameters
    ----------
    path : path
        A ``cohort.json``.
    case_id : str
        The id of the case.
    expected : str, optional
        The stamp of the file as the caller knows it; a file that somebody else changed since is refused.
    **changes
        ``image_label``: an `ImageLabel`, a class (name or index), or a list of one per slice. ``points``: `ExtremePoints`,
        stored in the cohort file itself, or the path of a file relative to it. ``scribble``: a path, or a list of several
        people's; ``scribble_codes``: what their values mean; ``marks``: ``"mask"`` to learn from the label in full. ``state``:
        ``"unmarked"``, ``"marked"``, ``"segmented"`` or ``"reviewed"``. None takes the entry away.

    Returns
    -------
    str
        The new stamp.

    Raises
    ------
    DataError
        No such case, an unknown key, a value that would make the file wrong, or a change by somebody else. The file is
        then as it was.
    """
    unknown = sorted(set(changes) - set(CHANGEABLE))
    if unknown:
        raise DataError(f"{unknown[0]!r} of a case cannot be changed; choose from {', '.join(CHANGEABLE)}.")
    data, stamp = load_json(path)
    if expected is not None and stamp != expected:
        raise DataError(_changed_meanwhile(path))
    part, case = _case_of(data, case_id, path)
    # what is wrong elsewhere in the file is no reason to lose a mark, and a file of a thousand cases is not parsed per click
    alone = {key: value for key, value in data.items() if key not in (*PARTS, "unpaired_masks")} | {part: [case]}
    before = parse_cohort(alone, path)[1]
    for key, value in changes.items():
        if value is None:
            case.pop(key, None)
        else:
            case[key] = _plain(value)
    after = [fault for fault in parse_cohort(alone, path)[1] if fault not in before]
    if after:
        raise DataError(f"{shown(path)} was not changed: {after[0]}")
    text = as_text(data)

    def still_the_same(_: Path) -> None:
        if stamp_of(path) != stamp:
            raise DataError(_changed_meanwhile(path))

    write_atomically(path, text, check=still_the_same)
    return hashlib.sha256(text).hexdigest()


def _cohort_of(file: CohortFile, *, references: bool = False) -> Cohort:
    parts = {
        part: CasesOnDisk(file, [entry for entry in file.entries if entry.part == part], references=references)
        for part in PARTS
    }
    masks = MasksOnDisk(file, file.unpaired_masks)
    return Cohort(
        file.name,
        file.channels,
        file.structures,
        file.image_classes,
        file.slice_axis,
        **parts,
        unpaired_masks=masks,
        notes=file.notes,
    )


class _Check:
    """Reads every file of a cohort once and goes on after a fault."""

    def __init__(self, file: CohortFile, faults: list[str]) -> None:
        self.file, self.faults = file, faults
        self.images: dict[str, tuple[str, CaseEntry]] = {}
        self.own_masks: dict[str, CaseEntry] = {}
        self.unstated: list[str] = []
        self.values: Counter[int] = Counter()

    def case(self, entry: CaseEntry) -> None:
        """Every part of a case, also after one that is wrong; what needs the image's grid is left out where there is none."""
        cases = CasesOnDisk(self.file, (entry,))
        channels: list[Volume] = []
        with _collected(self.faults, entry.id):
            channels = cases.read_channels(entry)
        if not channels:
            for path in dict.fromkeys((entry.points, *(entry.scribble or ()), entry.label)):
                if isinstance(path, Path) and not path.is_file():
                    self.faults.append(f"{entry.id}: {shown(path)} does not exist; check the name and the folder.")
            return
        self.same_images(entry, channels)
        with _collected(self.faults, ""):
            Case(entry.id, dict(zip(self.file.channels, channels, strict=True)))
        volume = channels[0]
        for read in (cases.read_points, self.strokes, self.reference):
            with _collected(self.faults, entry.id):
                read(entry, volume)
        if entry.image_label is not None:
            with _collected(self.faults, entry.id):
                entry.image_label.checked(volume)

    def same_images(self, entry: CaseEntry, channels: Sequence[Volume]) -> None:
        """An image that is there twice, whatever its names, its type and its place: it must not be learnt from and tested."""
        for channel, volume in zip(self.file.channels, channels, strict=True):
            whose = f"{entry.id} ({channel})" if len(channels) > 1 else entry.id
            other, home = self.images.setdefault(volume.voxels_sha256, (whose, entry))
            if other != whose:
                parts = f", in {home.part} and in {entry.part}" if home.part != entry.part else ""
                self.faults.append(f"{other} and {whose} are the same image{parts}; leave one out.")

    def strokes(self, entry: CaseEntry, volume: Volume) -> None:
        """Strokes; what their values mean is asked once for the whole cohort."""
        cases = CasesOnDisk(self.file, (entry,))
        unstated = cases.unstated(entry, volume)
        if unstated:
            self.unstated.append(entry.id)
            self.values.update(unstated)
        else:
            cases.read_scribbles(entry, volume)

    def reference(self, entry: CaseEntry, volume: Volume) -> None:
        """The reference mask, remembered where an unpaired mask must not be the same."""
        mask = CasesOnDisk(self.file, (entry,)).read_reference(entry, volume)
        if mask is not None and mask.array.any() and (entry.part != "training" or entry.scribble is not None):
            self.own_masks.setdefault(mask.voxels_sha256, entry)

    def unpaired_masks(self) -> None:
        """Masks of other patients, which none of the cases' own must be among."""
        masks = MasksOnDisk(self.file, self.file.unpaired_masks)
        for place, listed in enumerate(masks.entries):
            with _collected(self.faults, ""):
                own = self.own_masks.get(masks[place].voxels_sha256)
                if own is not None and listed.patient != own.patient:  # where it is, the cohort file itself was refused
                    self.faults.append(own_mask(masks.names[place], own.id))

    def codes(self) -> None:
        """What has to be stated before the strokes can be read."""
        if self.unstated:
            whose = self.unstated[0] + (f" and {len(self.unstated) - 1} more" if len(self.unstated) > 1 else "")
            self.faults.append(
                f"the codes of the strokes of {whose} are not stated and not our own: they hold {in_words(self.values)}; "
                f"state scribble_codes{question(self.values)}."
            )


@contextmanager
def _collected(faults: list[str], whose: str) -> Iterator[None]:
    try:
        if whose:
            with of_case(whose):
                yield
        else:
            yield
    except WeaksegError as error:
        faults.append(str(error))


def _case_of(data: Mapping[str, Any], case_id: str, path: str | os.PathLike[str]) -> tuple[str, dict[str, Any]]:
    for part in PARTS:
        cases = data.get(part, [])
        for case in cases if isinstance(cases, list) else []:
            if isinstance(case, dict) and case.get("id") == case_id:
                return part, case
    raise DataError(f"{shown(path)} has no case {case_id!r:.40}; open it again.")


def _plain(value: Any) -> Any:
    """Marks as they stand in the file."""
    if isinstance(value, ExtremePoints):
        return value.to_json()
    if isinstance(value, ImageLabel):
        return [int(label) for label in value.label] if isinstance(value.label, tuple) else value.classes[value.label]
    return list(value) if isinstance(value, tuple) else value


def _changed_meanwhile(path: str | os.PathLike[str]) -> str:
    return f"{shown(path)} was changed by another program since it was opened; open it again and repeat the last mark."
