"""A panel that makes masks of one image from marks: strokes, runs, doubt, accept, save, and work that was not saved.

What marks begin an object is left to whoever inherits: `extreme_points` places points, another draws strokes alone.
"""

from __future__ import annotations

import contextlib
import importlib
import time
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from ...errors import WeaksegError
from ...methods import get_method
from ...prompts import BACKGROUND_STROKE
from ..companions import other_channels
from ..edits import purge
from ..form import RecipeForm
from ..mask_runs import MaskRuns
from ..proposals import REFINED
from ..report import doubt_line, expected_line, image_line, mask_line, measures, progress_line, record_text
from ..session import Job
from ..workbench import Workbench
from ..workers import in_background, sentence
from .panel import ImagePanel

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari.viewer
    from napari.layers import Layer
    from qtpy.QtWidgets import QAbstractButton

    from ..export import Save
    from .mask_view import MaskView


class MaskPanel(ImagePanel):
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
        super().__init__(viewer, view)
        room = get_method(method)
        recipe = room.recipe_class()
        self._takes_strokes = "scribbles" in room.card.prompts
        self.bench = Workbench(viewer, method, recipe)
        self._saving = False
        self.form = RecipeForm(recipe)
        view.settings.addWidget(self.form.native)
        self.runs = MaskRuns(self.bench, lambda: self.form.recipe, self._show_run, self.say)
        self._autosave = QTimer(self)  # a stroke in the mask is written down when the hand rests
        self._autosave.setSingleShot(True)
        self._autosave.setInterval(300)
        self._autosave.timeout.connect(self.bench.write_mask_down)
        actions = self.actions()
        for button, action in actions.values():
            button.clicked.connect(lambda _=False, act=action: act())
        self.keys = {key: actions[name][1] for name, key in keys.items()}
        view.channels_box.toggled.connect(self.bench.use_channels)
        view.doubt_box.toggled.connect(self._show_doubt)
        view.restore_button.clicked.connect(self._restore)
        view.forget_button.clicked.connect(self._forget)
        self.listen(viewer.layers.selection.events.active, self._tool_changed)
        purge()
        in_background(_warm_up)

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
        layers = self.bench.layers
        if layers is not None:
            volume = layers.volume
            in_background(lambda: volume.sha256, lambda sha: self._identified(layers, sha))

    def dropped(self) -> str:
        """What is said where a removed image was being worked on."""
        run = self.runs.run
        return "The image was removed, so its run was dropped." if run is not None and run.stage == REFINED else ""

    def _identified(self, layers: Any, sha256: str) -> None:
        if self.bench.layers is layers:
            self.bench.identify(sha256)
            self.refresh()

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
        self._listen_to_mask()

    def discard(self) -> None:
        """Take the proposal away."""
        self.stop()
        self.bench.discard()
        self.refresh()

    def _listen_to_mask(self) -> None:
        """Strokes that the user paints into the mask are kept too."""
        mask = None if self.bench.layers is None else self.bench.layers.find("mask")
        if mask is not None:
            self.listen(mask.events.paint, self._painted)

    def _painted(self, event: Any = None) -> None:
        self._autosave.start()

    def ask_where_to_save(self) -> None:
        """Open the file dialog; it blocks nothing."""
        if self._saving:
            self.say("the mask is being saved; wait until that has ended.")
        elif self.bench.layers is None or self.bench.layers.find("mask") is None:
            self.say("there is no mask yet; accept one first.")
        else:
            self.ask_where_to_write("mask", self.bench.layers.image.name, "mask", self.save_to)

    def save_to(self, path: str) -> None:
        """Write the mask and its record in the background; the button is off until they are written."""
        if self._saving:
            return
        try:
            save = self.bench.save(path)
        except WeaksegError as error:
            self.say(str(error))
            return
        self._saving = True
        in_background(save.write, lambda words: self._saved(words, save), self._not_saved)
        self.say("saving…")

    def _saved(self, words: str, save: Save) -> None:
        self._saving = False
        self.bench.saved(save)
        self.say(words)

    def _not_saved(self, error: Exception) -> None:
        self._saving = False
        self.say(sentence(error, "the mask was not saved", "it is still here, save it elsewhere"))

    def _restore(self) -> None:
        self.bench.restore()
        self._listen_to_mask()
        self._replayed("restored", "the work that was not saved")

    def _forget(self) -> None:
        self.bench.forget()
        self.refresh()

    # -- what is seen ----------------------------------------------------------------------

    def refresh(self) -> None:
        """Draw the panel from the state; nothing is kept in widgets but the settings."""
        view, bench = self.view, self.bench
        volume = None if bench.layers is None else bench.layers.volume
        self.show_image(image_line(bench.session), volume)
        others = other_channels(self.viewer, bench.layers.image, bench.layers.volume) if bench.layers is not None else ()
        view.channels_box.setVisible(bool(others))
        self.show_marks()
        view.undo_button.setEnabled(bench.layers is not None and bool(bench.history.past))
        view.redo_button.setEnabled(bench.layers is not None and bool(bench.history.future))
        if bench.history.past:
            view.undo_button.setToolTip(f"Undo: {bench.history.past[-1].title}")
        self._tool_changed()
        self._show_run()
        found = bench.recovered
        view.recovery.setVisible(found is not None)
        if found is not None:
            when = time.strftime("%d %b %H:%M", time.localtime(found.written))
            view.recovery_label.setText(f"Unsaved work on this image from {when} was found.")

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
        view.save_button.setEnabled(not self._saving and bench.layers is not None and bench.layers.find("mask") is not None)
        view.doubt_label.setText(doubt_line(bench.doubted()))
        view.doubt_button.setEnabled(bench.doubted() is not None)
        if view.measures.isExpanded():
            view.measures_label.setText(measures(bench))
        if view.record.isExpanded():
            view.record_label.setText(record_text(standing, bench))


def _warm_up() -> None:
    """Load what the first run would otherwise wait for."""
    with contextlib.suppress(ImportError):
        importlib.import_module("napari_weakseg.training.devices").warm_up()
