"""Masks of other patients: which of them fit the structures in the table, and what to say of the rest. Without Qt or napari."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..io.unpaired_masks import read_unpaired_masks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..prompts import Structure
    from ..volume import Volume

MOST_NAMED = 5
"""So many values or structures are named in a sentence; a wrong folder may hold hundreds."""


@dataclass(frozen=True, eq=False)
class OthersMasks:
    """What was read from a folder; which of it can be used depends on the structures of the moment.

    Parameters
    ----------
    folder : str
        Its name.
    masks : tuple of Volume
        All that was read.
    values : tuple of frozenset of int
        What each mask holds beside 0.
    """

    folder: str = ""
    masks: tuple[Volume, ...] = ()
    values: tuple[frozenset[int], ...] = ()

    @classmethod
    def read(cls, folder: str) -> OthersMasks:
        """Every mask of a folder; it takes a while.

        Raises
        ------
        WeaksegError
            As `read_unpaired_masks`.
        """
        masks = read_unpaired_masks(folder)
        values = tuple(frozenset(np.unique(mask.array).tolist()) - {0} for mask in masks)
        return cls(Path(folder).name, masks, values)

    def usable(self, structures: Sequence[Structure]) -> tuple[Volume, ...]:
        """The masks that hold something, and nothing that no structure has: a fit refuses the others."""
        known = {structure.value for structure in structures}
        return tuple(mask for mask, held in zip(self.masks, self.values, strict=True) if held and held <= known)

    def line(self, structures: Sequence[Structure]) -> str:
        """How many there are and are used, and a sentence on values and on structures that have no counterpart."""
        if not self.masks:
            return "No masks of other patients were given: the gates learn from the prediction itself."
        used, read = len(self.usable(structures)), counted(len(self.masks))
        words = [f"{read} of other patients, from {self.folder}" + ("" if used == len(self.masks) else f", {used} used")]
        words[0] += ": they say which shapes are real." if used else ": the gates learn from the prediction itself."
        return " ".join([*words, *self.faults(structures)])

    def faults(self, structures: Sequence[Structure]) -> list[str]:
        """A sentence on values without a structure, and one on structures that no mask holds."""
        known = {structure.value for structure in structures}
        said = []
        foreign = sorted(frozenset().union(*self.values) - known)
        if foreign:
            share = f"{sum(not held <= known for held in self.values)} of {len(self.masks)}"
            such, add = ("it", "it") if len(foreign) == 1 else ("one of them", "them")
            said.append(f"No structure has the {_some(foreign)}: masks that hold {such} ({share}) are not used; add {add}.")
        held = frozenset().union(*(values for values in self.values if values <= known)) or frozenset().union(*self.values)
        lacking = [f"{structure.value} ({structure.name})" for structure in structures if structure.value not in held]
        if self.masks and lacking:
            said.append(f"No mask holds the {_some(lacking)}: values must mean the same as in the table.")
        return said


def counted(masks: int) -> str:
    """``"1 mask"``, ``"3 masks"``."""
    return "1 mask" if masks == 1 else f"{masks} masks"


def _some(names: Sequence[int | str]) -> str:
    """Values side by side, the first few of many."""
    shown = f"value{'s' * (len(names) > 1)} {', '.join(str(name) for name in names[:MOST_NAMED])}"
    return shown if len(names) <= MOST_NAMED else f"{shown} and {len(names) - MOST_NAMED} more"
