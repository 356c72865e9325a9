"""A cohort file's text: JSON in, refused where it is damaged, and JSON out, a line for each case."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .names import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_BYTES = 50_000_000
"""Larger files are refused before they are parsed."""


def load_json(path: str | os.PathLike[str]) -> tuple[dict[str, Any], str]:
    """The object in a cohort file, and the SHA-256 of the file's bytes.

    Raises
    ------
    DataError
        Missing, too large, or not one JSON object.
    """
    name = shown(path)
    try:
        if os.path.isdir(path):
            raise DataError(f"{name} is a folder; make a cohort file of it with: weakseg cohort {name}")
        if os.path.getsize(path) > MOST_BYTES:
            raise DataError(f"{name} is larger than {MOST_BYTES // 1_000_000} MB and no cohort; choose another file.")
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
        data = json.loads(content.decode("utf-8-sig"), parse_constant=_refuse, object_pairs_hook=_no_key_twice)
    except FileNotFoundError as error:
        raise DataError(f"{name} does not exist; check the name and the folder.") from error
    except OSError as error:
        raise DataError(f"{name} cannot be read; check its rights and the disk.") from error
    except _TwiceError as error:
        raise DataError(f"{name} has the key {str(error)[:40]!r} twice in one place; remove one.") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{name} is no JSON (line {error.lineno}, column {error.colno}); correct it there.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is no JSON, or it is damaged; correct it or make it again.") from error
    if not isinstance(data, dict):
        raise DataError(f"{name} is JSON but no cohort; it holds one object with the keys channels and training.")
    return data, hashlib.sha256(content).hexdigest()


def as_text(data: Mapping[str, Any]) -> bytes:
    """JSON that a person can read and a version control can compare: a line for each case."""

    def compact(value: Any) -> str:
        try:
            return json.dumps(value, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise DataError("the cohort holds something that JSON cannot; give texts, whole numbers and lists.") from error

    def entry(key: str, value: Any) -> str:
        if not isinstance(value, list) or not any(isinstance(item, dict) for item in value):
            return f" {compact(key)}: {compact(value)}"
        return f" {compact(key)}: [\n" + ",\n".join(f"  {compact(item)}" for item in value) + "\n ]"

    return ("{\n" + ",\n".join(entry(key, value) for key, value in data.items()) + "\n}\n").encode()


class _TwiceError(ValueError):
    """A key stands twice in one JSON object."""


def _refuse(text: str) -> Any:
    raise ValueError(text)


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _TwiceError(next(key for key in keys if keys.count(key) > 1))
    return found
