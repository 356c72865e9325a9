"""Prepared cases for training: in memory while they fit, beyond that in memory-mapped files, within stated bounds.

A cohort may be larger than memory. MONAI's ``PersistentDataset`` solves that with pickled ``.pt`` files that are unpickled
whole at every access, in a folder without a bound. Networks here draw small patches of large volumes, so the arrays are kept
as plain ``.npy`` files that are mapped: a patch reads the pages that it needs, the system keeps those that are used often and
takes them back when memory is short, and nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np

from .. import __version__
from ..case import fingerprint

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = Mapping[str, "NDArray[Any]"]
T = TypeVar("T")

DISK_BYTES = 20_000_000_000
"""Default bound of the folder."""

_ENTRY = re.compile(r"[0-9a-f]{64}(?:\.tmp-\w+)?")
_TABLE = "arrays.json"


class PreparedCases(Sequence[Arrays], Generic[T]):
    """The arrays of each case, made when they are first asked for.

    Parameters
    ----------
    cases : sequence of Case, or of arrays that were prepared from them
        Lazy or in memory; one is held at a time.
    prepare : callable
        Makes the arrays of one case; the same case and settings give the same arrays.
    settings : dict
        JSON values that decide what `prepare` makes. Change a number in it when `prepare` itself is changed.
    folder : path, optional
        Where arrays go that do not fit into memory; default a folder of this package in the user's cache.
    memory_bytes : int, optional
        So much is kept in memory; default a quarter of what is free.
    disk_bytes : int
        So much the folder may hold; what was used longest ago gives way. What does not fit is made anew at each access.

    Notes
    -----
    Arrays are read-only: copy the patch that is cut from them. The files hold images, so the default folder is readable
    for its owner alone; `clear_prepared` empties it. The key of an entry is made of the hashes of the case's files and
    marks, the settings and this package's version: what is stale is never found, and what is damaged is made again.
    """

    def __init__(
        self,
        cases: Sequence[T],
        prepare: Callable[[T], Arrays],
        *,
        settings: Mapping[str, Any],
        folder: str | os.PathLike[str] | None = None,
        memory_bytes: int | None = None,
        disk_bytes: int = DISK_BYTES,
    ) -> None:
        self.cases, self.prepare = cases, prepare
        self.settings = json.dumps([__version__, settings], sort_keys=True)
        self.folder = default_folder() if folder is None else Path(folder)
        self.memory_bytes = default_memory() if memory_bytes is None else memory_bytes
        self.disk_bytes = disk_bytes
        self.in_memory = 0
        self.notes: list[str] = []
        self._spilled = self.memory_bytes <= 0  # from the first case on that does not fit, disk is looked at first
        self._open: dict[int, Arrays] = {}
        self._keys: dict[int, str] = {}

    @property
    def bounds(self) -> str:
        """One sentence for the user: how much memory and disk this may take."""
        return bounds(self.memory_bytes, self.disk_bytes)

    def fingerprint(self, index: int) -> str:
        """What tells the arrays of a case from all others, so that more can be prepared from them."""
        return self._entry(range(len(self))[index]).name

    def release(self) -> None:
        """Give the memory back; what is asked for again is read or prepared again."""
        self._open.clear()
        self.in_memory = 0

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.cases)

    @overload
    def __getitem__(self, index: int) -> Arrays: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Arrays, ...]: ...
    def __getitem__(self, index: int | slice) -> Arrays | tuple[Arrays, ...]:
        """The arrays of one case; the same ones at every access."""
        if isinstance(index, slice):
            return tuple(self[place] for place in range(*index.indices(len(self))))
        place = range(len(self))[index]
        if place not in self._open:
            arrays = (self._from_disk(place) if self._spilled else None) or self._made(place)
            if arrays is None:
                return self._prepared(place)
            self._open[place] = arrays
        return self._open[place]

    def _prepared(self, place: int) -> dict[str, NDArray[Any]]:
        arrays = {name: np.asarray(array).view() for name, array in self.prepare(self.cases[place]).items()}
        for array in arrays.values():
            array.flags.writeable = False
        return arrays

    def _made(self, place: int) -> Arrays | None:
        """Make and keep; None where neither memory nor disk has room."""
        arrays = self._prepared(place)
        size = sum(array.nbytes for array in arrays.values())
        if self.in_memory + size <= self.memory_bytes:
            self.in_memory += size
            return arrays
        self._spilled = True
        if size <= self.disk_bytes and self._room_for(size) and self._written(place, arrays):
            return self._from_disk(place)
        sentence = f"{_size(self.disk_bytes)} on disk are not enough for all prepared images; the rest is made anew each time."
        if sentence not in self.notes:
            self.notes.append(sentence)
        return None

    # -- on disk ------------------------------------------------------------------------------------------------------

    def _entry(self, place: int) -> Path:
        if place not in self._keys:
            self._keys[place] = hashlib.sha256(f"{fingerprint(self.cases, place)}{self.settings}".encode()).hexdigest()
        return self.folder / self._keys[place]

    def _from_disk(self, place: int) -> Arrays | None:
        """The mapped files of a case, if they are there and are what was written."""
        if not self.folder.is_dir():
            return None
        entry = self._entry(place)
        try:
            table = json.loads((entry / _TABLE).read_bytes())
            for row in table:
                with open(entry / row["file"], "rb") as file:
                    if hashlib.file_digest(file, "sha256").hexdigest() != row["sha256"]:
                        raise ValueError(row["file"])
            arrays = {row["name"]: _mapped(entry / row["file"]) for row in table}
            os.utime(entry)  # used now: others give way first
        except (OSError, ValueError, TypeError, KeyError):
            shutil.rmtree(entry, ignore_errors=True)
            return None
        return arrays

    def _written(self, place: int, arrays: Arrays) -> bool:
        entry = self._entry(place)
        try:
            temporary = Path(tempfile.mkdtemp(prefix=f"{entry.name}.tmp-", dir=self.folder))
        except OSError:
            return False
        try:
            table = []
            for number, (name, array) in enumerate(arrays.items()):
                path = temporary / f"{number}.npy"
                np.save(path, array, allow_pickle=False)
                with open(path, "rb") as file:
                    table.append({"name": name, "file": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()})
            (temporary / _TABLE).write_text(json.dumps(table), encoding="utf-8")
            temporary.rename(entry)
        except OSError:  # a full disk, or another process was faster
            shutil.rmtree(temporary, ignore_errors=True)
        return entry.is_dir()

    def _room_for(self, size: int) -> bool:
        """Remove what was used longest ago, but nothing that is in use here, until `size` more fits."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free - size
        except OSError:
            return False
        held = {path: _size_of(path) for path in _entries(self.folder)}
        total = sum(held.values()) + size
        used = {self._keys[place] for place in self._open if place in self._keys}
        for path in sorted(held, key=_last_use):
            if total <= self.disk_bytes:
                break
            if path.name not in used:
                shutil.rmtree(path, ignore_errors=True)
                total -= held[path]
        return total <= self.disk_bytes and free > 0


