"""NIfTI files as napari layers, in the right place and in radiological convention."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Ask, DataError, WeaksegError
from .layers import image_layer_data, labels_layer_data

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..volume import Volume

LayerData = tuple[Any, dict[str, Any], str]
_NOTHING: list[Any] = [(None,)]
"""What napari takes for "read, but there is nothing to show": no second reader is tried."""
MOST_CHANNELS = 16


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[Any]] | None:
    """Return `read` for NIfTI paths, None for others."""
    paths = [path] if isinstance(path, str) else list(path)
    if not paths or not all(str(p).lower().endswith((".nii", ".nii.gz")) for p in paths):
        return None
    return read


def read(path: str | Sequence[str]) -> list[Any]:
    """Read NIfTI files; a file that cannot be used gives one sentence and no layer.

    A file with several channels gives one layer per channel, a mask (whole numbers 0 to 254, ``mask`` or ``seg`` or
    ``label`` in its name) gives a labels layer. Where the two places that a file stores disagree, both are opened, each
    under its name: nothing is guessed, and nothing has to be answered in a dialog.
    """
    from napari.utils.notifications import show_error, show_warning

    layers: list[Any] = []
    for one in [path] if isinstance(path, str) else path:
        try:
            found = _read_one(Path(one))
        except WeaksegError as error:
            show_error(str(error))
            continue
        layers += found
        notes = dict.fromkeys(note for _, options, _ in found for note in options["metadata"]["weakseg"]["notes"])
        for note in notes:
            show_warning(f"{Path(one).name}: {note}")
    return layers or _NOTHING


def _read_one(path: Path) -> list[LayerData]:
    from napari.utils.notifications import show_warning

    from ..io.names import shown, without_suffix

    stem = without_suffix(path)
    try:
        return _read_at(path, stem, None)
    except Ask as question:
        if question.argument != "prefer":
            raise
        forms = question.choices
    layers = [layer for form in forms for layer in _read_at(path, f"{stem} ({form})", form)]
    show_warning(f"{shown(path)}: the two places it stores disagree; both are open, remove the layer at the wrong one.")
    return layers


def _read_at(path: Path, name: str, prefer: str | None) -> list[LayerData]:
    from ..io.names import shown
    from ..io.nifti import read_mask, read_volume

    if _named_as_mask(name):
        try:
            return [_as_labels(read_mask(path, prefer=prefer), name)]
        except Ask:
            raise
        except WeaksegError:
            pass  # not whole numbers after all: it is shown as an image
    try:
        return [image_layer_data(read_volume(path, name=name, prefer=prefer))]
    except Ask as question:
        if question.argument != "volume_index":
            raise
        count = len(question.choices)
    if not 0 < count <= MOST_CHANNELS:
        raise DataError(f"{shown(path)} is a series of volumes; save the one you need in a file of its own.")
    channels = [read_volume(path, name=f"{name} channel {n}", volume_index=n, prefer=prefer) for n in range(count)]
    return [image_layer_data(channel) for channel in channels]


def _named_as_mask(stem: str) -> bool:
    words = stem.lower().replace("-", "_").replace(".", "_").replace(" ", "_").split("_")
    return bool({"mask", "seg", "segmentation", "label", "labels", "gt"} & set(words))


def _as_labels(volume: Volume, stem: str) -> LayerData:
    from dataclasses import replace

    import numpy as np

    from ..prompts import Structure

    if volume.array.size and not 0 <= int(volume.array.min()) <= int(volume.array.max()) < 255:
        return image_layer_data(replace(volume, name=stem))
    values = [int(value) for value in np.unique(volume.array) if value]
    structures = tuple(Structure(f"structure {value}", value) for value in values)
    return labels_layer_data(replace(volume, name=stem), structures)
