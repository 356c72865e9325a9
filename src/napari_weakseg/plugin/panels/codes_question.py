"""The question what the values of strokes from elsewhere mean: counts per value, and a box to answer in for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QGridLayout, QWidget

from ..scribble_codes import KNOWN, MEANINGS
from .parts import button, combo, rows_of, side_by_side, text

if TYPE_CHECKING:
    from ..scribble_codes import CodesQuestion

OPEN = "choose…"


class CodesForm(QWidget):
    """Shown where strokes were chosen whose codes nobody stated; nothing is filled in before the user says something."""

    answered = Signal()
    refused = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.question: CodesQuestion | None = None
        self.boxes: dict[int, QComboBox] = {}
        self.words = text()
        self.table_box = combo("Codes that you know this file to follow: they fill in the answers below")
        self.table_box.addItem("Codes of…", "")
        for table in KNOWN:
            self.table_box.addItem(table, table)
        self.table_box.activated.connect(self._fill_in)
        self.use_button = button("Use strokes", "Take them over in place of those that are drawn; this can be undone")
        self.drop_button = button("Leave", "Do not use them")
        self.use_button.clicked.connect(lambda: self.answered.emit())
        self.drop_button.clicked.connect(lambda: self.refused.emit())
        rows = rows_of(self)
        rows.addWidget(self.words)
        rows.addWidget(self.table_box)
        self._values = QWidget()
        self._grid = QGridLayout(self._values)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setColumnStretch(2, 1)
        rows.addWidget(self._values)
        rows.addLayout(side_by_side(self.use_button, self.drop_button))
        self.hide()

    def ask(self, question: CodesQuestion | None) -> None:
        """Put a question, or none."""
        self.question = question
        while (item := self._grid.takeAt(0)) is not None:
            if item.widget() is not None:
                item.widget().deleteLater()
        self.boxes = {}
        self.setVisible(question is not None)
        if question is None:
            return
        self.words.setText(f"What do the values of {question.name} mean?")
        self.table_box.setCurrentIndex(0)
        for row, value in enumerate(question.counts):
            box = combo(f"What the voxels of value {value} are")
            box.addItems([OPEN, *MEANINGS])
            box.activated.connect(self._ready)
            self.boxes[value] = box
            share = 100 * question.share(value)
            count = f"{question.counts[value]:,} voxels ({share:.2g} %)"
            for column, widget in enumerate((text_of(str(value)), text_of(count), box)):
                self._grid.addWidget(widget, row, column)
        self._ready()

    def meanings(self) -> dict[int, str]:
        """The answers so far."""
        return {value: box.currentText() for value, box in self.boxes.items() if box.currentText() in MEANINGS}

    def _fill_in(self, row: int) -> None:
        table = self.table_box.itemData(row)
        if self.question is not None and table:
            for value, meaning in self.question.meanings(table).items():
                self.boxes[value].setCurrentText(meaning)
        self._ready()

    def _ready(self, _row: int = 0) -> None:
        self.use_button.setEnabled(self.question is not None and len(self.meanings()) == len(self.boxes))


def text_of(words: str) -> QWidget:
    """Words that keep their width."""
    from qtpy.QtWidgets import QLabel

    return QLabel(words)
