"""A first ``cohort.json`` from a folder: what the names and tables say, in plain sentences, and nothing that they do not."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from ..errors import DataError, PromptError
from .cohort_layout import FoundCase, Layout, layout_of
from .cohort_structures import dataset_of, few, structures_of, values_of
from .label_tables import CASE_COLUMNS, CLASS_COLUMNS, NO_FINDING, SLICE_COLUMNS, Table, read_table
from .names import shown
from .nnunet_layout import nnunet_layout
from .scribble_codes import in_words, question

_PATIENT_COLUMNS = ("patient", "patient_id", "subject", "subject_id")
FIRST_CLASS = "'{}' is taken for what is without a finding: it has to be the first of image_classes."
_PATIENT_IN_ID = re.compile(r"((?:sub|subject|subj|patient|pat|case|p|s)[-_]?\d+)[-_.].+", re.I)


def guess_cohort(
    folder: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str] | None = None,
    class_column: str | None = None,
    codes: dict[str, Any] | None = None,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Find images, masks, scribbles, points and label tables, and put them together as cases.

    Names decide what a file is; masks and scribbles are opened only to see which values they hold. What scribble values
    mean stands in no file: it is left open unless `codes` says it.

    Parameters
    ----------
    folder : path
        One folder per case, all cases in one folder, or nnU-Net's ``imagesTr`` and ``labelsTr``.
    output : path, optional
        Where the cohort file is to lie: paths are relative to its folder. Default ``cohort.json`` in `folder`.
    class_column : str, optional
        Column of the label table that holds the classes.
    codes : dict, optional
        ``{"background": value, "unlabelled": value}`` of the scribbles, as ``scribble_codes`` of a cohort file.

    Returns
    -------
    data : dict
        The content of a cohort file, for `write_cohort`.
    notes : tuple of str
        What was taken for what, and what the user has to fill in.

    Raises
    ------
    DataError, PromptError
        No such folder, no image in it, or no such column.
    """
    root = Path(os.path.abspath(folder))
    target = root / "cohort.json" if output is None else Path(os.path.abspath(output))
    layout = nnunet_layout(root) or layout_of(root)
    codes = layout.codes if codes is None else codes
    notes: list[str] = []
    where = ", each in a folder of its own" if layout.foldered and len(layout.cases) > 1 else ""
    notes.append(f"{_counted(len(layout.cases), 'case was', 'cases were')} found{where}.")
    if layout.ignored:
        files = _counted(layout.ignored, "file with the name of a result was", "files with names of results were")
        notes.append(f"{files} left out (heatmap, probability, prediction).")
    if layout.strays:
        files = _counted(len(layout.strays), "file of strokes or points belongs", "files of strokes or points belong")
        notes.append(f"{files} to no image by name ({few(shown(path) for path in layout.strays)}) and were left out.")
    channels, kept = _channels(layout, notes)
    tables = _Tables(layout.tables, [case.id for case in kept], class_column, notes)
    if not tables.labels:
        tables.take_folders(kept, notes)
    patients = layout.patients or _patients(kept, tables, notes)
    data: dict[str, Any] = {
        "name": str(dataset_of(layout).get("name") or root.name or "cohort"),
        "channels": list(channels),
        "structures": structures_of(kept, layout, codes, notes),
        "image_classes": list(tables.classes),
        "slice_axis": layout.slice_axis,
    }
    if layout.codes is not None:
        notes.append(
            "dataset.json has an ignore label: its labels are taken for strokes, and those without ignored voxels for masks."
        )
    if any(case.scribbles for case in kept):
        data["scribble_codes"] = codes
        _tell_codes(kept, codes, notes)
    _set_folder(data, root, target)
    for part in ("training", "validation", "testing"):
        data[part] = [_entry(case, channels, tables, patients, target.parent, notes) for case in kept if case.part == part]
    data["unpaired_masks"] = [_relative(path, target.parent) for path in layout.unpaired_masks]
    _tell_rest(kept, data, tables, notes)
    return data, tuple(notes)


