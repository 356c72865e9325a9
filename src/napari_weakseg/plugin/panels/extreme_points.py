"""The extreme points panel: six clicks, a first mask, a refined one, a saved file. It wires the parts together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from ...errors import WeaksegError
from ...methods import DEFAULT
from ..companions import short_name
from ..report import positions
from ..session import Job, ObjectKey, box_size
from .extreme_points_view import KEYS, View
from .mask_panel import MaskPanel
from .parts import set_choices

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari.viewer
    from napari.layers import Layer
    from qtpy.QtWidgets import QAbstractButton

_ORDER = {"L": 0, "R": 1, "A": 2, "P": 3, "S": 4, "I": 5}


class ExtremePointsPanel(MaskPanel):
    """Dock widget **Extreme points (SimPLe)**.

    Parameters
    ----------
    viewer : napari viewer
        Given by napari.
    method : str
        Name in the register of the method that fits.
    """

    view: View

    def __init__(self, viewer: napari.viewer.Viewer, method: str = DEFAULT) -> None:
        view = View()
        super().__init__(viewer, view, method, KEYS)
        view.direction_clicked.connect(self.bench.jump)
        view.structure_box.activated.connect(lambda row: self._look(ObjectKey(view.structure_box.itemData(row), 1)))
        view.structure_box.lineEdit().editingFinished.connect(self._rename_structure)
        view.structure_add.clicked.connect(lambda: self._act("add a structure", self.bench.document.add_structure()))
        view.object_box.activated.connect(lambda row: self._look(view.object_box.itemData(row)))
        self.images_changed()

    def actions(self) -> dict[str, tuple[QAbstractButton, Callable[[], Any]]]:
        """Name of each action to its button and what it does."""
        view = self.view
        return {
            **super().actions(),
            "jump": (view.jump_button, self.jump_next),
            "next_object": (
                view.object_add,
                lambda: self._act("begin an object", self.bench.document.add_object()),
            ),
            "points_mode": (view.points_mode, self.place_points),
        }

    # -- points ----------------------------------------------------------------------------

    def work_on(self, image: Layer | None) -> None:
        """Take this image and its points."""
        super().work_on(image)
        self._listen_to_points()

    def _layers_changed(self, event: Any = None) -> None:
        super()._layers_changed(event)
        if self.bench.layers is not None and self.bench.layers.find("points") is None:
            QTimer.singleShot(0, self._draw_points_again)

    def _draw_points_again(self) -> None:
        """The points layer was removed by hand: the points are still the user's work."""
        layers = self.bench.layers
        if layers is not None and layers.image in self.viewer.layers and layers.find("points") is None:
            self.bench.draw()
            self._listen_to_points()

    def _listen_to_points(self) -> None:
        if self.bench.layers is not None:
            self.listen(self.bench.layers.points(self.bench.document).events.data, self._points_changed)

    def _points_changed(self, event: Any) -> None:
        if self.bench.writing or getattr(event.action, "value", "").endswith("ing"):
            return  # our own drawing, or napari is about to do what it will report again
        QTimer.singleShot(0, self.take_points)  # napari is still in the middle of its own change

    def take_points(self) -> None:
        """Take over what was done in the points layer."""
        try:
            complete = self.bench.points_changed()
        except WeaksegError as error:
            self.say(str(error))
            return
        self._message = ""
        if complete:
            self.runs.first_mask()
        self.refresh()

    def place_points(self) -> None:
        """The mouse places extreme points."""
        if self.bench.layers is not None:
            points = self.bench.layers.points(self.bench.document)
            self.viewer.layers.selection.active = points
            points.mode = "add"
        self._tool_changed()

    def _tool_changed(self, event: Any = None) -> None:
        super()._tool_changed(event)
        layers, active = self.bench.layers, self.viewer.layers.selection.active
        points = layers is not None and active is not None and active == layers.find("points")
        self.view.points_mode.setChecked(points)
        self.view.points_mode.setEnabled(layers is not None)
        self.view.points_mode.setVisible(self._takes_strokes)

    def jump_next(self) -> None:
        """Go where the next missing point can be clicked."""
        missing = self.bench.missing()
        if missing:
            self.bench.jump(missing[0])

    # -- objects and structures ------------------------------------------------------------

    def _act(self, title: str, document: Any) -> None:
        if self.bench.layers is not None:
            self.bench.act(title, document)
        self.refresh()

    def _look(self, key: ObjectKey) -> None:
        self.bench.look(key)
        self.refresh()

    def _rename_structure(self) -> None:
        document = self.bench.document
        value, name = document.current.structure, self.view.structure_box.currentText().strip()
        if name and name not in {structure.name for structure in document.structures}:
            self._act("rename a structure", document.rename_structure(value, name))

    # -- what is seen ----------------------------------------------------------------------

    def show_marks(self) -> None:
        """Draw structures, objects and the six directions."""
        view, bench, document = self.view, self.bench, self.bench.document
        values = [structure.value for structure in document.structures]
        if not view.structure_box.lineEdit().hasFocus():
            entries = [(s.name, s.value, s.colour) for s in document.structures]
            set_choices(view.structure_box, entries, values.index(document.current.structure))
        numbers = document.numbers_of(document.current.structure)
        keys = [ObjectKey(document.current.structure, number) for number in numbers]
        done = ["  ✓" if key in document.finished else "" for key in keys]
        entries_of = [
            (f"{n} of {len(keys)}{mark}", key, "") for n, (key, mark) in enumerate(zip(keys, done, strict=True), start=1)
        ]
        set_choices(view.object_box, entries_of, keys.index(document.current))
        if bench.layers is not None:
            self._show_directions(bench.layers.volume)
        view.hint.setText(self._hint())
        view.jump_button.setEnabled(bench.layers is not None and bool(bench.missing()))
        for button in (view.object_add, view.structure_add):
            button.setEnabled(bench.layers is not None)

    def _show_directions(self, volume: Any) -> None:
        words, missing = self.bench.names(), set(self.bench.missing())
        places = positions(self.bench.document, volume)
        names = [(n, short_name(words[n]), f"{words[n]}{places.get(n, '')}") for n in range(6) if volume.shape[n // 2] > 1]
        names.sort(key=lambda entry: _ORDER.get(entry[1], entry[0]))
        self.view.set_directions(names, {n for n, _, _ in names if n not in missing})
        self.view.box_label.setText(box_size(self.bench.document, volume))

    def _hint(self) -> str:
        problems = self.bench.job(first=True)
        if isinstance(problems, Job):
            return "All points are there. Drag one to correct it, or refine the mask."
        words = problems[0].sentence
        return words[:1].upper() + words[1:]
