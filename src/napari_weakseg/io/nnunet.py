"""A cohort as an nnU-Net dataset: what is not marked gets nnU-Net's ``ignore`` label, so that strokes can be learnt from.

References
----------
F. Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", Nature Methods
18:203-211, 2021 (the dataset format is that of version 2). K. Gotkowski et al., arXiv 2403.12834 (the ``ignore`` label).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays.intensity import finite_intensity
from ..case import known
from ..errors import DataError
from ..prompts import BACKGROUND_STROKE
from .atomic import write_atomically
from .names import file_name, shown
from .nifti_write import export_notes, write_image, write_mask

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ..case import Case, Cohort
    from ..volume import Volume

BACKGROUND, IGNORE, ENDING = "background", "ignore", ".nii.gz"

KEPT = "weakseg"
"""Key of ``dataset.json`` under which stands what nnU-Net has no word for; it does not read it."""

FOLDS = 5
"""So many folds nnU-Net trains."""

_NAME = re.compile(r"Dataset\d{3}_\w[\w-]*")


def check_target(cohort: Cohort, folder: str | os.PathLike[str]) -> None:
    """Find out before anything is read whether a cohort can become a dataset in `folder`.

    Raises
    ------
    DataError
        A name that nnU-Net does not find, a folder that is not empty, or names that mean something else to nnU-Net.
    """
    target = Path(folder)
    if not _NAME.fullmatch(target.name):
        raise DataError(
            f"{shown(target)} is no name of an nnU-Net dataset; use DatasetXXX_Name, for example Dataset501_Hearts."
        )
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise DataError(f"{shown(target)} is there already and not empty; name a new folder.")
    if not cohort.structures:
        raise DataError(f"cohort {cohort.name!r} has no structures; name them with their values.")
    for structure in cohort.structures:
        if structure.name in (BACKGROUND, IGNORE):
            raise DataError(f"a structure is called {structure.name!r}, which means something else to nnU-Net; rename it.")


def write_nnunet(
    cohort: Cohort, folder: str | os.PathLike[str], *, on_case: Callable[[int, int], None] | None = None
) -> tuple[str, ...]:
    """Write the marked training and validation cases, and the testing cases, as a dataset of nnU-Net version 2.

    Structures become 1, 2, ... in the order of their values, background strokes 0, and what is not marked ``ignore``, the
    highest value. Every image is written anew, in the type that it has, on the grid of its case's first channel, without text
    of its source. ``dataset.json`` comes last: without it a dataset is not complete.

    Parameters
    ----------
    cohort : Cohort
        Lazy cases are read one by one. Reference masks are read of testing cases alone.
    folder : path
        ``.../DatasetXXX_Name``, new or empty.
    on_case : callable, optional
        Gets the number of the case that was dealt with, from 1, and of all.

    Returns
    -------
    tuple of str
        What was left out or changed.

    Raises
    ------
    DataError
        As `check_target`; also where no case has strokes, or the folder cannot be written.
    WeaksegError
        A case cannot be read.
    """
    check_target(cohort, folder)
    export = _Export(cohort, Path(folder))
    total, done = sum(len(cases) for cases in (cohort.training, cohort.validation, cohort.testing)), 0
    testing = cohort.with_references().testing
    for part, cases in (("training", cohort.training), ("validation", cohort.validation), ("testing", testing)):
        for place in range(len(cases)):
            (export.tested if part == "testing" else export.learnt_from)(cases[place])
            done += 1
            if on_case is not None:
                on_case(done, total)
        if part == "validation" and not export.ids:
            raise DataError(f"no case of cohort {cohort.name!r} has strokes; nnU-Net would have nothing to learn from.")
    export.finish()
    return export.notes()


class _Export:
    """One dataset while it is written."""

    def __init__(self, cohort: Cohort, folder: Path) -> None:
        self.cohort, self.folder = cohort, folder
        self.structures = sorted(cohort.structures, key=lambda structure: structure.value)
        self.ignore = len(self.structures) + 1
        self.ids: list[str] = []
        self.patients: dict[str, str] = {}
        self.count: Counter[str] = Counter()
        self.said: list[str] = []

    def learnt_from(self, case: Case) -> None:
        """A training or validation case: its channels, and its strokes as labels."""
        if case.scribbles is None:
            self.count["cases without strokes were left out: nnU-Net cannot learn from them"] += 1
            return
        codes = np.full(256, self.ignore, dtype=np.uint8)
        codes[BACKGROUND_STROKE] = 0
        for number, structure in enumerate(self.structures, start=1):
            codes[structure.value] = number
        labels = codes[case.scribbles.checked(case.volume).labels]
        self.images(case, "imagesTr")
        self.labels(case, labels, "labelsTr")
        self.ids.append(case.id)
        self.count["cases have points or image-level labels, for which nnU-Net has no place"] += (
            case.points is not None or case.image_label is not None
        )

    def tested(self, case: Case) -> None:
        """A testing case: its channels, and its reference mask where it has one."""
        self.images(case, "imagesTs")
        self.count["testing cases have strokes, for which nnU-Net has no place"] += case.scribbles is not None
        if case.reference is not None:
            self.labels(case, self.renumbered(case.reference.array, case.id), "labelsTs")

    def renumbered(self, mask: NDArray[Any], name: str) -> NDArray[np.uint8]:
        """A reference mask with nnU-Net's values."""
        labels = np.zeros(mask.shape, dtype=np.uint8)
        for number, structure in enumerate(self.structures, start=1):
            labels[mask == structure.value] = number
        if np.count_nonzero(labels) != np.count_nonzero(mask):
            raise DataError(f"the mask of {name} holds a value that no structure has; add it to structures.")
        return labels

    def images(self, case: Case, folder: str) -> None:
        """Every channel, in the cohort's order, all on the first one's grid bit for bit."""
        if file_name(case.id) != case.id:
            raise DataError(f"the id {case.id!r:.40} cannot name a file; use letters, digits, - and _.")
        if case.patient != case.id:
            self.patients[case.id] = case.patient
        first = case.volume
        for number, name in enumerate(self.cohort.channels):
            volume = case.channels[name]
            self.count["images lay up to 0.1 mm off their case's first channel and got its place"] += not np.array_equal(
                volume.affine, first.affine
            )
            array = volume.array
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                array = finite_intensity(array)
                self.count["images hold voxels that are not finite; these took the image's minimum"] += 1
            placed = replace(
                volume,
                array=array,
                affine=first.affine,
                header=first.header,
                spacing_known=first.spacing_known,
                orientation_known=first.orientation_known,
            )
            write_image(placed, self.place(folder, f"{case.id}_{number:04}"))

    def labels(self, case: Case, labels: NDArray[np.uint8], folder: str) -> None:
        """Labels on the grid of the images."""
        volume: Volume = case.volume.with_array(labels, name=f"{case.id} labels")
        write_mask(volume, self.place(folder, case.id))
        for note in export_notes(volume):
            self.count[f"masks: {note}"] += 1

    def place(self, folder: str, name: str) -> Path:
        """Where a file goes; its folder is made."""
        try:
            (self.folder / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{shown(self.folder)} cannot be made; choose another place or change its rights.") from error
        return self.folder / folder / f"{name}{ENDING}"

    def finish(self) -> None:
        """Write what nnU-Net reads first, last."""
        validation = [case for case in known(self.cohort.validation, "id") if case in set(self.ids)]
        kept = {
            "patients": self.patients,
            "validation": validation,
            "slice_axis": self.cohort.slice_axis,
            "structures": [
                {"name": s.name, "colour": s.colour} | ({} if s.concept is None else {"concept": list(s.concept)})
                for s in self.structures
            ],
        }
        names = {structure.name: number for number, structure in enumerate(self.structures, start=1)}
        dataset = {
            "name": self.cohort.name,
            "channel_names": {str(number): name for number, name in enumerate(self.cohort.channels)},
            "labels": {BACKGROUND: 0, **names, IGNORE: self.ignore},
            "numTraining": len(self.ids),
            "file_ending": ENDING,
            KEPT: kept,
        }
        splits = self.splits(validation)
        if splits:
            write_atomically(self.folder / "splits_final.json", _json(splits))
            self.said.append(
                "splits_final.json keeps patients together and validation apart: copy it to nnU-Net's preprocessed folder."
            )
        renumbered = [f"{s.value} to {names[s.name]}" for s in self.structures if s.value != names[s.name]]
        if renumbered:
            self.said.append(f"nnU-Net numbers structures without gaps: {', '.join(renumbered[:6])}.")
        if len(self.cohort.unpaired_masks):
            self.said.append("unpaired masks were left out: nnU-Net has no place for them.")
        write_atomically(self.folder / "dataset.json", _json(dataset))

    def splits(self, validation: Sequence[str]) -> list[dict[str, list[str]]]:
        """nnU-Net's own folds would part the cases of a patient; empty where they cannot."""
        if validation:
            held = set(validation)
            return [{"train": [case for case in self.ids if case not in held], "val": list(validation)}]
        owners = {self.patients.get(case, case) for case in self.ids}
        if len(owners) == len(self.ids) or len(owners) < 2:
            return []
        found = []
        for fold in self.cohort.folds(min(FOLDS, len(set(known(self.cohort.training, "patient"))))):
            held = set(known(fold.testing, "id"))
            train, val = [case for case in self.ids if case not in held], [case for case in self.ids if case in held]
            if train and val:
                found.append({"train": train, "val": val})
        return found

    def notes(self) -> tuple[str, ...]:
        """What was left out or changed, with counts."""
        return (
            *(f"{count} {words}{'' if words.endswith('.') else '.'}" for words, count in self.count.items() if count),
            *self.said,
        )


def _json(data: Any) -> bytes:
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()