def _channels(layout: Layout, notes: list[str]) -> tuple[tuple[str, ...], list[FoundCase]]:
    """Sequences that every case has; where each has one image of whatever name, one channel."""
    names = [set(case.images) for case in layout.cases]
    shared = set.intersection(*names)
    if not shared and all(len(images) == 1 for images in names):
        kinds = sorted(set.union(*names))
        notes.append(f"every case has one image, under several names ({few(kinds)}); they are taken for one channel.")
        for case in layout.cases:
            case.images = {"image": next(iter(case.images.values()))}
        return ("image",), layout.cases
    if not shared:
        best, count = Counter(name for images in names for name in sorted(images)).most_common(1)[0]
        notes.append(f"no sequence is in every case; {best!r} is in {count} of {len(names)}, and the others were left out.")
        shared = {best}
    spare = Counter(name for images in names for name in images if name not in shared)
    for name, count in sorted(spare.items()):
        notes.append(f"the sequence {name!r} is in {count} of {len(names)} cases alone and was left out.")
    channels = tuple(_channel_names(sorted(shared), layout, notes))
    order = sorted(shared)
    kept = []
    for case in layout.cases:
        if shared <= set(case.images):
            case.images = {new: case.images[old] for new, old in zip(channels, order, strict=True)}
            kept.append(case)
    if channels != ("image",):
        notes.append(f"the channels are {few(channels)}.")
    return channels, kept


def _channel_names(names: list[str], layout: Layout, notes: list[str]) -> list[str]:
    """nnU-Net's numbers become the names that its ``dataset.json`` gives them."""
    data = dataset_of(layout)
    given = data.get("channel_names", data.get("modality"))
    if not isinstance(given, dict) or not all(name.isdigit() and len(name) == 4 for name in names):
        if names == ["image"] and isinstance(given, dict) and len(given) > 1:
            notes.append(
                f"dataset.json names {len(given)} channels, but the images are single files; 4D files have to be split."
            )
        return names
    new = [str(given.get(str(int(name)), name)) for name in names]
    return new if len(set(new)) == len(new) else names


