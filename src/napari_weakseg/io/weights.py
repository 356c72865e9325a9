"""What a network has learnt, on disk: safetensors with a JSON description beside it; nothing is unpickled."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError, WeaksegError
from ..method import Weights
from ..prompts import Structure
from .atomic import write_atomically
from .names import shown
from .records import write_record

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from ..recipe import Recipe

WEIGHTS_VERSION = 1
MOST_BYTES = 1_000_000
"""Of a description; a larger one is not read."""

FIELDS = frozenset(
    {"schema_version", "intended_use", "kind", "method", "recipe", "structures", "meta", "software", "file", "tensors"}
)
"""What a description holds, no more and no less."""

UNFINISHED, READ_NOTE = "unfinished", "read"
"""In the meta of weights: where a training stood that had not come to its end, and what was noted when they were read."""

Tensors = dict[str, "NDArray[Any]"]


def write_weights(weights: Weights, path: str | os.PathLike[str]) -> Path:
    """Write `weights` to ``<path>.safetensors`` and its description to the ``.json`` of the same name.

    Raises
    ------
    DataError
        The folder cannot be written, the disk is full, or the description would hold a path.
    """
    target = _safetensors_path(path, reading=False)
    data = to_bytes(weights.tensors)
    write_atomically(target, data)
    write_record({**describe(weights), **facts_of(data, weights.tensors)}, target.with_suffix(".json"))
    return target


def read_weights(path: str | os.PathLike[str]) -> Weights:
    """Read what `write_weights` wrote, or the weights of a run folder.

    Raises
    ------
    DataError
        Missing, damaged, of a newer version, or not ours: checked before anything is built from it.
    """
    given = Path(path)
    if given.is_dir():
        from .runs import Run

        return Run(given).weights()
    target = _safetensors_path(given)
    sidecar = target.with_suffix(".json")
    if not target.is_file():
        raise DataError(f"{shown(given)} does not exist; choose a run folder or a .safetensors file.")
    if not sidecar.is_file():
        raise DataError(f"{shown(sidecar)}, the description beside {shown(target)}, is missing; copy both files.")
    description = read_description(sidecar)
    tensors = read_tensors(target, description)
    return from_description(description, tensors, shown(sidecar))


def check_trained(weights: Weights) -> None:
    """Refuse weights with which nothing was learnt: the first checkpoint is written before the first step.

    Raises
    ------
    DataError
        All steps that they know of are 0, and they did not begin with a network that knew something.
    """
    at, steps = _standing(weights), weights.meta.get("steps")
    counts = [at[0], *at[3]] if at is not None else list(steps) if isinstance(steps, tuple | list) else []
    if counts and not any(counts) and "start_sha256" not in weights.meta:
        raise DataError("these weights have learnt nothing yet (0 steps); train them, or choose another run.")


def caveats(weights: Weights) -> tuple[str, ...]:
    """What whoever uses weights should know of them: that their training was not finished, that newer ones are damaged."""
    at = _standing(weights)
    stopped = ""
    if at is not None:
        stopped = f"the training was stopped at step {at[0]} of {at[1]} of '{at[2]}'; resume it for better weights."
    return tuple(note for note in (stopped, str(weights.meta.get(READ_NOTE, ""))) if note)


def _standing(weights: Weights) -> tuple[int, int, str, list[int]] | None:
    """Step, steps in all, stage, and steps of the stages before, of a training that was not finished."""
    at = weights.meta.get(UNFINISHED)
    try:
        return None if at is None else (int(at["index"]), int(at["total"]), str(at["stage"]), list(at["finished"].values()))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def describe(weights: Weights) -> dict[str, Any]:
    """All of the weights but their tensors, as JSON values."""
    from .. import __version__

    return {
        "schema_version": WEIGHTS_VERSION,
        "kind": "weights",
        "method": weights.method,
        "recipe": weights.recipe.to_json(),
        "structures": [
            {"name": s.name, "value": s.value, "colour": s.colour, "concept": list(s.concept) if s.concept else None}
            for s in weights.structures
        ],
        "meta": dict(weights.meta),
        "software": {"napari-weakseg": __version__},
    }


def facts_of(data: bytes, tensors: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """What a description says of the tensors' file, to refuse another one in its place."""
    return {
        "file": {"sha256": sha256(data).hexdigest(), "bytes": len(data)},
        "tensors": {name: [list(np.shape(value)), np.asarray(value).dtype.name] for name, value in tensors.items()},
    }


