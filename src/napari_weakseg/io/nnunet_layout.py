"""The cases of an nnU-Net dataset, by its own rules; with an ``ignore`` label its labels are strokes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..errors import DataError, WeaksegError
from .cohort_layout import FoundCase, Layout, unique_ids
from .cohort_structures import dataset_of
from .names import shown
from .nifti import read_mask
from .nnunet import BACKGROUND, ENDING, IGNORE, KEPT
from .scribble_codes import ScribbleCodes, counted
from .scribbles import MOST

if TYPE_CHECKING:
    from pathlib import Path

FOLDERS = {"training": ("imagesTr", "labelsTr"), "testing": ("imagesTs", "labelsTs")}


def nnunet_layout(folder: Path) -> Layout | None:
    """The cases of a dataset of nnU-Net version 2; None where `folder` is none.

    Raises
    ------
    DataError
        Its images are no NIfTI files.
    """
    layout = Layout(dataset=folder / "dataset.json")
    data = dataset_of(layout)
    labels, channels = data.get("labels"), data.get("channel_names")
    if not isinstance(labels, dict) or not isinstance(channels, dict) or BACKGROUND not in labels:
        return None
    ending = str(data.get("file_ending", ENDING))
    if ending not in (".nii.gz", ".nii"):
        raise DataError(f"the images of {shown(folder)} end in {ending:.20}; convert them to .nii.gz first.")
    for part, (images, _) in FOLDERS.items():
        layout.cases += _cases(folder / images, part, ending)
    if not layout.cases:
        return None  # the medical decathlon's datasets look alike, but number no channels
    ignore = labels.get(IGNORE)
    ignore = ignore if isinstance(ignore, int) and not isinstance(ignore, bool) else None
    dense = False
    for part, (_, place) in FOLDERS.items():
        owners = {f"{case.id}{ending}": case for case in layout.cases if case.part == part}
        for path in sorted((folder / place).glob(f"[!.]*{ending}")):  # macOS leaves side files that begin with a dot
            if path.name in owners:
                dense |= _take_labels(owners[path.name], path, ignore)
            elif ignore is None:
                layout.unpaired_masks.append(path)
    if ignore is not None:
        layout.codes = ScribbleCodes(0, ignore, dense=dense).to_json()
    layout.tables = sorted(folder.glob("[!.]*.csv"))
    _take_kept(layout, data.get(KEPT))
    unique_ids(layout.cases)
    return layout


def _cases(folder: Path, part: str, ending: str) -> list[FoundCase]:
    """Images are called ``<case>_<channel as four digits><ending>``."""
    pattern = re.compile(rf"([^.].*)_(\d{{4}}){re.escape(ending)}")
    found: dict[str, FoundCase] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if match is not None:
            found.setdefault(match[1], FoundCase(match[1], part)).images[match[2]] = path
    return list(found.values())


def _take_labels(case: FoundCase, path: Path, ignore: int | None) -> bool:
    """Labels with ignored voxels are strokes, without any a full mask; returns whether they mark most of the image."""
    if ignore is None or case.part == "testing":
        case.masks.append(path)
        return False
    try:
        counts = counted(read_mask(path).array)
    except WeaksegError:
        counts = {ignore: 1}  # a damaged file is for `check_cohort` to report
    case.full_mask = ignore not in counts
    (case.masks if case.full_mask else case.scribbles).append(path)
    return not case.full_mask and any(count > MOST * sum(counts.values()) for value, count in counts.items() if value != ignore)


def _take_kept(layout: Layout, kept: Any) -> None:
    """What an export of ours says beyond nnU-Net's own words."""
    if not isinstance(kept, dict):
        return
    patients, validation = kept.get("patients"), kept.get("validation")
    if isinstance(patients, dict):
        layout.patients = {str(case): patient for case, patient in patients.items() if isinstance(patient, str)}
    for case in layout.cases:
        if isinstance(validation, list) and case.part == "training" and case.id in validation:
            case.part = "validation"
    layout.slice_axis = axis if (axis := kept.get("slice_axis")) in (0, 1, 2) else 2
    structures = kept.get("structures")
    for entry in structures if isinstance(structures, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            layout.looks[entry["name"]] = {key: entry[key] for key in ("colour", "concept") if key in entry}