class _Tables:
    """Classes and patients in the CSV files of a folder."""

    def __init__(self, paths: list[Path], ids: list[str], class_column: str | None, notes: list[str]) -> None:
        self.classes: tuple[str, ...] = ()
        self.labels: dict[str, Any] = {}
        self.patients: dict[str, str] = {}
        refused: list[str] = []
        for path in paths:
            try:
                table = read_table(path)
            except PromptError as error:
                notes.append(f"{error}")
                continue
            rows = {case: rows for case, rows in table.by_case().items() if case in set(ids)}
            if not table.first_of(CASE_COLUMNS) or not rows:
                notes.append(f"{shown(path)} names none of the cases in a column 'case' and was left out.")
                continue
            self._take_patients(table, rows)
            columns = _class_columns(table, rows, class_column)
            if self.labels or len(columns) != 1:
                refused.append(shown(path))
                if columns and not self.labels:
                    notes.append(f"{shown(path)} may hold classes in {few(columns)}: choose a column with --class-column.")
                continue
            self._take_labels(table, rows, columns[0], path, notes)
        if class_column is not None and not self.labels:
            raise PromptError(f"no table of this folder has classes of the cases in a column {class_column!r}; name another.")

    def take_folders(self, cases: list[FoundCase], notes: list[str]) -> None:
        """Folders that share out the cases are classes where one sounds like no finding; otherwise the user is asked."""
        groups = _in_order({case.group for case in cases if case.group})
        if len(groups) < 2 or not all(case.group for case in cases) or len(groups) > len(cases) / 2:
            return
        if groups[0].lower() not in NO_FINDING:
            notes.append(
                f"the images lie in the folders {few(groups)}: if these are classes, give them in a table (case, class)."
            )
            return
        self.classes = tuple(groups)
        self.labels = {case.id: case.group for case in cases}
        notes.append(f"image-level labels (one per volume) are the names of the folders: {few(groups)}.")
        notes.append(FIRST_CLASS.format(groups[0]))

    def _take_patients(self, table: Table, rows: dict[str, list[dict[str, str]]]) -> None:
        column = table.first_of(_PATIENT_COLUMNS)
        if column:
            self.patients |= {case: lines[0][column] for case, lines in rows.items() if lines[0][column]}

    def _take_labels(
        self, table: Table, rows: dict[str, list[dict[str, str]]], column: str, path: Path, notes: list[str]
    ) -> None:
        found = _in_order({line[column] for lines in rows.values() for line in lines if line[column]})
        if len(found) < 2:
            notes.append(f"column {column!r} of {shown(path)} holds fewer than two classes and was left out.")
            return
        if found == ["0", "1"]:
            thing = re.sub(r"^(has|is)_|_(present|label|class)$", "", column).replace("_", " ").strip()
            thing = "positive" if thing in CLASS_COLUMNS else thing
            self.classes = (f"no {thing}", thing)
        else:
            self.classes = tuple(f"class {value}" for value in found) if all(map(str.isdigit, found)) else tuple(found)
        index = {value: place for place, value in enumerate(found)}
        counted = table.first_of(SLICE_COLUMNS)
        incomplete = 0
        for case, lines in rows.items():
            if counted:
                lines = sorted(lines, key=lambda line: int(line[counted]) if re.fullmatch("[0-9]{1,9}", line[counted]) else -1)
                whole = [line[counted] for line in lines] == [str(number) for number in range(len(lines))]
            else:
                whole = len(lines) == 1
            if not whole or any(line[column] not in index for line in lines):
                incomplete += 1
                continue
            values = [index[line[column]] for line in lines]
            self.labels[case] = values if counted else self.classes[values[0]]
        kind = "one per slice" if counted else "one per volume"
        listed = few([f"{value} = {name}" if value != name else value for value, name in zip(found, self.classes, strict=True)])
        notes.append(f"image-level labels ({kind}) are in {shown(path)}, column {column!r}: {listed}.")
        notes.append(FIRST_CLASS.format(self.classes[0]))
        if incomplete:
            have = _counted(incomplete, "case has", "cases have")
            notes.append(f"{have} gaps there and stay unmarked; number the slices from 0, one row for each.")


def _in_order(values: set[str]) -> list[str]:
    """Classes by number or name, the one that sounds like no finding first."""
    numbers = all(map(str.isdigit, values))
    return sorted(values, key=lambda value: (value.lower() not in NO_FINDING, int(value) if numbers else 0, value))


def _class_columns(table: Table, rows: dict[str, list[dict[str, str]]], wanted: str | None) -> list[str]:
    """Columns that may hold classes: few different names, or the numbers 0, 1, ..."""
    if wanted is not None:
        return [wanted.lower()] if wanted.lower() in table.columns else []
    named = table.first_of(CLASS_COLUMNS)
    if named:
        return [named]
    taken = {*CASE_COLUMNS, *SLICE_COLUMNS, *_PATIENT_COLUMNS}
    lines = [line for case in rows.values() for line in case]
    fitting = []
    for column in (column for column in table.columns if column not in taken):
        values = {line[column] for line in lines} - {""}
        numbers = any(re.fullmatch(r"[-+.\d][\d.eE+-]*", value) for value in values)
        if 2 <= len(values) <= 10 and (not numbers or values == set(map(str, range(len(values))))):
            fitting.append(column)
    return fitting


