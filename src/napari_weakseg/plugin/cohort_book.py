"""A cohort as its panel sees it, without Qt or napari: rows and their states, marks that are saved as they are made.

Everything is derived from two places on disk: ``cohort.json`` with marks and states, and beside it the folder of results.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import count as numbers
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..case import Cohort
from ..errors import DataError, PromptError
from ..io.cohort import CasesOnDisk, read_cohort, stamp_of, update_case
from ..io.cohort_file import PARTS
from ..io.names import file_name
from ..prompts import BACKGROUND_STROKE, ExtremePoints, ImageLabel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..case import Case
    from ..io.cohort_file import CaseEntry
    from ..method import Card
    from ..prompts import Structure
    from ..volume import Volume

UNMARKED, MARKED, SEGMENTED, REVIEWED = "unmarked", "marked", "segmented", "reviewed"
MOST_BYTES = 20_000_000


@dataclass(frozen=True)
class Row:
    """One case in the table.

    Parameters
    ----------
    id : str
        Its id in the cohort file.
    part : str
        ``"training"``, ``"validation"`` or ``"testing"``.
    marks : str
        What it was marked with, in words.
    state : str
        ``"unmarked"``, ``"marked"``, ``"segmented"`` or ``"reviewed"``.
    doubt : float or None
        How unsure the prediction is, 0 to 1; None without one.
    """

    id: str
    part: str
    marks: str
    state: str
    doubt: float | None = None


class CohortBook:
    """An open ``cohort.json``.

    Parameters
    ----------
    path : path
        The file.

    Raises
    ------
    DataError
        The file is missing or wrong.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self.cohort = Cohort()
        self._stamp = ""
        self.reload()

    def reload(self) -> None:
        """Read the file again, for example since another program changed it."""
        self._stamp = stamp_of(self.path)
        self.cohort = read_cohort(self.path)

    # -- what there is ---------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What the panel calls it."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def results(self) -> Path:
        """Folder of predictions and reviewed masks, beside the cohort file."""
        return self.path.with_name(f"{self.path.stem}_results")

    @property
    def runs(self) -> Path:
        """Folder of the runs that are trained from here."""
        return self.path.with_name(f"{self.path.stem}_runs")

    def run_names(self) -> tuple[str, ...]:
        """Runs that were trained from here, the newest first."""
        folders = [path for path in self.runs.iterdir() if (path / "recipe.json").is_file()] if self.runs.is_dir() else []
        return tuple(path.name for path in sorted(folders, key=lambda path: -path.stat().st_mtime))

    def new_run_name(self) -> str:
        """A name that no run has."""
        taken = {path.name for path in self.runs.iterdir()} if self.runs.is_dir() else set()
        return next(name for number in numbers(1) if (name := f"run_{number}") not in taken)

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes of image-level labels."""
        return self.cohort.image_classes

    def _parts(self) -> list[tuple[str, CasesOnDisk]]:
        return [(part, cases) for part in PARTS if isinstance(cases := getattr(self.cohort, part), CasesOnDisk)]

    def _place(self, case_id: str) -> tuple[CasesOnDisk, int]:
        for _, cases in self._parts():
            if case_id in cases.ids:
                return cases, cases.ids.index(case_id)
        raise DataError(f"the cohort has no case {case_id!r:.40}; open it again.")

    def entry(self, case_id: str) -> CaseEntry:
        """What the file says of a case."""
        cases, index = self._place(case_id)
        return cases.entries[index]

    def read(self, case_id: str) -> Case:
        """Read a case's images and marks from disk.

        Raises
        ------
        WeaksegError
            A file is damaged or does not fit.
        """
        cases, index = self._place(case_id)
        return cases[index]

    def read_image(self, case_id: str) -> Case:
        """Read a case's images alone, for a network that sees no marks: odd ones are not in its way.

        Raises
        ------
        WeaksegError
            A file is damaged or does not fit.
        """
        cases, index = self._place(case_id)
        return cases.image_of(index)

    def rows(self) -> tuple[Row, ...]:
        """The table, in the file's order."""
        return tuple(self._row(part, entry) for part, cases in self._parts() for entry in cases.entries)

    def _row(self, part: str, entry: CaseEntry) -> Row:
        state = entry.state
        if state in (UNMARKED, MARKED) and self.result(entry.id) is not None:
            state = SEGMENTED  # predicted from the command line, for example
        return Row(entry.id, part, marks_of(entry), state, self.doubt(entry.id))

    def counts(self) -> dict[str, int]:
        """How many cases are in each state."""
        states = [row.state for row in self.rows()]
        return {state: states.count(state) for state in (UNMARKED, MARKED, SEGMENTED, REVIEWED)}

    # -- results ---------------------------------------------------------------------------

    def result(self, case_id: str) -> Path | None:
        """The mask to show for a case: the one that was saved from the viewer, else the predicted one."""
        for end in ("reviewed", "mask"):
            path = self.results / f"{case_id}_{end}.nii.gz"
            if path.is_file():
                return path
        return None

    def reviewed_path(self, case_id: str) -> Path:
        """Where a mask goes that was corrected or accepted in the viewer; the prediction itself stays."""
        return self.results / f"{case_id}_reviewed.nii.gz"

    def heatmaps(self, case_id: str) -> dict[str, Path]:
        """Predicted heatmaps of a case, by class."""
        paths = {name: self.results / f"{case_id}_heatmap_{file_name(name, fallback='class')}.nii.gz" for name in self.classes}
        return {name: path for name, path in paths.items() if path.is_file()}

    def scores(self, case_id: str) -> Mapping[str, Any]:
        """What ``<id>_scores.json`` says; empty where there is none that can be read."""
        path = self.results / f"{case_id}_scores.json"
        try:
            if path.stat().st_size > MOST_BYTES:
                return {}
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}

    def slice_scores(self, case_id: str) -> Any:
        """Predicted probabilities (slices, classes), None where there are none."""
        table = np.asarray(self.scores(case_id).get("slices", ()), dtype=np.float64)
        return table if table.ndim == 2 and table.shape[1] >= 2 else None

    def doubt(self, case_id: str) -> float | None:
        """0 where every slice is sure, 1 where all classes are equally likely; None without scores."""
        scores = self.scores(case_id)
        table = self.slice_scores(case_id)
        if table is None:
            table = np.asarray(scores.get("volume", ()), dtype=np.float64).reshape(1, -1)
        if table.shape[1] < 2 or not np.isfinite(table).all():
            doubt = scores.get("doubt")
            return float(doubt) if isinstance(doubt, int | float) else None
        best = table.max(axis=1) / np.maximum(table.sum(axis=1), 1e-9)
        return float(np.mean(1 - best) * table.shape[1] / (table.shape[1] - 1))

    def next_useful(self, after: str = "") -> str | None:
        """The case to look at next: the first one without marks and prediction, then the most doubtful one not reviewed.

        Parameters
        ----------
        after : str
            The case that is open: it is not offered again while there are others.
        """
        rows = [row for row in self.rows() if row.state != REVIEWED and row.id != after]
        unmarked = [row for row in rows if row.state == UNMARKED]
        if unmarked:
            return unmarked[0].id
        doubtful = sorted((row for row in rows if row.state == SEGMENTED), key=lambda row: -(row.doubt or 0.0))
        return (doubtful or rows)[0].id if rows else None

    # -- marks: each is on disk when the call returns ---------------------------------------

    def label(self, case_id: str, label: int | Sequence[int] | None) -> None:
        """Give a case its image-level label: a class for the volume, one per slice, or None to take it away.

        Raises
        ------
        WeaksegError
            The cohort names no classes, or the file was changed by another program.
        """
        if len(self.classes) < 2:
            raise PromptError("this cohort names no image classes; add image_classes to its file, then open it again.")
        mark = None
        if label is not None:
            own = int(label) if isinstance(label, int | np.integer) else tuple(int(one) for one in label)
            mark = ImageLabel(self.classes, own, self.cohort.slice_axis)
        self._change(case_id, image_label=mark)

    def label_slice(self, case_id: str, index: int, value: int, count: int) -> bool:
        """Give one slice its class; the other slices keep theirs, and take the first class where the case had no labels.

        Parameters
        ----------
        case_id : str
            The case.
        index, value : int
            The slice along the cohort's slice axis, and its class.
        count : int
            How many slices the volume has.

        Returns
        -------
        bool
            Whether the other slices took the first class: that has to be said.
        """
        known = self.entry(case_id).image_label
        before: list[int] | None = None
        if known is not None:
            before = list(known.label) if isinstance(known.label, tuple) else [known.label] * count
        new = [0] * count if before is None or len(before) != count else before
        new[index] = value
        self.label(case_id, new)
        return before is None

    def place_points(self, case_id: str, points: ExtremePoints | None) -> None:
        """Keep the extreme points of a case, or take them away."""
        self._change(case_id, points=points)

    def strokes_path(self, case_id: str) -> Path:
        """Where strokes go that were drawn in the viewer; files of others are never written into."""
        return self.path.with_name(f"{self.path.stem}_strokes") / f"{case_id}_strokes.nii.gz"

    def keep_strokes(self, case_id: str) -> None:
        """The file of `strokes_path` is what is drawn on the case, in our own codes; where it is gone, nothing is."""
        path = self.strokes_path(case_id)
        there = path.is_file()
        codes = {"background": BACKGROUND_STROKE, "unlabelled": 0} if there else None
        name = f"{path.parent.name}/{path.name}" if there else None
        known = self.entry(case_id).scribble
        if known != ((path,) if there else None):
            self._change(case_id, scribble=name, scribble_codes=codes)

    def set_state(self, case_id: str, state: str) -> None:
        """Keep how far a case has come."""
        self._change(case_id, state=state)

    def _change(self, case_id: str, **changes: Any) -> None:
        if "state" not in changes:
            entry = self.entry(case_id)
            left = {**{key: getattr(entry, key) for key in ("image_label", "points", "scribble")}, **changes}
            marked = any(value is not None for value in left.values())
            if entry.state in (UNMARKED, MARKED):
                changes["state"] = MARKED if marked else UNMARKED
        try:
            self._stamp = update_case(self.path, case_id, expected=self._stamp, **changes)
        except DataError:
            self.reload()  # what is shown is what the file says, also where somebody else changed it
            raise
        self.cohort = read_cohort(self.path)

    # -- training --------------------------------------------------------------------------

    def trainable(self, card: Card) -> Cohort:
        """The cohort with those of its training cases that a method can learn from: unmarked ones too, where its card says so.

        Raises
        ------
        PromptError
            None does.
        """
        cases = self.cohort.training
        assert isinstance(cases, CasesOnDisk)
        fields = {"image_label": "image_label", "extreme_points": "points", "scribbles": "scribble"}
        usable = [
            index
            for index, entry in enumerate(cases.entries)
            if any(getattr(entry, fields[kind]) is not None for kind in card.prompts if kind in fields)
        ]
        if not usable:
            words = " or ".join(kind.replace("_", " ") for kind in card.prompts)
            raise PromptError(f"no training case has {words} yet; mark some first.")
        return self.cohort if card.learns_unmarked else replace(self.cohort, training=cases.pick(usable))

    def unpredicted(self) -> tuple[str, ...]:
        """Cases to predict: all that nobody has reviewed."""
        return tuple(row.id for row in self.rows() if row.state != REVIEWED)

    @property
    def by_slice(self) -> bool:
        """Whether labels are per slice here: as in the cases that have one; per slice where none has."""
        labels = [entry.image_label for _, cases in self._parts() for entry in cases.entries if entry.image_label is not None]
        return not labels or any(isinstance(label.label, tuple) for label in labels)


