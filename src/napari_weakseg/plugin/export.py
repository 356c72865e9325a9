"""Saving from the panel: the mask as NIfTI, and beside it the record of how it was made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..io.names import without_suffix
from ..io.nifti_write import export_notes, source_now, write_mask
from ..io.records import write_record
from ..io.scribbles import write_scribbles
from ..prompts import BACKGROUND_STROKE
from .proposals import standing

if TYPE_CHECKING:
    from pathlib import Path

    from ..prompts import Scribbles
    from ..volume import Volume
    from .edits import History, Journal


def as_nifti(path: Path) -> Path:
    """The path as NIfTI files are named: what was typed without a suffix gets ``.nii.gz``."""
    return path if path.name.lower().endswith((".nii", ".nii.gz")) else path.with_name(f"{path.name}.nii.gz")


@dataclass(frozen=True, eq=False)
class Save:
    """One save: all that it writes is its own, whatever happens in the viewer meanwhile.

    Parameters
    ----------
    mask, image : Volume
        What is written, and the image that it lies on.
    history : History
        What was done until then.
    path : Path
        Target.
    journal : Journal or None
        Where the same work is kept against a crash.
    journal_size : int or None
        How long that journal was then.
    scribbles : Scribbles or None
        The strokes that corrected masks.
    """

    mask: Volume
    image: Volume
    history: History
    path: Path
    journal: Journal | None = None
    journal_size: int | None = None
    scribbles: Scribbles | None = None

    def write(self) -> str:
        """Write the mask, beside it ``<name>.weakseg.json`` and, with strokes, ``<name>_scribbles.nii.gz``; says so.

        It takes seconds for large volumes.

        Raises
        ------
        WeaksegError
            Not a NIfTI name, the target is the source image, or the folder cannot be written.
        """
        path = as_nifti(self.path)
        written = write_mask(self.mask, path)
        record = record_of(self.mask, self.image, self.history)
        beside = "its record"
        if self.scribbles is not None:
            record["saved"]["strokes"] = self.scribbles.to_json()
            write_scribbles(self.scribbles, self.image, written.with_name(f"{without_suffix(written)}_scribbles.nii.gz"))
            beside = "its strokes and its record"
        write_record(record, written.with_name(f"{without_suffix(written)}.weakseg.json"))
        notes = "".join(f" Note: {note}" for note in export_notes(self.mask, written))
        return (
            f"saved {written.name}, {beside}.{notes}"
            if self.scribbles is not None
            else f"saved {written.name} and {beside}.{notes}"
        )


@dataclass(frozen=True, eq=False)
class WriteStrokes:
    """Strokes to be written, in our codes, as they were when it was made."""

    scribbles: Scribbles
    image: Volume
    path: Path

    def write(self) -> str:
        """Write them as NIfTI on the image's grid; returns a sentence.

        Raises
        ------
        WeaksegError
            The target cannot be written, or is the image itself.
        """
        path = as_nifti(self.path)
        written = write_scribbles(self.scribbles, self.image, path)
        names = ", ".join(f"{structure.value} {structure.name}" for structure in self.scribbles.structures)
        return f"saved {written.name}: 0 not marked, {names}, {BACKGROUND_STROKE} background."


def record_of(mask: Volume, image: Volume, history: History) -> dict[str, Any]:
    """One run's own record where there was one, else the records of all; with the points and what is in the file."""
    runs: list[dict[str, Any]] = []
    for edit in history.past:
        for proposal in standing(edit.accepted, edit.before, mask.shape) if edit.patch is not None else ():
            record = dict(proposal.record)
            if record and record not in runs:
                runs.append(record)
    document = history.present
    saved = {
        "sha256": mask.sha256,
        "voxels": {s.name: int((mask.array == s.value).sum()) for s in document.structures},
        "marks": document.to_json()["marks"],
        "edited_voxels": edited_voxels(mask, history),
        "notes": [note.replace(image.name, "the image") for note in image.notes],
    }
    now = source_now(image)
    if image.header is not None and now is not None and now != image.header.sha256:
        saved["file_sha256_now"] = now  # the run's own record holds the hash of the file as it was read
    return {**runs[0], "saved": saved} if len(runs) == 1 else {"runs": runs, "saved": saved}


def edited_voxels(mask: Volume, history: History) -> int:
    """How many voxels differ from what was accepted: painted by hand, or there before."""
    accepted = np.zeros(mask.shape, dtype=mask.array.dtype)
    for edit in history.past:
        if edit.patch is not None:
            accepted[edit.patch.where] = edit.patch.after
    return int((accepted != mask.array).sum())
