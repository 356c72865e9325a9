"""Labels layers as NIfTI masks that lie exactly on the image they were made on."""

from __future__ import annotations

from typing import Any

from ..errors import WeaksegError
from ..io.nifti_write import export_notes, write_mask
from .layers import read_grid


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write one labels layer; the geometry of the source file is restored from the layer's metadata.

    What cannot be written is said in one sentence, and nothing is written.
    """
    from napari.layers import Labels
    from napari.utils.notifications import show_error, show_warning

    keys = ("name", "metadata", "scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
    layer = Labels(data, **{key: meta[key] for key in keys if meta.get(key) is not None})
    try:
        volume, _ = read_grid(layer)
        written = write_mask(volume, path)
    except WeaksegError as error:
        show_error(str(error))
        return []
    for note in export_notes(volume, written):
        show_warning(f"{written.name}: {note}")
    return [str(written)]
