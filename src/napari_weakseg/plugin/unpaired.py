"""Masks of other patients from a folder, for methods that learn shapes from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError
from ..io.nifti import read_mask

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from ..prompts import Structure
    from ..volume import Volume


def read_masks(folder: str | os.PathLike[str]) -> tuple[Volume, ...]:
    """Every NIfTI mask of a folder, in the order of their names.

    Raises
    ------
    DataError
        There is none.
    WeaksegError
        One of them cannot be read as a mask.
    """
    where = Path(folder)
    paths = sorted(path for path in where.iterdir() if path.name.lower().endswith((".nii", ".nii.gz")))
    if not paths:
        raise DataError(f"{where.name} holds no NIfTI file; choose a folder with complete masks of other patients.")
    return tuple(read_mask(path) for path in paths)


def masks_line(masks: Sequence[Volume], structures: Sequence[Structure]) -> str:
    """What was read, and what in it does not fit the structures."""
    held = {int(value) for mask in masks for value in np.unique(mask.array)} - {0}
    words = f"read {len(masks)} masks of other patients"
    lacking = [structure for structure in structures if structure.value not in held]
    if lacking:
        return (
            f"{words}; none holds the value {lacking[0].value} ({lacking[0].name}): values must mean the same as in the table."
        )
    return f"{words}."
