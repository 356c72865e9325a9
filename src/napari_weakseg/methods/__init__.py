"""The register of methods: one module or folder here is one method, found by its file name.

A method's module has ``card``, ``recipe_class``, ``fit`` and ``predict`` (see `napari_weakseg.method.Method`) and imports
neither torch nor MONAI until ``fit`` or ``predict`` is called; it may have ``working_memory(case, recipe,
weights=None)``, the bytes that a fit, or a prediction with weights, needs beside image and result (see `api.expected_memory`).
A classifier with heatmaps may have ``faithfulness(cases, weights, *, on_case)``: for each kind of explanation its mean measures
by name, for ``weakseg evaluate --faithfulness``. Nothing else is edited to add one. Packages outside this one register a module
through the entry-point group ``napari_weakseg.methods``.
"""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, cast

from ..errors import RecipeError

if TYPE_CHECKING:
    from ..method import Card, Method
    from ..recipe import Recipe

DEFAULT = "simple_propagation"


def _modules() -> dict[str, str]:
    """Method name to import path; our own names win over entry points."""
    found = {point.name: point.value for point in entry_points(group="napari_weakseg.methods")}
    found.update({m.name: f"{__name__}.{m.name}" for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")})
    return found


def list_methods() -> tuple[Card, ...]:
    """The cards of all methods, in order of their names."""
    return tuple(get_method(name).card for name in sorted(_modules()))


def get_method(name: str = DEFAULT) -> Method:
    """The method of that name.

    Raises
    ------
    RecipeError
        No such method; the message lists those that exist.
    """
    modules = _modules()
    if name not in modules:
        raise RecipeError(f"there is no method {name!r}; choose one of {', '.join(sorted(modules))}.")
    return cast("Method", importlib.import_module(modules[name]))


def new_recipe(method: str = DEFAULT, preset: str = "laptop", **changes: Any) -> Recipe:
    """The recipe of a method's preset, with some knobs changed."""
    return get_method(method).recipe_class.from_preset(preset, **changes)