def marks_of(entry: CaseEntry) -> str:
    """A case's marks in words."""
    parts = []
    label = entry.image_label
    if label is not None and isinstance(label.label, tuple):
        values, counts = np.unique(label.label, return_counts=True)
        shown = [f"{label.classes[value]} on {count}" for value, count in zip(values, counts, strict=True) if value]
        parts.append(f"{', '.join(shown) or label.classes[0] + ' on all'} of {len(label.label)} slices")
    elif label is not None:
        parts.append(label.classes[int(np.asarray(label.label))])
    if entry.points is not None:
        parts.append("points")
    if entry.scribble is not None:
        parts.append("scribbles")
    return ", ".join(parts)


def points_of(document: Any, volume: Volume, structures: tuple[Structure, ...]) -> ExtremePoints | None:
    """The complete objects of a panel's document as they are saved; None where there is none."""
    from .session import points_needed, six_of

    keys = [key for key in document.objects if len(document.rows_of(key)) >= points_needed(volume.shape)]
    if not keys:
        return None
    known = {structure.value: structure for structure in (*document.structures, *structures)}
    used = tuple(known[value] for value in dict.fromkeys(key.structure for key in keys))
    sixes = np.stack([six_of(document.points_of(key), volume.shape) for key in keys])
    return ExtremePoints(sixes, np.array([key.structure for key in keys]), used, volume.affine).checked(volume)
