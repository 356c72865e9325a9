"""A table of structures: key, colour, name, value, how much is marked, shown, locked; the background is its last row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem, QWidget

from .parts import swatch

if TYPE_CHECKING:
    from collections.abc import Sequence

COLUMNS = ("", "structure", "value", "marked", "show", "lock")
KEY, NAME, VALUE, MARKED, SHOW, LOCK = range(len(COLUMNS))


class Row(NamedTuple):
    """One structure, or the background.

    Parameters
    ----------
    code : int
        Value of the structure; 255 for the background.
    key : str
        What is pressed to draw it; empty where there is no key left.
    name, colour : str
        As they are shown.
    marked : str
        How much of it is marked.
    shown, locked : bool or None
        None for the background, which is neither.
    """

    code: int
    key: str
    name: str
    colour: str
    marked: str
    shown: bool | None
    locked: bool | None


class StructureTable(QTableWidget):
    """The structures; a click chooses what the brush draws, a double click on name, value or colour changes it."""

    chosen = Signal(int)
    renamed = Signal(int, str)
    revalued = Signal(int, str)
    colour_asked = Signal(int)
    shown = Signal(int, bool)
    locked = Signal(int, bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(0, len(COLUMNS), parent)
        self._codes: list[int] = []
        self.setHorizontalHeaderLabels(COLUMNS)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.DoubleClicked | QAbstractItemView.EditTrigger.EditKeyPressed)
        self.verticalHeader().hide()
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        header = self.horizontalHeader()
        header.setMinimumSectionSize(12)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        for column, tip in (
            (KEY, "The key that draws it; a double click on the colour changes it"),
            (NAME, "Double click to rename"),
            (VALUE, "Its number in the mask; double click to change it"),
            (MARKED, "Marked voxels, and on how many slices"),
            (SHOW, "Whether its strokes and masks are drawn"),
            (LOCK, "Locked: accepting leaves its mask as it is"),
        ):
            item = self.horizontalHeaderItem(column)
            if item is not None:
                item.setToolTip(tip)
        self.cellClicked.connect(lambda row, _column: self.chosen.emit(self._codes[row]))
        self.cellDoubleClicked.connect(self._double_clicked)
        self.itemChanged.connect(self._changed)

    def show_rows(self, rows: Sequence[Row], current: int) -> None:
        """Fill the table; the row that the brush draws is selected."""
        self.blockSignals(True)
        self._codes = [row.code for row in rows]
        self.setRowCount(len(rows))
        for number, row in enumerate(rows):
            background = row.shown is None
            for column, words in (
                (KEY, row.key),
                (NAME, row.name),
                (VALUE, str(row.code)),
                (MARKED, row.marked),
            ):
                item = self._item(number, column, edited=column in (NAME, VALUE) and not background)
                if item.text() != words:
                    item.setText(words)
                    item.setToolTip(words if column in (NAME, MARKED) else "")
            self._item(number, KEY).setIcon(swatch(row.colour))
            for column, on in ((SHOW, row.shown), (LOCK, row.locked)):
                item = self._item(number, column, checked=not background)
                if on is not None:
                    item.setCheckState(Qt.CheckState.Checked if on else Qt.CheckState.Unchecked)
        if current in self._codes:
            self.selectRow(self._codes.index(current))
        else:
            self.clearSelection()
        self.blockSignals(False)
        self._fit()

    def row_of(self, code: int) -> int:
        """The row of a structure's value."""
        return self._codes.index(code)

    def _item(self, row: int, column: int, *, edited: bool = False, checked: bool = False) -> QTableWidgetItem:
        item = self.item(row, column)
        if item is None:
            item = QTableWidgetItem()
            self.setItem(row, column, item)
        flags = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
        if edited:
            flags |= Qt.ItemFlag.ItemIsEditable
        if checked:
            flags |= Qt.ItemFlag.ItemIsUserCheckable
        if item.flags() != flags:
            item.setFlags(flags)
            if not checked:
                item.setData(Qt.ItemDataRole.CheckStateRole, None)
        return item

    def _fit(self) -> None:
        """As high as its rows, up to ten of them."""
        rows = min(max(self.rowCount(), 2), 10)
        height = self.horizontalHeader().sizeHint().height() + rows * self.verticalHeader().defaultSectionSize() + 4
        self.setFixedHeight(height)

    def _double_clicked(self, row: int, column: int) -> None:
        if column == KEY:
            self.colour_asked.emit(self._codes[row])

    def _changed(self, item: Any) -> None:
        code, on = self._codes[item.row()], item.checkState() == Qt.CheckState.Checked
        {
            NAME: lambda: self.renamed.emit(code, item.text()),
            VALUE: lambda: self.revalued.emit(code, item.text()),
            SHOW: lambda: self.shown.emit(code, on),
            LOCK: lambda: self.locked.emit(code, on),
        }.get(item.column(), lambda: None)()
