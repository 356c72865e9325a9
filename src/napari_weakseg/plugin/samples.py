"""The package's own sample volumes as napari sample data; they open without network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .layers import image_layer_data

if TYPE_CHECKING:
    from .readers import LayerData


def brain_mri() -> list[LayerData]:
    """Brain-like MRI with one lesion."""
    return _sample("brain_mri")


def abdomen_ct() -> list[LayerData]:
    """Abdomen-like CT with two organs."""
    return _sample("abdomen_ct")


def heart_mri() -> list[LayerData]:
    """Heart-like MRI in short-axis slices, to draw strokes on."""
    return _sample("heart_mri")


def _sample(name: str) -> list[LayerData]:
    from ..samples import read_sample

    return [image_layer_data(volume) for volume in read_sample(name).channels.values()]
