"""The scribbles panel: strokes on several structures, a mask that follows, a refinement that goes on. It wires the parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import WeaksegError
from ...methods import get_method, list_methods
from ..companions import other_channels
from ..form import RecipeForm
from ..others_masks import OthersMasks, counted
from ..report import (
    device_words,
    doubt_words,
    expected_line,
    mask_line,
    measures,
    news_line,
    note_lines,
    record_text,
    size_line,
)
from ..scribble_runs import ScribbleRuns
from ..scribble_session import ScribbleJob
from ..workers import in_background
from .parts import set_choices
from .scribbles_view import KEYS, View
from .stroke_panel import StrokePanel

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari.viewer
    from qtpy.QtWidgets import QAbstractButton

    from ...recipe import Recipe

DEFAULT = "adversarial_gating"


class ScribblesPanel(StrokePanel):
    """Dock widget **Scribbles (adversarial gates)**.

    Parameters
    ----------
    viewer : napari viewer
        Given by napari.
    """

    view: View

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self.method = ""
        self.form: RecipeForm
        self.runs = ScribbleRuns(self.desk, self._settings, self._show_run, self.say)
        self._fill_methods()
        self._connect()
        self.images_changed()

    def _connect(self) -> None:
        view = self.view
        self.wire(self.actions(), KEYS)
        view.channels_box.toggled.connect(self._use_channels)
        view.live_box.toggled.connect(self._set_live)
        view.slices.clicked.connect(self.desk.go_to)
        view.maps_box.toggled.connect(self._show_maps)
        view.method_box.activated.connect(lambda row: self.choose_method(view.method_box.itemData(row)))
        view.masks_button.clicked.connect(
            lambda: self.ask_for_folder("Folder of masks of other patients", None, self.read_masks)
        )
        view.masks_drop.clicked.connect(self._drop_masks)
        view.save_strokes_button.clicked.connect(self._ask_where_to_save_strokes)
        self.listen(self.viewer.dims.events.current_step, self._slice_changed)
        self.listen(self.viewer.dims.events.order, self._slice_changed)

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
            "next_doubt": (view.doubt_button, self.next_doubt),
        }

    # -- the image -------------------------------------------------------------------------

    def dropped(self) -> str:
        """What is said where a removed image was being worked on."""
        return "The image was removed, so its run was dropped." if self.runs.running else ""

    def _use_channels(self, use: bool) -> None:
        self.desk.use_channels(use)
        self.refresh()

    # -- method and masks of others --------------------------------------------------------

    def _fill_methods(self) -> None:
        cards = [card for card in list_methods() if card.prompts == ("scribbles",)]
        cards.sort(key=lambda card: card.name != DEFAULT)
        set_choices(self.view.method_box, [(card.title, card.name, "") for card in cards], 0)
        self.choose_method(cards[0].name)

    def choose_method(self, name: str) -> None:
        """Refine in this way from now on, with its settings."""
        if name == self.method:
            return
        if self.method:
            self.view.settings.removeWidget(self.form.native)
            self.form.native.deleteLater()
        self.method = name
        self.form = RecipeForm(get_method(name).recipe_class())
        self.view.settings.addWidget(self.form.native)
        self.refresh()

    def _settings(self) -> tuple[str, Recipe]:
        return self.method, self.form.recipe

    def read_masks(self, folder: str) -> None:
        """Read the masks of other patients in the background."""
        self.say("reading masks…")
        in_background(lambda: OthersMasks.read(folder), self._masks_read, self.failed)

    def _masks_read(self, others: OthersMasks) -> None:
        self.desk.others = others
        faults = others.faults(self.desk.document.structures)
        self.say(" ".join([f"read {counted(len(others.masks))} of other patients.", *faults]))

    def _drop_masks(self) -> None:
        self.desk.others = OthersMasks()
        self.refresh()

    # -- masks -----------------------------------------------------------------------------

    def _set_live(self, on: bool) -> None:
        self.runs.live = on
        if on and self.desk.document.strokes:
            self.runs.first_mask()

    def undo(self) -> None:
        """Take the last action back."""
        past = self.desk.history.past
        if self.runs.refining and (not past or past[-1].before.strokes == past[-1].after.strokes):
            self.runs.cancel()  # what is taken back is what it has shown so far
        self._replayed("undone", *self._strokes_after(self.desk.undo))

    def redo(self) -> None:
        """Do again what was undone."""
        self._replayed("done again", *self._strokes_after(self.desk.redo))

    def _strokes_after(self, step: Callable[[], tuple[str, bool]]) -> tuple[str, bool, bool]:
        before = self.desk.document.strokes
        title, needs_mask = step()
        return title, needs_mask, self.desk.document.strokes != before

    def _replayed(self, word: str, title: str, needs_mask: bool, strokes_changed: bool) -> None:
        self.say(f"{word}: {title}." if title else "there is nothing more to take back or to do again.")
        if title == "refine" and word == "undone":
            self.runs.cancel()  # nor does the next stroke bring it back
        if needs_mask or (strokes_changed and self.runs.running):
            self.runs.follow()
        self.refresh()

    def restore(self) -> None:
        """Bring back the work of a session that was not saved."""
        super().restore()
        self.brush(self.desk.document.current.structure)
        self.runs.follow()
        self.refresh()

    def cancel(self) -> None:
        """Stop now; the last good mask stays."""
        if self.runs.cancel():
            self.say("cancelled; the last good mask is kept.")
        self.refresh()

    def stop(self) -> None:
        """End what runs without a word."""
        self._while_drawing.stop()
        self.runs.cancel()

    def accept(self) -> None:
        """Write what is shown into the mask; locked structures stay."""
        self.stop()
        self.say(self.desk.accept())
        self.listen_to_mask()

    def discard(self) -> None:
        """Take the mask in view away; strokes stay."""
        self.stop()
        self.desk.discard()
        self.refresh()

    def next_doubt(self) -> None:
        """Go to the next slice in which a look or a stroke helps most."""
        if self.desk.next_doubt() is None:
            self.say("there is no doubt to look at; make a mask first.")

    def _show_maps(self, on: bool) -> None:
        self.desk.shows_maps = on
        self.desk.draw_maps()

    def _ask_where_to_save_strokes(self) -> None:
        if self.desk.own is None or not self.desk.document.strokes:
            self.say("there are no strokes to save; draw some first.")
        else:
            self.ask_where_to_write("strokes", self.desk.own.image.name, "scribbles", self.save_strokes_to)

    def save_strokes_to(self, path: str) -> None:
        """Write the strokes in the background."""
        self.write_in_background(lambda: self.desk.save_strokes(path))

    # -- what is seen ----------------------------------------------------------------------

    def refresh(self) -> None:
        """Draw the panel from the state; nothing is kept in widgets but the settings."""
        view, own = self.view, self.desk.own
        volume = None if own is None else own.volume
        problem = self.desk.problem
        self.show_image(problem[:1].upper() + problem[1:] if volume is None else size_line(volume), volume)
        others = other_channels(self.viewer, own.image, own.volume) if own is not None else ()
        view.channels_box.setVisible(bool(others))
        self.show_strokes()
        self._show_method()
        self._show_run()

    def _show_method(self) -> None:
        view, others = self.view, self.desk.others
        takes = get_method(self.method).card.learns_masks
        view.masks_row.setVisible(takes)
        view.masks_drop.setEnabled(bool(others.masks))
        words = others.line(self.desk.document.structures) if takes else ""
        view.form_label.setText(words)
        view.form_label.setVisible(bool(words))

    def _show_run(self) -> None:
        view, runs, desk = self.view, self.runs, self.desk
        view.refine_button.setEnabled(desk.own is not None and bool(desk.document.strokes) and not runs.refining)
        view.cancel_button.setEnabled(runs.running)
        share = None if not runs.refining else runs.news.share if runs.news is not None else 0.0
        view.progress.show_news(self._progress_words(), share)
        view.mask_label.setText(mask_line(desk.standing(), desk))
        notes = [note for proposal in desk.standing() for note in proposal.notes]
        view.mask_notes.setText(note_lines(notes))
        view.mask_notes.setVisible(bool(notes))
        view.accept_button.setEnabled(bool(desk.standing()))
        view.discard_button.setEnabled(bool(desk.proposals))
        view.save_strokes_button.setEnabled(not self._saving and bool(desk.document.strokes))
        self._show_doubt()
        if view.measures.isExpanded():
            view.measures_label.setText(measures(desk))
        if view.record.isExpanded():
            view.record_label.setText(record_text(desk.standing(), desk))
        self.show_history()
        said = any(self._message == note[:1].upper() + note[1:] for note in notes)
        self.show_message("" if said else self._message)  # what a run said stands with its mask in the end

    def _progress_words(self) -> str:
        if self.runs.refining:
            words = [news_line(self.runs.news), device_words(self.form.recipe.device)] if self.runs.news else ["starting…"]
            return " · ".join(word for word in words if word)
        if self.runs.making_first:
            return "first mask…"
        if not self.desk.document.strokes:
            return ""
        try:
            job = self.desk.job(*self._settings())
        except WeaksegError as error:
            return str(error)
        if not isinstance(job, ScribbleJob):
            return job.sentence[:1].upper() + job.sentence[1:]
        words_now = expected_line(job.recipe, job)
        return f"{words_now}; it goes on from where it was" if self.runs.goes_on else words_now

    def _show_doubt(self) -> None:
        view, doubt, proposal = self.view, self.desk.slices(), self.desk.in_view()
        view.slices.show_slices(() if doubt is None else doubt.values)
        view.slices_label.setText("" if doubt is None else doubt_words(doubt))
        view.slices_label.setVisible(doubt is not None)
        view.doubt_button.setEnabled(doubt is not None)
        view.slices.show_current(self.desk.slice_shown())
        maps = proposal is not None and bool(proposal.maps)
        view.maps_box.setEnabled(maps or view.maps_box.isChecked())
        view.maps_box.setToolTip(
            "How far the gates of the network's levels are open: four layers, one per level"
            if maps
            else "They come with the end of a refinement by adversarial gates"
        )

    def _slice_changed(self, event: Any = None) -> None:
        self.view.slices.show_current(self.desk.slice_shown())
