"""Run records: how a mask was made, as JSON, without paths and without patient data."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from .atomic import write_atomically
from .names import shown

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_VERSION = 1
MOST_BYTES = 1_000_000

_PATH = re.compile(r"^(?:[/~\\]|[A-Za-z]:[\\/]|file:)|/(?:home|Users|mnt|media|tmp|root|data)/|\\Users\\")


def write_record(record: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write a record atomically; ``schema_version`` and ``intended_use`` are added.

    numpy numbers and arrays become plain ones; numbers that are not finite become null.

    Raises
    ------
    DataError
        Larger than 1 MB, a text in it is a path, or the folder cannot be written.
    """
    plain = _plain({"schema_version": SCHEMA_VERSION, "intended_use": "research only, not a medical device", **record}, "")
    data = (json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    if len(data) > MOST_BYTES:
        raise DataError(f"the record {shown(path)} would exceed {MOST_BYTES // 1000} kB; store large arrays elsewhere.")
    return write_atomically(path, data)


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `write_record` wrote.

    Raises
    ------
    DataError
        Missing, larger than 1 MB, damaged, or of a newer version than this one knows.
    """
    name = shown(path)
    try:
        if os.path.getsize(path) > MOST_BYTES:
            raise DataError(f"{name} is larger than {MOST_BYTES // 1000} kB and no record; choose another file.")
        with open(path, "rb") as file:
            record = json.loads(file.read(MOST_BYTES + 1).decode("utf-8-sig"), parse_constant=_refuse_constant)
    except FileNotFoundError as error:
        raise DataError(f"{name} does not exist; check the name and the folder.") from error
    except OSError as error:
        raise DataError(f"{name} cannot be read; check its rights and the disk.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is no record, or it is damaged; choose another file.") from error
    version = record.get("schema_version") if isinstance(record, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise DataError(f"{name} is JSON but no record (no schema_version); choose another file.")
    if version > SCHEMA_VERSION:
        raise DataError(f"{name} was made by a newer version (schema {version}, not {SCHEMA_VERSION}); update this package.")
    return dict(record)


def _refuse_constant(text: str) -> Any:
    raise ValueError(text)


def _plain(value: Any, where: str) -> Any:
    """`value` as JSON takes it."""
    if isinstance(value, Mapping):
        return {_checked(str(key), where): _plain(part, f"{where}.{key}".lstrip(".")) for key, part in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist(), where)
    if isinstance(value, list | tuple):
        return [_plain(part, where) for part in value]
    if isinstance(value, os.PathLike):
        raise DataError(f"the record's {where} holds a path; records name files by their hash alone.")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        return _checked(value, where)
    if value is None or isinstance(value, bool | int | float):
        return value
    raise DataError(f"the record's {where} is a {type(value).__name__}, which JSON cannot hold.")


def _checked(text: str, where: str) -> str:
    if _PATH.search(text):
        raise DataError(f"the record's {where or 'key'} holds a path; records name files by their hash alone.")
    return text
