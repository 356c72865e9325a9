"""Runs on one volume's strokes: the first mask, and a fit that takes new strokes while it runs and goes on from where it was.

Without Qt: the generators here are what worker threads drive.
"""

from __future__ import annotations

import threading
import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .proposals import FIRST, REFINED, Proposal, SliceDoubt
from .scribble_session import slice_axis
from .session import ObjectKey
from .workers import seconds_left, share_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from ..method import Result, Step, TrainingState
    from ..volume import Volume
    from .scribble_session import ScribbleJob

KEEP_SECONDS = 1.0
"""How often a fit leaves its state: as much is learnt again after a new stroke, at most."""

LEAST_SHARE = 0.25
"""A fit that goes on gets at least this share of its time, so that new strokes are learnt too."""

_ATTENTION = "attention "
DOUBT_TABLE = "discriminator doubt"


@dataclass(frozen=True, eq=False)
class News:
    """Where a run stands, ready to be shown.

    Parameters
    ----------
    job : ScribbleJob
        What it works on now.
    stage, index, total, note
        As of the `Step`.
    share : float
        Of the fit that is done, 0 to 1.
    seconds_left : float or None
        As far as it is known.
    proposal : Proposal or None
        A mask to show.
    """

    job: ScribbleJob
    stage: str
    index: int = 0
    total: int = 0
    share: float = 0.0
    seconds_left: float | None = None
    proposal: Proposal | None = None
    note: str = ""

    def followed_by(self, newer: News) -> News:
        """The newer news, with the mask of these where they bring none and are of the same strokes."""
        lost = newer.proposal is None and newer.job is self.job
        return replace(newer, proposal=self.proposal, note=newer.note or self.note) if lost else newer


class Kept:
    """What was learnt on an image so far, in memory: a `napari_weakseg.method.Checkpoints`."""

    def __init__(self) -> None:
        self._of: tuple[Any, ...] = ()
        self._images: tuple[Volume, ...] = ()
        self._state: TrainingState | None = None
        self._saved = 0.0

    @property
    def anything(self) -> bool:
        """Whether there is something to go on from."""
        return self._state is not None and bool(self._state.meta.get("index", 0) or self._state.meta.get("finished"))

    def begin(self, job: ScribbleJob) -> None:
        """A fit of this job begins: what was learnt stays only where its network is the same."""
        if job.network != self._of:
            self._of, self._state = job.network, None
            self._images = tuple(job.case.channels.values())  # held, so that no other image gets their ids
        self._saved = time.monotonic()
        if self._state is None:
            return
        meta = dict(self._state.meta)
        stages = dict(meta.get("finished", {}))
        stages.pop(meta.get("stage"), None)  # a fit that came to its end goes on too
        meta["finished"] = stages
        meta["index"] = min(int(meta.get("index", 0)), int((1 - LEAST_SHARE) * int(meta.get("total", 0))))
        meta["seconds"] = min(float(meta.get("seconds", 0.0)), (1 - LEAST_SHARE) * float(job.recipe.max_seconds))
        self._state = replace(self._state, meta=meta)

    def latest(self) -> TrainingState | None:
        """The state to go on from."""
        return self._state if self.anything else None

    def due(self) -> bool:
        """Whether enough was done since the last save."""
        return time.monotonic() - self._saved >= KEEP_SECONDS

    def save(self, state: TrainingState) -> None:
        """Keep the state."""
        self._state, self._saved = state, time.monotonic()


