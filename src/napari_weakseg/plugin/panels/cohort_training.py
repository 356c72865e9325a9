"""The part of the cohort panel that trains and predicts: method, run, settings, curves, card, stop and resume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import WeaksegError
from ...io.names import file_name
from ...io.weights import caveats, check_trained
from ...methods import get_method, list_methods
from ..cohort_jobs import CohortRuns
from ..form import RecipeForm
from ..model_card import figures_of
from ..report import news_line
from ..trained import Trained
from .parts import set_choices

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..cohort_book import CohortBook
    from .cohort_view import View


class CohortTraining:
    """Drives the lower half of the view; a run that is there is gone on with.

    Parameters
    ----------
    view : View
        The panel's widgets.
    keep_marks : callable
        Called before a training, so that what was marked last is learnt too.
    changed : callable
        Told whenever what runs is to be drawn anew.
    say : callable
        Takes a sentence for the user.
    predicted : callable
        Told in a sentence what was predicted.
    """

    def __init__(
        self,
        view: View,
        keep_marks: Callable[[], None],
        changed: Callable[[], None],
        say: Callable[[str], None],
        predicted: Callable[[str], None],
    ) -> None:
        self.view = view
        self.book: CohortBook | None = None
        self.runs = CohortRuns(changed, say)
        self._keep_marks, self._changed, self._say, self._predicted = keep_marks, changed, say, predicted
        cards = list_methods()
        set_choices(view.method_box, [(card.title, card.name, "") for card in cards], 0 if cards else -1)
        self.form = self._new_form()
        view.method_box.activated.connect(lambda _: self.choose_method(str(view.method_box.currentData())))
        view.run_box.editTextChanged.connect(lambda _: self.show_named_run())
        view.new_run_button.clicked.connect(self.begin_another)
        view.train_button.clicked.connect(self.train)
        view.stop_button.clicked.connect(self.stop_and_keep)
        view.predict_button.clicked.connect(self.predict)
        view.card.toggled.connect(lambda _: self.show_named_run())

    # -- method and run --------------------------------------------------------------------

    def open_book(self, book: CohortBook) -> None:
        """Take another cohort: the first method that learns from its kind of marks, and its newest run."""
        self.book = book
        kind = "image_label" if len(book.classes) >= 2 else "extreme_points"
        fitting = [card.name for card in list_methods() if kind in card.prompts]
        if fitting:
            self.choose_method(fitting[0])
        self._offer_runs((book.run_names() or (book.new_run_name(),))[0])

    def _offer_runs(self, chosen: str) -> None:
        """Fill the list of runs."""
        names = [] if self.book is None else list(self.book.run_names())
        entries = names if chosen in names else [chosen, *names]
        set_choices(self.view.run_box, [(name, name, "") for name in entries], entries.index(chosen))
        self.show_named_run()

    @property
    def method(self) -> str:
        """Name of the method that is trained."""
        return str(self.view.method_box.currentData() or "")

    def choose_method(self, name: str) -> None:
        """Train this method; its settings for a cohort are offered."""
        self.view.method_box.setCurrentIndex([card.name for card in list_methods()].index(name))
        self.view.settings.removeWidget(self.form.native)
        self.form.native.deleteLater()
        self.form = self._new_form()

    def _new_form(self) -> RecipeForm:
        form = RecipeForm(get_method(self.method).recipe_class.for_cohort())
        self.view.settings.addWidget(form.native)
        return form

    @property
    def folder(self) -> Path | None:
        """Folder of the run that is named; None without a cohort."""
        name = file_name(self.view.run_box.currentText().strip(), fallback="run_1")
        return None if self.book is None else self.book.runs / name

    @property
    def begun(self) -> bool:
        """Whether there is such a run already."""
        return self.folder is not None and (self.folder / "recipe.json").is_file()

    def begin_another(self) -> None:
        """Name a run that is not there yet."""
        if self.book is not None and self.runs.idle:
            self.view.run_box.setEditText(self.book.new_run_name())

    # -- training and prediction -----------------------------------------------------------

    def train(self) -> None:
        """Train in the background."""
        if self.book is None or self.folder is None or not self.runs.idle:
            return
        self._keep_marks()
        try:
            recipe = self.form.recipe
        except WeaksegError as error:
            self._say(str(error))
            return
        self.runs.train(self.book, self.method, recipe, self.folder, self._trained)

    def _trained(self, weights: Any) -> None:
        self._offer_runs(self.view.run_box.currentText())
        self._say(f"trained: {self.view.run_box.currentText()} can predict now.")

    def predict(self) -> None:
        """Predict every case that was not reviewed."""
        if self.book is None or self.folder is None or not self.runs.idle:
            return
        try:
            trained = Trained.read(self.folder)
            check_trained(trained.weights)
        except WeaksegError as error:
            self._say(str(error))
            return
        known = caveats(trained.weights)
        self.runs.predict(self.book, trained.weights, lambda words: self._predicted(" ".join((words, *known))))

    def stop_and_keep(self) -> None:
        """End at the next step; what was learnt so far is on disk."""
        if self.runs.stop():
            self._say("stopped; what is done so far is kept, and Resume goes on with it.")

    # -- what is seen ----------------------------------------------------------------------

    def show_named_run(self) -> None:
        """Show what is known of the run: its curves, and its card where that is open."""
        if self.folder is None:
            return
        if self.runs.idle:
            self.view.curves.show_rows(figures_of(self.folder))
        if self.view.card.isExpanded():
            try:
                self.view.card_label.setText(Trained.read(self.folder).about)
            except WeaksegError as error:
                self.view.card_label.setText(str(error))
        self._changed()

    def show_run(self) -> None:
        """Draw what runs, and what may be begun."""
        view, runs = self.view, self.runs
        words = news_line(runs.news) if runs.running else "" if runs.idle else "stopping…"
        share = None if not runs.running else 0.0 if runs.news is None else runs.news.share
        view.progress.show_news(words, share)
        if runs.running and runs.rows:
            view.curves.show_rows(runs.rows)
        free = self.book is not None and runs.idle
        view.train_button.setEnabled(free)
        view.train_button.setText("Resume" if self.begun else "Train")
        view.predict_button.setEnabled(free and self.begun)
        view.stop_button.setEnabled(runs.running)
        for widget in (view.method_box, view.run_box, view.new_run_button):
            widget.setEnabled(runs.idle)
