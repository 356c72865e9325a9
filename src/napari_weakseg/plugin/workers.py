"""Work in a thread of its own: news, cancel, and one sentence for whatever goes wrong."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import WeaksegError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ..method import Step

_PAUSE_MS = 50
log = logging.getLogger("napari_weakseg")


def _nothing(_: Any) -> None:
    """Ignore the news."""


def _newest(_kept: Any, newer: Any) -> Any:
    return newer


@dataclass(repr=False)
class Task:
    """A generator in a worker thread; its news reach the GUI thread no faster than they can be drawn.

    `cancel` acts at once for the user: nothing more is reported. The thread itself ends at the generator's next yield; then
    `ended` is called, and only then may the next task start.

    Parameters
    ----------
    name : str
        What napari calls it when its window is closed meanwhile.
    steps : generator
        What runs, in a thread of its own; it touches no layer.
    progressed, done, failed, ended : callable
        Told in the GUI thread: the latest yield, the returned value, a sentence of what went wrong, and that it is over.
    merge : callable, optional
        Joins news that nobody was told yet with newer ones; default the newer ones alone.
    """

    name: str
    steps: Generator[Any, None, Any]
    progressed: Callable[[Any], None] = _nothing
    done: Callable[[Any], None] = _nothing
    failed: Callable[[str], None] = _nothing
    ended: Callable[[Task], None] = _nothing
    merge: Callable[[Any, Any], Any] = _newest
    cancelled: bool = False
    over: bool = False
    _news: Any = None
    _drawing: float = 0.0
    _worker: Any = None

    def __repr__(self) -> str:
        """Return what napari shows when its window is closed meanwhile."""
        return self.name

    def start(self) -> None:
        """Begin; returns at once."""
        from napari.qt.threading import create_worker

        self._worker = create_worker(self._drive, _ignore_errors=True, _start_thread=False, _worker_class=_closing(self.steps))
        self._worker.yielded.connect(self._on_news)
        self._worker.returned.connect(self._on_returned)
        self._worker.errored.connect(self._on_error)
        self._worker.finished.connect(self._on_finished)
        self._worker.start()

    def cancel(self) -> None:
        """Report nothing more but the last news that came, and end at the next yield."""
        if self._news is not None:
            self._tell()
        self.cancelled = True
        if self._worker is not None:
            self._worker.quit()

    def _drive(self) -> Generator[Any, None, Any]:
        """The worker's whole life, in its own thread.

        A RuntimeError (torch's out-of-memory is one) would be swallowed by superqt, and what is no Exception would end
        the process: both leave as our own error.
        """
        try:
            return (yield from self.steps)
        except (RuntimeError, KeyboardInterrupt, SystemExit) as error:
            log.exception("%s failed", self.name)
            raise WeaksegError(sentence(error)) from error

    # -- in the GUI thread -----------------------------------------------------------------

    def _on_news(self, news: Any) -> None:
        """Keep the news; a worker may have more of it than a window can draw."""
        kept = self._news
        self._news = news if kept is None else self.merge(kept, news)
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
        self.progressed(news)
        self._drawing = time.monotonic() - started

    def _on_returned(self, value: Any) -> None:
        self._tell()  # the last figures of a short run came in less time than a window takes to draw
        self.over = True
        if not self.cancelled:
            self.done(value)

    def _on_error(self, error: Exception) -> None:
        self._tell()
        self.over = True
        log.error("%s failed", self.name, exc_info=error)
        if not self.cancelled:
            self.failed(sentence(error))

    def _on_finished(self) -> None:
        self.ended(self)


def _closing(steps: Generator[Any, None, Any]) -> Any:
    """A worker that leaves no generator open when it quits, by a button or since napari closes.

    It is closed in the worker's own thread: there a training keeps what it has learnt, and the window need not wait.
    """
    from napari.qt.threading import GeneratorWorker

    class Closing(GeneratorWorker):  # type: ignore[misc, unused-ignore]
        def work(self) -> Any:
            try:
                return super().work()
            finally:
                steps.close()

    return Closing


def share_of(step: Step) -> float:
    """Share of the whole fit that is done, 0 to 1."""
    return min(max(float(step.progress), 0.0), 1.0)


def seconds_left(progress: float, elapsed: float, limit: float) -> float | None:
    """Time to the end as the pace so far says, at most what the limit leaves; None while that is a guess."""
    if progress <= 0.02:
        return None
    left = elapsed * (1 - min(progress, 1.0)) / progress
    return min(left, limit - elapsed) if limit > elapsed else left


def sentence(error: BaseException, what: str = "the run failed", kept: str = "the mask so far is kept") -> str:
    """One sentence for the user; `what` happened and what is `kept` are said of an error that is not ours."""
    if isinstance(error, WeaksegError):
        return str(error)
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "there is not enough memory for this run; crop the image or choose a smaller patch in Settings."
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "the run was interrupted; start it again."
    return f"{what} ({type(error).__name__}); {kept}, the log says more."


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
