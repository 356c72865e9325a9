"""Which files of a folder belong together, by their names alone: cases, their parts, and tables."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .names import file_name, shown, without_suffix

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

MOST_FILES = 200_000
"""A folder with more is not what was meant."""

_ROLE_WORDS = {
    "mask": {"mask", "masks", "seg", "segmentation", "segmentations", "label", "labels", "gt", "groundtruth", "manual"},
    "scribble": {"scribble", "scribbles", "stroke", "strokes"},
    "points": {"point", "points"},
    "other": {"heatmap", "probability", "prediction", "predictions", "uncertainty"},  # made by a program, this one included
}
_ROLE_FOLDERS = {
    "image": {"image", "images", "imagestr", "imagests", "imagesval"},
    "mask": {"mask", "masks", "label", "labels", "labelstr", "labelsts", "labelsval", "segmentations", "gt"},
    "scribble": {"scribble", "scribbles", "scribblestr"},
    "points": {"points", "pointstr"},
}
_PART_FOLDERS = {
    "training": {"train", "training", "imagestr", "labelstr"},
    "validation": {"val", "valid", "validation", "imagesval", "labelsval"},
    "testing": {"test", "testing", "imagests", "labelsts"},
}
_UNPAIRED_FOLDERS = {"unpaired", "unpaired_masks", "others"}
_SEQUENCES = re.compile(r"(?:t1|t1w|t1c|t1ce|t1gd|t2|t2w|flair|dwi|adc|pd|ct|pet|mr|mri|swi|dce|\d{4})", re.I)
_IMAGE_WORDS = {"image", "img", "scan", "volume"}
_SPLIT = re.compile(r"[_\-. ]+")
_SUFFIXES = (".nii.gz", ".nii", ".mrk.json", ".json", ".csv", ".tsv")


@dataclass
class FoundCase:
    """Files that belong to one case."""

    id: str
    part: str
    images: dict[str, Path] = field(default_factory=dict)
    masks: list[Path] = field(default_factory=list)
    scribbles: list[Path] = field(default_factory=list)
    points: list[Path] = field(default_factory=list)
    full_mask: bool = False
    """Whether the mask is said to be learnt from."""
    group: str = ""
    """The folder that it shares with other cases, where that has a name of its own: perhaps its class."""


@dataclass
class Layout:
    """What a folder holds.

    Parameters
    ----------
    cases : list of FoundCase
        Those with an image.
    unpaired_masks : list of Path
        Masks of no image.
    tables : list of Path
        CSV files that are no points.
    dataset : Path or None
        An nnU-Net or decathlon ``dataset.json``.
    foldered : bool
        Whether each case has a folder of its own.
    strays : list of Path
        Strokes and points of no image.
    ignored : int
        Files with names of results.
    codes, patients, slice_axis, looks
        What a dataset states of itself: the codes of its strokes, patients by case, and colour and concept by structure.
    """

    cases: list[FoundCase] = field(default_factory=list)
    unpaired_masks: list[Path] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)
    dataset: Path | None = None
    foldered: bool = False
    strays: list[Path] = field(default_factory=list)
    ignored: int = 0
    codes: dict[str, Any] | None = None
    patients: dict[str, str] = field(default_factory=dict)
    slice_axis: int = 2
    looks: dict[str, dict[str, Any]] = field(default_factory=dict)


def layout_of(folder: Path) -> Layout:
    """Group the files below a folder into cases.

    Raises
    ------
    DataError
        No such folder, too many files, or no image in it.
    """
    layout = Layout()
    found: dict[tuple[str, str], FoundCase] = {}
    files = _files(folder)
    images_in: dict[Path, list[Path]] = {}
    for path in files:
        if _is_volume(path) and _role(path, folder) == "image":
            images_in.setdefault(_owner(path, folder), []).append(path)
    marks = [path for path in files if _role(path, folder) in ("mask", "scribble", "points")]
    marked = {_case_name(path, _role(path, folder)) for path in marks}
    imaged = {_case_name(path, "image", marked) for paths in images_in.values() for path in paths}
    shared = _named_in_several(images_in, folder)
    for path in files:
        role = _role(path, folder)
        if role == "table":
            layout.tables.append(path)
        elif role == "dataset":
            layout.dataset = path
        elif role == "other":
            layout.ignored += 1
        elif role == "mask" and _UNPAIRED_FOLDERS & {name.lower() for name in path.relative_to(folder).parts[:-1]}:
            layout.unpaired_masks.append(path)
        elif role:
            owner = _owner(path, folder)
            own_folder = _is_case_folder(owner, folder, images_in)
            layout.foldered |= own_folder
            name = (
                _folder_name(owner, folder) if own_folder else _case_name(path, role, imaged if role == "scribble" else marked)
            )
            group = "" if own_folder or owner == folder else _folder_name(owner, folder)
            if group and name in shared:
                name = f"{group}_{name}"
            case = found.setdefault((_part(path, folder), name), FoundCase(name, _part(path, folder)))
            if role == "image":
                case.group = group
                channel = _channel(path, _words(name))
                case.images[channel if channel not in case.images else _stem(path)] = path
            else:
                {"mask": case.masks, "scribble": case.scribbles, "points": case.points}[role].append(path)
    for case in found.values():
        if case.images:
            layout.cases.append(case)
        else:
            layout.unpaired_masks += case.masks
            layout.strays += [*case.scribbles, *case.points]
    if not layout.cases:
        raise DataError(f"{shown(folder)} holds no image with a .nii or .nii.gz name; choose the folder of the images.")
    unique_ids(layout.cases)
    return layout


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{shown(folder)} is no folder; choose the folder of the images.")
    files: list[Path] = []
    for place, folders, names in os.walk(folder):
        # beside a cohort file lie its results and runs: masks that nobody drew
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not name.endswith(("_results", "_runs")))
        files += [folder.__class__(place, name) for name in sorted(names) if not name.startswith(".")]
        if len(files) > MOST_FILES:
            raise DataError(f"{shown(folder)} holds more than {MOST_FILES:,} files; choose the folder of one cohort.")
    return [path for path in files if path.name.lower().endswith(_SUFFIXES)]


def _is_volume(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


def _stem(path: Path) -> str:
    return without_suffix(path, _SUFFIXES)


def _words(name: str) -> list[str]:
    return [word for word in _SPLIT.split(name.lower()) if word]


def _role(path: Path, folder: Path) -> str:
    """``"image"``, ``"mask"``, ``"scribble"``, ``"points"``, ``"table"``, ``"dataset"``, ``"other"``, or empty."""
    words = set(_words(_stem(path)))
    parents = [name.lower() for name in path.relative_to(folder).parts[-2::-1]]
    by_folder = next((role for name in parents for role, names in _ROLE_FOLDERS.items() if name in names), "")
    if _is_volume(path):
        if any(name.startswith("unpaired") for name in parents):
            return "mask"
        by_name = next((role for role in ("other", "scribble", "mask") if words & _ROLE_WORDS[role]), "")
        return by_folder if by_folder not in ("", "image") else by_name or "image"
    is_points = bool(words & _ROLE_WORDS["points"]) or by_folder == "points"
    if path.name.lower().endswith((".csv", ".tsv")):
        return "points" if is_points else "table"
    if path.name == "dataset.json":
        return "dataset"
    return "points" if is_points or path.name.lower().endswith(".mrk.json") else ""


def _part(path: Path, folder: Path) -> str:
    names = {name.lower() for name in path.relative_to(folder).parts[:-1]}
    return next((part for part, folders in _PART_FOLDERS.items() if names & folders), "training")


def _is_plain(place: Path, folder: Path) -> bool:
    """Whether a folder's name says nothing of a case: of a part, of a kind of file, or of a sequence."""
    name = place.name.lower()
    grouping = set().union(*_ROLE_FOLDERS.values(), *_PART_FOLDERS.values(), _UNPAIRED_FOLDERS, {"anat"})
    return place == folder or name in grouping or _SEQUENCES.fullmatch(name) is not None


