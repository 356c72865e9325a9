"""Strokes from and to NIfTI: in our own codes (0 not marked, 1 to 254 structures, 255 background), or in stated ones."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import GeometryError, PromptError
from ..prompts import BACKGROUND_STROKE, LESION, Scribbles, Structure, free_name
from .names import shown
from .nifti import grids_differ, read_mask
from .nifti_write import write_mask

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ..volume import Volume

MOST = 0.5
"""Strokes are sparse: a file in which one code covers more than this share of the image means something else by it."""


Codes = tuple[int | None, int | None]
"""Values of background strokes and of voxels without a stroke in files from elsewhere; None where a file has no such value."""

OURS: Codes = (BACKGROUND_STROKE, 0)


def read_scribbles(
    path: str | os.PathLike[str],
    volume: Volume,
    *,
    structures: Sequence[Structure] = (),
    codes: Codes = OURS,
    **answers: Any,
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
    codes : (background, unlabelled)
        What the file calls background strokes and voxels without a stroke: (0, 4) in ACDC and MSCMR, (0, 255) in
        Prostatex. Never guessed; without it our own codes are meant.
    **answers : str
        ``prefer`` and ``units``, as for `read_mask`.

    Raises
    ------
    PromptError
        Codes that are not ours, or nothing is marked.
    WeaksegError
        The file cannot be read, or lies on another grid.
    """
    mask = on_image(read_mask(path, **answers), volume, path)
    name = shown(path)
    labels = in_our_codes(mask.array, codes, name)
    found = [int(value) for value in np.unique(labels) if value != 0]
    if not found:
        raise PromptError(f"{name} holds no strokes; draw some on each structure and on the background.")
    known = {structure.value: structure for structure in structures}
    marked = [code for code in found if code != BACKGROUND_STROKE]
    for code in marked:
        alone = code == LESION.value and marked == [LESION.value] and not known
        known.setdefault(code, LESION if alone else Structure(free_name(known.values(), code, "label"), code))
    used = tuple(known[code] for code in sorted(known)) or (LESION,)
    return Scribbles(labels, used, tuple(mask.notes))


def on_image(strokes: Volume, volume: Volume, path: str | os.PathLike[str]) -> Volume:
    """A file of strokes as it was read, if it lies on the image's grid: nothing resamples them, for thin lines would break.

    Raises
    ------
    GeometryError
    """
    if not strokes.same_grid(volume):
        advice = "strokes are drawn on the image itself; give those of this image"
        raise GeometryError(grids_differ(strokes, volume, path, advice))
    return strokes


def in_our_codes(array: NDArray[Any], codes: Codes, name: str) -> NDArray[np.uint8]:
    """Strokes in stated codes as strokes in ours; all other values are structures.

    Parameters
    ----------
    array : ndarray of int
        As stored.
    codes : (background, unlabelled)
        As for `read_scribbles`.
    name : str
        What to call the file where it is refused.

    Raises
    ------
    PromptError
        A value that no structure can have, or one that marks most of the image: the codes are not this file's.
    """
    background, unlabelled = codes
    said = f"{_said(unlabelled)} not marked, 1 to 254 structures, {_said(background)} background"
    labels = np.zeros(array.shape, dtype=np.uint8)
    values, counts = np.unique(array, return_counts=True)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        if value == unlabelled:
            continue
        if value != background and not 1 <= value < BACKGROUND_STROKE:
            raise PromptError(f"{name} holds the code {value}; strokes are {said}.")
        if count > MOST * array.size:
            share = 100 * count / array.size
            raise PromptError(f"{name} marks {share:.0f} % of the image with {value}; state its codes: here {said}.")
        labels[array == value] = BACKGROUND_STROKE if value == background else value
    return labels


def _said(code: int | None) -> str:
    return "nothing" if code is None else str(code)


def parse_codes(text: str) -> Codes:
    """``background=0,unlabelled=4`` as (0, 4); a code that is left out is one that the file does not use.

    Raises
    ------
    PromptError
        Another form, a word twice, or both codes the same.
    """
    codes: dict[str, int] = {}
    for part in text.split(","):
        word, _, value = part.partition("=")
        known = word.strip() in ("background", "unlabelled") and word.strip() not in codes
        if not known or not re.fullmatch("-?[0-9]{1,9}", value.strip()):
            raise PromptError(f"{text!r:.60} is not of the form background=0,unlabelled=4; state the two codes of the strokes.")
        codes[word.strip()] = int(value)
    if len(set(codes.values())) < len(codes):
        raise PromptError("background and unlabelled have the same code; a value means one thing.")
    return codes.get("background"), codes.get("unlabelled")


def write_scribbles(scribbles: Scribbles, volume: Volume, path: str | os.PathLike[str]) -> Path:
    """Write strokes on the grid of `volume`; `read_scribbles` gives the same back."""
    return write_mask(volume.with_array(scribbles.labels, name=f"{volume.name} scribbles"), path)
