"""The widgets of the extreme points panel: how it looks. It knows nothing of napari and speaks by Qt's signals."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QSizePolicy, QToolButton, QWidget

from . import mask_view
from .mask_view import MaskView, printed, toggle, with_key
from .parts import combo, line, named, side_by_side, small, text

KEYS = {**mask_view.KEYS, "jump": "J", "next_object": "N", "points_mode": "Shift-C"}
"""Action to key; each is printed on its button, none is used by napari 0.9."""


class View(MaskView):
    """The panel's widgets; `extreme_points.ExtremePointsPanel` gives them their meaning."""

    direction_clicked = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.direction_buttons: dict[int, QToolButton] = {}
        self._build_choices()
        self.add(line())
        self._build_points()
        self.add(line())
        self.add_run()
        self.add(line())
        self.points_mode = toggle("Points", KEYS["points_mode"], "Clicks place extreme points")
        self.add(side_by_side(self.points_mode, self.object_stroke, self.background_stroke))
        self.add_doubt()
        self.add_ends()

    def _build_choices(self) -> None:
        self.structure_box = combo("What the object is; type to rename it", editable=True)
        self.structure_add = small("+", "Add a structure")
        self.object_box = combo("Which object of this structure the next click belongs to")
        self.object_add = small(f"+ {printed(KEYS['next_object'])}", "Begin another object of this structure")
        self.add(
            named(
                ("Image", self.image_box, None),
                ("", self.image_info, None),
                ("Structure", self.structure_box, self.structure_add),
                ("Object", self.object_box, self.object_add),
            ),
            self.channels_box,
        )

    def _build_points(self) -> None:
        self._directions = QHBoxLayout()
        self._directions.setSpacing(3)
        self.hint, self.box_label = text(), text()
        self.jump_button = with_key("Next", KEYS["jump"], "Go to a slice where the next missing point can be clicked")
        steps = side_by_side(self.undo_button, self.redo_button, self.jump_button)
        self.add(self._directions, self.hint, steps, self.box_label)

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
