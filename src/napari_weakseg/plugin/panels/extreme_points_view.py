"""The widgets of the extreme points panel: how it looks. It knows nothing of napari and speaks by Qt's signals."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

KEYS = {
    "undo": "U",
    "redo": "Shift-U",
    "jump": "J",
    "next_object": "N",
    "refine": "G",
    "cancel": "Q",
    "accept": "K",
    "discard": "H",
    "save": "W",
}
"""Action to key; each is printed on its button, none is used by napari 0.9."""

RESEARCH_USE = "For research only. Not a medical device; not for diagnosis or treatment."


def printed(key: str) -> str:
    """A key as it is printed on a button."""
    return key.replace("Shift-", "⇧")


class View(QWidget):
    """The panel's widgets; `extreme_points.ExtremePointsPanel` gives them their meaning."""

    direction_clicked = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.direction_buttons: dict[int, QToolButton] = {}
        inner = QWidget()
        self._rows = QVBoxLayout(inner)
        self._rows.setContentsMargins(8, 6, 8, 6)
        self._rows.setSpacing(5)
        self._build_choices()
        self._rows.addWidget(_line())
        self._build_points()
        self._rows.addWidget(_line())
        self._build_run()
        self._build_folds()
        self._build_notes()
        self._rows.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(inner)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(scroll)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)

    # -- building --------------------------------------------------------------------------

    def _build_choices(self) -> None:
        self.image_box = _combo("The volume to segment")
        self.image_info = _text()
        self.channels_box = QCheckBox("Use the other images of this grid too")
        self.structure_box = _combo("What the object is; type to rename it", editable=True)
        self.structure_add = _small("+", "Add a structure")
        self.object_box = _combo("Which object of this structure the next click belongs to")
        self.object_add = _small(f"+ {printed(KEYS['next_object'])}", "Begin another object of this structure")
        grid = QGridLayout()
        grid.setColumnStretch(1, 1)
        grid.setSpacing(5)
        for row, (word, box, button) in enumerate(
            (
                ("Image", self.image_box, None),
                ("Structure", self.structure_box, self.structure_add),
                ("Object", self.object_box, self.object_add),
            )
        ):
            grid.addWidget(QLabel(word), 2 * row, 0)
            grid.addWidget(box, 2 * row, 1, 1, 2 if button is None else 1)
            if button is not None:
                grid.addWidget(button, 2 * row, 2)
        grid.addWidget(self.image_info, 1, 1, 1, 2)
        self._rows.addLayout(grid)
        self._rows.addWidget(self.channels_box)

    def _build_points(self) -> None:
        self._directions = QHBoxLayout()
        self._directions.setSpacing(3)
        self.hint = _text()
        self.undo_button = _button(f"Undo ({printed(KEYS['undo'])})", "Take back the last click, drag, delete or accept")
        self.redo_button = _button(f"Redo ({printed(KEYS['redo'])})", "Do again what was undone")
        self.jump_button = _button(
            f"Next ({printed(KEYS['jump'])})", "Go to a slice where the next missing point can be clicked"
        )
        self.box_label = _text()
        self._rows.addLayout(self._directions)
        self._rows.addWidget(self.hint)
        self._rows.addLayout(_side_by_side(self.undo_button, self.redo_button, self.jump_button))
        self._rows.addWidget(self.box_label)

    def _build_run(self) -> None:
        self.mask_label = _text()
        self.refine_button = _button(
            f"Refine ({printed(KEYS['refine'])})", "Let a network learn from these points alone and improve the mask"
        )
        self.cancel_button = _button(f"Cancel ({printed(KEYS['cancel'])})", "Stop now and keep the last good mask")
        self.stage_label = _text()
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(self.fontMetrics().height() // 2 + 2)
        self.accept_button = _button(
            f"Accept ({printed(KEYS['accept'])})", "Write what is shown into the mask, as one step that can be undone"
        )
        self.discard_button = _button(
            f"Discard ({printed(KEYS['discard'])})", "Take the first mask and the refined one away; points stay"
        )
        self.save_button = _button(
            f"Save mask… ({printed(KEYS['save'])})", "Write the mask as NIfTI, with a record of how it was made beside it"
        )
        self.overwrite_box = QCheckBox("Overwrite other finished labels")
        self._rows.addWidget(self.mask_label)
        self._rows.addLayout(_side_by_side(self.refine_button, self.cancel_button))
        self._rows.addWidget(self.stage_label)
        self._rows.addWidget(self.bar)
        self._rows.addLayout(_side_by_side(self.accept_button, self.discard_button))
        self._rows.addWidget(self.save_button)
        self._rows.addWidget(self.overwrite_box)

    def _build_folds(self) -> None:
        self.settings = QCollapsible("Settings")
        self.measures_label, self.record_label = _text(), _text()
        self.measures = QCollapsible("Measures")
        self.measures.addWidget(self.measures_label)
        self.record = QCollapsible("Record")
        self.record.addWidget(self.record_label)
        self.record_label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        for fold in (self.settings, self.measures, self.record):
            fold.setDuration(0)
            fold.setCollapsedIcon("▸")
            fold.setExpandedIcon("▾")
            fold.layout().setContentsMargins(0, 0, 0, 0)
            fold.content().layout().setContentsMargins(0, 0, 0, 0)
            fold.collapse(animate=False)
            self._rows.addWidget(fold)

    def _build_notes(self) -> None:
        self.message = _text()
        self.notes = _text()
        self.recovery = QWidget()
        self.recovery_label = _text()
        self.restore_button = _button("Restore", "Bring back the points and the mask of the session that was not saved")
        self.forget_button = _button("Forget", "Delete what was kept of that session")
        rows = QVBoxLayout(self.recovery)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.addWidget(self.recovery_label)
        rows.addLayout(_side_by_side(self.restore_button, self.forget_button))
        self.recovery.hide()
        research = _text(RESEARCH_USE)
        research.setEnabled(False)
        for widget in (self.message, self.notes, self.recovery, research):
            self._rows.addWidget(widget)

    # -- showing ---------------------------------------------------------------------------

    def set_directions(self, names: list[tuple[int, str, str]], held: set[int]) -> None:
        """Six buttons (number, letters, full word), filled where the point was clicked."""
        numbers = [number for number, _, _ in names]
        if list(self.direction_buttons) != numbers:
            while (item := self._directions.takeAt(0)) is not None:
                if item.widget() is not None:
                    item.widget().deleteLater()
            self.direction_buttons = {}
            for number in numbers:
                button = QToolButton()
                button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
                button.clicked.connect(lambda _=False, n=number: self.direction_clicked.emit(n))
                self._directions.addWidget(button)
                self.direction_buttons[number] = button
        for number, letters, word in names:
            button = self.direction_buttons[number]
            button.setText(f"{letters} {'●' if number in held else '○'}")
            button.setToolTip(f"{word}: go to its point" if number in held else f"{word}: missing; go where it can be clicked")

    def set_choices(self, box: QComboBox, entries: list[tuple[str, Any, str]], current: int) -> None:
        """Fill a combo box with (text, data, colour or empty) without telling anybody."""
        wanted = [(text, data) for text, data, _ in entries]
        shown = [(box.itemText(n), box.itemData(n)) for n in range(box.count())]
        box.blockSignals(True)
        if wanted != shown:
            box.clear()
            for text, data, colour in entries:
                box.addItem(text, data) if not colour else box.addItem(_swatch(colour), text, data)
        box.setCurrentIndex(current)
        if box.isEditable() and entries:
            box.setEditText(entries[current][0])
        box.blockSignals(False)


def _text(words: str = "") -> QLabel:
    label = QLabel(words)
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    policy.setHeightForWidth(True)  # else a second line is cut off
    label.setSizePolicy(policy)
    return label


def _button(words: str, tip: str) -> QPushButton:
    button = QPushButton(words)
    button.setToolTip(tip)
    button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    return button


def _small(words: str, tip: str) -> QToolButton:
    button = QToolButton()
    button.setText(words)
    button.setToolTip(tip)
    return button


def _combo(tip: str, *, editable: bool = False) -> QComboBox:
    box = QComboBox()
    box.setToolTip(tip)
    box.setEditable(editable)
    box.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(6)
    return box


def _swatch(colour: str) -> QIcon:
    pixmap = QPixmap(12, 12)
    pixmap.fill(QColor(colour))
    return QIcon(pixmap)


def _line() -> QFrame:
    line = QFrame()
    line.setFrameShape(QFrame.Shape.HLine)
    return line


def _side_by_side(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(5)
    for widget in widgets:
        row.addWidget(widget, 1)
    return row
