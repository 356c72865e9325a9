"""Names that come from outside: how a message shows them, and how they become file names and table cells."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")
_NOT_IN_FILE_NAMES = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]+')
_RESERVED = frozenset({"con", "prn", "aux", "nul", *(f"{n}{i}" for n in ("com", "lpt") for i in range(1, 10))})


def shown(path: str | os.PathLike[str], *, limit: int = 60) -> str:
    """The base name as a message shows it: one line, cut in the middle where it is longer than `limit` characters."""
    name = _CONTROL.sub(" ", Path(os.fsdecode(path)).name or os.fsdecode(path))
    if len(name) > limit:
        half = (limit - 1) // 2
        name = f"{name[:half]}…{name[-half:]}"
    return name.encode("utf-8", "replace").decode("utf-8")


def one_line(text: str) -> str:
    """`text` without line breaks, tabs and codes that steer a terminal."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def without_suffix(path: str | os.PathLike[str], suffixes: tuple[str, ...] = (".nii.gz", ".nii")) -> str:
    """The base name without the first of `suffixes` that it ends in; never a folder."""
    name = _CONTROL.sub(" ", Path(path).name)
    for suffix in suffixes:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def file_name(text: str, *, fallback: str = "unnamed", limit: int = 80) -> str:
    """`text` as a part of a file name that no system takes for a folder, a device or a hidden file.

    Parameters
    ----------
    text : str
        A structure's or class's name, for example.
    fallback : str
        What is used where nothing of `text` can be kept.
    limit : int
        Longest result, in bytes of UTF-8.
    """
    name = _NOT_IN_FILE_NAMES.sub("_", unicodedata.normalize("NFC", text)).strip(" .")
    while ".." in name:
        name = name.replace("..", ".")
    name = name.encode("utf-8", "ignore")[:limit].decode("utf-8", "ignore").strip(" .")
    return fallback if not name.strip("_") or name.lower() in _RESERVED else name


def csv_cell(text: str) -> str:
    """`text` as a table cell that no spreadsheet runs as a formula."""
    text = _CONTROL.sub(" ", text)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
