"""The cohort panel: a table of cases, marks that are kept, training in the background, results to walk through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from ...errors import WeaksegError
from ...io.cohort import check_cohort
from ...io.names import file_name
from ...methods import get_method, list_methods
from ..cohort_desk import CohortDesk
from ..cohort_jobs import Figures, mark_predicted, predict, train
from ..form import RecipeForm
from ..prompting import look_at
from ..report import news_line
from ..trained import Trained
from ..workers import Task, in_background
from .cohort_view import CLASS_COLOURS, CLASS_KEYS, View
from .panel import Panel
from .parts import set_choices

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari.viewer


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
        self.task: Task | None = None
        self.form: RecipeForm | None = None
        self._opening = ""  # the case that is being read
        self._following = ""  # the one that was asked for meanwhile
        self._saving = False
        self._news: Figures | None = None
        self._points_timer = QTimer(self)  # a click is kept when the extreme points panel has drawn what it made of it
        self._points_timer.setSingleShot(True)
        self._points_timer.setInterval(200)
        self._points_timer.timeout.connect(self._keep_points)
        self.keys = {key: self._labels_with(value) for value, key in enumerate(CLASS_KEYS)}
        self._connect()
        self._fill_methods()
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
        view.clear_button.clicked.connect(lambda: self.give_label(None))
        view.points_button.clicked.connect(self.place_points)
        view.accept_button.clicked.connect(self.accept)
        view.method_box.activated.connect(lambda _: self._method_chosen())
        view.run_edit.textChanged.connect(lambda _: self._show_buttons())
        view.train_button.clicked.connect(self.train)
        view.stop_button.clicked.connect(self.stop_and_keep)
        view.predict_button.clicked.connect(self.predict)
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
        """End what runs without a word."""
        if self.task is not None:
            self.task.cancel()

    # -- cohort ----------------------------------------------------------------------------

    def open_cohort(self, path: str) -> None:
        """Open a cohort file."""
        if self.task is not None:
            self.say("wait until the run has ended, or stop it; then open another cohort.")
            return
        try:
            self.desk.open_cohort(path)
        except WeaksegError as error:
            self.say(str(error))
            return
        self._choose_method()
        self._fill_runs()
        self.say("".join(f"{note} " for note in self.desk.book.cohort.notes) if self.desk.book else "")

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
        self._points_timer.stop()
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
        layer = event.value
        if self.desk.layers is not None and layer.metadata.get("weakseg", {}).get("role") == "points":
            self.listen(layer.events.data, self._points_changed)

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

    def place_points(self) -> None:
        """Open the extreme points panel on this case; what is clicked there is kept with the case."""
        if self.desk.layers is None:
            return
        _, panel = self.viewer.window.add_plugin_dock_widget("napari-weakseg", "Extreme points (SimPLe)", tabify=True)
        look_at(panel, self.desk.layers.image)
        self.say("click six outermost points on each object; complete objects are kept with the case.")

    def _points_changed(self, event: Any = None) -> None:
        self._points_timer.start()

    def _keep_points(self) -> None:
        try:
            changed = self.desk.keep_points()
        except WeaksegError as error:
            self.say(str(error))
            return
        if changed:
            self.say("the points of this case were saved.")

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

    # -- training and prediction -----------------------------------------------------------

    def _fill_methods(self) -> None:
        cards = list_methods()
        set_choices(self.view.method_box, [(card.title, card.name, "") for card in cards], 0 if cards else -1)
        self._method_chosen()

    def _choose_method(self) -> None:
        """Take the first method that learns from the marks that there are."""
        book = self.desk.book
        if book is None:
            return
        kind = "image_label" if len(book.classes) >= 2 else "extreme_points"
        names = [card.name for card in list_methods()]
        fitting = [card.name for card in list_methods() if kind in card.prompts]
        if fitting:
            self.view.method_box.setCurrentIndex(names.index(fitting[0]))
            self._method_chosen()

    @property
    def method(self) -> str:
        """Name of the method that is trained."""
        return str(self.view.method_box.currentData() or "")

    def _method_chosen(self) -> None:
        if not self.method:
            return
        if self.form is not None:
            self.view.settings.removeWidget(self.form.native)
            self.form.native.deleteLater()
        self.form = RecipeForm(get_method(self.method).recipe_class.for_cohort())
        self.view.settings.addWidget(self.form.native)

    def _fill_runs(self) -> None:
        """Offer the newest run there is, else the name of a first one."""
        book = self.desk.book
        runs = sorted(p for p in book.runs.iterdir() if p.is_dir()) if book is not None and book.runs.is_dir() else []
        newest = max(runs, key=lambda path: path.stat().st_mtime, default=None)
        self.view.run_edit.setText("run_1" if newest is None else newest.name)

    @property
    def run_folder(self) -> Any:
        """Folder of the run that is named; None without a cohort."""
        book = self.desk.book
        name = file_name(self.view.run_edit.text().strip(), fallback="run_1")
        return None if book is None else book.runs / name

    def train(self) -> None:
        """Train in the background; a run that is there is gone on with."""
        book, folder = self.desk.book, self.run_folder
        if book is None or folder is None or self.task is not None or self.form is None:
            return
        try:
            recipe = self.form.recipe
        except WeaksegError as error:
            self.say(str(error))
            return
        resume = (folder / "recipe.json").is_file()
        self.view.curves.clear()
        self._start("the training", train(book, self.method, recipe, folder, resume=resume), self._trained)

    def _trained(self, weights: Any) -> None:
        self.say(f"trained: {self.view.run_edit.text()} can predict now; the panel Explainable heatmap opens its folder.")

    def predict(self) -> None:
        """Predict every case that was not reviewed."""
        book, folder = self.desk.book, self.run_folder
        if book is None or folder is None or self.task is not None:
            return
        try:
            trained = Trained.read(folder)
        except WeaksegError as error:
            self.say(str(error))
            return
        ids = book.unpredicted()

        def done(words: str) -> None:
            try:
                mark_predicted(book, ids)
            except WeaksegError as error:
                words = str(error)
            open_now = self.desk.case_id
            if open_now in ids and not self.desk.painted():
                self.open_case(open_now)  # its new mask is shown
            self.say(words)

        self._start("the prediction", predict(book, trained.weights, ids), done)

    def _start(self, name: str, steps: Any, done: Any) -> None:
        self._message, self._news = "", None
        self.task = Task(
            name, steps, progressed=self._progressed, done=done, failed=self.say, ended=self._ended, merge=Figures.join
        )
        self.task.start()
        self.refresh()

    def stop_and_keep(self) -> None:
        """End at the next step; what was learnt so far is on disk."""
        if self.task is not None and not self.task.cancelled:
            self.stop()
            self.say("stopped; what is done so far is kept, and Train goes on with it.")

    def _progressed(self, news: Figures) -> None:
        self._news = news
        for step, scores in news.rows:
            self.view.curves.add(step, scores)
        if news.latest.note:
            self._message = news.latest.note
        self._show_run()
        self.show_message(f"Opening {self._opening}…" if self._opening else self._message)

    def _ended(self, task: Task) -> None:
        if self.task is task:
            self.task, self._news = None, None
        self.refresh()

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
        self._show_run()
        self._show_buttons()
        self.show_message(f"Opening {self._opening}…" if self._opening else self._message)

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

    def _show_run(self) -> None:
        view = self.view
        running = self.task is not None and not self.task.cancelled
        latest = None if self._news is None else self._news.latest
        words = "stopping…" if self.task is not None and not running else news_line(latest) if running else ""
        view.progress.show_news(words, None if not running else 0.0 if latest is None else latest.share)

    def _show_buttons(self) -> None:
        view, book = self.view, self.desk.book
        free = book is not None and self.task is None
        folder = self.run_folder
        begun = folder is not None and (folder / "recipe.json").is_file()
        view.check_button.setEnabled(free)
        view.open_button.setEnabled(self.task is None)
        view.case_button.setEnabled(book is not None and bool(view.table.chosen()))
        view.next_button.setEnabled(book is not None)
        view.train_button.setEnabled(free)
        view.train_button.setText("Resume" if begun else "Train")
        view.predict_button.setEnabled(free and begun)
        view.stop_button.setEnabled(self.task is not None and not self.task.cancelled)
        has_mask = self.desk.layers is not None and self.desk.layers.find("mask") is not None
        view.accept_button.setEnabled(has_mask and not self._saving)
        view.clear_button.setEnabled(bool((self.desk.slice_labels() >= 0).any()))
        for button in view.class_buttons:
            button.setEnabled(self.desk.case is not None)
