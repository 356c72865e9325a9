"""What predicting a case writes: mask, maps, scores and record, under names that begin with the case's id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from .atomic import write_atomically
from .names import file_name
from .nifti_write import write_map, write_mask
from .records import write_record

if TYPE_CHECKING:
    import os

    from ..method import Result

PROBABILITY, SLICES = "probability ", "slice probabilities"


def write_prediction(result: Result, folder: str | os.PathLike[str], case_id: str) -> None:
    """Write mask, heatmaps, scores and record of a case, under the names that ``weakseg predict`` gives them.

    Raises
    ------
    DataError
        The folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"the folder {folder.name} cannot be made; check the rights of the folder that it is in.") from error
    write_mask(result, folder / f"{case_id}_mask.nii.gz")
    for name, values in result.maps.items():
        kind, _, whose = name.partition(" ")
        end = f"{kind}_{file_name(whose, fallback='class')}" if whose else kind
        write_map(result.mask.with_array(np.asarray(values)), folder / f"{case_id}_{end}.nii.gz")
    scores = scores_of(result)
    write_atomically(folder / f"{case_id}_scores.json", (json.dumps(scores) + "\n").encode())
    write_record(result.record, folder / f"{case_id}_record.json")


def scores_of(result: Result) -> dict[str, Any]:
    """What ``<id>_scores.json`` holds: probabilities of the classes in the volume and in each slice, in file order."""
    classes = [name.removeprefix(PROBABILITY) for name in result.scores if name.startswith(PROBABILITY)]
    table = result.tables.get(SLICES)
    if not classes:
        return {name: float(value) for name, value in result.scores.items()}
    return {
        "classes": classes,
        "slices": [] if table is None else np.asarray(table, dtype=float).round(6).tolist(),
        "volume": [float(result.scores[PROBABILITY + name]) for name in classes],
    }
