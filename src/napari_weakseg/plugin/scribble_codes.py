"""Strokes from elsewhere: what their values mean is asked, never guessed. Without Qt or napari."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import PromptError
from ..io.scribbles import in_our_codes
from ..prompts import BACKGROUND_STROKE, Scribbles, Structure, free_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

STRUCTURE, BACKGROUND, UNMARKED = "structure", "background", "not marked"
MEANINGS = (STRUCTURE, BACKGROUND, UNMARKED)

MOST_VALUES = 64
"""Strokes hold a few values; what holds more is an image or a parcellation."""

KNOWN = {
    "this program's (0 not marked, 255 background)": (BACKGROUND_STROKE, 0),
    "ACDC, MSCMR (0 background, 4 not marked)": (0, 4),
    "Prostatex (0 background, 255 not marked)": (0, 255),
}
"""Tables of codes that a user may say a file follows: (background, not marked)."""


@dataclass(frozen=True, eq=False)
class CodesQuestion:
    """A volume of strokes whose codes nobody stated.

    Parameters
    ----------
    name : str
        What to call it.
    array : ndarray of int, shape (I, J, K)
        As stored, on the image's grid.
    counts : dict of int to int
        Voxels per value.
    """

    name: str
    array: NDArray[np.integer]
    counts: Mapping[int, int]

    @classmethod
    def about(cls, name: str, array: NDArray[np.integer]) -> CodesQuestion:
        """Count the values.

        Raises
        ------
        PromptError
            One value alone, or more than strokes can have.
        """
        values, counts = np.unique(array, return_counts=True)
        if len(values) < 2:
            raise PromptError(f"{name} holds the value {values[0]} alone: there are no strokes in it; choose another.")
        if len(values) > MOST_VALUES:
            raise PromptError(f"{name} holds {len(values)} values; strokes have a few: choose another file or layer.")
        return cls(name, array, dict(zip(values.tolist(), counts.tolist(), strict=True)))

    def share(self, value: int) -> float:
        """Share of the image that has a value."""
        return self.counts[value] / self.array.size

    def meanings(self, table: str) -> dict[int, str]:
        """What each value means in a table of `KNOWN`, which the user says it follows."""
        background, unmarked = KNOWN[table]
        return {
            value: BACKGROUND if value == background else UNMARKED if value == unmarked else STRUCTURE for value in self.counts
        }

    def answered(self, meanings: Mapping[int, str], known: Sequence[Structure] = ()) -> Scribbles:
        """The strokes in our codes.

        Parameters
        ----------
        meanings : dict of int to str
            One of `MEANINGS` for every value.
        known : sequence of Structure
            Structures that have names already.

        Raises
        ------
        PromptError
            A value without an answer, two values for the background or for what is not marked, a structure's value that a
            mask cannot hold, or a value that marks most of the image.
        """
        open_ = [value for value in self.counts if meanings.get(value) not in MEANINGS]
        if open_:
            raise PromptError(f"say what the value {open_[0]} of {self.name} means.")
        codes: dict[str, int | None] = {BACKGROUND: None, UNMARKED: None}
        for value, meaning in meanings.items():
            if meaning in codes:
                if codes[meaning] is not None:
                    raise PromptError(
                        f"the values {codes[meaning]} and {value} cannot both mean {meaning}; choose one of them."
                    )
                codes[meaning] = value
        labels = in_our_codes(self.array, (codes[BACKGROUND], codes[UNMARKED]), self.name)
        names = {structure.value: structure for structure in known}
        found = [int(value) for value in np.unique(labels) if value not in (0, BACKGROUND_STROKE)]
        if not found:
            raise PromptError(f"{self.name} then holds no structure: say which values are strokes on one.")
        for value in (value for value in found if value not in names):
            names[value] = Structure(free_name(names.values(), value), value)
        return Scribbles(labels, tuple(names[value] for value in found))
