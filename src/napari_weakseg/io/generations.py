"""Tensors with their description, replaced so that a kill at any instant leaves one whole pair of the two."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .atomic import write_atomically
from .names import shown
from .records import write_record
from .weights import facts_of, read_description, read_tensors, to_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .weights import Tensors


def write_generation(folder: Path, stem: str, tensors: Mapping[str, Any], description: Mapping[str, Any]) -> int:
    """Replace ``<stem>.safetensors`` and ``<stem>.json``; what they were becomes ``<stem>.previous``.

    A description counts with the tensors whose hash it names, under either name. So one whole pair is there at each
    instant: the old tensors are renamed, the new ones written, the old description copied, and the new one comes last.

    Returns
    -------
    int
        Bytes of the tensors.
    """
    data = to_bytes(tensors)
    now, before = folder / f"{stem}.safetensors", folder / f"{stem}.previous.safetensors"
    if _is_whole(now):
        os.replace(now, before)
        write_atomically(now, data)
        write_atomically(before.with_suffix(".json"), now.with_suffix(".json").read_bytes())
    else:  # what a kill left half-done: the old tensors are under the other name already
        write_atomically(now, data)
    write_record({**description, **facts_of(data, tensors)}, now.with_suffix(".json"))
    return len(data)


def read_generation(folder: Path, stem: str, fields: frozenset[str]) -> tuple[dict[str, Any], Tensors, str] | None:
    """The newest whole pair: description, tensors, and the description's file name; None where there is no description.

    Raises
    ------
    DataError
        There are descriptions, and none has its tensors.
    """
    failure: DataError | None = None
    for name in (f"{stem}.json", f"{stem}.previous.json"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            description = read_description(path, kind=stem, fields=fields)
            return description, _tensors_of(folder, stem, description), name
        except DataError as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return None


def _tensors_of(folder: Path, stem: str, description: Mapping[str, Any]) -> Tensors:
    """The tensors that a description names, under whichever name they are."""
    failure: DataError | None = None
    for name in (f"{stem}.safetensors", f"{stem}.previous.safetensors"):
        if (folder / name).is_file():
            try:
                return read_tensors(folder / name, description)
            except DataError as error:
                failure = failure or error
    raise failure or DataError(f"{stem}.safetensors of {shown(folder)} is missing; train again.")


def _is_whole(tensors: Path) -> bool:
    """Whether the description beside the tensors is of them."""
    try:
        held = json.loads(tensors.with_suffix(".json").read_text(encoding="utf-8"))
        return bool(held["file"]["sha256"] == sha256(tensors.read_bytes()).hexdigest())
    except (OSError, ValueError, KeyError, TypeError):
        return False
