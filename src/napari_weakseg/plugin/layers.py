"""The one owner of the way between the words (`Volume`, prompts, `Result`) and napari's layers.

napari shows arrays as (z, y, x). A volume is turned to LPI by permuting and flipping axes (lossless), then transposed,
so that axial slices appear in radiological convention. Layers get scale, translate, units and axis labels, never a
rotation: with a rotated affine napari 0.9 shows the wrong slice. What the file said stays in
``layer.metadata["weakseg"]``, so that every export goes back to the file's own axes and affine.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import GeometryError, PromptError
from ..prompts import BACKGROUND_STROKE, LESION, ExtremePoints, Scribbles, Structure, free_name
from ..volume import FloatArray, SourceHeader, Volume

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.components import ViewerModel
    from napari.layers import Layer, Points
    from numpy.typing import ArrayLike, NDArray

    from ..method import Result

KEY = "weakseg"
_FLIP_TO_LPI = np.diag([-1.0, -1.0, -1.0, 1.0])  # RAS mm -> mm towards left, back and bottom
_REVERSE = np.eye(4)[[2, 1, 0, 3]]  # (x, y, z) <-> (z, y, x)


@dataclass(frozen=True, eq=False)
class Grid:
    """How the voxels (i, j, k) of a volume lie in a layer (z, y, x).

    Parameters
    ----------
    shape : tuple of int
        Shape (I, J, K) of the volume.
    turn : ndarray, shape (3, 2), int
        For each volume axis the display axis (0 = x, 1 = y, 2 = z) that it becomes, and -1 where it is flipped.
    placement : dict
        Keyword arguments that put a layer in the right place: scale, translate, units, axis labels, and for layers that
        another reader made also rotate, shear and affine.
    """

    shape: tuple[int, int, int]
    turn: NDArray[np.int64]
    placement: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, volume: Volume) -> Grid:
        """The grid on which a volume is shown: nearest LPI, then (z, y, x)."""
        from nibabel import orientations as ori

        source = ori.io_orientation(volume.affine)
        turn = ori.ornt_transform(source, ori.axcodes2ornt("LPI"))
        affine = _FLIP_TO_LPI @ volume.affine @ ori.inv_ornt_aff(turn, volume.shape)
        known = volume.spacing_known
        scale = np.linalg.norm(affine[:3, :3], axis=0) if known else np.ones(3)
        placement = {
            "scale": tuple(scale[::-1].tolist()),
            "translate": tuple(affine[:3, 3][::-1].tolist()) if known else (0.0, 0.0, 0.0),
            "units": ("mm",) * 3 if known else ("pixel",) * 3,
            "axis_labels": ("z", "y", "x"),
        }
        return cls(volume.shape, turn.astype(np.int64), placement)

    def to_layer(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view (z, y, x) of an array (I, J, K): writing into it writes into the array."""
        flips = [slice(None, None, int(flip)) for flip in self.turn[:, 1]]
        return array[tuple(flips)].transpose(np.argsort(self.turn[:, 0])).T

    def to_volume(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view (I, J, K) of a layer's array (z, y, x)."""
        flips = [slice(None, None, int(flip)) for flip in self.turn[:, 1]]
        return array.T.transpose(self.turn[:, 0])[tuple(flips)]

    def points_to_layer(self, voxels: ArrayLike) -> FloatArray:
        """Voxel indices (N, 3) of the volume as data coordinates (N, 3) of the layer."""
        voxels = np.asarray(voxels, dtype=np.float64).reshape(-1, 3)
        flipped = np.where(self.turn[:, 1] < 0, np.array(self.shape) - 1 - voxels, voxels)
        xyz = np.empty_like(flipped)
        xyz[:, self.turn[:, 0]] = flipped
        return xyz[:, ::-1]

    def points_to_volume(self, coordinates: ArrayLike) -> FloatArray:
        """Data coordinates (N, 3) of the layer as voxel indices (N, 3) of the volume."""
        xyz = np.asarray(coordinates, dtype=np.float64).reshape(-1, 3)[:, ::-1]
        flipped = xyz[:, self.turn[:, 0]]
        return np.where(self.turn[:, 1] < 0, np.array(self.shape) - 1 - flipped, flipped)

    def layer_axis(self, axis: int) -> int:
        """The layer's axis that a volume's axis is shown on."""
        return 2 - int(self.turn[axis, 0])


# -- volume -> layer ------------------------------------------------------------------------


def images_in(viewer: ViewerModel) -> list[Layer]:
    """The viewer's images; maps that we drew over one are none."""
    from napari.layers import Image

    return [x for x in viewer.layers if isinstance(x, Image) and x.metadata.get(KEY, {}).get("role") != "map"]


def describe(volume: Volume, *, role: str = "image", **more: Any) -> dict[str, Any]:
    """What a layer's metadata keep of a volume, so that an export can restore it."""
    header = None if volume.header is None else asdict(volume.header)
    return {
        KEY: {
            "role": role,
            "affine": volume.affine,
            "shape": volume.shape,
            "spacing_known": volume.spacing_known,
            "orientation_known": volume.orientation_known,
            "header": header,
            "notes": volume.notes,
            "name": volume.name,
            **more,
        }
    }


def image_layer_data(volume: Volume) -> tuple[NDArray[Any], dict[str, Any], str]:
    """A volume as napari's layer data tuple."""
    sample = volume.array[tuple(slice(None, None, max(1, n // 64)) for n in volume.shape)].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    low, high = np.percentile(sample, (0.5, 99.8)) if sample.size else (0.0, 1.0)
    grid = Grid.of(volume)
    options = {
        **grid.placement,
        "name": volume.name,
        "metadata": describe(volume),
        "contrast_limits": (float(low), float(high) if high > low else float(low) + 1.0),
    }
    return grid.to_layer(volume.array), options, "image"


def labels_layer_data(volume: Volume, structures: tuple[Structure, ...]) -> tuple[NDArray[Any], dict[str, Any], str]:
    """A mask as napari's layer data tuple, in the structures' colours."""
    grid = Grid.of(volume)
    options = {
        **grid.placement,
        "name": volume.name,
        "metadata": describe(volume, role="mask", structures=structures),
        "colormap": colours(structures),
    }
    return grid.to_layer(volume.array), options, "labels"


def colours(structures: tuple[Structure, ...]) -> Any:
    """napari's colour map for the structures; values without a structure take the palette's colours in turn."""
    from napari.utils import DirectLabelColormap

    table: dict[int | None, Any] = {None: "#999999", 0: "transparent", BACKGROUND_STROKE: "#FFFFFF"}
    table.update({structure.value: structure.colour for structure in structures})
    return DirectLabelColormap(color_dict=table)


# -- layer -> words -------------------------------------------------------------------------


def read_grid(layer: Layer) -> tuple[Volume, Grid]:
    """The volume that an image or labels layer holds, and how it lies in the layer.

    Layers of other readers are taken as they are: (z, y, x), at the place their own transform gives them.

    Raises
    ------
    GeometryError
        A colour image, a pyramid, or not three axes.
    """
    _refuse_unusable(layer)
    array = np.asarray(layer.data)
    kept = layer.metadata.get(KEY)
    if kept is not None and "affine" in kept:
        volume = _restored(kept, np.empty(tuple(kept["shape"]), dtype=np.uint8))
        grid = Grid.of(volume)
        if grid.to_layer(volume.array).shape == array.shape and _agrees(layer, grid):
            restored = _restored(kept, grid.to_volume(array))
            return restored, grid
    return _foreign(layer, array)


def _refuse_unusable(layer: Layer) -> None:
    name = layer.name
    if getattr(layer, "rgb", False):
        raise GeometryError(f"{name} is a colour image; choose a volume with one value per voxel.")
    if getattr(layer, "multiscale", False):
        raise GeometryError(f"{name} is a multiscale pyramid; load its full resolution alone.")
    if layer.ndim != 3:
        raise GeometryError(f"{name} has {layer.ndim} axes; choose a volume with three, split time or channels first.")
    if np.dtype(layer.dtype).kind not in "biuf":
        raise GeometryError(f"{name} does not hold real numbers; convert it first.")


def _restored(kept: Mapping[str, Any], array: NDArray[Any]) -> Volume:
    header = kept.get("header")
    return Volume(
        array,
        np.asarray(kept["affine"]),
        name=str(kept.get("name", "volume")),
        spacing_known=bool(kept.get("spacing_known", True)),
        orientation_known=bool(kept.get("orientation_known", True)),
        header=None if header is None else SourceHeader(**header),
        notes=tuple(kept.get("notes", ())),
    )


def _agrees(layer: Layer, grid: Grid) -> bool:
    """Whether the layer still lies where its metadata put it; a user may have changed its scale."""
    expected = np.eye(4)
    expected[:3, :3] = np.diag(grid.placement["scale"])
    expected[:3, 3] = grid.placement["translate"]
    return bool(np.allclose(transform_of(layer), expected, atol=1e-6))


def transform_of(layer: Layer) -> FloatArray:
    """A three-dimensional layer's whole transform, data (z, y, x) to world, as one 4 x 4 matrix."""
    origin = np.array(layer.data_to_world((0, 0, 0)))
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([np.array(layer.data_to_world(step)) - origin for step in np.eye(3)], axis=1)
    matrix[:3, 3] = origin
    return matrix


def _foreign(layer: Layer, array: NDArray[Any]) -> tuple[Volume, Grid]:
    world = transform_of(layer)
    affine = _FLIP_TO_LPI @ _REVERSE @ world @ _REVERSE
    lengths = [str(unit) not in ("pixel", "dimensionless") for unit in layer.units]
    known = all(lengths) or not np.allclose(np.linalg.norm(world[:3, :3], axis=0), 1)
    notes = ["which side is which is not stated in this layer: directions are those of its axes"]
    axes = world[:3, :3] / np.linalg.norm(world[:3, :3], axis=0)
    if not np.allclose(np.abs(axes), np.eye(3), atol=1e-4):
        notes.append("this layer is rotated: napari may not show the slices that were scanned")
    if not known:
        notes.append("the spacing of this layer is unknown: sizes are in voxels")
    volume = Volume(array.T, affine, name=layer.name, spacing_known=known, orientation_known=False, notes=tuple(notes))
    placement = {
        "scale": layer.scale,
        "translate": layer.translate,
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": np.asarray(layer.affine.affine_matrix),
        "units": layer.units,
        "axis_labels": layer.axis_labels,
    }
    return volume, Grid(volume.shape, np.array([[0, 1], [1, 1], [2, 1]]), placement)


def voxels_of(points: Points, image: Layer, grid: Grid) -> FloatArray:
    """A points layer's coordinates as voxel indices (N, 3) of the volume shown in `image`.

    Each layer has its own scale, translation and rotation, so the way goes through world coordinates.
    """
    if points.ndim != 3:
        raise PromptError(f"{points.name} has points with {points.ndim} coordinates; place them in a layer with three.")
    data = np.asarray(points.data, dtype=np.float64).reshape(-1, 3)
    if len(data) == 0:
        return data
    homogeneous = np.c_[data, np.ones(len(data))]
    through = np.linalg.inv(transform_of(image)) @ transform_of(points)
    return grid.points_to_volume((homogeneous @ through.T)[:, :3])


def from_layer(layer: Layer, image: Layer | None = None) -> Volume | ExtremePoints | Scribbles:
    """What a layer holds, in this package's words.

    Parameters
    ----------
    layer : napari layer
        An image or a mask becomes a `Volume`; points become `ExtremePoints`; labels named ``... scribbles`` become
        `Scribbles`.
    image : napari layer, optional
        The image that points belong to; needed for points that this package did not make.

    Raises
    ------
    GeometryError, PromptError
        A layer that cannot be used.
    """
    from napari.layers import Labels, Points

    kept = layer.metadata.get(KEY, {})
    structures = tuple(kept.get("structures", ())) or (LESION,)
    if isinstance(layer, Points):
        return _points_from(layer, image, kept, structures)
    volume, _ = read_grid(layer)
    if isinstance(layer, Labels) and (kept.get("role") in ("scribbles", "strokes") or layer.name.endswith(" scribbles")):
        values = {structure.value for structure in structures}
        for value in sorted(set(np.unique(volume.array).tolist()) - values - {0, 255}):
            structures = (*structures, Structure(free_name(structures, value), value))
        return Scribbles(volume.array, structures)
    return volume


def _points_from(
    layer: Points, image: Layer | None, kept: Mapping[str, Any], structures: tuple[Structure, ...]
) -> ExtremePoints:
    if len(layer.data) == 0:
        raise PromptError(f"{layer.name} holds no points; place six on each object.")
    if image is not None:
        volume, grid = read_grid(image)
        voxels = voxels_of(layer, image, grid)
    elif "affine" in kept:
        volume = _restored(kept, np.empty(tuple(kept["shape"]), dtype=np.uint8))
        voxels = Grid.of(volume).points_to_volume(layer.data)
    else:
        raise PromptError(f"{layer.name} does not say which image it belongs to; give it as image=.")
    features = layer.features
    grouped = "structure" in features and "object" in features
    keys = [(structures[0].value, 1)] * len(voxels)
    if grouped:
        keys = list(zip(features["structure"].astype(int), features["object"].astype(int), strict=True))
    notes: tuple[str, ...] = ()
    if not grouped and len(voxels) > 6:
        notes = ("no column groups the points into objects; all were taken as one.",)
    sixes = {key: voxels[[row for row, own in enumerate(keys) if own == key]] for key in sorted(set(keys))}
    needed = 2 * sum(n > 1 for n in volume.shape)
    # on an axis of one voxel nothing is clicked: the middle of the others stands for both ends
    whole = {k: np.vstack([six, *[six.mean(axis=0)] * (6 - needed)]) for k, six in sixes.items() if len(six) >= needed}
    unfinished = len(sixes) - len(whole)
    if unfinished and whole:
        notes += (f"{unfinished} of {len(sixes)} objects have fewer than {needed} points and were left out.",)
    known = {structure.value: structure for structure in structures}
    for value in (value for value, _ in sixes if value not in known):
        known[value] = Structure(free_name(known.values(), value), value)
    objects = [(known[value], six) for (value, _), six in (whole or sixes).items()]
    return ExtremePoints.from_objects(objects, volume, notes=notes)


def show(result: Result, viewer: ViewerModel) -> Layer:
    """Show a result's mask in the viewer as ``<image> mask``; an existing one of that name on the same grid is updated.

    Further maps are added beside it, hidden.
    """
    data, options, _ = labels_layer_data(result.mask, result.structures)
    name = result.mask.name if result.mask.name.endswith(" mask") else f"{result.mask.name} mask"
    grid = Grid.of(result.mask)
    for title, values in result.maps.items():
        hidden = {**grid.placement, "name": f"{result.mask.name} {title}", "colormap": "magma", "visible": False}
        viewer.add_image(grid.to_layer(np.asarray(values)), metadata=describe(result.mask, role="map"), **hidden)
    if name in viewer.layers and viewer.layers[name].data.shape == data.shape:
        layer = viewer.layers[name]
        write_labels(layer, np.nonzero(layer.data != data), data)
        return layer
    return viewer.add_labels(data.copy(), **{**options, "name": name})


def write_labels(layer: Layer, where: tuple[NDArray[Any], ...], values: NDArray[Any]) -> None:
    """Write into a labels layer as one step of napari's own undo.

    Parameters
    ----------
    layer : napari Labels layer
        What is written into.
    where : tuple of ndarray
        Layer indices of the voxels that change.
    values : ndarray
        New labels: one per index, or a whole array from which they are taken.
    """
    if len(where[0]) == 0:
        return
    new = values[where] if values.ndim == 3 else values
    with layer.block_history():
        layer.data_setitem(where, new)
