"""Image-level labels from a CSV table: one row per case, or one per case and slice."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from functools import lru_cache

from ..errors import PromptError
from .names import shown, without_suffix

MOST_BYTES = 50_000_000
"""Larger tables are refused before they are parsed."""

CASE_COLUMNS = ("case", "id", "case_id", "image", "file", "filename", "participant_id")
SLICE_COLUMNS = ("slice", "slice_index", "slice_number")
CLASS_COLUMNS = ("class", "label", "image_label")

NO_FINDING = {
    "normal",
    "nor",
    "healthy",
    "control",
    "controls",
    "negative",
    "none",
    "no",
    "false",
    "absent",
    "background",
    "benign",
    "0",
}
"""Names of classes that sound like no finding."""


@dataclass(frozen=True)
class Table:
    """A CSV file's cells as text.

    Parameters
    ----------
    columns : tuple of str
        The header, in lower case.
    rows : tuple of dict
        One entry per column.
    """

    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]

    def first_of(self, names: tuple[str, ...]) -> str:
        """The first of `names` that is a column; empty where none is."""
        return next((name for name in names if name in self.columns), "")

    def by_case(self) -> dict[str, list[dict[str, str]]]:
        """The rows of each case, by its name without ``.nii.gz``; all under ``""`` where no column names cases."""
        column = self.first_of(CASE_COLUMNS)
        cases: dict[str, list[dict[str, str]]] = {}
        names = {cell: without_suffix(cell) for cell in {row[column] for row in self.rows}} if column else {}
        for row in self.rows:
            cases.setdefault(names[row[column]] if column else "", []).append(row)
        return cases


def read_table(path: str | os.PathLike[str]) -> Table:
    """Read a table with a header line; cells are separated by commas, semicolons or tabs.

    One that has not changed is not parsed again: a panel asks for it with every label that is given.

    Raises
    ------
    PromptError
        Missing, too large, no text, or rows of another length than the header.
    """
    name = shown(path)
    try:
        found = os.stat(path)
        if found.st_size > MOST_BYTES:
            raise PromptError(f"{name} is larger than {MOST_BYTES // 1_000_000} MB and no table of labels; choose another.")
        return _parsed(os.path.abspath(path), found.st_mtime_ns, found.st_size)
    except FileNotFoundError as error:
        raise PromptError(f"{name} does not exist; check the name and the folder.") from error
    except OSError as error:
        raise PromptError(f"{name} cannot be read; check its rights and the disk.") from error
    except (ValueError, csv.Error) as error:
        raise PromptError(f"{name} is no table with a header line; save it as CSV in UTF-8.") from error


@lru_cache(maxsize=4)
def _parsed(path: str, _changed: int, _size: int) -> Table:
    name = shown(path)
    with open(path, "rb") as file:
        text = file.read(MOST_BYTES + 1).decode("utf-8-sig")
    separator = max(",;\t", key=text.partition("\n")[0].count)
    header, *lines = [line for line in csv.reader(io.StringIO(text), delimiter=separator, strict=True) if line]
    columns = tuple(cell.strip().lower() for cell in header)
    if len(set(columns)) != len(columns):
        raise PromptError(f"two columns of {name} have the same name; rename one.")
    for number, line in enumerate(lines, start=2):
        if len(line) != len(columns):
            raise PromptError(f"line {number} of {name} has {len(line)} cells, the header {len(columns)}; correct it.")
    return Table(columns, tuple(dict(zip(columns, map(str.strip, line), strict=True)) for line in lines))


def labels_by_case(path: str | os.PathLike[str], classes: tuple[str, ...]) -> dict[str, int | tuple[int, ...]]:
    """Class indices of every case in a table; one number per case, or one per slice where a column counts slices.

    The classes stand in the column ``class``, ``label`` or ``image_label``, as names or indices; where there is no such
    column, in the only one that holds nothing else.

    Raises
    ------
    PromptError
        No column, or more than one, can be meant; a name is no class; slices are missing or twice.
    """
    table, name = read_table(path), shown(path)
    counted = table.first_of(SLICE_COLUMNS)
    column = table.first_of(CLASS_COLUMNS) or _only_column_of_classes(table, classes, name)
    labels: dict[str, int | tuple[int, ...]] = {}
    for case, rows in table.by_case().items():
        found = [class_index(row[column], classes, f"{name}, {case or 'the case'}") for row in rows]
        if counted:
            order = _slice_numbers([row[counted] for row in rows], f"{case or 'the case'} in {name}")
            labels[case] = tuple(index for _, index in sorted(zip(order, found, strict=True)))
        elif len(rows) > 1:
            raise PromptError(f"{case or 'a case'} has {len(rows)} rows in {name}; keep one, or add a column 'slice'.")
        else:
            labels[case] = found[0]
    return labels


def class_index(value: str | int, classes: tuple[str, ...], where: str) -> int:
    """The place of a class among `classes`, from its name or its index (a number, or digits that are no name).

    Raises
    ------
    PromptError
        It is neither.
    """
    if isinstance(value, str):
        if value in classes:
            return classes.index(value)
        if value.isascii() and value.isdigit() and len(value) < 10:
            value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < len(classes):
        text = value[:40] if isinstance(value, str) else value
        raise PromptError(f"{where}: {text!r} is no class; use {' or '.join(classes[:6]) or 'names of image_classes'}.")
    return value


def _only_column_of_classes(table: Table, classes: tuple[str, ...], name: str) -> str:
    taken = {table.first_of(CASE_COLUMNS), table.first_of(SLICE_COLUMNS)}
    possible = {*classes, *map(str, range(len(classes)))}
    fitting = [column for column in table.columns if column not in taken and {row[column] for row in table.rows} <= possible]
    if len(fitting) != 1:
        what = f"columns {', '.join(fitting[:4])} all hold classes" if fitting else "no column holds classes alone"
        raise PromptError(f"{what} in {name}; call the one that is meant 'class'.")
    return fitting[0]


def _slice_numbers(cells: list[str], whose: str) -> list[int]:
    try:
        numbers = [int(cell) for cell in cells]
    except ValueError as error:
        raise PromptError(f"a slice number of {whose} is no whole number; count slices from 0.") from error
    if sorted(numbers) != list(range(len(numbers))):
        raise PromptError(f"the slices of {whose} are not 0 to {len(numbers) - 1}, each once; count them from 0.")
    return numbers
