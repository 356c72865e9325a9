"""Strokes that were drawn elsewhere: in another layer or in a file, on the grid of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import GeometryError
from ..prompts import Scribbles
from .layers import KEY, transform_of
from .scribble_codes import CodesQuestion

if TYPE_CHECKING:
    from pathlib import Path

    from napari.components import ViewerModel
    from napari.layers import Layer

    from ..volume import Volume
    from .companions import Companions


def labels_elsewhere(viewer: ViewerModel) -> list[Layer]:
    """Labels layers that may hold strokes: all but those that a panel made to show something."""
    from napari.layers import Labels

    found = []
    for layer in viewer.layers:
        kept = layer.metadata.get(KEY, {})
        if isinstance(layer, Labels) and ("of" not in kept or kept.get("role") == "scribbles"):
            found.append(layer)
    return found


def strokes_of_layer(layer: Layer, layers: Companions) -> Scribbles | CodesQuestion:
    """The strokes of another layer, or the question what its values mean.

    Parameters
    ----------
    layer : napari Labels layer
        Drawn or opened elsewhere.
    layers : Companions
        The image's own.

    Raises
    ------
    WeaksegError
        The layer lies on another grid, or cannot hold strokes.
    """
    image = layers.image
    same_shape = getattr(layer.data, "shape", ()) == image.data.shape
    if not same_shape or not np.allclose(transform_of(layer), transform_of(image), atol=1e-4):
        raise GeometryError(f"{layer.name} does not lie on the grid of the image; choose strokes that were drawn on it.")
    array = layers.grid.to_volume(np.asarray(layer.data))
    kept = layer.metadata.get(KEY, {})
    if kept.get("role") == "scribbles":  # drawn in this program, in our codes
        return Scribbles(np.ascontiguousarray(array), tuple(kept.get("structures", ())))
    return CodesQuestion.about(layer.name, array)


def strokes_of_file(path: str | Path, volume: Volume) -> CodesQuestion:
    """The question what the values of a file mean; it takes a moment for large volumes, in any thread.

    Raises
    ------
    WeaksegError
        The file cannot be read, lies on another grid, or cannot hold strokes.
    """
    from ..io.names import shown
    from ..io.nifti import read_mask

    return CodesQuestion.about(shown(path), read_mask(path, like=volume).array)
