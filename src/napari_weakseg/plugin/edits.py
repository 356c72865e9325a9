"""Undo and redo over several levels, and the journal that keeps unsaved work on disk.

Every action is an `Edit` with its inverse. The journal holds labels and points only, never the image, the name of a
layer or a path; it is one file per image and session, readable by its owner alone, and is removed after some days.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import time
import uuid
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .proposals import Proposal, smallest_box
from .session import Document

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

KEEP_DAYS = 14
LEVELS = 500


@dataclass(frozen=True, eq=False)
class MaskPatch:
    """Voxels of the mask that an accept changed.

    Parameters
    ----------
    where : tuple of ndarray
        Voxel indices (i, j, k) of the changed voxels.
    before, after : ndarray
        Labels there.
    """

    where: tuple[NDArray[np.int64], ...]
    before: NDArray[Any]
    after: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Edit:
    """One action: the document before and after it; for an accept also what it wrote and the voxels that it changed.

    `shown` is what was proposed before a stroke: taking the stroke back shows it again. `later` is what was proposed when the
    action was taken back: doing it again shows that.
    """

    title: str
    before: Document
    after: Document
    patch: MaskPatch | None = None
    accepted: tuple[Proposal, ...] = ()
    shown: tuple[Proposal, ...] | None = None
    later: tuple[Proposal, ...] | None = None

    @property
    def inverse(self) -> Edit:
        """The action that takes this one back."""
        patch = None if self.patch is None else MaskPatch(self.patch.where, self.patch.after, self.patch.before)
        return Edit(self.title, self.after, self.before, patch, self.accepted, self.shown, self.later)


@dataclass
class History:
    """The document as it is, and the way back and forth."""

    present: Document = field(default_factory=Document)
    past: list[Edit] = field(default_factory=list)
    future: list[Edit] = field(default_factory=list)

    def do(
        self,
        title: str,
        after: Document,
        patch: MaskPatch | None = None,
        accepted: tuple[Proposal, ...] = (),
        shown: tuple[Proposal, ...] | None = None,
    ) -> Edit:
        """Carry out an action; what was undone before is forgotten."""
        edit = Edit(title, self.present, after, patch, accepted, shown)
        self.past = [*self.past, edit][-LEVELS:]
        self.future = []
        self.present = after
        return edit

    def look(self, document: Document) -> None:
        """Change what is looked at (the current object), which is no action of its own."""
        self.present = document

    def undo(self) -> Edit | None:
        """The inverse of the last action, carried out; None where there is none."""
        if not self.past:
            return None
        edit = self.past.pop()
        self.future.append(edit)
        self.present = edit.before
        return edit.inverse

    def redo(self) -> Edit | None:
        """The action that was undone last, carried out again; None where there is none."""
        if not self.future:
            return None
        edit = self.future.pop()
        self.past.append(edit)
        self.present = edit.after
        return edit


# -- journal --------------------------------------------------------------------------------


def journal_folder() -> Path:
    """Where journals are kept: the user's own state folder, closed to others."""
    from platformdirs import user_state_path

    folder = user_state_path("napari-weakseg", appauthor=False) / "journal"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def keeps_unsaved_work() -> bool:
    """Whether the user wants a journal: napari's preferences hold the answer, and it is yes until somebody says no."""
    from napari.settings import get_plugin_settings

    try:
        return bool(get_plugin_settings("napari-weakseg").unsaved_work.keep)
    except KeyError:  # run from source, without a manifest that napari knows
        return True


@dataclass(frozen=True, eq=False)
class Recovered:
    """Unsaved work that a journal holds.

    Parameters
    ----------
    path : Path
        The journal.
    document : Document
        The last state of the marks.
    mask : ndarray, shape (I, J, K), or None
        The mask as it was last written down.
    written : float
        Time of the last line, seconds since 1970.
    """

    path: Path
    document: Document
    mask: NDArray[Any] | None
    written: float


