"""Strokes from and to NIfTI, in our own codes: 0 not marked, 1 to 254 structures, 255 background."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import PromptError
from ..prompts import BACKGROUND_STROKE, LESION, Scribbles, Structure
from .names import shown
from .nifti import read_mask
from .nifti_write import write_mask

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from ..volume import Volume

MOST = 0.5
"""Strokes are sparse: a file in which one code covers more than this share of the image means something else by it."""


def read_scribbles(
    path: str | os.PathLike[str], volume: Volume, *, structures: Sequence[Structure] = (), **answers: Any
) -> Scribbles:
    """Read strokes that were drawn on `volume`.

    Parameters
    ----------
    path : path
        NIfTI file of whole numbers on the image's grid.
    volume : Volume
        The image.
    structures : sequence of Structure
        Structures known from elsewhere, for their names.
    **answers : str
        ``prefer`` and ``units``, as for `read_mask`.

    Raises
    ------
    PromptError
        Codes that are not ours, or nothing is marked.
    WeaksegError
        The file cannot be read, or lies on another grid.
    """
    mask = read_mask(path, like=volume, **answers)
    name = shown(path)
    values, counts = np.unique(mask.array, return_counts=True)
    codes = [int(value) for value in values if value != 0]
    if not codes:
        raise PromptError(f"{name} holds no strokes; draw some on each structure and on the background.")
    wrong = [code for code in codes if not 1 <= code <= BACKGROUND_STROKE]
    if wrong:
        raise PromptError(f"{name} holds the code {wrong[0]}; strokes are 0 not marked, 1 to 254 structures, 255 background.")
    most = int(values[counts.argmax()])
    if most != 0 and counts.max() > MOST * mask.array.size:
        share = 100 * counts.max() / mask.array.size
        raise PromptError(f"{name} marks {share:.0f} % of the image with {most}; with our codes 0 is not marked: recode it.")
    known = {structure.value: structure for structure in structures}
    marked = [code for code in codes if code != BACKGROUND_STROKE]
    for code in marked:
        alone = code == LESION.value and marked == [LESION.value] and not known
        known.setdefault(code, LESION if alone else Structure(f"label {code}", code))
    used = tuple(known[code] for code in sorted(known)) or (LESION,)
    return Scribbles(mask.array.astype(np.uint8), used, tuple(mask.notes))


def write_scribbles(scribbles: Scribbles, volume: Volume, path: str | os.PathLike[str]) -> Path:
    """Write strokes on the grid of `volume`; `read_scribbles` gives the same back."""
    return write_mask(volume.with_array(scribbles.labels, name=f"{volume.name} scribbles"), path)
