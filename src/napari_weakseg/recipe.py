"""`Recipe`: every setting of a method, once, for the form, the command line, the record and the docs."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping  # noqa: TC003 - Recipe resolves its annotations at run time
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from .errors import RecipeError

PRESETS = ("laptop", "paper")


def knob(
    default: Any,
    *,
    tooltip: str,
    min: float | None = None,
    max: float | None = None,
    choices: tuple[Any, ...] = (),
    unit: str = "",
    source: str = "ours",
    hidden: bool = False,
) -> Any:
    """A dataclass field with what a form, a command line and a table need to know of it.

    Parameters
    ----------
    default : object
        Value in the ``laptop`` preset.
    tooltip : str
        One line that says what it does.
    min, max : float, optional
        Inclusive range of a number.
    choices : tuple, optional
        The only values that are allowed.
    unit : str
        ``"mm"``, ``"s"``, ``"voxels"`` or empty.
    source : str
        Where the default comes from: ``"paper"``, ``"authors' code"`` or ``"ours"``.
    hidden : bool
        True keeps it out of forms and the command line's help (it is for replay).
    """
    meta = {"tooltip": tooltip, "min": min, "max": max, "choices": choices, "unit": unit, "source": source, "hidden": hidden}
    return dataclasses.field(default=default, metadata=meta)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Base of every method's settings; subclasses add their own knobs.

    Class attribute ``PRESETS`` maps a preset's name to the values in which it differs from the field defaults (which
    are those of ``laptop``). ``COHORT`` maps it to what differs beyond that where many marked cases are learnt from, after
    which volumes carry no marks.

    Raises
    ------
    RecipeError
        A value outside its range or not among its choices; the message names the knob.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"laptop": {}, "paper": {}}
    COHORT: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    preset: str = knob("laptop", choices=tuple(PRESETS), tooltip="laptop: minutes on a CPU; paper: as published, for a GPU")
    seed: int = knob(0, min=0, max=2**31 - 1, tooltip="Seed of every random draw")
    device: str = knob("auto", choices=("auto", "cpu", "cuda", "mps"), tooltip="Where networks run; auto takes a GPU")
    max_seconds: float = knob(60.0, min=0.0, max=1e7, unit="s", tooltip="Training stops after this; 0: first mask alone")

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = _converted(field.name, getattr(self, field.name), hints[field.name])
            _check_range(field, value)
            object.__setattr__(self, field.name, value)

    @classmethod
    def from_preset(cls, preset: str = "laptop", **changes: Any) -> Self:
        """The preset's recipe with some knobs changed."""
        if preset not in cls.PRESETS:
            raise RecipeError(f"there is no preset {preset!r}; choose one of {', '.join(cls.PRESETS)}.")
        known = {field.name for field in dataclasses.fields(cls)}
        for name in changes:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or sorted(known)[:3]
                raise RecipeError(f"there is no setting {name!r}; did you mean one of {', '.join(near)}?")
        return cls(**{"preset": preset, **cls.PRESETS[preset], **changes})

    @classmethod
    def for_cohort(cls, preset: str = "laptop", **changes: Any) -> Self:
        """The preset's recipe for learning from a cohort, with some knobs changed."""
        return cls.from_preset(preset, **{**cls.COHORT.get(preset, {}), **changes})

    def changed(self, **changes: Any) -> Self:
        """A copy with some knobs changed."""
        return self.from_json({**self.to_json(), **changes})

    def to_json(self) -> dict[str, Any]:
        """All knobs as JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote; unknown names are refused."""
        return cls.from_preset(str(data.get("preset", "laptop")), **{k: v for k, v in data.items() if k != "preset"})


def _converted(name: str, value: Any, hint: Any) -> Any:
    """`value` as the annotated type, from JSON or a command line's text."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    target = next(option for option in options if option is not type(None))
    try:
        if target is bool:
            if isinstance(value, str):
                return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[value.lower()]
            return bool(value)
        if typing.get_origin(target) is tuple:
            inner = typing.get_args(target)[0]
            parts = [part for part in value.split(",") if part] if isinstance(value, str) else value
            return tuple(inner(part) for part in parts)
        if target is int and float(value) != int(float(value)):
            raise ValueError
        return target(value)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise RecipeError(f"{name} cannot be {value!r}; give a value of type {getattr(target, '__name__', target)}.") from error


def _check_range(field: dataclasses.Field[Any], value: Any) -> None:
    meta = field.metadata
    for part in value if isinstance(value, tuple) else (value,):
        if part is None:
            continue
        if meta.get("choices") and part not in meta["choices"]:
            raise RecipeError(f"{field.name} cannot be {part!r}; choose one of {', '.join(map(str, meta['choices']))}.")
        low, high = meta.get("min"), meta.get("max")
        if (low is not None and not part >= low) or (high is not None and not part <= high):
            raise RecipeError(f"{field.name} is {part}; it must lie between {low} and {high}.")
