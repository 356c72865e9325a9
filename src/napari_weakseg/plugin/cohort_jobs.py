"""What the cohort panel does in the background, one thing at a time: train, predict. Without Qt; no layer is touched here."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..errors import WeaksegError
from ..io.predictions import write_prediction
from ..methods import get_method
from .cohort_book import REVIEWED, SEGMENTED, CohortBook
from .model_card import figures_of
from .workers import Task, seconds_left, share_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from pathlib import Path

    from ..method import Weights
    from ..recipe import Recipe


NOTES_SHOWN = 3
"""The latest notes of a job, which are shown together."""


@dataclass(frozen=True)
class News:
    """Where a job stands.

    Parameters
    ----------
    stage : str
        What it does.
    index, total : int
        Step of this stage, from 1, and how many there are.
    share : float
        Share of the whole that is done, 0 to 1.
    seconds_left : float or None
        Time to the end, None while that is a guess.
    scores : dict of str to float
        Figures of this step, for the curves.
    note : str
        One sentence for the user.
    """

    stage: str
    index: int = 0
    total: int = 0
    share: float = 0.0
    seconds_left: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Figures:
    """News that were joined: the latest, and the figures of all of them."""

    latest: News
    rows: tuple[tuple[int, Mapping[str, float]], ...] = ()

    @classmethod
    def join(cls, kept: Figures, newer: Figures) -> Figures:
        """The newer news with the figures of both: a window draws more seldom than a training steps."""
        notes = " ".join(dict.fromkeys(note for note in (kept.latest.note, newer.latest.note) if note))
        latest = newer.latest if notes == newer.latest.note else replace(newer.latest, note=notes)
        return cls(latest, (*kept.rows, *newer.rows))


def train(
    book: CohortBook, method: str, recipe: Recipe, run: Path, *, resume: bool = False
) -> Generator[Figures, None, Weights]:
    """Train on the marked cases into a run folder; whoever drives it may stop after any step and resume later.

    Raises
    ------
    WeaksegError
        No case has the marks that the method needs, a file is damaged, or the folder cannot be used.
    """
    import time

    from ..cohorts import training_steps

    cohort = book.trainable(get_method(method).card)
    started, count = time.monotonic(), len(figures_of(run)) if resume else 0
    steps = training_steps(cohort, recipe, method=method, run=run, resume=resume)
    try:
        while True:
            try:
                step = next(steps)
            except StopIteration as finished:
                weights: Weights = finished.value
                return weights
            count += bool(step.scores)
            left = seconds_left(step.progress, time.monotonic() - started, float(recipe.max_seconds))
            news = News(step.stage, step.index, step.total, share_of(step), left, step.scores, step.note)
            yield Figures(news, ((count, step.scores),) if step.scores else ())
    finally:
        steps.close()


def predict(book: CohortBook, weights: Weights, ids: Sequence[str]) -> Generator[Figures, None, str]:
    """Predict cases one by one; each is on disk before the next begins, and a case that fails does not stop the others.

    Returns
    -------
    str
        A sentence.
    """
    from ..api import segment

    failed: list[str] = []
    read = book.read if getattr(weights.recipe, "marks", False) else book.read_image
    for number, case_id in enumerate(ids, start=1):
        yield Figures(News("predict", number, len(ids), (number - 1) / len(ids)))
        try:
            write_prediction(segment(read(case_id), weights=weights), book.results, case_id)
        except WeaksegError as error:
            failed.append(str(error))
            yield Figures(News("predict", number, len(ids), number / len(ids), note=str(error)))
    done = f"predicted {len(ids) - len(failed)} of {len(ids)} cases."
    return f"{done} {failed[0]}" if failed else done


def mark_predicted(book: CohortBook, ids: Sequence[str]) -> None:
    """Keep in the cohort file which cases have a prediction now; those that were reviewed stay so."""
    for row in book.rows():
        if row.id in ids and row.state != REVIEWED and book.entry(row.id).state != SEGMENTED and book.result(row.id):
            book.set_state(row.id, SEGMENTED)


class CohortRuns:
    """What runs on an open cohort; stopping keeps what was done.

    Parameters
    ----------
    changed : callable
        Told whenever something is to be drawn anew.
    say : callable
        Takes a sentence for the user.
    """

    def __init__(self, changed: Callable[[], None], say: Callable[[str], None]) -> None:
        self._changed, self._say = changed, say
        self._task: Task | None = None
        self._notes: list[str] = []
        self.news: News | None = None
        self.rows: list[tuple[int, Mapping[str, float]]] = []
        """Number of the step and its figures, of the training that runs or ran last."""

    @property
    def idle(self) -> bool:
        """Whether something new may start: also a task that was stopped has to end its step first."""
        return self._task is None

    @property
    def running(self) -> bool:
        """Whether something is under way that was not stopped."""
        return self._task is not None and not self._task.cancelled

    def train(self, book: CohortBook, method: str, recipe: Recipe, folder: Path, done: Callable[[Weights], None]) -> None:
        """Learn from the marked cases into a run folder; a run that is there is gone on with."""
        resume = (folder / "recipe.json").is_file()
        self.rows = list(figures_of(folder)) if resume else []
        again = f" The + beside Run begins another one than {folder.name}." if resume else ""
        steps = train(book, method, recipe, folder, resume=resume)
        self._start("the training", steps, done, lambda words: self._say(words + again))

    def predict(self, book: CohortBook, weights: Weights, done: Callable[[str], None]) -> None:
        """Predict every case that nobody has reviewed."""
        ids = book.unpredicted()

        def finished(words: str) -> None:
            try:
                mark_predicted(book, ids)
            except WeaksegError as error:
                words = str(error)
            done(words)

        self._start("the prediction", predict(book, weights, ids), finished, self._say)

    def stop(self) -> bool:
        """End at the next step; returns whether something ran."""
        ran = self.running
        if self._task is not None and ran:
            self._task.cancel()
        return ran

    def _start(self, name: str, steps: Generator[Figures, None, Any], done: Callable[[Any], None], failed: Any) -> None:
        self.news = None
        self._notes.clear()
        self._task = Task(name, steps, self._progressed, done, failed, self._ended, Figures.join)
        self._say("")
        self._task.start()
        self._changed()

    def _progressed(self, figures: Figures) -> None:
        self.news = figures.latest
        self.rows += figures.rows
        if figures.latest.note and figures.latest.note not in self._notes:
            self._notes.append(figures.latest.note)
            self._say(" ".join(self._notes[-NOTES_SHOWN:]))  # what the memory is for must not be gone in a moment
        self._changed()

    def _ended(self, task: Task) -> None:
        if self._task is task:
            self._task, self.news = None, None
        self._changed()
