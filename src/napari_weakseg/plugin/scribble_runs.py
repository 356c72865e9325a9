"""What runs on one image's strokes: the newest first mask, and beside it a refinement that goes on with every new stroke.

Without Qt: it holds the rules of what waits for what, and what is shown of a mask that came late.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..errors import WeaksegError
from .proposals import REFINED
from .refinement import Kept, News, Refinement, first_steps
from .scribble_session import ScribbleJob
from .workers import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..recipe import Recipe
    from .proposals import Proposal
    from .scribble_desk import ScribbleDesk
    from .strokes import Stroke


class ScribbleRuns:
    """The first mask and the refinement of one viewer's image.

    Parameters
    ----------
    desk : ScribbleDesk
        Gives the jobs and takes the masks.
    settings : callable
        Method and recipe as they stand.
    changed : callable
        Told whenever something is to be drawn anew.
    say : callable
        Takes a sentence for the user.
    """

    def __init__(
        self,
        desk: ScribbleDesk,
        settings: Callable[[], tuple[str, Recipe]],
        changed: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self.desk = desk
        self._settings, self._changed, self._say = settings, changed, say
        self.live = True
        self.news: News | None = None
        self.first_seconds: float | None = None
        self._kept = Kept()
        self._first: Task | None = None
        self._first_job: ScribbleJob | None = None
        self._unseen = False  # nothing was shown of the first mask yet
        self._again = False  # strokes came while a first mask was made
        self._refining: Task | None = None
        self._refinement: Refinement | None = None
        self._learnt: tuple[Stroke, ...] = ()  # the strokes that the refinement has or had
        self._wanted = False  # a refinement begins when what runs has ended
        self._going = False  # a refinement was asked for and not stopped: a new stroke goes on with it
        self._started = self._first_started = 0.0

    # -- what is so ------------------------------------------------------------------------

    @property
    def refining(self) -> bool:
        """Whether a refinement is under way that somebody waits for."""
        return self._wanted or (self._refining is not None and not self._refining.cancelled)

    @property
    def making_first(self) -> bool:
        """Whether a first mask is under way that somebody waits for."""
        return self._again or (self._first is not None and not self._first.cancelled)

    @property
    def running(self) -> bool:
        """Whether there is something to cancel."""
        return self.refining or self.making_first

    @property
    def idle(self) -> bool:
        """Whether no thread works and nothing waits."""
        return self._first is None and self._refining is None and not self._again and not self._wanted

    @property
    def elapsed(self) -> float:
        """Seconds since the refinement began."""
        return time.monotonic() - self._started

    @property
    def goes_on(self) -> bool:
        """Whether the next refinement begins from what was learnt already."""
        return self._kept.anything

    # -- strokes ---------------------------------------------------------------------------

    def follow(self) -> None:
        """Strokes were drawn or taken back: the newest first mask, and a refinement that knows them."""
        if not self._going:
            self.desk.drop_refined()
        if self.live:
            self.first_mask()
        elif self._going:
            self._go_on()

    def first_mask(self, *, instead: bool = True) -> None:
        """Make the first mask of what is drawn now.

        `instead`: one that is still being made is of no more use. While the mouse is down it is: else a large volume's mask
        would not come before the hand rests.
        """
        if self._refinement is not None and self.refining:
            self._refinement.hold()
        if self._first is not None:
            self._again = True
            if instead:
                self._first.cancel()
            return
        job = self._job(max_seconds=0.0)
        if not isinstance(job, ScribbleJob):
            self._no_first(job)
            return
        self._first_started, self._first_job, self._unseen = time.monotonic(), job, True
        self._first = Task(
            "the first mask", first_steps(job), self._first_shown, self._first_done, self._failed, self._first_ended, _join
        )
        self._first.start()
        self._changed()

    def _no_first(self, sentence: str) -> None:
        """There is nothing to make a mask of; a refinement that waited has nothing to go on with either."""
        self.desk.show_nothing()
        if self.refining:
            self.cancel()
        self._say(sentence)

    def _job(self, **changes: float) -> ScribbleJob | str:
        try:
            method, recipe = self._settings()
        except WeaksegError as error:
            return str(error)
        job = self.desk.job(method, recipe, **changes)
        return job if isinstance(job, ScribbleJob) else job.sentence

    def _first_shown(self, news: News) -> None:
        if news.proposal is not None:
            self._show_first(news.proposal)
        self._changed()

    def _first_done(self, proposal: Proposal) -> None:
        self._show_first(proposal)
        self._changed()

    def _show_first(self, proposal: Proposal) -> None:
        """Show it, if its strokes are still those that are drawn; the refinement, which waited for this, goes on."""
        job = self._first_job
        if job is None or not job.still_of(self.desk.document):
            return
        self.desk.propose(proposal)
        if self._unseen:  # the preview, or the mask with its record where that was as fast
            self._unseen = False
            self.first_seconds = time.monotonic() - self._first_started
            self._go_on()

    def _first_ended(self, task: Task) -> None:
        if self._first is task:
            self._first = None
            if self._again:
                self._again = False
                self.first_mask()
            elif self._wanted:
                self._begin()
            elif self._refinement is not None:
                self._refinement.give()
        self._changed()

    # -- the refinement --------------------------------------------------------------------

    def refine(self) -> None:
        """Learn from the strokes, from where an earlier refinement was."""
        if self.refining:
            return
        self._going = True
        if self._first is None and self._refining is None:
            self._begin()
        else:
            self._wanted = True
            self._changed()

    def _begin(self) -> None:
        self._wanted = False
        job = self._job()
        if not isinstance(job, ScribbleJob):
            self._going = False
            self._say(job)
            return
        self.news, self._started = None, time.monotonic()
        self.desk.begin_refining()
        self._learnt = self.desk.document.strokes
        self._refinement = Refinement(job, self._kept)
        steps = self._refinement.steps()
        self._refining = Task(
            "the refined mask",
            steps,
            self._refined_shown,
            self._refined_done,
            self._failed_refining,
            self._refined_ended,
            _join,
        )
        self._refining.start()
        self._changed()

    def _go_on(self) -> None:
        """The refinement learns from the strokes as they are now; one that had come to its end begins again from there."""
        strokes = self.desk.document.strokes
        if not self._going or (self._refinement is None and strokes == self._learnt):
            return  # a stroke that is still being drawn is no reason to begin again
        if self._refinement is None or self._refining is None or self._refining.cancelled or self._refining.over:
            self._wanted = True
            if self._first is None and self._refining is None:
                self._begin()
            return
        job = self._job()
        if isinstance(job, ScribbleJob) and not self._refinement.job.still_of(self.desk.document):
            self._refinement.give(job)
            self._learnt = strokes
        else:
            self._refinement.give()

    def _refined_shown(self, news: News) -> None:
        self.news = news
        if news.note:
            self._say(news.note)
        if news.proposal is not None and news.job.still_of(self.desk.document):
            self.desk.propose(news.proposal)
        self._changed()

    def _refined_done(self, proposal: Proposal) -> None:
        if self._refinement is not None and self._refinement.job.still_of(self.desk.document):
            self.desk.propose(proposal)
            self.desk.finish_refining()
        else:
            self._wanted = self._going  # a stroke came in the last moment
        self._changed()

    def _refined_ended(self, task: Task) -> None:
        if self._refining is task:
            self._refining, self._refinement, self.news = None, None, None
            if self._wanted and self._first is None:
                self._begin()
        self._changed()

    # -- ends ------------------------------------------------------------------------------

    def cancel(self) -> bool:
        """Stop now, the last good mask stays; returns whether something ran."""
        ran = self.running
        self._again = self._wanted = self._going = False
        if self._first is not None:
            self._first.cancel()
        if self._refining is not None:
            self._refining.cancel()
            if self._refinement is not None:
                self._refinement.give()  # one that waits is to see that it was stopped
        if ran:
            self.desk.finish_refining()
        self._changed()
        return ran

    def _failed(self, sentence: str) -> None:
        self._say(sentence)

    def _failed_refining(self, sentence: str) -> None:
        self._going = self._wanted = False
        self.desk.finish_refining()
        self._say(sentence)

    @property
    def refined(self) -> bool:
        """Whether a refined mask is in view."""
        return self.desk.in_view(REFINED) is not None


def _join(kept: News, newer: News | None) -> News:
    """News that nobody was told yet, with newer ones."""
    return kept if newer is None else kept.followed_by(newer)
