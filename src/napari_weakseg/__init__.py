"""Masks of MRI and CT from very light marks.

Every public name loads what it needs when it is first used (PEP 562): importing this package alone loads neither
torch nor napari.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Case": "case",
    "Cohort": "case",
    "ExtremePoints": "prompts",
    "ImageLabel": "prompts",
    "Scribbles": "prompts",
    "Structure": "prompts",
    "Volume": "volume",
    "WeaksegError": "errors",
    "evaluate": "api",
    "from_layer": "plugin.layers",
    "get_method": "methods",
    "list_methods": "methods",
    "new_recipe": "methods",
    "predict": "api",
    "read_cohort": "io.cohort",
    "read_volume": "io.nifti",
    "replay": "api",
    "segment": "api",
    "show": "plugin.layers",
    "train": "api",
    "write_mask": "io.nifti",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
