"""A fit in a worker thread: progress, cancel, and one sentence for whatever goes wrong."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import WeaksegError
from .proposals import FIRST, REFINED, Proposal
from .session import Document, Job, points_needed, six_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ..method import Result, Step

_PAUSE_MS = 50
log = logging.getLogger("napari_weakseg")


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


def _nothing(_: Any) -> None:
    """Ignore the news."""


@dataclass
class Listener:
    """Whom a run tells; all are called in the GUI thread, and none after `Run.cancel`, but for `ended`."""

    progressed: Callable[[Progress], None] = _nothing
    done: Callable[[Proposal], None] = _nothing
    failed: Callable[[str], None] = _nothing
    ended: Callable[[Run], None] = _nothing


@dataclass(repr=False)
class Run:
    """One job in a worker thread.

    `cancel` acts at once for the user: nothing more is reported. The thread itself ends at the fit's next step, then
    `Listener.ended` is called, and only then may the next run start.
    """

    job: Job
    listener: Listener
    stage: str = REFINED
    cancelled: bool = False
    over: bool = False
    _news: Progress | None = None
    _drawing: float = 0.0
    _steps: Generator[Step, None, Result] | None = None
    _worker: Any = None

    def __repr__(self) -> str:
        """Return what napari shows when its window is closed during a run."""
        return f"the {self.stage} mask"

    def start(self) -> None:
        """Begin; returns at once."""
        from napari.qt.threading import create_worker

        from ..api import steps

        self._steps = steps(self.job.case, method=self.job.method, recipe=self.job.recipe)
        self._worker = create_worker(self._drive, _ignore_errors=True, _start_thread=False)
        self._worker.yielded.connect(self._on_progress)
        self._worker.returned.connect(self._on_returned)
        self._worker.errored.connect(self._on_error)
        self._worker.finished.connect(self._on_finished)
        self._worker.start()

    def cancel(self) -> None:
        """Report nothing more but the last mask that came, and end at the next step."""
        if self._news is not None:
            self._tell()
        self.cancelled = True
        if self._worker is not None:
            self._worker.quit()

    def still_of(self, document: Document) -> bool:
        """Whether every object of the run still has the points that the run saw."""
        marks = self.job.case.points
        if marks is None:
            return False
        shape = self.job.case.volume.shape
        for key, six in zip(self.job.objects, marks.points, strict=True):
            now = document.points_of(key)
            if len(now) < points_needed(shape) or not np.allclose(six_of(now, shape), six):
                return False
        return True

    def _drive(self) -> Generator[Progress, None, Proposal]:
        """The worker's whole life, in its own thread.

        A RuntimeError (torch's out-of-memory is one) would be swallowed by superqt, and what is no Exception would end
        the process: both leave as our own error.
        """
        started = time.monotonic()
        assert self._steps is not None
        try:
            while True:
                try:
                    step = next(self._steps)
                except StopIteration as stop:
                    return Proposal.from_result(stop.value, self.job.objects, self.stage)
                yield self._told(step, time.monotonic() - started)
        except (RuntimeError, KeyboardInterrupt, SystemExit) as error:
            log.exception("a run of %s failed", self.job.method)
            raise WeaksegError(sentence(error)) from error

    def _told(self, step: Step, elapsed: float) -> Progress:
        share = min(max(float(step.progress), 0.0), 1.0)
        left = elapsed * (1 - share) / share if share > 0.02 else None
        limit = float(self.job.recipe.max_seconds) - elapsed
        if left is not None and limit > 0:
            left = min(left, limit)
        proposal = None if step.preview is None else Proposal.from_preview(step.preview, self.job.objects, _stage(step.stage))
        return Progress(step.stage, step.index, step.total, share, left, proposal, step.note)

    # -- in the GUI thread -----------------------------------------------------------------

    def _on_progress(self, progress: Progress) -> None:
        """Keep the news; a worker may have more of it than a window can draw."""
        kept = self._news
        self._news = progress if progress.proposal or not kept else replace(progress, proposal=kept.proposal)
        if kept is None:
            self._tell_soon()

    def _tell_soon(self) -> None:
        from qtpy.QtCore import QTimer

        QTimer.singleShot(max(_PAUSE_MS, int(2000 * self._drawing)), self._tell)

    def _tell(self) -> None:
        """Tell the latest news; the time between is at least twice what drawing takes, so that the window stays free."""
        news, self._news = self._news, None
        if news is None or self.cancelled or self.over:
            return
        started = time.monotonic()
        self.listener.progressed(news)
        self._drawing = time.monotonic() - started

    def _on_returned(self, proposal: Proposal) -> None:
        self.over = True
        if not self.cancelled:
            self.listener.done(proposal)

    def _on_error(self, error: Exception) -> None:
        self.over = True
        log.error("a run of %s failed", self.job.method, exc_info=error)
        if not self.cancelled:
            self.listener.failed(sentence(error))

    def _on_finished(self) -> None:
        if self._steps is not None:
            self._steps.close()  # a worker that quits leaves its generator open
        self.listener.ended(self)


def _stage(stage: str) -> str:
    return FIRST if stage == FIRST else REFINED


def sentence(error: BaseException) -> str:
    """One sentence for the user."""
    if isinstance(error, WeaksegError):
        return str(error)
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "there is not enough memory for this run; crop the image or choose a smaller patch in Settings."
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "the run was interrupted; start it again."
    return f"the run failed ({type(error).__name__}); the details are in the log, the mask so far is kept."


def in_background(
    work: Callable[[], Any], then: Callable[[Any], None] = _nothing, failed: Callable[[Exception], None] = _nothing
) -> None:
    """Run a function in a worker thread and hand its value, or its error, over in the GUI thread; errors go to the log too."""
    from napari.qt.threading import create_worker

    worker = create_worker(work, _ignore_errors=True, _start_thread=False)
    worker.returned.connect(then)
    worker.errored.connect(lambda error: log.error("background work failed", exc_info=error))
    worker.errored.connect(failed)
    worker.start()
