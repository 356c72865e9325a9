"""What the values of stroke files from elsewhere mean: stated in a cohort file, for all cases or for one, and never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import PromptError
from ..prompts import BACKGROUND_STROKE
from .scribbles import MOST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ..prompts import Structure

KEYS = ("background", "unlabelled", "structures", "dense")
LISTED = 8
"""So many values are named in a message."""


@dataclass(frozen=True)
class ScribbleCodes:
    """The codes of one stroke file.

    Parameters
    ----------
    background, unlabelled : int or None
        Values of background strokes and of voxels without a stroke; None where there is no such value.
    structures : tuple of (name, value), optional
        What the file calls the structures; those that are not named here are not in it. Default: their own values.
    dense : bool
        Whether one code may cover most of the image, as in full masks; else such a file is taken for one of other codes.
    """

    background: int | None
    unlabelled: int | None
    structures: tuple[tuple[str, int], ...] = ()
    dense: bool = False

    @classmethod
    def from_json(cls, data: Any, structures: Sequence[Structure]) -> ScribbleCodes:
        """Read ``scribble_codes`` of a cohort file.

        Raises
        ------
        PromptError
            Another form, an unknown structure, or a value with two meanings.
        """
        if not isinstance(data, Mapping) or not {"background", "unlabelled"} <= set(data) <= set(KEYS):
            raise PromptError(
                "scribble_codes needs background and unlabelled (null where unused); structures and dense may be added."
            )
        named, dense = data.get("structures"), data.get("dense", False)
        if not isinstance(dense, bool):
            raise PromptError("dense of scribble_codes is true or false.")
        if named is not None and (not isinstance(named, Mapping) or not named):
            raise PromptError('structures of scribble_codes names values in the files; write {"lesion": 2}.')
        background, unlabelled = data["background"], data["unlabelled"]
        values = dict(named) if named is not None else {structure.name: structure.value for structure in structures}
        codes = [code for code in (background, unlabelled) if code is not None]
        if not all(isinstance(code, int) and not isinstance(code, bool) for code in (*codes, *values.values())):
            raise PromptError("the values in scribble_codes are whole numbers, or null for background and unlabelled.")
        if len(set(codes)) < len(codes):
            raise PromptError("background and unlabelled of scribble_codes are two different whole numbers or null.")
        known = {structure.name for structure in structures}
        for name in values:
            if name not in known:
                raise PromptError(f"scribble_codes names {name[:40]!r}, which is no structure of the cohort; correct it.")
            if values[name] in codes or list(values.values()).count(values[name]) > 1:
                raise PromptError(f"scribble_codes uses the value of structure {name[:40]!r} twice; a value means one thing.")
        return cls(background, unlabelled, tuple(values.items()) if named is not None else (), dense)

    def to_json(self) -> dict[str, Any]:
        """As it stands in a cohort file."""
        codes: dict[str, Any] = {"background": self.background, "unlabelled": self.unlabelled}
        more = {"structures": dict(self.structures)} if self.structures else {}
        return codes | more | ({"dense": True} if self.dense else {})

    def meaning(self, structures: Sequence[Structure]) -> dict[int, int]:
        """Values in the file to values of ours."""
        theirs = dict(self.structures)
        meaning = {
            theirs.get(structure.name, structure.value): structure.value
            for structure in structures
            if not theirs or structure.name in theirs
        }
        return meaning | {
            code: ours for code, ours in ((self.background, BACKGROUND_STROKE), (self.unlabelled, 0)) if code is not None
        }


OUR_CODES = ScribbleCodes(BACKGROUND_STROKE, 0)
FULL_MASK = ScribbleCodes(0, None, dense=True)


def in_ours(array: NDArray[Any], codes: ScribbleCodes | None, structures: Sequence[Structure], name: str) -> NDArray[np.uint8]:
    """Strokes as stored to strokes in our codes.

    Parameters
    ----------
    array : ndarray of int
        As stored.
    codes : ScribbleCodes or None
        None where they are not stated: then our own are meant, and what does not fit them is refused.
    structures : sequence of Structure
        What may be marked.
    name : str
        What to call the file where it is refused.

    Raises
    ------
    PromptError
        A value without a meaning, one that marks most of the image, or codes that have to be stated.
    """
    counts = counted(array)
    if codes is None and not fit_ours(counts, structures):
        values = in_words(counts)
        raise PromptError(f"{name} holds {values}, and its codes are not stated; state scribble_codes{question(counts)}.")
    codes = codes or OUR_CODES
    meaning = codes.meaning(structures)
    labels = np.zeros(array.shape, dtype=np.uint8)
    for value, count in counts.items():
        if value not in meaning:
            raise PromptError(f"{name} holds the value {value}, which is no structure and no code; state what it means.")
        if meaning[value] and count > MOST * array.size and not codes.dense:
            share = 100 * count / array.size
            raise PromptError(
                f"one code of {name} marks {share:.0f} % of the image; are two of scribble_codes swapped? "
                'If they are not, add "dense": true.'
            )
        labels[array == value] = meaning[value]
    return labels


def counted(array: NDArray[Any]) -> dict[int, int]:
    """How many voxels hold each value."""
    values, counts = np.unique(array, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def fit_ours(counts: Mapping[int, int], structures: Sequence[Structure]) -> bool:
    """Whether a file can be in our own codes: known values alone, and most voxels without a stroke."""
    known = set(OUR_CODES.meaning(structures))
    return set(counts) <= known and counts.get(0, 0) > MOST * sum(counts.values())


def in_words(counts: Mapping[int, int]) -> str:
    """Values and how often they occur: ``0 (4,123 voxels), 1 (811), 4 (545,186)``."""
    words = ", ".join(f"{value} ({count:,})" for value, count in sorted(counts.items())[:LISTED]).replace(")", " voxels)", 1)
    return words + (f" and {len(counts) - LISTED} more" if len(counts) > LISTED else "")


def question(counts: Mapping[int, int]) -> str:
    """The coding that such counts may be of, as a question that only the user can answer; empty where none is likely.

    Strokes are sparse: what most voxels hold may mean that they are unlabelled.
    """
    common = max(counts, key=lambda value: counts[value])
    if counts[common] <= MOST * sum(counts.values()):
        return ""
    background = next((value for value in (0, BACKGROUND_STROKE) if value != common and value in counts), None)
    return f" (background {'null' if background is None else background} and unlabelled {common}?)"
