"""`Case`: one patient's channels on one grid, with the marks made on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import DataError, GeometryError

if TYPE_CHECKING:
    from .prompts import ExtremePoints, ImageLabel, Scribbles, Structure
    from .volume import Volume


@dataclass(frozen=True, eq=False)
class Case:
    """Named channels on one grid, prompts, and a reference mask that only scoring reads.

    Parameters
    ----------
    id : str
        Short name; names files of results, so never patient data.
    channels : dict of str to Volume
        One entry per sequence; all on one grid.
    points, scribbles, image_label : prompts or None
        The marks on it.
    reference : Volume or None
        Full mask, read for evaluation and for full supervision only.
    patient : str
        Cases of one person share it and stay in one fold; default the id.

    Raises
    ------
    DataError, GeometryError
        No channel, or channels that do not share a grid.
    """

    id: str
    channels: dict[str, Volume]
    points: ExtremePoints | None = None
    scribbles: Scribbles | None = None
    image_label: ImageLabel | None = None
    reference: Volume | None = None
    patient: str = ""

    def __post_init__(self) -> None:
        if not self.channels:
            raise DataError(f"case {self.id} has no image; give at least one channel.")
        for name, volume in self.channels.items():
            if not self.volume.same_grid(volume):
                raise GeometryError(f"channel {name} of case {self.id} lies on another grid; resample it first.")
        if not self.patient:
            object.__setattr__(self, "patient", self.id)

    @property
    def volume(self) -> Volume:
        """The first channel: it gives the grid."""
        return next(iter(self.channels.values()))

    @property
    def structures(self) -> tuple[Structure, ...]:
        """The structures that the marks refer to; empty without marks."""
        marks = self.points or self.scribbles
        return marks.structures if marks is not None else ()
