"""Any recipe as a form, drawn from its knobs' metadata."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

if typing.TYPE_CHECKING:
    from ..recipe import Recipe


class RecipeForm:
    """A form of every knob of a recipe; `native` is the Qt widget.

    Parameters
    ----------
    recipe : Recipe
        Whose knobs, and whose values at the start.
    """

    def __init__(self, recipe: Recipe) -> None:
        from magicgui.widgets import Container

        self._start = recipe
        self._preset = self._widget(next(f for f in dataclasses.fields(recipe) if f.name == "preset"))
        self._knobs = {
            f.name: self._widget(f)
            for f in dataclasses.fields(recipe)
            if f.name != "preset" and not f.metadata.get("hidden", False)
        }
        self.container = Container(widgets=[self._preset, *self._knobs.values()], labels=True)
        self._preset.changed.connect(self.set_preset)

    @property
    def native(self) -> Any:
        """The form as a QWidget."""
        return self.container.native

    @property
    def recipe(self) -> Recipe:
        """The recipe as the form stands.

        Raises
        ------
        RecipeError
            A text that is no value of its knob.
        """
        hints = typing.get_type_hints(type(self._start))
        values = {name: widget.value for name, widget in self._knobs.items()}
        empty = {name: None for name, value in values.items() if value == "" and type(None) in typing.get_args(hints[name])}
        return self._start.changed(**{**values, **empty, "preset": self._preset.value})

    def set_preset(self, preset: str) -> None:
        """Put a preset's values into the form."""
        chosen = type(self._start).from_preset(preset)
        for name, widget in self._knobs.items():
            widget.value = _to_widget(getattr(chosen, name))

    def _widget(self, field: dataclasses.Field[Any]) -> Any:
        from magicgui.widgets import create_widget

        meta = field.metadata
        unit = f" ({meta['unit']})" if meta.get("unit") else ""
        source = f" [{meta['source']}]" if meta.get("source") else ""
        options: dict[str, Any] = {"tooltip": f"{meta.get('tooltip', '')}{source}"}
        value = getattr(self._start, field.name)
        hint = typing.get_type_hints(type(self._start))[field.name]
        kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        label = field.name.replace("_", " ") + unit
        if meta.get("choices") and not isinstance(value, tuple):
            options["choices"] = list(meta["choices"])
            return create_widget(value=value, name=field.name, label=label, widget_type="ComboBox", options=options)
        if value is None or isinstance(value, tuple) or type(None) in kinds:
            return create_widget(value=_to_widget(value), name=field.name, label=label, annotation=str, options=options)
        if isinstance(value, int | float) and not isinstance(value, bool):
            kind = type(value)
            options["min"] = kind(meta["min"] if meta.get("min") is not None else -1e9)
            options["max"] = kind(meta["max"] if meta.get("max") is not None else 1e9)
            if isinstance(value, float):
                options["step"] = 10 ** _exponent(value)
        return create_widget(value=value, name=field.name, label=label, annotation=type(value), options=options)


def _exponent(value: float) -> int:
    """A step one digit below the value's first."""
    return int(f"{value:e}".split("e")[1]) - 1 if value else -2


def _to_widget(value: Any) -> Any:
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, tuple) else value