def to_bytes(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """Tensors in the safetensors format."""
    from safetensors.numpy import save

    return bytes(save({name: np.ascontiguousarray(value).reshape(np.shape(value)) for name, value in tensors.items()}))


def read_description(path: Path, *, kind: str = "weights", fields: frozenset[str] = FIELDS) -> dict[str, Any]:
    """A description with the fields that this version knows, and no other.

    Raises
    ------
    DataError
        Not JSON, not ours, or of a newer version.
    """
    name = shown(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{name} is larger than {MOST_BYTES // 1000} kB and no description of weights; choose others.")
        data = json.loads(path.read_bytes().decode("utf-8-sig"), parse_constant=_refuse_constant)
    except OSError as error:
        raise DataError(f"{name} cannot be read; check its rights and the disk.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is damaged or no description of weights; choose others.") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or data.get("kind") != kind:
        raise DataError(f"{name} does not describe {kind} of napari-weakseg; choose others.")
    if version > WEIGHTS_VERSION:
        raise DataError(f"{name} was made by a newer version (schema {version}, not {WEIGHTS_VERSION}); update this package.")
    if set(data) != fields:
        odd = sorted(set(data) ^ fields)[0]
        raise DataError(f"{name} does not fit this version (field {odd!r}); use weights that this version wrote.")
    return dict(data)


def read_tensors(path: Path, description: Mapping[str, Any]) -> Tensors:
    """The tensors that a description is of.

    Raises
    ------
    DataError
        Another size or hash, other names, shapes or types, or a value that is not finite.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    name = shown(path)
    damaged = DataError(f"{name} is damaged or not the file that its description is of; copy both files again.")
    try:
        wanted, expected = description["file"], description["tensors"]
        if path.stat().st_size != wanted["bytes"]:
            raise damaged
        data = path.read_bytes()
        if sha256(data).hexdigest() != wanted["sha256"]:
            raise damaged
        tensors: Tensors = load(data)
        found = {key: [list(value.shape), value.dtype.name] for key, value in tensors.items()}
    except OSError as error:
        raise DataError(f"{name} cannot be read; check its rights and the disk.") from error
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise damaged from error
    if found != expected:
        raise damaged
    for key, value in tensors.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise DataError(f"{name} holds numbers that are not finite ({key[:40]}); use other weights.")
    return tensors


def from_description(description: Mapping[str, Any], tensors: Tensors, name: str) -> Weights:
    """Weights from a description that was read; the method's own recipe checks every range."""
    try:
        method, recipe = recipe_of(str(description["method"]), description["recipe"])
        structures = tuple(
            Structure(str(s["name"]), int(s["value"]), str(s["colour"]), tuple(s["concept"]) if s["concept"] else None)
            for s in description["structures"]
        )
        meta = _checked_meta(dict(description["meta"]), name)
    except WeaksegError as error:
        raise DataError(f"{name} describes weights that this version cannot use: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{name} lacks what weights need ({type(error).__name__}); use others.") from error
    return Weights(method, recipe, structures, tensors, meta)


def recipe_of(method: str, data: Mapping[str, Any]) -> tuple[str, Recipe]:
    """A method's name and its recipe from JSON values; the method's own class checks every range."""
    from ..methods import get_method

    room = get_method(method)
    return room.card.name, room.recipe_class.from_json(data)


def _checked_meta(meta: dict[str, Any], name: str) -> dict[str, Any]:
    """What weights say of themselves; nothing protects it as the tensors' hash does, so what many read must be of its type."""
    for key, fits in _META.items():
        if key in meta and not fits(meta[key]):
            raise DataError(f"{name} says something odd of {key!r}; use weights as training wrote them.")
    return meta


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


_META: dict[str, Callable[[Any], bool]] = {
    "notes": _words,
    "channel_names": _words,
    "image_classes": _words,
    "channels": lambda value: _whole(value) or _words(value),
    "classes": lambda value: _whole(value) or _words(value),
    "slice_axis": lambda value: _whole(value) and value <= 2,
    "by_slice": lambda value: isinstance(value, bool),
    "steps": lambda value: isinstance(value, list) and all(map(_whole, value)),
    "cases": _whole,
    "seconds": _number,
    "device": lambda value: isinstance(value, str),
    READ_NOTE: lambda value: isinstance(value, str),
}


def _safetensors_path(path: str | os.PathLike[str], *, reading: bool = True) -> Path:
    target = Path(path)
    if target.suffix == ".json":
        target = target.with_suffix(".safetensors")
    if target.suffix != ".safetensors" and reading and not target.exists():
        raise DataError(f"{shown(path)} does not exist; choose a run folder or a .safetensors file.")
    if target.suffix != ".safetensors":
        raise DataError(f"{shown(path)} is no file of weights; its name ends in .safetensors.")
    return target


def _refuse_constant(text: str) -> float:
    raise ValueError(text)
