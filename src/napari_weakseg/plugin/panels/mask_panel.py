"""A panel that makes masks of one image from marks: strokes, runs, doubt, accept, save, and work that was not saved.

What marks begin an object is left to whoever inherits: `extreme_points` places points, another draws strokes alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from ...errors import WeaksegError
from ...methods import get_method
from ...prompts import BACKGROUND_STROKE
from ..companions import other_channels
from ..form import RecipeForm
from ..mask_runs import MaskRuns
from ..proposals import REFINED
from ..report import doubt_line, expected_line, image_line, mask_line, measures, progress_line, record_text
from ..session import Job
from ..workbench import Workbench
from .desk_panel import DeskPanel

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari.viewer
    from napari.layers import Layer
    from qtpy.QtWidgets import QAbstractButton

    from .mask_view import MaskView


class MaskPanel(DeskPanel):
    """The part of such a panel that does not depend on the kind of marks.

    Parameters
    ----------
    viewer : napari viewer
        Given by napari.
    view : MaskView
        Its widgets.
    method : str
        Name in the register of the method that fits.
    keys : dict of str to str
        Action to key.
    """

    view: MaskView

    def __init__(self, viewer: napari.viewer.Viewer, view: MaskView, method: str, keys: dict[str, str]) -> None:
        room = get_method(method)
        recipe = room.recipe_class()
        self._takes_strokes = "scribbles" in room.card.prompts
        self.bench = Workbench(viewer, method, recipe)
        super().__init__(viewer, view, self.bench)
        self.form = RecipeForm(recipe)
        view.settings.addWidget(self.form.native)
        self.runs = MaskRuns(self.bench, lambda: self.form.recipe, self._show_run, self.say)
        self.wire(self.actions(), keys)
        view.channels_box.toggled.connect(self.bench.use_channels)
        view.doubt_box.toggled.connect(self._show_doubt)
        self.listen(viewer.layers.selection.events.active, self._tool_changed)

    def actions(self) -> dict[str, tuple[QAbstractButton, Callable[[], Any]]]:
        """Name of each action to its button and what it does."""
        view = self.view
        return {
            "undo": (view.undo_button, self.undo),
            "redo": (view.redo_button, self.redo),
            "refine": (view.refine_button, self.runs.refine),
            "cancel": (view.cancel_button, self.cancel),
            "accept": (view.accept_button, self.accept),
            "discard": (view.discard_button, self.discard),
            "save": (view.save_button, self.ask_where_to_save),
            "object_stroke": (view.object_stroke, self.draw_on_object),
            "background_stroke": (view.background_stroke, self.draw_on_background),
            "next_doubt": (view.doubt_button, self.look_next),
        }

    # -- the image -------------------------------------------------------------------------

    def work_on(self, image: Layer | None) -> None:
        """Take this image; what was done on the one before is kept for when it is chosen again."""
        self.bench.choose_image(image)
        self.identify()

    def dropped(self) -> str:
        """What is said where a removed image was being worked on."""
        run = self.runs.run
        return "The image was removed, so its run was dropped." if run is not None and run.stage == REFINED else ""

    # -- undo, strokes and doubt -----------------------------------------------------------

    def undo(self) -> None:
        """Take the last action back."""
        self._replayed("undone", self.bench.undo())

    def redo(self) -> None:
        """Do again what was undone."""
        self._replayed("done again", self.bench.redo())

    def _replayed(self, word: str, title: str) -> None:
        document, layers = self.bench.document, self.bench.layers
        self.say(f"{word}: {title}." if title else "there is nothing more to take back or to do again.")
        open_now = layers is not None and document.current in self.bench.open_objects()
        if open_now and not any(document.current in proposal.objects for proposal in self.bench.proposals):
            self.runs.first_mask()
        self.refresh()

    def draw_on_object(self) -> None:
        """The mouse draws strokes on the current object."""
        self.draw(self.bench.document.current.structure)

    def draw_on_background(self) -> None:
        """The mouse draws strokes on what does not belong to the object."""
        self.draw(BACKGROUND_STROKE)

    def draw(self, code: int) -> None:
        """The mouse draws strokes of a structure's value, or of 255 for the background."""
        if self.bench.layers is not None and self._takes_strokes:
            strokes = self.bench.layers.strokes(self.bench.document)
            self.listen(strokes.events.paint, self._stroke_drawn)
            strokes.visible = True
            self.viewer.layers.selection.active = strokes
            strokes.selected_label = code
            strokes.mode = "paint"
        self._tool_changed()

    def drawn_code(self) -> int:
        """What the mouse draws now: a structure's value, 255 for background, 0 where it draws no strokes."""
        layers, active = self.bench.layers, self.viewer.layers.selection.active
        drawn = layers is not None and active is not None and active == layers.find("scribbles")
        return int(active.selected_label) if drawn and active is not None else 0

    def _tool_changed(self, event: Any = None) -> None:
        """Show what the mouse does now: the layers know it."""
        view, code = self.view, self.drawn_code()
        on_object = code not in (0, BACKGROUND_STROKE)
        for toggle, on in ((view.object_stroke, on_object), (view.background_stroke, code == BACKGROUND_STROKE)):
            toggle.setChecked(on)
            toggle.setEnabled(self.bench.layers is not None)
            toggle.setVisible(self._takes_strokes)

    def _stroke_drawn(self, event: Any = None) -> None:
        if not self.bench.writing:
            QTimer.singleShot(0, self.take_strokes)  # napari is still in the middle of its own change

    def take_strokes(self) -> None:
        """Take over what was drawn; the mask follows."""
        self._message = ""
        if self.bench.strokes_changed():
            self.runs.first_mask()
        elif self.bench.document.strokes and self.runs.run is None:
            self._message = "Draw on the object first: nothing says where it is."
        self.refresh()

    def _show_doubt(self, on: bool) -> None:
        self.bench.shows_doubt = on
        self.bench.draw_doubt()

    def look_next(self) -> None:
        """Go where a look helps most."""
        if self.bench.next_doubt() is None:
            self.say("there is no doubt to look at; make a mask first.")

    # -- runs and masks --------------------------------------------------------------------

    def cancel(self) -> None:
        """Stop now; the last good mask stays."""
        if self.runs.cancel():
            self.say("cancelled; the last good mask is kept.")
        self.refresh()

    def stop(self) -> None:
        """End what runs without a word."""
        self.runs.cancel()

    def accept(self) -> None:
        """Write what is shown into the mask."""
        self.stop()
        self.say(self.bench.accept(overwrite=self.view.overwrite_box.isChecked()))
        self.listen_to_mask()

    def discard(self) -> None:
        """Take the proposal away."""
        self.stop()
        self.bench.discard()
        self.refresh()

    def restore(self) -> None:
        """Bring back the work of a session that was not saved."""
        super().restore()
        self._replayed("restored", "the work that was not saved")

    # -- what is seen ----------------------------------------------------------------------

    def refresh(self) -> None:
        """Draw the panel from the state; nothing is kept in widgets but the settings."""
        view, bench = self.view, self.bench
        volume = None if bench.layers is None else bench.layers.volume
        self.show_image(image_line(bench.session), volume)
        others = other_channels(self.viewer, bench.layers.image, bench.layers.volume) if bench.layers is not None else ()
        view.channels_box.setVisible(bool(others))
        self.show_marks()
        self.show_history()
        self._tool_changed()
        self._show_run()

    def show_marks(self) -> None:
        """Draw what the marks are and what is missing."""
        raise NotImplementedError

    def _show_run(self) -> None:
        view, runs = self.view, self.runs
        view.refine_button.setEnabled(runs.can_refine)
        view.cancel_button.setEnabled(runs.running)
        words = progress_line(runs.run, runs.progress, runs.elapsed)
        share = None if not runs.running else runs.progress.share if runs.progress is not None else 0.0
        view.progress.show_news(words or (self._expected() if self.bench.open_objects() else ""), share)
        self._show_masks()
        self.show_message(self._message)

    def _expected(self) -> str:
        """Time, memory and device of a run, said before it starts."""
        job = self.bench.job(first=False)
        try:
            return expected_line(self.form.recipe, job) if isinstance(job, Job) else ""
        except WeaksegError as error:
            return str(error)

    def _show_masks(self) -> None:
        view, bench = self.view, self.bench
        standing = bench.standing()
        view.mask_label.setText(mask_line(standing, bench))
        view.accept_button.setEnabled(bool(standing))
        view.discard_button.setEnabled(bool(bench.proposals))
        self.show_history()
        view.doubt_label.setText(doubt_line(bench.doubted()))
        view.doubt_button.setEnabled(bench.doubted() is not None)
        if view.measures.isExpanded():
            view.measures_label.setText(measures(bench))
        if view.record.isExpanded():
            view.record_label.setText(record_text(standing, bench))
