"""Widgets that more than one panel is made of: they wrap, shrink to 320 pixels, and take their colours from napari's theme."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
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


def scrolled(panel: QWidget, inner: QWidget) -> None:
    """Fill a panel with `inner`, which scrolls up and down where the window is low."""
    scroll = QScrollArea()
    scroll.setWidgetResizable(True)
    scroll.setFrameShape(QFrame.Shape.NoFrame)
    scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    scroll.setWidget(inner)
    layout = QVBoxLayout(panel)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(scroll)
    panel.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
