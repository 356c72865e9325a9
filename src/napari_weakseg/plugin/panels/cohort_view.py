"""The widgets of the cohort panel: how it looks. It knows nothing of napari and speaks by Qt's signals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from .parts import Column, ProgressLine, button, combo, fold, line, named, rows_of, selectable, side_by_side, small, text
from .plots import Curves, SlicePlot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..cohort_book import Row

CLASS_KEYS = tuple(f"Control-{number}" for number in range(1, 10))
"""Keys of the classes in order; each is printed on its button, none is used by napari 0.9 or by the extreme points panel."""

UNDO_KEY, ACCEPT_KEY, NEXT_KEY = "Control-0", "Shift-K", "Shift-N"
"""Keys of taking a label back, of accepting a mask, and of the next case."""

COLUMNS = ("case", "marks", "state", "doubt")
CLASS_COLOURS = ("#999999", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")


class CaseTable(QTableWidget):
    """The cases; Enter or a double click opens one."""

    opened = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(0, len(COLUMNS), parent)
        self.setHorizontalHeaderLabels(COLUMNS)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.verticalHeader().hide()
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumHeight(9 * self.fontMetrics().height())
        self.doubleClicked.connect(lambda index: self.opened.emit(self.id_at(index.row())))

    def id_at(self, row: int) -> str:
        """The case in a row."""
        item = self.item(row, 0)
        return "" if item is None else item.text()

    def chosen(self) -> str:
        """The case that is selected; empty where none is."""
        return self.id_at(self.currentRow()) if self.currentRow() >= 0 else ""

    def choose(self, case_id: str) -> None:
        """Select a case."""
        for row in range(self.rowCount()):
            if self.id_at(row) == case_id:
                self.selectRow(row)
                return

    def keyPressEvent(self, event: object) -> None:
        """Enter opens the selected case."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.chosen():  # type: ignore[attr-defined]
            self.opened.emit(self.chosen())
            return
        super().keyPressEvent(event)

    def show_rows(self, rows: Sequence[Row], current: str) -> None:
        """Fill the table; the case in view is bold."""
        self.setRowCount(len(rows))
        for number, row in enumerate(rows):
            doubt = "" if row.doubt is None else f"{row.doubt:.2f}"
            for column, words in enumerate((row.id, row.marks, row.state, doubt)):
                item = self.item(number, column)
                if item is None:
                    item = QTableWidgetItem()
                    self.setItem(number, column, item)
                if item.text() != words:
                    item.setText(words)
                    item.setToolTip(words if column == 1 else row.part)
                font = item.font()
                if font.bold() != (row.id == current):
                    font.setBold(row.id == current)
                    item.setFont(font)


class View(Column):
    """The panel's widgets; `cohort.CohortPanel` gives them their meaning."""

    class_clicked = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._build_table()
        self._build_case()
        self._build_training()
        self.end()

    def _build_table(self) -> None:
        self.open_button = button("Open cohort…", "Open a cohort.json; weakseg cohort FOLDER makes a first one")
        self.check_button = button("Check files", "Read every file that the cohort names, and list all that is wrong")
        self.cohort_label = text("no cohort open")
        self.table = CaseTable()
        self.case_button = button("Open case", "Show the selected case with its layers (Enter, or a double click)")
        self.next_button = button(
            "Next (⇧N)", "The most useful case: the first without marks, then the most doubtful prediction"
        )
        self.add(
            side_by_side(self.open_button, self.check_button),
            self.cohort_label,
            self.table,
            side_by_side(self.case_button, self.next_button),
        )

    def _build_case(self) -> None:
        self.case_part = QWidget()
        rows = rows_of(self.case_part)
        self.case_label = text()
        self.slices = SlicePlot()
        self.class_row = QHBoxLayout()
        self.class_row.setSpacing(5)
        self.class_buttons: list[QPushButton] = []
        self.whole_box = QCheckBox("One label for the whole volume")
        self.undo_button = button("Undo label (Ctrl+0)", "Give the case the labels that it had before the last change")
        self.clear_button = button("Clear labels", "Take all labels of this case away")
        self.points_button = button("Points…", "Click extreme points in the panel of that name; they are kept with this case")
        self.strokes_button = button("Strokes…", "Draw strokes in the panel Scribbles; they are kept with this case")
        self.explain_button = button("Explain…", "What the run below decides from on this case: the panel Explainable heatmap")
        self.accept_button = button(
            "Accept mask (⇧K)", "This mask is good, as predicted or corrected: write it; the case is reviewed"
        )
        for widget in (line(), self.case_label, self.slices):
            rows.addWidget(widget)
        rows.addLayout(self.class_row)
        rows.addWidget(self.whole_box)
        rows.addLayout(side_by_side(self.undo_button, self.clear_button))
        rows.addLayout(side_by_side(self.points_button, self.strokes_button, self.explain_button))
        rows.addWidget(self.accept_button)
        self.add(self.case_part)

    def _build_training(self) -> None:
        self.training_part = QWidget()
        rows = rows_of(self.training_part)
        self.method_box = combo("What is trained, by the marks that it takes")
        self.run_box = combo("The run: choose one, or write a new name; its folder lies beside the cohort file", editable=True)
        self.run_box.setEditText("run_1")
        self.new_run_button = small("+", "Begin another run, for example after more was marked")
        self.train_button = button("Train", "Learn from the marked cases in the background; what it has learnt is kept on disk")
        self.stop_button = button("Stop and keep", "End at the next step; what was learnt so far stays and can be resumed")
        self.predict_button = button("Predict", "Predict every case that was not reviewed, with this run")
        self.progress = ProgressLine()
        self.curves = Curves()
        self.card_label = selectable()
        self.card, self.settings = fold("Model card", self.card_label), fold("Settings")
        rows.addWidget(line())
        rows.addLayout(named(("Method", self.method_box, None), ("Run", self.run_box, self.new_run_button)))
        rows.addLayout(side_by_side(self.train_button, self.stop_button))
        for widget in (self.predict_button, self.progress, self.curves, self.card, self.settings):
            rows.addWidget(widget)
        self.add(self.training_part)

    def set_classes(self, names: Sequence[str]) -> None:
        """One button per class, with its key."""
        if [shown.property("class") for shown in self.class_buttons] == list(names):
            return
        for old in self.class_buttons:
            self.class_row.removeWidget(old)
            old.deleteLater()
        self.class_buttons = []
        for number, name in enumerate(names):
            key = f" ({CLASS_KEYS[number].replace('Control-', 'Ctrl+')})" if number < len(CLASS_KEYS) else ""
            made = button(f"{name}{key}", f"The slice in view shows: {name}")
            made.setProperty("class", name)
            made.clicked.connect(lambda _=False, value=number: self.class_clicked.emit(value))
            self.class_row.addWidget(made, 1)
            self.class_buttons.append(made)