class Journal:
    """The work on one image, line by line: what is written survives the end of the process.

    Parameters
    ----------
    image : str
        SHA-256 of the image, by which the work is found again.
    shape : tuple of int
        Shape (I, J, K) of the image.
    folder : Path, optional
        Where to write; default `journal_folder`.
    panel : str
        Whose work it is: each panel offers its own alone.
    """

    def __init__(
        self, image: str, shape: tuple[int, int, int], folder: Path | None = None, *, panel: str = "extreme points"
    ) -> None:
        self._folder = journal_folder() if folder is None else folder
        self._panel = panel
        self._image = image
        self._shape = shape
        self.path = self._folder / f"{image[:16]}-{uuid.uuid4().hex[:12]}.jsonl"

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def write_document(self, document: Document) -> None:
        """The marks as they are now."""
        self._append({"document": document.to_json()})

    def write_mask(self, mask: NDArray[Any]) -> None:
        """The mask (I, J, K) as it is now: its smallest box, compressed."""
        start, labels = smallest_box(mask)
        packed = base64.b64encode(zlib.compress(np.ascontiguousarray(labels).tobytes(), 1)).decode()
        self._append({"mask": packed, "start": start, "shape": labels.shape, "type": labels.dtype.str})

    def write_saved(self) -> None:
        """Everything so far was saved by the user: nothing has to be offered again."""
        if self.path.exists():
            self._append({"saved": True})

    def _append(self, line: dict[str, Any]) -> None:
        new = not self.path.exists()
        header = {"image": self._image, "shape": self._shape, "panel": self._panel, "pid": os.getpid()}
        text = json.dumps(header) + "\n" if new else ""
        text += json.dumps({**line, "time": time.time()}) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(text.encode())


def purge(folder: Path | None = None, *, days: float = KEEP_DAYS) -> None:
    """Remove journals that nobody wrote into for some days."""
    for path in (folder or journal_folder()).glob("*.jsonl"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > days * 86400:
                path.unlink()


def recoverable(
    image: str, shape: tuple[int, int, int], folder: Path | None = None, *, panel: str = "extreme points"
) -> Recovered | None:
    """The latest unsaved work of a panel on an image, from a session that has ended; None where there is none."""
    found = []
    for path in (folder or journal_folder()).glob(f"{image[:16]}-*.jsonl"):
        lines = list(_lines(path))
        if len(lines) < 2 or lines[0].get("image") != image or tuple(lines[0].get("shape", ())) != shape:
            continue
        if _still_open(int(lines[0].get("pid", -1))) or "saved" in lines[-1]:
            continue
        if lines[0].get("panel", "extreme points") != panel:
            continue
        work = _replayed(path, lines[1:], shape)
        if work is not None:
            found.append(work)
    return max(found, key=lambda work: work.written, default=None)


def _still_open(pid: int) -> bool:
    import psutil

    return pid != os.getpid() and bool(psutil.pid_exists(pid))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The journal's lines up to the first that is not whole: a process may end in the middle of writing."""
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_bytes().splitlines():
            yield json.loads(line)


def _replayed(path: Path, lines: list[dict[str, Any]], shape: tuple[int, int, int]) -> Recovered | None:
    document, mask = Document(), None
    try:
        for line in lines:
            if "document" in line:
                document = Document.from_json(line["document"])
        packed = next((line for line in reversed(lines) if "mask" in line), None)
        if packed is not None:
            values = np.frombuffer(zlib.decompress(base64.b64decode(packed["mask"])), dtype=np.dtype(packed["type"]))
            mask = np.zeros(shape, dtype=values.dtype)
            mask[tuple(slice(s, s + n) for s, n in zip(packed["start"], packed["shape"], strict=True))] = values.reshape(
                packed["shape"]
            )
    except (KeyError, TypeError, ValueError, zlib.error):
        return None
    if not document.marks and not document.strokes and mask is None:
        return None
    return Recovered(path, document, mask, float(lines[-1].get("time", 0)))
