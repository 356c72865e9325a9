"""Small plots drawn in napari's own colours: score bars, slices that can be clicked, curves of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QPointF, QRectF, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

BLUE, ORANGE = "#56B4E9", "#E69F00"
CURVES = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#D55E00")


class _Plot(QWidget):
    """A widget that draws itself, as wide as the panel and some lines of text high."""

    def __init__(self, lines: float, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._line = self.fontMetrics().height()
        self.setMinimumHeight(int(lines * self._line))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def colour(self, alpha: float = 1.0) -> QColor:
        """The theme's text colour."""
        colour = self.palette().color(self.foregroundRole())
        colour.setAlphaF(alpha)
        return colour


class ScoreBars(_Plot):
    """One bar per class with its probability; a click chooses the class."""

    chosen = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(1.4, parent)
        self._scores: dict[str, float] = {}
        self._chosen = ""
        self.setToolTip("Probability of each class; click one to see its heatmap")

    def show_scores(self, scores: Mapping[str, float], chosen: str) -> None:
        """Draw these."""
        self._scores, self._chosen = dict(scores), chosen
        self.setFixedHeight(int(1.4 * self._line * max(1, len(self._scores))))
        words = ", ".join(f"{name} {value:.2f}" for name, value in self._scores.items())
        self.setAccessibleName(words)
        self.update()

    def mousePressEvent(self, event: Any) -> None:
        """Choose the class of the row."""
        row = int(event.position().y() // (1.4 * self._line))
        names = list(self._scores)
        if 0 <= row < len(names):
            self.chosen.emit(names[row])

    def paintEvent(self, event: Any) -> None:
        """Name, bar, number."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        height, width = 1.4 * self._line, self.width()
        metrics = self.fontMetrics()
        left = min(max((metrics.horizontalAdvance(name) for name in self._scores), default=0) + 12, int(0.4 * width))
        right = metrics.horizontalAdvance("0.00") + 8
        for row, (name, value) in enumerate(self._scores.items()):
            top = row * height
            font = painter.font()
            font.setBold(name == self._chosen)
            painter.setFont(font)
            painter.setPen(self.colour())
            words = metrics.elidedText(name, Qt.TextElideMode.ElideRight, left - 8)
            painter.drawText(QRectF(0, top, left, height), Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, words)
            number = "–" if not np.isfinite(value) else f"{value:.2f}"
            place = QRectF(width - right, top, right, height)
            painter.drawText(place, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight, number)
            bar = QRectF(left, top + 0.25 * height, max(1.0, width - left - right - 4), 0.5 * height)
            painter.fillRect(bar, self.colour(0.15))
            bar.setWidth(bar.width() * float(np.clip(np.nan_to_num(value), 0, 1)))
            painter.fillRect(bar, QColor(ORANGE if name == self._chosen else BLUE))
        painter.end()


class SlicePlot(_Plot):
    """One column per slice; a click or a drag goes to the slice."""

    clicked = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(3.2, parent)
        self._heights: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self._colours: list[str] = []
        self._current: int | None = None

    def show_slices(self, heights: Sequence[float] | NDArray[Any], colours: Sequence[str] | None = None) -> None:
        """Heights 0 to 1, one per slice, and their colours; nothing is drawn without slices."""
        self._heights = np.nan_to_num(np.asarray(heights, dtype=np.float32))
        self._colours = list(colours) if colours is not None else [BLUE] * len(self._heights)
        self.setVisible(len(self._heights) > 1)
        self.update()

    def show_current(self, index: int | None) -> None:
        """Mark the slice that is looked at."""
        if index != self._current:
            self._current = index
            self.update()

    def mousePressEvent(self, event: Any) -> None:
        """Go there."""
        self._go(event.position().x())

    def mouseMoveEvent(self, event: Any) -> None:
        """Go along."""
        if event.buttons() & Qt.MouseButton.LeftButton:
            self._go(event.position().x())

    def place_of(self, index: int) -> QPointF:
        """The middle of a slice's column."""
        return QPointF((index + 0.5) * self.width() / max(1, len(self._heights)), self.height() / 2)

    def _go(self, x: float) -> None:
        if len(self._heights):
            index = int(np.clip(x / self.width() * len(self._heights), 0, len(self._heights) - 1))
            self.clicked.emit(index)

    def paintEvent(self, event: Any) -> None:
        """Columns over a line at one half, the current slice marked."""
        count = len(self._heights)
        if not count:
            return
        painter = QPainter(self)
        width, height = self.width() / count, float(self.height()) - 2
        painter.fillRect(QRectF(0, 0, self.width(), height), self.colour(0.08))
        for index, (value, colour) in enumerate(zip(self._heights, self._colours, strict=True)):
            column = QRectF(index * width, height * (1 - float(value)), max(width - 1, 1), max(height * float(value), 1))
            painter.fillRect(column, QColor(colour))
        painter.setPen(QPen(self.colour(0.35), 1, Qt.PenStyle.DashLine))
        painter.drawLine(QPointF(0, height / 2), QPointF(self.width(), height / 2))
        if self._current is not None and self._current < count:
            painter.setPen(QPen(self.colour(), 2))
            painter.drawRect(QRectF(self._current * width, 1, max(width, 2), height - 1))
        painter.end()


class Curves(_Plot):
    """Figures of a training over its steps, each on its own scale, with the last value as a number."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(6.5, parent)
        self._curves: dict[str, list[tuple[float, float]]] = {}
        self.hide()

    def show_rows(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Draw the figures of these steps; nothing is shown without any."""
        self._curves = {}
        for step, scores in rows:
            for name, value in scores.items():
                if np.isfinite(value):
                    self._curves.setdefault(name, []).append((float(step), float(value)))
        self.setVisible(bool(self._curves))
        self.update()

    def paintEvent(self, event: Any) -> None:
        """One line per figure."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        top = self._line * 1.2
        area = QRectF(0, top, self.width(), self.height() - top - 2)
        painter.fillRect(area, self.colour(0.08))
        last = max((curve[-1][0] for curve in self._curves.values()), default=1.0) or 1.0
        x = 2.0
        for (name, curve), colour in zip(list(self._curves.items())[: len(CURVES)], CURVES, strict=False):
            shown = curve[:: max(1, len(curve) // 400)]
            values = np.array([value for _, value in shown])
            low, high = min(0.0, float(values.min())), float(values.max())
            span = high - low or 1.0
            points = [
                QPointF(area.left() + step / last * area.width(), area.bottom() - (value - low) / span * area.height())
                for step, value in shown
            ]
            painter.setPen(QPen(QColor(colour), 1.6))
            painter.drawPolyline(QPolygonF(points))
            words = f"{name} {curve[-1][1]:.3g}"
            width = self.fontMetrics().horizontalAdvance(words)
            if x + width <= self.width():  # further names would be cut off; their curves are drawn
                painter.drawText(QPointF(x, top - 0.35 * self._line), words)
            x += width + 12
        painter.end()
