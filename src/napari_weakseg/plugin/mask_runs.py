"""The runs of one image: a first mask of the current object, a fit on all of them; one at a time, what waits comes next.

Without Qt: it holds the rules of what may start while something runs, and what is shown of a result that came late.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import WeaksegError
from .proposals import FIRST, REFINED, Proposal
from .session import Job
from .workers import Task, seconds_left, share_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ..method import Step
    from ..recipe import Recipe
    from .workbench import Workbench


@dataclass(frozen=True, eq=False)
class Progress:
    """Where a run stands, ready to be shown."""

    stage: str
    index: int
    total: int
    share: float
    seconds_left: float | None
    proposal: Proposal | None
    note: str = ""


@dataclass(eq=False)
class Run:
    """One job in a worker thread.

    Parameters
    ----------
    job : Job
        What it works on.
    stage : str
        ``"first mask"``, or ``"refined"`` for a fit.
    task : Task
        The worker.
    """

    job: Job
    stage: str
    task: Task

    @property
    def cancelled(self) -> bool:
        """Whether nothing more will be reported."""
        return self.task.cancelled


class MaskRuns:
    """What runs on one viewer's image, and what waits for its end.

    Parameters
    ----------
    bench : Workbench
        Gives the jobs and takes the masks.
    recipe : callable
        The settings as they stand.
    changed : callable
        Told whenever something is to be drawn anew.
    say : callable
        Takes a sentence for the user.
    """

    def __init__(
        self, bench: Workbench, recipe: Callable[[], Recipe], changed: Callable[[], None], say: Callable[[str], None]
    ) -> None:
        self.bench = bench
        self._recipe, self._changed, self._say = recipe, changed, say
        self.run: Run | None = None
        self.progress: Progress | None = None
        self._waiting: Callable[[], None] | None = None  # what begins when the run has ended
        self._started = 0.0

    @property
    def running(self) -> bool:
        """Whether a run is under way that somebody waits for."""
        return self.run is not None and not self.run.cancelled

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return self.run is None and self._waiting is None

    @property
    def can_refine(self) -> bool:
        """Whether a fit may be asked for."""
        return bool(self.bench.open_objects()) and (self.run is None or self.run.stage == FIRST)

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._started

    # -- beginning and ending --------------------------------------------------------------

    def first_mask(self) -> None:
        """Make the current object's first mask in the background."""
        if self.run is not None:
            self._waiting = self.first_mask
            if self.run.stage == FIRST or not self.run.job.still_of(self.bench.document):
                self.run.task.cancel()  # nobody waits for a mask of marks that have changed
            return
        job = self.bench.job(first=True)
        if isinstance(job, Job):
            self._start(job, FIRST)

    def refine(self) -> None:
        """Learn from the marks of every object that has enough of them."""
        if self.run is not None:
            if self.run.stage == FIRST and not self.run.cancelled:
                self._waiting = self.refine
            return
        try:
            self.bench.set_recipe(self._recipe())
        except WeaksegError as error:
            self._say(str(error))
            return
        job = self.bench.job(first=False)
        if isinstance(job, Job):
            self._start(job, REFINED)
        else:
            self._say(job[0].sentence)

    def cancel(self) -> bool:
        """Stop now, the last good mask stays; returns whether something ran."""
        ran = self.running
        self._waiting = None
        if self.run is not None and ran:
            self.run.task.cancel()
        return ran

    def _start(self, job: Job, stage: str) -> None:
        task = Task(f"the {stage} mask", _steps(job, stage), self._progressed, self._done, self._say, self._ended, _join)
        self.run, self.progress, self._started = Run(job, stage, task), None, time.monotonic()
        self._say("")
        task.start()
        self._changed()

    # -- news ------------------------------------------------------------------------------

    def _progressed(self, progress: Progress) -> None:
        self.progress = progress
        if progress.note:
            self._say(progress.note)
        if progress.proposal is not None:
            self._propose(progress.proposal)
        self._changed()

    def _done(self, proposal: Proposal) -> None:
        if proposal.notes:
            self._say(proposal.notes[0])
        self._propose(proposal)
        self._changed()

    def _propose(self, proposal: Proposal) -> None:
        """Show it where all its objects still have the marks that the run saw."""
        if self.run is not None and self.bench.layers is not None and self.run.job.still_of(self.bench.document):
            self.bench.propose(proposal)

    def _ended(self, task: Task) -> None:
        if self.run is not None and self.run.task is task:
            self.run, self.progress = None, None
            following, self._waiting = self._waiting, None
            if following is not None:
                following()
        self._changed()


def _steps(job: Job, stage: str) -> Generator[Progress, None, Proposal]:
    """The fit's own steps as news with masks; it runs in the worker's thread."""
    from ..api import steps

    started = time.monotonic()
    with closing(steps(job.case, method=job.method, recipe=job.recipe)) as running:
        while True:
            try:
                step = next(running)
            except StopIteration as stop:
                return Proposal.from_result(stop.value, job.objects, stage)
            yield _told(job, step, time.monotonic() - started)


def _told(job: Job, step: Step, elapsed: float) -> Progress:
    stage = FIRST if step.stage == FIRST else REFINED
    proposal = None if step.preview is None else Proposal.from_preview(step.preview, job.objects, stage)
    left = seconds_left(step.progress, elapsed, float(job.recipe.max_seconds))
    return Progress(step.stage, step.index, step.total, share_of(step), left, proposal, step.note)


def _join(kept: Progress, newer: Progress) -> Progress:
    """The newer progress, with the mask of the one before where it brings none."""
    return newer if newer.proposal else replace(newer, proposal=kept.proposal)