def _owner(path: Path, folder: Path) -> Path:
    """The innermost folder whose name may be a case's; `folder` itself where there is none."""
    return next((place for place in path.parents if place == folder or not _is_plain(place, folder)), folder)


def _is_case_folder(place: Path, folder: Path, images_in: dict[Path, list[Path]]) -> bool:
    """Whether all in a folder is of one case: one image, or sequences of it."""
    if place == folder:
        return False
    inside = images_in.get(place, [])
    elsewhere = {_channel(path, _words(other.name)) for other, paths in images_in.items() if other != place for path in paths}
    channels = [_channel(path, _words(_folder_name(place, folder))) for path in inside]
    if len(inside) > 1 and all(channel.isdigit() and not _SEQUENCES.fullmatch(channel) for channel in channels):
        return False  # numbered images are cases
    return len(inside) <= 1 or all(channel in elsewhere or _SEQUENCES.fullmatch(channel) for channel in channels)


def _named_in_several(images_in: dict[Path, list[Path]], folder: Path) -> set[str]:
    """Names that images of several folders have, none of which is a case's."""
    owners: dict[str, set[Path]] = {}
    for place, paths in images_in.items():
        if place != folder and not _is_case_folder(place, folder, images_in):
            for path in paths:
                owners.setdefault(_case_name(path, "image"), set()).add(place)
    return {name for name, places in owners.items() if len(places) > 1}


