"""Masks of other patients from a folder, for methods that learn shapes from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .nifti import read_mask

if TYPE_CHECKING:
    import os

    from ..volume import Volume


def read_unpaired_masks(folder: str | os.PathLike[str], **answers: Any) -> tuple[Volume, ...]:
    """Every NIfTI mask of a folder, in the order of their names; hidden files, such as macOS's side files, are passed over.

    Parameters
    ----------
    folder : path
        With complete masks, whose values mean the same as those of the structures to be segmented.
    **answers : str
        ``prefer`` and ``units``, as for `read_mask`.

    Raises
    ------
    DataError
        It is no folder, or there is no NIfTI file in it.
    WeaksegError
        One of them cannot be read as a mask.
    """
    where = Path(folder)
    if not where.is_dir():
        raise DataError(f"{where.name} is no folder; give the one that holds the masks of other patients.")
    names = sorted(path.name for path in where.iterdir() if not path.name.startswith("."))
    paths = [where / name for name in names if name.lower().endswith((".nii", ".nii.gz"))]
    if not paths:
        raise DataError(f"the folder {where.name} holds no NIfTI file; give the one with the masks of other patients.")
    return tuple(read_mask(path, **answers) for path in paths)
