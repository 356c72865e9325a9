"""The part of the scribbles panel in which strokes are made: structures, brush, strokes from elsewhere."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QColorDialog

from ...errors import PromptError, WeaksegError
from ...prompts import BACKGROUND_STROKE, Scribbles
from ..scribble_desk import ScribbleDesk
from ..scribble_session import MOST_KEYS, coloured, renamed, renumbered, with_lock, with_structure
from ..strokes_elsewhere import labels_elsewhere, strokes_of_file, strokes_of_layer
from ..workers import in_background
from .desk_panel import DeskPanel
from .parts import set_choices
from .scribbles_view import BACKGROUND_KEY, STRUCTURE_KEYS, View
from .structure_table import Row

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari.viewer
    from napari.layers import Layer

    from ..scribble_codes import CodesQuestion
    from ..scribble_runs import ScribbleRuns
    from ..session import Document

DRAWING_MS = 200
"""How often the mask follows while the mouse is down."""


class StrokePanel(DeskPanel):
    """Structures and strokes; what is made of them is left to whoever inherits.

    Parameters
    ----------
    viewer : napari viewer
        Given by napari.
    """

    view: View
    runs: ScribbleRuns

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        view = View()
        self.desk = ScribbleDesk(viewer)
        super().__init__(viewer, view, self.desk)
        self._keyed: dict[Layer, tuple[str, ...]] = {}  # layers whose keys are ours
        self._while_drawing = QTimer(self)
        self._while_drawing.setSingleShot(True)
        self._while_drawing.setInterval(DRAWING_MS)
        self._while_drawing.timeout.connect(self._follow_the_hand)
        view.table.chosen.connect(self.brush)
        view.table.renamed.connect(self._rename)
        view.table.revalued.connect(self._revalue)
        view.table.colour_asked.connect(self._ask_for_colour)
        view.table.shown.connect(lambda value, on: self.desk.hide(value, hidden=not on))
        view.table.locked.connect(self._lock)
        view.structure_add.clicked.connect(self.add_structure)
        view.strokes_box.activated.connect(self._strokes_chosen)
        view.codes.answered.connect(self._codes_answered)
        view.codes.refused.connect(lambda: view.codes.ask(None))
        self.listen(viewer.layers.selection.events.active, self._tool_changed)

    # -- the image -------------------------------------------------------------------------

    def work_on(self, image: Layer | None) -> None:
        """Take this image; what was done on the one before is kept for when it is chosen again."""
        self.view.codes.ask(None)
        self.desk.choose_image(image)
        self._listen_to_strokes()
        self.identify()

    def _layers_changed(self, event: Any = None) -> None:
        super()._layers_changed(event)
        if self.desk.own is not None and self.desk.own.find("scribbles") is None:
            QTimer.singleShot(0, self._draw_again)

    def _draw_again(self) -> None:
        """The layer of the strokes was removed by hand: they are still the user's work."""
        own = self.desk.own
        if own is not None and own.image in self.viewer.layers and own.find("scribbles") is None:
            self.desk.draw()
            self._listen_to_strokes()

    # -- the brush -------------------------------------------------------------------------

    def _listen_to_strokes(self) -> None:
        layer = None if self.desk.own is None else self.desk.own.find("scribbles")
        if layer is None:
            return
        self.listen(layer.events.paint, self._stroke_drawn)
        self.listen(layer.events.labels_update, self._being_drawn)
        self.listen(layer.events.selected_label, self._tool_changed)
        self.listen(layer.events.mode, self._tool_changed)
        keys: dict[str, Callable[[], Any]] = {key: partial(self._key, int(key)) for key in STRUCTURE_KEYS}
        keys |= {BACKGROUND_KEY: partial(self.brush, BACKGROUND_STROKE)}
        keys |= {"Control-Z": self.undo, "Control-Shift-Z": self.redo}  # napari's own undo knows nothing of masks
        for key, action in keys.items():
            layer.bind_key(key, lambda _layer, act=action: act(), overwrite=True)
        self._keyed[layer] = tuple(keys)

    def _stop_if_closed(self) -> None:
        super()._stop_if_closed()
        if self.parent() is None:  # the layers stay, and with them their strokes
            for layer, keys in self._keyed.items():
                for key in keys:
                    layer.bind_key(key, None, overwrite=True)
            self._keyed.clear()

    def _key(self, number: int) -> None:
        structures = self.desk.document.structures
        if number <= len(structures):
            self.brush(structures[number - 1].value)

    def brush(self, code: int) -> None:
        """The mouse draws this structure, or the background (255)."""
        self.desk.brush(code)
        self._show_structures()

    def _tool_changed(self, event: Any = None) -> None:
        code = self.desk.brush_code()
        if code is not None and code != self.desk.document.current.structure:  # chosen in napari's own controls
            self.desk.brush(code)
        if not self.desk.writing:
            self._show_structures()

    def _stroke_drawn(self, event: Any = None) -> None:
        if not self.desk.writing:
            QTimer.singleShot(0, self.take_strokes)  # napari is still in the middle of its own change

    def _being_drawn(self, event: Any = None) -> None:
        if self.view.live_box.isChecked() and not self.desk.writing and not self._while_drawing.isActive():
            self._while_drawing.start()

    def _follow_the_hand(self) -> None:
        """The mouse is down: the mask follows what is drawn so far, which is no stroke of its own yet."""
        if self.desk.drawing():
            self.runs.first_mask(instead=False)

    def take_strokes(self) -> None:
        """Take over what was drawn; the masks follow."""
        self._while_drawing.stop()
        self._message = ""
        try:
            fresh = self.desk.strokes_changed()
        except PromptError as error:
            self.say(str(error))
            return
        if fresh:
            self.runs.follow()
        self.refresh()

    # -- structures ------------------------------------------------------------------------

    def _rename(self, value: int, name: str) -> None:
        self._act("rename a structure", partial(renamed, value=value, name=name))

    def _act(self, title: str, change: Callable[[Document], Document]) -> None:
        if self.desk.own is None:
            return
        try:
            after = change(self.desk.document)
        except PromptError as error:
            self.say(str(error))
            return
        self._message = ""
        strokes = self.desk.document.strokes
        if after != self.desk.document and (self.desk.act(title, after) or after.strokes != strokes):
            self.runs.follow()
        self.refresh()

    def add_structure(self) -> None:
        """A further structure, which the brush draws from now on."""
        self._act("add a structure", with_structure)
        self.brush(self.desk.document.current.structure)

    def _revalue(self, value: int, words: str) -> None:
        if words.strip().isdecimal():
            self._act("change a value", partial(renumbered, old=value, new=int(words)))
            self.brush(self.desk.document.current.structure)
        else:
            self.say(f"{words!r} is no value: a structure has a whole number from 1 to {BACKGROUND_STROKE - 1}.")

    def _lock(self, value: int, on: bool) -> None:
        self._act("lock a structure" if on else "unlock a structure", partial(with_lock, value=value, locked=on))

    def _ask_for_colour(self, value: int) -> None:
        if value == BACKGROUND_STROKE:
            return
        dialog = QColorDialog(QColor(self.desk.document.structure(value).colour), self)
        dialog.colorSelected.connect(lambda colour: self.set_colour(value, colour.name()))
        dialog.open()

    def set_colour(self, value: int, colour: str) -> None:
        """Draw a structure in this colour, ``"#rrggbb"``."""
        self._act("change a colour", partial(coloured, value=value, colour=colour.upper()))

    # -- strokes from elsewhere ------------------------------------------------------------

    def _strokes_chosen(self, row: int) -> None:
        chosen = self.view.strokes_box.itemData(row)
        self.view.strokes_box.setCurrentIndex(0)
        if chosen == "file":
            self.ask_for_file("Strokes", "NIfTI (*.nii.gz *.nii)", self.open_strokes)
        elif chosen is not None:
            self.take_layer(chosen)

    def take_layer(self, layer: Layer) -> None:
        """Take the strokes of another layer; what its values mean is asked unless it is known."""
        if self.desk.own is None:
            self.say("open an image and choose it above.")
            return
        try:
            found = strokes_of_layer(layer, self.desk.own)
        except WeaksegError as error:
            self.say(str(error))
            return
        if isinstance(found, Scribbles):
            self._take(found)
        else:
            self.ask_codes(found)

    def open_strokes(self, path: str) -> None:
        """Read strokes from a file in the background; what its values mean is asked."""
        if self.desk.own is None:
            self.say("open an image and choose it above.")
            return
        layers, volume = self.desk.own, self.desk.own.volume
        self.say(f"reading {Path(path).name}…")

        def ask(question: CodesQuestion) -> None:
            if self.desk.own is layers:
                self.ask_codes(question)

        in_background(lambda: strokes_of_file(path, volume), ask, self.failed)

    def ask_codes(self, question: CodesQuestion) -> None:
        """Show the counts per value and ask what each means."""
        self.view.codes.ask(question)
        self.say("say what each value means; nothing is guessed.")

    def _codes_answered(self) -> None:
        question = self.view.codes.question
        if question is None:
            return
        try:
            strokes = question.answered(self.view.codes.meanings(), self.desk.document.structures)
        except WeaksegError as error:
            self.say(str(error))
            return
        self.view.codes.ask(None)
        self._take(strokes)

    def _take(self, strokes: Scribbles) -> None:
        self.desk.take_strokes(strokes)
        self._message = ""
        self.runs.follow()
        self.refresh()

    # -- what is seen ----------------------------------------------------------------------

    def show_strokes(self) -> None:
        """Draw structures, and where strokes may come from."""
        view, own = self.view, self.desk.own
        elsewhere = [layer for layer in labels_elsewhere(self.viewer) if own is not None]
        entries = [("Strokes from…", None, ""), *((layer.name, layer, "") for layer in elsewhere), ("a file…", "file", "")]
        set_choices(view.strokes_box, entries, 0)
        for widget in (view.structure_add, view.strokes_box):
            widget.setEnabled(own is not None)
        self._show_structures()

    def _show_structures(self) -> None:
        desk, document = self.desk, self.desk.document
        marked = desk.counts()
        rows = []
        for number, structure in enumerate(document.structures, start=1):
            value = structure.value
            key = str(number) if number <= MOST_KEYS else ""
            shown, locked = not desk.hidden(value), value in document.locked
            rows.append(Row(value, key, structure.name, structure.colour, _marked(marked, value), shown, locked))
        background = _marked(marked, BACKGROUND_STROKE)
        rows.append(Row(BACKGROUND_STROKE, BACKGROUND_KEY, "background", "#FFFFFF", background, None, None))
        code = desk.brush_code()
        self.view.table.show_rows(rows, -1 if code is None else code)
        self.view.hint.setText(self._hint(code))

    def _hint(self, code: int | None) -> str:
        if self.desk.own is None:
            return "Open an image and choose it above."
        if code is None:
            return "Choose a structure to draw on it, in any plane."
        return "Keys choose the structure, [ and ] the size of the brush; E rubs out, P draws again."


def _marked(marked: dict[int, Any], code: int) -> str:
    count = marked.get(code)
    return "" if count is None or not count.voxels else f"{count.voxels} on {count.slices}"