class Refinement:
    """A fit on strokes that may change meanwhile.

    `hold` makes it wait at its next step, so that a first mask has the processor for itself; `give` lets it go on with the
    strokes of another job, from the weights so far.

    Parameters
    ----------
    job : ScribbleJob
        What to begin with.
    kept : Kept
        What was learnt before, and where what is learnt is left.
    """

    def __init__(self, job: ScribbleJob, kept: Kept) -> None:
        self._job = job
        self._kept = kept
        self._free = threading.Event()
        self._free.set()

    @property
    def job(self) -> ScribbleJob:
        """The newest strokes that it was given."""
        return self._job

    def hold(self) -> None:
        """Wait at the next step."""
        self._free.clear()

    def give(self, job: ScribbleJob | None = None) -> None:
        """Go on, with other strokes where some are given."""
        if job is not None:
            self._job = job
        self._free.set()

    def steps(self) -> Generator[News | None, None, Proposal]:
        """The whole run; None where there is nothing to tell but the worker may be stopped."""
        while True:
            job = self._job
            result = yield from self._fit(job)
            if result is not None:
                return from_result(result, job, REFINED)

    def _fit(self, job: ScribbleJob) -> Generator[News | None, None, Result | None]:
        """One fit; None where other strokes came before its end."""
        self._kept.begin(job)
        started = time.monotonic()
        with closing(_driven(job, self._kept)) as running:
            while True:
                while not self._free.wait(0.02):
                    yield None
                if self._job is not job:
                    return None
                try:
                    step = next(running)
                except StopIteration as stop:
                    result: Result = stop.value
                    return result if self._job is job else None
                first = step.stage == FIRST  # it is in view already
                yield None if first and not step.note else told(job, step, time.monotonic() - started, shows=not first)


def first_steps(job: ScribbleJob) -> Generator[News | None, None, Proposal]:
    """The first mask of a job: its preview as soon as it is there, then the mask with its record."""
    started = time.monotonic()
    alone = replace(job, masks=())  # it learns nothing from masks of others: its record names none, nor is one checked
    with closing(_driven(alone, None)) as running:
        while True:
            try:
                step = next(running)
            except StopIteration as stop:
                return from_result(stop.value, job, FIRST)
            yield told(job, step, time.monotonic() - started)


def _driven(job: ScribbleJob, kept: Kept | None) -> Generator[Step, None, Result]:
    from ..api import steps
    from ..methods import get_method

    masks = job.masks if get_method(job.method).card.learns_masks else ()
    return steps(job.case, method=job.method, recipe=job.recipe, checkpoints=kept, unpaired_masks=masks)


def told(job: ScribbleJob, step: Step, elapsed: float, *, shows: bool = True) -> News:
    """A step of a fit as news."""
    proposal = None
    if step.preview is not None and shows:
        stage = FIRST if step.stage == FIRST else REFINED
        proposal = Proposal.from_preview(step.preview, keys_of(job), stage)
        proposal = replace(proposal, slices=_mask_doubt(proposal, job))
    left = seconds_left(step.progress, elapsed, float(job.recipe.max_seconds))
    return News(job, step.stage, step.index, step.total, share_of(step), left, proposal, step.note)


def from_result(result: Result, job: ScribbleJob, stage: str) -> Proposal:
    """The end of a run: the mask with who doubts it and what the gates let through; notes on the image are shown with it."""
    proposal = Proposal.from_result(result, keys_of(job), stage)
    notes = tuple(note for note in proposal.notes if note not in job.case.volume.notes)
    maps = {name: values for name, values in result.maps.items() if name.startswith(_ATTENTION)}
    doubt = _discriminator_doubt(result, job) or _mask_doubt(proposal, job)
    return replace(proposal, slices=doubt, maps=maps, notes=notes)


def keys_of(job: ScribbleJob) -> tuple[ObjectKey, ...]:
    """The job's structures, each as a whole."""
    return tuple(ObjectKey(structure.value, 1) for structure in job.case.structures)


def _discriminator_doubt(result: Result, job: ScribbleJob) -> SliceDoubt | None:
    """The discriminator's doubt, along the axis of the file that the run cut into slices."""
    judged, training = result.tables.get(DOUBT_TABLE), result.record.get("training", {})
    if judged is None or "slice_axis" not in training:
        return None
    from ..training.stacks import Cut, Frame  # torch was loaded by the run

    cut = Cut(job.case.volume, Frame(int(training["slice_axis"]), float(training["grid_spacing"])))
    return SliceDoubt(cut.file_axis, np.asarray(judged, dtype=np.float32), "discriminator")


def _mask_doubt(proposal: Proposal, job: ScribbleJob) -> SliceDoubt | None:
    """The mask's own doubt, slice by slice of the volume."""
    from ..arrays.doubt import slice_doubt

    if proposal.probability is None:
        return None
    axis = slice_axis(job.case.volume)
    values = np.zeros(job.case.volume.shape[axis], dtype=np.float32)
    values[proposal.window[axis]] = slice_doubt(proposal.probability, proposal.labels > 0, axis=axis)
    return SliceDoubt(axis, values)
