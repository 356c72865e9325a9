"""Masks that are shown and not yet accepted, without Qt or napari: of which objects, and which of them stand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays.extreme_points import box_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ..method import Preview, Result
    from .session import Document, ObjectKey

FIRST, REFINED = "first mask", "refined"
ACCEPTED = "accepted"
"""Stage of what a correction began from, where that is the mask itself."""


@dataclass(frozen=True, eq=False)
class SliceDoubt:
    """How doubtful each slice is.

    Parameters
    ----------
    axis : int
        Array axis along which slices are counted.
    values : ndarray, shape (slices,), float32
        0 to 1, in file order.
    by : str
        Who doubts: ``"discriminator"`` or ``"mask"``.
    """

    axis: int
    values: NDArray[np.float32]
    by: str = "mask"


@dataclass(frozen=True, eq=False)
class Proposal:
    """A mask that is shown and not yet accepted.

    Parameters
    ----------
    objects : tuple of ObjectKey
        What it is of.
    start : tuple of int
        First voxel of the box that it covers.
    labels : ndarray, shape (i, j, k), uint8
        Values of structures on that box, 0 elsewhere.
    stage : str
        `FIRST` or `REFINED`.
    record : dict
        How it was made; empty for one that was cancelled.
    notes : tuple of str
        What the user should know of it.
    probability : ndarray, shape (i, j, k), float32, or None
        Of any structure on that box, for the doubt.
    slices : SliceDoubt or None
        How doubtful each slice is, where somebody judged slices.
    maps : dict of str to ndarray, shape (I, J, K), float32
        What more there is to look at, for example how far attention gates are open.
    """

    objects: tuple[ObjectKey, ...]
    start: tuple[int, int, int]
    labels: NDArray[np.uint8]
    stage: str = FIRST
    record: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    probability: NDArray[np.float32] | None = None
    slices: SliceDoubt | None = None
    maps: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @classmethod
    def from_preview(cls, preview: Preview, objects: tuple[ObjectKey, ...], stage: str) -> Proposal:
        """What a step of a fit shows."""
        probability = preview.probability.max(axis=0, initial=0)
        return cls(objects, preview.start, preview.box_labels(), stage, probability=probability)

    @classmethod
    def from_result(cls, result: Result, objects: tuple[ObjectKey, ...], stage: str) -> Proposal:
        """The end of a fit, on the smallest box that holds the mask and all that was likely."""
        likely = [values for name, values in result.maps.items() if name.startswith("probability ")]
        probability = np.maximum.reduce(likely).astype(np.float32) if likely else None
        seen = result.labels != 0 if probability is None else (result.labels != 0) | (probability > 0.02)
        start, box = smallest_box(seen)
        window = tuple(slice(s, s + n) for s, n in zip(start, box.shape, strict=True))
        part = None if probability is None else probability[window]
        labels = result.labels[window].astype(np.uint8)
        return cls(objects, start, labels, stage, dict(result.record), result.notes, part)

    @property
    def window(self) -> tuple[slice, slice, slice]:
        """The box as an index into the volume."""
        i, j, k = (slice(s, s + n) for s, n in zip(self.start, self.labels.shape, strict=True))
        return i, j, k


def smallest_box(labels: NDArray[Any]) -> tuple[tuple[int, int, int], NDArray[Any]]:
    """First voxel and content of the smallest box that holds all labels; one voxel where there are none."""
    start, stop = [], []
    for axis in range(3):
        hit = np.flatnonzero(labels.any(axis=tuple(n for n in range(3) if n != axis)))
        start.append(int(hit[0]) if hit.size else 0)
        stop.append(int(hit[-1]) + 1 if hit.size else 1)
    return (start[0], start[1], start[2]), labels[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]


def owned(proposal: Proposal, document: Document, key: ObjectKey, shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Which voxels of a proposal's box belong to one of its objects, True there.

    Of several objects of one structure each has what lies in its own box and in no other's.
    """
    of_structure: NDArray[np.bool_] = proposal.labels == key.structure
    if sum(other.structure == key.structure for other in proposal.objects) <= 1:
        return of_structure
    place = np.zeros_like(of_structure)
    place[_window(proposal, document, key, shape, grow=0.1)] = True
    for other in proposal.objects:
        if other != key and other.structure == key.structure:
            place[_window(proposal, document, other, shape, grow=0.0)] = False
    mine: NDArray[np.bool_] = of_structure & place
    return mine


def _window(
    proposal: Proposal, document: Document, key: ObjectKey, shape: tuple[int, int, int], *, grow: float
) -> tuple[slice, ...]:
    points = document.extent_of(key, shape)
    if len(points) == 0:
        return (slice(0, 0),) * 3
    margin = np.ceil(grow * np.ptp(points, axis=0)).astype(int)
    start, stop = box_of(points, shape, margin=margin) - np.array(proposal.start)
    return tuple(slice(max(a, 0), max(b, 0)) for a, b in zip(start.tolist(), stop.tolist(), strict=True))


def without(proposal: Proposal, document: Document, key: ObjectKey, shape: tuple[int, int, int]) -> Proposal | None:
    """The proposal less one of its objects; None where nothing is left."""
    left = tuple(other for other in proposal.objects if other != key)
    if not left:
        return None
    labels = proposal.labels.copy()
    labels[owned(proposal, document, key, shape)] = 0
    return replace(proposal, objects=left, labels=labels)


def superseded(
    proposals: Sequence[Proposal], new: Proposal, document: Document, shape: tuple[int, int, int]
) -> tuple[Proposal, ...]:
    """The proposals after a new one came: of each object and stage the newest stays."""
    kept: list[Proposal] = []
    for old in proposals:
        rest: Proposal | None = old
        for key in new.objects:
            if rest is not None and rest.stage == new.stage and key in rest.objects:
                rest = without(rest, document, key, shape)
        if rest is not None:
            kept.append(rest)
    return (*kept, new)


def standing(proposals: Sequence[Proposal], document: Document, shape: tuple[int, int, int]) -> tuple[Proposal, ...]:
    """What accepting would write: of each object the refined mask, or its first mask where there is none."""
    refined = [proposal for proposal in proposals if proposal.stage == REFINED]
    done = {key for proposal in refined for key in proposal.objects}
    chosen: list[Proposal] = []
    for proposal in proposals:
        rest: Proposal | None = proposal
        if proposal.stage != REFINED:
            for key in proposal.objects:
                rest = without(rest, document, key, shape) if rest is not None and key in done else rest
        if rest is not None:
            chosen.append(rest)
    return tuple(chosen)
