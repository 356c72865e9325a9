"""Which slice of a volume is looked at, along one of its own axes, and how to get to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .companions import Companions


def go_to_slice(layers: Companions, axis: int, index: int) -> None:
    """Show a slice of the image: the plane across array axis `axis`, at `index` in the file's order."""
    voxel = np.array(layers.volume.shape, dtype=float) // 2
    voxel[axis] = index
    position = layers.image.data_to_world(tuple(layers.grid.points_to_layer(voxel)[0]))
    dims = layers.viewer.dims
    dims.ndisplay = 2
    offset, shown = dims.ndim - 3, layers.grid.layer_axis(axis)
    order = (*range(offset), offset + shown, *(offset + n for n in range(3) if n != shown))
    if dims.order != order:
        dims.order = order
        layers.viewer.reset_view()
    dims.set_point(offset + shown, position[shown])


def slice_shown(layers: Companions, axis: int) -> int | None:
    """The slice across array axis `axis` that is looked at, in the file's order; None where the view runs along that axis."""
    dims = layers.viewer.dims
    layer_axis = layers.grid.layer_axis(axis)
    if dims.ndisplay == 3 or dims.ndim - 3 + layer_axis in dims.displayed:
        return None
    data = layers.image.world_to_data(dims.point[-3:])
    voxel = layers.grid.points_to_volume(np.asarray(data))[0]
    return int(np.clip(np.round(voxel[axis]), 0, layers.volume.shape[axis] - 1))