def _folder_name(place: Path, folder: Path) -> str:
    names = [name for name in place.relative_to(folder).parts if not _is_plain(folder / name, folder)]
    return "_".join(names)


def _case_name(path: Path, role: str, named: Container[str] = ()) -> str:
    """The name without the words that say what the file is; `named` are the cases that marks, or for strokes images, name."""
    name = _stem(path)
    if role != "image" or _words(name)[-1:] == ["image"]:
        words = _ROLE_WORDS.get(role, set()) | {"image"}
        kept = [word for word in re.split(r"([_\-. ]+)", name) if word]
        said = next((place for place, word in enumerate(kept) if word.lower() in words), 0)
        if role == "scribble" and "".join(kept[: max(0, said - 1)]) in named:  # what follows says whose strokes they are
            return "".join(kept[: said - 1])
        while len(kept) > 1 and kept[-1].lower() in words:
            kept = kept[:-2]
        while len(kept) > 1 and kept[0].lower() in words:
            kept = kept[2:]
        return "".join(kept)
    head, _, tail = name.rpartition("_")
    # four digits are nnU-Net's channel numbers in its own folders; anywhere else they may number the cases
    is_sequence = _SEQUENCES.fullmatch(tail) and (not tail.isdigit() or path.parent.name.lower().startswith("images"))
    return head if head and is_sequence and name not in named else name


def _channel(path: Path, case: list[str]) -> str:
    """What an image's name says besides the words of its case and words for image."""
    words = [word for word in _SPLIT.split(_stem(path)) if word]
    while len(words) > 1 and words[0].lower() in case:
        words = words[1:]
    kept = [word for word in words if word.lower() not in _IMAGE_WORDS and word.lower() not in case]
    return "_".join(kept) or "image"


def unique_ids(cases: list[FoundCase]) -> None:
    """Give every case an id of its own that can name a file."""
    taken: set[str] = set()
    for case in cases:
        name = file_name(case.id, fallback="case")
        if name.casefold() in taken:
            name = file_name(f"{case.part}_{name}")
        number = 2
        while name.casefold() in taken:
            name, number = file_name(f"{case.part}_{case.id}_{number}"), number + 1
        case.id = name
        taken.add(name.casefold())