def bounds(memory_bytes: int, disk_bytes: int = DISK_BYTES) -> str:
    """How much memory and disk prepared images may take, as a sentence for the user."""
    return (
        f"prepared images take up to {_size(memory_bytes)} of memory; "
        f"beyond that they are kept on disk, up to {_size(disk_bytes)}."
    )


def expected_note(voxels: int, channels: int, own: int) -> str:
    """About how much memory a training over many cases takes, as a sentence for the user.

    Parameters
    ----------
    voxels, channels : int
        Of all cases together, and of each voxel. Prepared they are about 4 bytes per channel, and 4 for marks and masks.
    own : int
        What the network and one case in work take.
    """
    wanted, most = voxels * (4 * channels + 4), default_memory()
    held = _size(min(wanted, most))
    return f"this training takes about {_size(own + min(wanted, most))} of memory, {held} of it for prepared images."


def default_memory() -> int:
    """A quarter of the memory that is free, in bytes."""
    import psutil

    return int(psutil.virtual_memory().available) // 4


def default_folder() -> Path:
    """Where prepared images are kept if nothing else is said."""
    from platformdirs import user_cache_path

    return user_cache_path("napari-weakseg") / "prepared"


def clear_prepared(folder: str | os.PathLike[str] | None = None) -> int:
    """Remove all prepared images; returns how many bytes that were."""
    removed = 0
    for path in _entries(default_folder() if folder is None else Path(folder)):
        removed += _size_of(path)
        shutil.rmtree(path, ignore_errors=True)
    return removed


def _entries(folder: Path) -> list[Path]:
    """What is ours in a folder; anything else in it is left alone."""
    with contextlib.suppress(OSError):
        return [path for path in folder.iterdir() if _ENTRY.fullmatch(path.name) and path.is_dir() and not path.is_symlink()]
    return []


def _last_use(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _size_of(path: Path) -> int:
    total = 0
    with contextlib.suppress(OSError):  # another process may remove it meanwhile
        for file in path.iterdir():
            total += file.stat().st_size
    return total


def _mapped(path: Path) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
