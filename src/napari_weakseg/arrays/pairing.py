"""Whether masks can be learnt from as unpaired: complete masks of the same structures, and of nobody who is learnt from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError
from ..prompts import BACKGROUND_STROKE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from ..case import Case
    from ..prompts import Structure
    from ..volume import FloatArray, Volume

KEPT = 4000
"""So many marked voxels of a structure, and of the background, are kept of each case."""

LEAST = 20
"""Fewer voxels on structures say nothing."""

AGREEMENT = 0.99
TOLERANCE_MM = 0.1

ALL_EMPTY = "no unpaired mask holds a structure; give complete masks of other patients, or none."


@dataclass(frozen=True, eq=False)
class Drawn:
    """What is kept of a case's strokes, to recognise its own mask by when the case itself is no longer in memory.

    Parameters
    ----------
    case : str
        Its id.
    shape : tuple of int
    corners : ndarray, shape (8, 3)
        RAS positions of the grid's corner voxels.
    places, values : ndarray, shape (N,)
        Flat indices of marked voxels, and what a mask that fits holds there.
    """

    case: str
    shape: tuple[int, int, int]
    corners: FloatArray
    places: NDArray[np.int64]
    values: NDArray[np.uint8]

    @classmethod
    def of(cls, case: Case) -> Drawn | None:
        """Some of the case's marked voxels, evenly chosen; None where its strokes are too few to tell."""
        if case.scribbles is None:
            return None
        labels = case.scribbles.labels.ravel()
        places = [
            found[:: 1 + len(found) // KEPT]
            for found in (np.flatnonzero(labels == value) for value in np.unique(labels) if value)
        ]
        chosen = np.concatenate(places) if places else np.zeros(0, dtype=np.int64)
        values = np.where(labels[chosen] == BACKGROUND_STROKE, np.uint8(0), labels[chosen])
        if (values > 0).sum() < LEAST:
            return None
        return cls(case.id, case.volume.shape, case.volume.corners(), chosen, values)

    def fits(self, mask: Volume) -> bool:
        """Whether the mask lies on the case's grid and agrees with its strokes nearly everywhere."""
        if mask.shape != self.shape or float(np.abs(mask.corners() - self.corners).max()) > TOLERANCE_MM:
            return False
        return float((mask.array.ravel()[self.places] == self.values).mean()) > AGREEMENT


def paired_note(mask: Volume, drawn: Iterable[Drawn | None]) -> str:
    """What to say of a mask that fits the strokes of a case; empty where it fits none."""
    case = next((one.case for one in drawn if one is not None and one.fits(mask)), "")
    return (
        f"the mask {mask.name} fits the strokes of {case}: it is not unpaired; leave it out for a fair figure." if case else ""
    )


def own_mask(mask: str, case: str) -> str:
    """What to say of a mask whose voxels are those of a case's own."""
    return f"unpaired mask {mask} is the mask of {case}, so it is not unpaired; leave it out."


def values_in(mask: Volume, structures: Sequence[Structure]) -> set[int]:
    """The structures that a mask holds, by value.

    Raises
    ------
    DataError
        It holds a value that no structure has.
    """
    held = {int(value) for value in np.unique(mask.array[mask.array != 0])}
    unknown = held - {structure.value for structure in structures}
    if unknown:
        raise DataError(
            f"the mask {mask.name} holds the label {min(unknown)}, which no structure has; name its structure or remove it."
        )
    return held


def check_unpaired(masks: Sequence[Volume], structures: Sequence[Structure]) -> None:
    """Refuse masks that nothing could be learnt from.

    Raises
    ------
    DataError
        A value that no structure has, or no structure in any of them.
    """
    held = [values_in(mask, structures) for mask in masks]
    if masks and not any(held):
        raise DataError(ALL_EMPTY)
