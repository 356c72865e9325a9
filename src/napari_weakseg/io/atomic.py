"""Writing a file so that the old one or the new one is there, never neither: temporary file, fsync, replace."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import re
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError
from .names import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PREFIX = ".weakseg-"
"""What the name of every temporary file of ours begins with; then host, process id and a random part follow."""

_TEMPORARY = re.compile(re.escape(PREFIX) + r"(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]+\.tmp")
_ABANDONED_AFTER = 24 * 3600.0  # seconds; for temporary files whose process cannot be asked for


def write_atomically(path: str | os.PathLike[str], data: bytes, *, check: Callable[[Path], None] | None = None) -> Path:
    """Write `data` to `path` such that a kill at any instant leaves the old file or the new one.

    Parameters
    ----------
    path : path
        Target; links are followed. Its folder must exist.
    data : bytes
        All of the new file.
    check : callable, optional
        Gets the path of the finished temporary file before it takes the target's place; what it raises leaves the old
        file as it was.

    Returns
    -------
    Path
        Where the data are.

    Raises
    ------
    DataError
        The folder cannot be written, the disk is full, the name is too long. No temporary file stays behind.
    """
    target = _target(path)
    sweep(target.parent)
    temporary = _new_temporary(target)
    try:
        with _told(target):
            _write_through(temporary, data)
        if check is not None:
            check(temporary)
        with _told(target):
            _replace(temporary, target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)
    return Path(path)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Find out before a long run whether `path` could be written at its end.

    Raises
    ------
    DataError
        As `write_atomically`.
    """
    target = _target(path)
    temporary = _new_temporary(target)
    with contextlib.suppress(OSError):
        temporary.unlink()


def sweep(folder: Path) -> int:
    """Remove temporary files that dead processes left in `folder`; returns how many."""
    removed = 0
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            match = _TEMPORARY.fullmatch(entry.name)
            if match and _is_abandoned(entry, match):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)
                    removed += 1
    return removed


def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _is_abandoned(entry: os.DirEntry[str], match: re.Match[str]) -> bool:
    # On Windows os.kill(pid, 0) would end the process, and another computer's processes cannot be asked: age decides.
    if os.name != "nt" and match["host"] == _host():
        try:
            os.kill(int(match["pid"]), 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            pass
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED_AFTER


def _target(path: str | os.PathLike[str]) -> Path:
    """The place to write, links followed; refuses what can be known beforehand."""
    with _told(path):
        target = Path(os.path.realpath(path))
        if target.is_dir():
            raise DataError(f"{shown(path)} is a folder; give the name of a file.")
        if target.exists() and not os.access(target, os.W_OK):
            raise DataError(f"{shown(path)} is write-protected; choose another name or change its rights.")
        limit = _name_limit(target.parent)
        if len(os.fsencode(target.name)) > limit:
            raise DataError(f"the name {shown(path, limit=30)} is too long; this folder allows {limit} bytes, shorten it.")
        if not target.parent.is_dir():
            raise DataError(f"the folder of {shown(path)} does not exist; make it first or choose another.")
    return target


def _name_limit(folder: Path) -> int:
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, ValueError, OSError):
        return 255


def _new_temporary(target: Path) -> Path:
    temporary = target.parent / f"{PREFIX}{_host()}-{os.getpid()}-{secrets.token_hex(4)}.tmp"
    with _told(target):
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))  # rights: what the umask leaves
    return temporary


def _write_through(temporary: Path, data: bytes) -> None:
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _replace(temporary: Path, target: Path) -> None:
    try:
        os.replace(temporary, target)
    except PermissionError as error:  # Windows, while another program holds the target
        name, dot, rest = target.name.partition(".")
        for number in range(1, 100):
            spare = target.with_name(f"{name} (new {number}){dot}{rest}")
            if not spare.exists():
                os.replace(temporary, spare)
                raise DataError(
                    f"another program holds {shown(target)}; the new file was kept as {shown(spare)}, "
                    "close the program and rename it."
                ) from error
        raise


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    with contextlib.suppress(OSError):  # some network file systems refuse; the file itself is safe by now
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def _told(path: str | os.PathLike[str]) -> Iterator[None]:
    """Say in one sentence what the system reported."""
    try:
        yield
    except ValueError as error:  # a NUL in the name
        raise DataError(f"{shown(path)} is not a usable file name; choose another.") from error
    except OSError as error:
        raise DataError(_sentence(error, path)) from error


def _sentence(error: OSError, path: str | os.PathLike[str]) -> str:
    name = shown(path)
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG):
        return f"the disk is full: {name} was not written and an old file of that name is unchanged; free some space."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"the folder of {name} cannot be written; choose another folder or change its rights."
    if error.errno == errno.ENAMETOOLONG:
        return f"the path of {shown(path, limit=30)} is too long for this system (255 bytes per name); shorten it."
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"the folder of {name} does not exist; make it first or choose another."
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    return f"{name} could not be written ({reason}); try another folder."