def _patients(cases: list[FoundCase], tables: _Tables, notes: list[str]) -> dict[str, str]:
    """Patients of the cases that share one with another, from a table or from ids such as ``patient001_frame01``."""
    found = {case.id: tables.patients[case.id] for case in cases if case.id in tables.patients}
    source = "a table"
    if not found:
        source = "their names"
        matches = {case.id: _PATIENT_IN_ID.fullmatch(case.id) for case in cases}
        found = {name: match[1] for name, match in matches.items() if match is not None}
    several = [name for name, count in Counter(found.values()).items() if count > 1]
    if not several:
        return {}
    example = [case for case, patient in found.items() if patient == several[0]]
    notes.append(
        f"{len(set(found.values()))} patients were taken from {source}, for example {few(example)} are of {several[0]}; "
        "they stay in one fold."
    )
    return found


def _tell_codes(cases: list[FoundCase], codes: dict[str, Any] | None, notes: list[str]) -> None:
    if codes is not None:
        return
    values = values_of([path for case in cases for path in case.scribbles])
    if values:
        notes.append(
            f"the scribbles hold {in_words(values)}; which value is a background stroke and which is unlabelled stands in no "
            f"file: state scribble_codes{question(values)}."
        )


def _set_folder(data: dict[str, Any], root: Path, target: Path) -> None:
    if not root.is_relative_to(target.parent):
        data["folder"] = _relative(root, target.parent)


def _entry(
    case: FoundCase, channels: tuple[str, ...], tables: _Tables, patients: dict[str, str], base: Path, notes: list[str]
) -> dict[str, Any]:
    images = [_relative(case.images[channel], base) for channel in channels]
    entry: dict[str, Any] = {"id": case.id}
    if case.id in patients:
        entry["patient"] = patients[case.id]
    entry["image"] = images[0] if len(images) == 1 else images
    if case.id in tables.labels:
        entry["image_label"] = tables.labels[case.id]
    for key, paths in (("points", case.points), ("scribble", case.scribbles), ("label", case.masks)):
        if len(paths) == 1:
            entry[key] = _relative(paths[0], base)
        elif paths and key == "scribble":
            entry[key] = [_relative(path, base) for path in paths]
        elif paths:
            notes.append(
                f"{case.id} has {len(paths)} files that may be its {key} ({few([shown(path) for path in paths])}): name one."
            )
    if case.full_mask and "label" in entry:
        entry["marks"] = "mask"
    return entry


def _tell_rest(cases: list[FoundCase], data: dict[str, Any], tables: _Tables, notes: list[str]) -> None:
    for key, words in (("points", "extreme points"), ("scribbles", "scribbles"), ("masks", "a reference mask")):
        count = sum(len(getattr(case, key)) == 1 or (key == "scribbles" and bool(case.scribbles)) for case in cases)
        if count:
            only = ", which is read for evaluation only" if key == "masks" and not any(case.full_mask for case in cases) else ""
            notes.append(f"{_counted(count, 'case has', 'cases have')} {words}{only}.")
    several = [case for case in cases if len(case.scribbles) > 1]
    if several:
        names = few(shown(path) for path in several[0].scribbles)
        whose = f"{_counted(len(several), 'case has', 'cases have')} several files of scribbles, for example {several[0].id}"
        notes.append(f"{whose} ({names}): they are joined, as of several people.")
    if data["unpaired_masks"]:
        masks = _counted(len(data["unpaired_masks"]), "mask belongs", "masks belong")
        notes.append(f"{masks} to no image: see unpaired_masks.")
    if any(isinstance(label, list) for label in tables.labels.values()):
        notes.append("slices are counted along the third axis of the files; set slice_axis if they are not.")
    if not data["testing"]:
        notes.append("no case is set aside for testing: move some to testing, or train in folds.")


def _relative(path: Path, base: Path) -> str:
    try:
        return Path(os.path.relpath(path, base)).as_posix()
    except ValueError as error:  # another drive on Windows
        raise DataError("the images lie on another drive than the cohort file; write it to the same drive.") from error


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
