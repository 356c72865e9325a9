"""The widgets of the extreme points panel: how it looks. It knows nothing of napari and speaks by Qt's signals."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from .parts import button, combo, fold, line, research_use, scrolled, side_by_side, small, text

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
    "points_mode": "Shift-C",
    "object_stroke": "Shift-O",
    "background_stroke": "Shift-B",
    "next_doubt": "Shift-J",
}
"""Action to key; each is printed on its button, none is used by napari 0.9."""


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
        self._rows.addWidget(line())
        self._build_points()
        self._rows.addWidget(line())
        self._build_run()
        self._rows.addWidget(line())
        self._build_corrections()
        self._build_folds()
        self._build_notes()
        self._rows.addStretch(1)
        scrolled(self, inner)

    # -- building --------------------------------------------------------------------------

    def _build_choices(self) -> None:
        self.image_box = combo("The volume to segment")
        self.image_info = text()
        self.channels_box = QCheckBox("Use the other images of this grid too")
        self.structure_box = combo("What the object is; type to rename it", editable=True)
        self.structure_add = small("+", "Add a structure")
        self.object_box = combo("Which object of this structure the next click belongs to")
        self.object_add = small(f"+ {printed(KEYS['next_object'])}", "Begin another object of this structure")
        grid = QGridLayout()
        grid.setColumnStretch(1, 1)
        grid.setSpacing(5)
        for row, (word, box, beside) in enumerate(
            (
                ("Image", self.image_box, None),
                ("Structure", self.structure_box, self.structure_add),
                ("Object", self.object_box, self.object_add),
            )
        ):
            grid.addWidget(QLabel(word), 2 * row, 0)
            grid.addWidget(box, 2 * row, 1, 1, 2 if beside is None else 1)
            if beside is not None:
                grid.addWidget(beside, 2 * row, 2)
        grid.addWidget(self.image_info, 1, 1, 1, 2)
        self._rows.addLayout(grid)
        self._rows.addWidget(self.channels_box)

    def _build_points(self) -> None:
        self._directions = QHBoxLayout()
        self._directions.setSpacing(3)
        self.hint = text()
        self.undo_button = button(f"Undo ({printed(KEYS['undo'])})", "Take back the last click, drag, delete or accept")
        self.redo_button = button(f"Redo ({printed(KEYS['redo'])})", "Do again what was undone")
        self.jump_button = button(
            f"Next ({printed(KEYS['jump'])})", "Go to a slice where the next missing point can be clicked"
        )
        self.box_label = text()
        self._rows.addLayout(self._directions)
        self._rows.addWidget(self.hint)
        self._rows.addLayout(side_by_side(self.undo_button, self.redo_button, self.jump_button))
        self._rows.addWidget(self.box_label)

    def _build_run(self) -> None:
        self.mask_label = text()
        self.refine_button = button(
            f"Refine ({printed(KEYS['refine'])})", "Let a network learn from these points alone and improve the mask"
        )
        self.cancel_button = button(f"Cancel ({printed(KEYS['cancel'])})", "Stop now and keep the last good mask")
        self.stage_label = text()
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(self.fontMetrics().height() // 2 + 2)
        self.accept_button = button(
            f"Accept ({printed(KEYS['accept'])})", "Write what is shown into the mask, as one step that can be undone"
        )
        self.discard_button = button(
            f"Discard ({printed(KEYS['discard'])})", "Take the first mask and the refined one away; points stay"
        )
        self.save_button = button(
            f"Save mask… ({printed(KEYS['save'])})", "Write the mask as NIfTI, with a record of how it was made beside it"
        )
        self.overwrite_box = QCheckBox("Overwrite other finished labels")
        self._rows.addWidget(self.mask_label)
        self._rows.addLayout(side_by_side(self.refine_button, self.cancel_button))
        self._rows.addWidget(self.stage_label)
        self._rows.addWidget(self.bar)
        self._rows.addLayout(side_by_side(self.accept_button, self.discard_button))
        self._rows.addWidget(self.save_button)
        self._rows.addWidget(self.overwrite_box)

    def _build_corrections(self) -> None:
        """What the mouse does, and where to look."""
        self.points_mode = _toggle("Points", "points_mode", "Clicks place extreme points")
        self.object_stroke = _toggle("+ Object", "object_stroke", "Paint on what the mask lacks: it follows at once")
        self.background_stroke = _toggle("− Rest", "background_stroke", "Paint on what does not belong to the object")
        self.doubt_label = text()
        self.doubt_box = QCheckBox("Show doubt")
        self.doubt_box.setToolTip("Bright where the mask is unsure of itself")
        self.doubt_button = button(
            f"Look next ({printed(KEYS['next_doubt'])})", "Go to the next plane in which a look or a stroke helps most"
        )
        self._rows.addLayout(side_by_side(self.points_mode, self.object_stroke, self.background_stroke))
        self._rows.addWidget(self.doubt_label)
        self._rows.addLayout(side_by_side(self.doubt_box, self.doubt_button))

    def _build_folds(self) -> None:
        self.measures_label, self.record_label = text(), text()
        self.settings = fold("Settings")
        self.measures = fold("Measures", self.measures_label)
        self.record = fold("Record", self.record_label)
        self.record_label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        for part in (self.settings, self.measures, self.record):
            self._rows.addWidget(part)

    def _build_notes(self) -> None:
        self.message = text()
        self.notes = text()
        self.recovery = QWidget()
        self.recovery_label = text()
        self.restore_button = button("Restore", "Bring back the points and the mask of the session that was not saved")
        self.forget_button = button("Forget", "Delete what was kept of that session")
        rows = QVBoxLayout(self.recovery)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.addWidget(self.recovery_label)
        rows.addLayout(side_by_side(self.restore_button, self.forget_button))
        self.recovery.hide()
        for widget in (self.message, self.notes, self.recovery, research_use()):
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


def _toggle(words: str, action: str, tip: str) -> QPushButton:
    """One of the things that the mouse can do."""
    made = button(f"{words} ({printed(KEYS[action])})", tip)
    made.setCheckable(True)
    return made
