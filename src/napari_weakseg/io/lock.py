"""A file that one process at a time holds; the system itself lets go of it when that process ends, killed or not."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from ..errors import DataError
from .names import shown

if TYPE_CHECKING:
    from pathlib import Path


def lock(path: Path) -> int:
    """Make and lock a file; returns its handle, which holds the lock until it is closed.

    Raises
    ------
    DataError
        The folder cannot be written, or another process holds the lock.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise DataError(f"the folder {shown(path.parent)} cannot be written; choose another or change its rights.") from error
    try:
        _lock(handle)
    except OSError as error:
        os.close(handle)
        raise DataError(f"another process trains into {shown(path.parent)}; wait for it or choose another folder.") from error
    return handle


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
