"""Cohorts on disk: read ``cohort.json``, check all that it names, and write back the marks that are made in the viewer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..case import Case, Cohort
from ..errors import CohortFaults, DataError, WeaksegError
from ..prompts import ExtremePoints, ImageLabel
from .atomic import write_atomically
from .cases import CasesOnDisk, MasksOnDisk, of_case
from .cohort_file import PARTS, CaseEntry, CohortFile, load_json, parse_cohort
from .cohort_guess import guess_cohort
from .names import shown

if TYPE_CHECKING:
    import os
    from pathlib import Path

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

CHANGEABLE = ("image_label", "points", "scribble", "state")


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
        images: dict[str, str] = {}
        for number, entry in enumerate(file.entries, start=1):
            _check_case(file, entry, images, faults)
            if on_case is not None:
                on_case(number, len(file.entries))
        masks = MasksOnDisk(file, file.unpaired_masks)
        for place in range(len(masks)):
            with _collected(faults, ""):
                masks[place]
    return tuple(dict.fromkeys(faults))


def write_cohort(data: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write a cohort file atomically, one case per line.

    Raises
    ------
    DataError
        The folder cannot be written.
    """
    return write_atomically(path, _as_text(data))


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
        stored in the cohort file itself, or the path of a file relative to it. ``scribble``: a path. ``state``:
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
    text = _as_text(data)

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


def _check_case(file: CohortFile, entry: CaseEntry, images: dict[str, str], faults: list[str]) -> None:
    """Every part of a case, also after one that is wrong; what needs the image's grid is left out where there is none."""
    cases = CasesOnDisk(file, (entry,))
    channels: list[Volume] = []
    with _collected(faults, entry.id):
        channels = cases.read_channels(entry)
    for path in (entry.points, entry.scribble, entry.label):
        if not channels and path is not None and not isinstance(path, Mapping) and not path.is_file():
            faults.append(f"{entry.id}: {shown(path)} does not exist; check the name and the folder.")
    if not channels:
        return
    for channel, volume in zip(file.channels, channels, strict=True):
        whose = f"{entry.id} ({channel})" if len(channels) > 1 else entry.id
        other = images.setdefault(volume.sha256, whose)
        if other != whose:
            faults.append(f"{other} and {whose} are the same image; leave one out.")
    with _collected(faults, ""):
        Case(entry.id, dict(zip(file.channels, channels, strict=True)))
    volume = channels[0]
    # what the values of scribbles mean is asked once for the whole cohort; their grid can be checked before that is known
    read_scribbles = cases.read_scribbles if file.codes is not None else cases.read_raw_scribbles
    for read in (cases.read_points, read_scribbles, cases.read_reference):
        with _collected(faults, entry.id):
            read(entry, volume)
    if entry.image_label is not None:
        with _collected(faults, entry.id):
            entry.image_label.checked(volume)


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


def _as_text(data: Mapping[str, Any]) -> bytes:
    """JSON that a person can read and a version control can compare: a line for each case."""

    def compact(value: Any) -> str:
        try:
            return json.dumps(value, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise DataError("the cohort holds something that JSON cannot; give texts, whole numbers and lists.") from error

    def entry(key: str, value: Any) -> str:
        if not isinstance(value, list) or not any(isinstance(item, dict) for item in value):
            return f" {compact(key)}: {compact(value)}"
        return f" {compact(key)}: [\n" + ",\n".join(f"  {compact(item)}" for item in value) + "\n ]"

    return ("{\n" + ",\n".join(entry(key, value) for key, value in data.items()) + "\n}\n").encode()
