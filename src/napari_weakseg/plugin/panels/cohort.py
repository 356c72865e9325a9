"""The cohort panel: a table of cases, marks that are kept, training in the background, results to walk through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from ...errors import WeaksegError
from ...io.cohort import check_cohort
from ..cohort_desk import CohortDesk
from ..prompting import look_at
from ..workers import in_background
from .cohort_training import CohortTraining
from .cohort_view import ACCEPT_KEY, CLASS_COLOURS, CLASS_KEYS, NEXT_KEY, UNDO_KEY, View
from .panel import Panel

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari.viewer

EXTREME_POINTS, SCRIBBLES, HEATMAP = "Extreme points (SimPLe)", "Scribbles (adversarial gates)", "Explainable heatmap"
"""Names of the panels that are opened from here."""


class CohortPanel(Panel):
    """Dock widget **Cohort**.

    Parameters
    ----------
    viewer : napari viewer
        Given by napari.
    """

    view: View

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer, View())
        self.desk = CohortDesk(viewer)
        self.training = CohortTraining(self.view, self._keep_marks, self._run_changed, self.say, self._predicted)
        self._opening = ""  # the case that is being read
        self._following = ""  # the one that was asked for meanwhile
        self._saving = False
        self._marks_timer = QTimer(self)  # marks are kept when the panel that they were made in has drawn what it made of them
        self._marks_timer.setSingleShot(True)
        self._marks_timer.setInterval(200)
        self._marks_timer.timeout.connect(self._keep_marks)
        self._connect()
        self.refresh()

    # -- wires -----------------------------------------------------------------------------

    def _connect(self) -> None:
        view = self.view
        view.open_button.clicked.connect(lambda: self.ask_for_file("Open cohort", "Cohort (*.json)", self.open_cohort))
        view.check_button.clicked.connect(self.check)
        view.table.opened.connect(self.open_case)
        view.table.itemSelectionChanged.connect(self._show_buttons)
        view.case_button.clicked.connect(lambda: self.open_case(view.table.chosen()))
        view.next_button.clicked.connect(self.open_next)
        view.slices.clicked.connect(self.desk.go_to)
        view.class_clicked.connect(self.give_label)
        view.undo_button.clicked.connect(self.undo_label)
        view.clear_button.clicked.connect(lambda: self.give_label(None))
        view.points_button.clicked.connect(self.place_points)
        view.strokes_button.clicked.connect(self.draw_strokes)
        view.explain_button.clicked.connect(self.explain)
        view.accept_button.clicked.connect(self.accept)
        self.keys = {key: self._labels_with(value) for value, key in enumerate(CLASS_KEYS)}
        self.keys |= {UNDO_KEY: self.undo_label, ACCEPT_KEY: self.accept, NEXT_KEY: self.open_next}
        self.listen(self.viewer.dims.events.current_step, self._slice_changed)
        self.listen(self.viewer.dims.events.order, self._slice_changed)
        self.listen(self.viewer.layers.events.inserted, self._layer_came)
        self.listen(self.viewer.layers.events.removed, self._layer_went)

    def _labels_with(self, value: int) -> Callable[[], None]:
        def pressed() -> None:
            if self.desk.book is not None and value < len(self.desk.book.classes):
                self.give_label(value)

        return pressed

    def stop(self) -> None:
        """End what runs without a word; marks that wait to be kept are kept."""
        self.training.runs.stop()
        self._keep_marks()

    # -- cohort ----------------------------------------------------------------------------

    def open_cohort(self, path: str) -> None:
        """Open a cohort file."""
        if not self.training.runs.idle:
            self.say("wait until the run has ended, or stop it; then open another cohort.")
            return
        self._keep_marks()
        try:
            self.desk.open_cohort(path)
        except WeaksegError as error:
            self.say(str(error))
            return
        book = self.desk.book
        assert book is not None
        self.training.open_book(book)
        self.say(" ".join(book.cohort.notes))

    def check(self) -> None:
        """Read everything that the cohort names, in the background."""
        if self.desk.book is None:
            return
        path = self.desk.book.path
        self.say("checking every file…")
        in_background(lambda: check_cohort(path), self._checked, self.failed)

    def _checked(self, faults: tuple[str, ...]) -> None:
        more = f" ({len(faults) - 8} more)" if len(faults) > 8 else ""
        self.say("\n".join(faults[:8]) + more if faults else "every file can be used.")

    def failed(self, error: Exception) -> None:
        """Say in a sentence what went wrong in the background."""
        self._saving, self._opening, self._following = False, "", ""
        super().failed(error)

    # -- case ------------------------------------------------------------------------------

    def open_next(self) -> None:
        """Open the case that is most useful to look at."""
        if self.desk.book is None:
            return
        following = self.desk.book.next_useful(after=self.desk.case_id)
        if following is None:
            self.say("every case was reviewed.")
        else:
            self.open_case(following)

    def open_case(self, case_id: str) -> None:
        """Read a case in the background and show it; what was painted on the one before is written first."""
        if self.desk.book is None or not case_id:
            return
        if self._opening:
            self._following = case_id if case_id != self._opening else ""
            return
        self._keep_marks()
        if self.desk.painted():
            self._save_mask(lambda: self.open_case(case_id), reviewed=False)
            return
        self._opening, self._message = case_id, ""
        in_background(lambda: self.desk.load(case_id), self._loaded, self.failed)
        self.refresh()

    def _loaded(self, loaded: Any) -> None:
        self._opening = ""
        case, mask, heatmaps = loaded
        if self.desk.book is None:
            return
        self.desk.show(case, mask, heatmaps)
        self.view.table.choose(case.id)
        notes = [note for volume in case.channels.values() for note in volume.notes]
        if notes:
            self._message = f"Note: {notes[0]}"
        following, self._following = self._following, ""
        self.refresh()
        if following:
            self.open_case(following)

    def _layer_came(self, event: Any) -> None:
        """Marks are watched from the start, whichever panel makes them."""
        role = event.value.metadata.get("weakseg", {}).get("role")
        if role == "points":
            self.listen(event.value.events.data, self._marks_changed)
        elif role == "strokes":
            self.listen(event.value.events.paint, self._marks_changed)
            self.listen(event.value.events.labels_update, self._marks_changed)

    def _layer_went(self, event: Any = None) -> None:
        layers = self.desk.layers
        if layers is not None and layers.image not in self.viewer.layers:
            self.desk.close_case()
            self.refresh()

    def _slice_changed(self, event: Any = None) -> None:
        if self.desk.case is not None:
            self._show_case()

    # -- marks -----------------------------------------------------------------------------

    def give_label(self, value: int | None) -> None:
        """Label the slice in view, or the volume; it is on disk when this returns."""
        whole = self.view.whole_box.isChecked()
        shown = self.desk.slice_shown()
        try:
            words = self.desk.label(value, by_slice=not whole)
        except WeaksegError as error:
            self.say(str(error))
            return
        if value is not None and not whole and shown is not None and shown + 1 < self.desk.slice_count():
            self.desk.go_to(shown + 1)  # so that a row of presses labels a row of slices
        self.say(words)

    def undo_label(self) -> None:
        """Take the last change of a label back."""
        try:
            self.say(self.desk.undo_label())
        except WeaksegError as error:
            self.say(str(error))

    def place_points(self) -> None:
        """Open the extreme points panel on this case; what is clicked there is kept with the case."""
        if self.desk.layers is not None:
            look_at(self._open_panel(EXTREME_POINTS), self.desk.layers.image)
            self.say("click six outermost points on each object; complete objects are kept with the case.")

    def draw_strokes(self) -> None:
        """Open the scribbles panel on this case; what is drawn there is kept with the case."""
        if self.desk.layers is not None:
            self.desk.stroke_layer()  # with the cohort's own structures
            look_at(self._open_panel(SCRIBBLES), self.desk.layers.image)
            self.say("draw some strokes on each structure and on the background; they are kept with the case.")

    def explain(self) -> None:
        """Open the heatmap panel on this case, with the run that is named here, and run it."""
        folder = self.training.folder
        if self.desk.layers is not None and folder is not None:
            panel = self._open_panel(HEATMAP)
            look_at(panel, self.desk.layers.image)
            panel.open_run(str(folder))
            panel.start()

    def _open_panel(self, name: str) -> Any:
        _, panel = self.viewer.window.add_plugin_dock_widget("napari-weakseg", name, tabify=True)
        return panel

    def _marks_changed(self, event: Any = None) -> None:
        self._marks_timer.start()

    def _keep_marks(self) -> None:
        """Keep points and strokes as they are now."""
        self._marks_timer.stop()
        try:
            changed = self.desk.keep_points()
            write = self.desk.strokes_to_keep()
        except WeaksegError as error:
            self.say(str(error))
            return
        if changed:
            self.say("the points of this case were saved.")
        if write is not None:
            in_background(write, self._strokes_written, self.failed)

    def _strokes_written(self, case_id: str) -> None:
        try:
            if self.desk.book is not None:
                self.desk.book.keep_strokes(case_id)
        except WeaksegError as error:
            self.say(str(error))
            return
        self.say(f"the strokes of {case_id} were saved.")

    # -- masks -----------------------------------------------------------------------------

    def accept(self) -> None:
        """Write the mask as it is in view and call the case reviewed."""
        case_id = self.desk.case_id

        def kept() -> None:
            try:
                self.desk.reviewed(case_id)
            except WeaksegError as error:
                self.say(str(error))

        self._save_mask(kept, reviewed=True)

    def _save_mask(self, then: Any, *, reviewed: bool) -> None:
        if self._saving:
            return
        try:
            writing = self.desk.save_reviewed()
        except WeaksegError as error:
            self.say(str(error))
            return
        self._saving = True

        def written(words: str) -> None:
            self._saving = False
            then()
            self.say(words if reviewed else f"what was painted was kept: {words}")

        in_background(writing.write, written, self.failed)
        self.refresh()

    def _predicted(self, words: str) -> None:
        book, open_now = self.desk.book, self.desk.case_id
        if book is not None and open_now in book.unpredicted() and not self.desk.painted():
            self.open_case(open_now)  # its new mask is shown
        self.say(words)

    # -- what is seen ----------------------------------------------------------------------

    def refresh(self) -> None:
        """Draw the panel from the state."""
        view, book = self.view, self.desk.book
        if book is None:
            view.cohort_label.setText("no cohort open")
        else:
            rows = book.rows()
            counts = ", ".join(f"{count} {state}" for state, count in book.counts().items() if count)
            view.cohort_label.setText(f"{book.name}: {len(rows)} cases, {counts}")
            view.table.show_rows(rows, self.desk.case_id)
            view.set_classes(book.classes)
        view.case_part.setVisible(self.desk.case is not None)
        view.training_part.setVisible(book is not None)
        self._show_case()
        self._run_changed()

    def _show_case(self) -> None:
        view, desk = self.view, self.desk
        if desk.case is None or desk.book is None:
            return
        shown, labels = desk.slice_shown(), desk.slice_labels()
        here = "" if shown is None or labels[shown] < 0 else f": {desk.book.classes[labels[shown]]}"
        place = "" if shown is None else f", slice {shown} of {len(labels)}{here}"
        view.case_label.setText(f"{desk.case_id}{place}")
        heights, known = desk.slice_heights()
        colours = [CLASS_COLOURS[value % len(CLASS_COLOURS)] if value >= 0 else "#555555" for value in labels]
        view.slices.show_slices(heights, colours)
        view.slices.show_current(shown)
        view.slices.setToolTip(
            "Height: predicted probability; colour: its label; click to go there" if known else "Its labels; click to go there"
        )

    def _run_changed(self) -> None:
        """Draw what runs: the light part, which is done often."""
        self.training.show_run()
        self._show_buttons()
        self.show_message(f"Opening {self._opening}…" if self._opening else self._message)

    def _show_buttons(self) -> None:
        view, book, training = self.view, self.desk.book, self.training
        is_open = self.desk.case is not None
        view.check_button.setEnabled(book is not None and training.runs.idle)
        view.open_button.setEnabled(training.runs.idle)
        view.case_button.setEnabled(book is not None and bool(view.table.chosen()))
        view.next_button.setEnabled(book is not None)
        view.explain_button.setEnabled(is_open and training.begun)
        has_mask = self.desk.layers is not None and self.desk.layers.find("mask") is not None
        view.accept_button.setEnabled(has_mask and not self._saving)
        view.clear_button.setEnabled(bool((self.desk.slice_labels() >= 0).any()))
        view.undo_button.setEnabled(self.desk.can_undo)
        for button in (*view.class_buttons, view.points_button, view.strokes_button):
            button.setEnabled(is_open)
