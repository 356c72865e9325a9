"""Widgets that more than one panel is made of: they wrap, shrink to 320 pixels, and take their colours from napari's theme."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QComboBox,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLayout,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

RESEARCH_USE = "For research only. Not a medical device; not for diagnosis or treatment."


def text(words: str = "") -> QLabel:
    """Words that wrap."""
    label = QLabel(words)
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    policy.setHeightForWidth(True)  # else a second line is cut off
    label.setSizePolicy(policy)
    return label


def research_use(words: str = RESEARCH_USE) -> QLabel:
    """The sentence at a panel's foot."""
    label = text(words)
    label.setEnabled(False)
    return label


def button(words: str, tip: str) -> QPushButton:
    """A button that takes its share of a row."""
    made = QPushButton(words)
    made.setToolTip(tip)
    made.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    return made


def small(words: str, tip: str) -> QToolButton:
    """A button beside a box."""
    made = QToolButton()
    made.setText(words)
    made.setToolTip(tip)
    return made


def combo(tip: str, *, editable: bool = False) -> QComboBox:
    """A list to choose from; long entries do not widen the panel."""
    box = QComboBox()
    box.setToolTip(tip)
    box.setEditable(editable)
    box.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(6)
    return box


def set_choices(box: QComboBox, entries: list[tuple[str, Any, str]], current: int) -> None:
    """Fill a combo box with (text, data, colour or empty) without telling anybody."""
    wanted = [(words, data) for words, data, _ in entries]
    shown = [(box.itemText(n), box.itemData(n)) for n in range(box.count())]
    box.blockSignals(True)
    if wanted != shown:
        box.clear()
        for words, data, colour in entries:
            box.addItem(words, data) if not colour else box.addItem(swatch(colour), words, data)
    box.setCurrentIndex(current)
    if box.isEditable() and entries:
        box.setEditText(entries[current][0])
    box.blockSignals(False)


def swatch(colour: str) -> QIcon:
    """A small square of a structure's colour."""
    pixmap = QPixmap(12, 12)
    pixmap.fill(QColor(colour))
    return QIcon(pixmap)


def line() -> QFrame:
    """A rule between two parts."""
    made = QFrame()
    made.setFrameShape(QFrame.Shape.HLine)
    return made


def selectable() -> QLabel:
    """Words that wrap and can be copied."""
    label = text()
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


def side_by_side(*widgets: QWidget) -> QHBoxLayout:
    """A row of widgets that share the width."""
    row = QHBoxLayout()
    row.setSpacing(5)
    for widget in widgets:
        row.addWidget(widget, 1)
    return row


def fold(title: str, *widgets: QWidget) -> QCollapsible:
    """A part that opens on demand."""
    made = QCollapsible(title)
    for widget in widgets:
        made.addWidget(widget)
    made.setDuration(0)
    made.setCollapsedIcon("▸")
    made.setExpandedIcon("▾")
    made.layout().setContentsMargins(0, 0, 0, 0)
    made.content().layout().setContentsMargins(0, 0, 0, 0)
    made.collapse(animate=False)
    return made


def rows_of(widget: QWidget, margins: tuple[int, int, int, int] = (0, 0, 0, 0)) -> QVBoxLayout:
    """One part of a panel: its rows stand one below the other."""
    rows = QVBoxLayout(widget)
    rows.setContentsMargins(*margins)
    rows.setSpacing(5)
    return rows


def named(*rows: tuple[str, QWidget, QWidget | None]) -> QGridLayout:
    """Rows of a word, a widget that takes the width, and perhaps a small one beside; without a word: more on the row above."""
    grid = QGridLayout()
    grid.setColumnStretch(1, 1)
    grid.setSpacing(5)
    for number, (word, widget, beside) in enumerate(rows):
        if word:
            grid.addWidget(QLabel(word), number, 0)
        grid.addWidget(widget, number, 1, 1, 2 if beside is None else 1)
        if beside is not None:
            grid.addWidget(beside, number, 2)
    return grid


class ProgressLine(QWidget):
    """What a run does, in words and as a bar."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.label = text()
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(self.fontMetrics().height() // 2 + 2)
        rows = rows_of(self)
        rows.addWidget(self.label)
        rows.addWidget(self.bar)

    def show_news(self, words: str, share: float | None) -> None:
        """Words, and the share that is done: 0 while that is not known, None where nothing runs."""
        self.label.setText(words)
        self.bar.setRange(0, 0 if share is not None and share <= 0 else 1000)
        self.bar.setValue(0 if share is None else int(1000 * share))


class Column(QWidget):
    """A panel's widgets one below the other; they scroll where the window is low, above the sentence of the moment."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        inner = QWidget()
        self.rows = rows_of(inner, (8, 6, 8, 6))
        self.message, self.notes = text(), text()
        self.message.setContentsMargins(8, 4, 8, 6)
        self.message.hide()
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(inner)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(scroll, 1)
        layout.addWidget(self.message)  # always in view, however low the window is
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)

    def add(self, *parts: QWidget | QLayout) -> None:
        """Further rows."""
        for part in parts:
            if isinstance(part, QLayout):
                self.rows.addLayout(part)
            else:
                self.rows.addWidget(part)

    def end(self, words: str = RESEARCH_USE) -> None:
        """The foot: what is odd about the image, and what the panel is not for."""
        self.add(self.notes, research_use(words))
        self.rows.addStretch(1)
