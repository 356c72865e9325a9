"""`write_overview`: one picture of a segmentation, three orthogonal slices with points and masks.

Axial and coronal slices are drawn in radiological convention (the patient's right on the left), sagittal ones with the
front on the left; pixels have their true aspect. Oblique volumes are shown along their own axes.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .io.names import one_line

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from .method import Result
    from .prompts import ExtremePoints
    from .volume import Volume

_PLANES = (("axial", 2, 0, 1), ("coronal", 1, 0, 2), ("sagittal", 0, 1, 2))  # name, normal, across, down: axes of LPI order
_POINTS, _REFERENCE = "#FFFFFF", "#FF4FD8"
_MOST_PLACES = 40  # per slice: more would hide the heatmap
_STYLES = ("dashed", "dotted")  # of earlier masks; the mask itself is solid
_LETTERS = (("R", "L"), ("A", "P"), ("S", "I"))  # at the low and the high end of each LPI-ordered axis


@dataclass(frozen=True)
class _View:
    """Arrays turned by axis permutation and flips such that each axis runs right-to-left, front-to-back, top-to-bottom."""

    order: NDArray[Any]
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    letters: bool

    @classmethod
    def of(cls, volume: Volume) -> _View:
        from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

        order = ornt_transform(io_orientation(volume.affine), axcodes2ornt(("L", "P", "I")))
        shape, spacing = [0, 0, 0], [0.0, 0.0, 0.0]
        for axis, (target, _) in enumerate(order.astype(int)):
            shape[target], spacing[target] = volume.shape[axis], volume.spacing[axis]
        return cls(order, (shape[0], shape[1], shape[2]), (spacing[0], spacing[1], spacing[2]), volume.orientation_known)

    def turn(self, array: NDArray[Any]) -> NDArray[Any]:
        """An array (I, J, K) in the view's order."""
        from nibabel.orientations import apply_orientation

        turned: NDArray[Any] = apply_orientation(array, self.order)
        return turned

    def turn_points(self, points: NDArray[Any]) -> NDArray[Any]:
        """Voxel indices (..., 3) in the view's order."""
        turned = np.empty_like(points)
        for axis, (target, flip) in enumerate(self.order.astype(int)):
            turned[..., target] = points[..., axis] if flip > 0 else self.shape[target] - 1 - points[..., axis]
        return turned


def write_overview(
    path: str | os.PathLike[str],
    volume: Volume,
    result: Result,
    *,
    points: ExtremePoints | None = None,
    earlier: Mapping[str, NDArray[Any]] | None = None,
    reference: Volume | None = None,
    title: str = "",
) -> Path:
    """Draw image, points and masks as PNG: whole slices above, the object enlarged below.

    Parameters
    ----------
    path : path
        Where to; replaced atomically.
    volume : Volume
        The image.
    result : Result
        Its mask is drawn as a solid line, one colour per structure.
    points : ExtremePoints, optional
        Drawn where they project to; filled on the slice that is shown.
    earlier : dict of str to ndarray (I, J, K), optional
        Masks by name, drawn as dashed lines, for example ``{"first mask": labels}``.
    reference : Volume, optional
        Reference mask, drawn as a thin magenta line.
    title : str
        First line of the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    view = _View.of(volume)
    image = view.turn(np.asarray(volume.array))
    masks = {name: view.turn(labels) for name, labels in (earlier or {}).items()}
    masks["mask"] = view.turn(result.labels)
    if reference is not None:
        masks["reference"] = view.turn(reference.array)
    places = view.turn_points(np.concatenate(points.placed)) if points is not None else np.empty((0, 3))
    middle, box = _focus(masks, places, view)
    low, high = _window(image, box)

    figure = Figure(figsize=(13.5, 9.6), dpi=100, facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    colours = {structure.value: structure.colour for structure in result.structures}
    for column, (name, normal, across, down) in enumerate(_PLANES):
        for row in range(2):
            axes = figure.add_subplot(2, 3, 1 + column + 3 * row)
            cut = np.moveaxis(image, normal, 0)[middle[normal]].T
            aspect = view.spacing[down] / view.spacing[across]
            axes.imshow(cut, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
            _draw_masks(axes, masks, normal, middle[normal], colours)
            _draw_points(axes, places, normal, across, down, middle[normal], small=row == 0)
            _frame(axes, box[:, [across, down]], zoom=row == 1)
            _letter(axes, across, down, view.letters)
            if row == 0:
                axes.set_title(
                    f"{name if view.letters else f'plane {column + 1}'}, slice {middle[normal]}", color="white", fontsize=12
                )
    handles = _legend(masks, result, with_points=len(places) > 0)
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=4,
        fontsize=12,
        labelcolor="white",
        facecolor="black",
        edgecolor="0.4",
    )
    figure.suptitle(_plain(title or volume.name), color="white", fontsize=14)
    return _written(figure, path)


def write_comparison(
    path: str | os.PathLike[str], rows: Sequence[tuple[str, Volume, Result, Volume | None]], *, width: float = 12.0
) -> Path:
    """Draw several cases as PNG, a row each: three slices around the object with mask and reference.

    Parameters
    ----------
    path : path
        Where to; replaced atomically.
    rows : sequence of (title, image, result, reference or None)
        For example the worst, the median and the best case.
    width : float
        Of the picture, in inches of 90 pixels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = max(8.0, width)
    figure = Figure(figsize=(width, 0.33 * width * len(rows)), dpi=90, facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    handles: dict[str, Any] = {}
    for row, (title, volume, result, reference) in enumerate(rows):
        view = _View.of(volume)
        image = view.turn(np.asarray(volume.array))
        masks = {"mask": view.turn(result.labels)} | ({} if reference is None else {"reference": view.turn(reference.array)})
        middle, box = _focus(masks, np.empty((0, 3)), view)
        low, high = _window(image, box)
        colours = {structure.value: structure.colour for structure in result.structures}
        handles |= {handle.get_label(): handle for handle in _legend(masks, result, with_points=False)}
        for column, (_, normal, across, down) in enumerate(_PLANES):
            axes = figure.add_subplot(len(rows), 3, 1 + column + 3 * row)
            cut = np.moveaxis(image, normal, 0)[middle[normal]].T
            aspect = view.spacing[down] / view.spacing[across]
            axes.imshow(cut, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
            _draw_masks(axes, masks, normal, middle[normal], colours)
            _frame(axes, box[:, [across, down]], zoom=True)
            _letter(axes, across, down, view.letters)
            if column == 1:
                axes.set_title(_plain(title), color="white", fontsize=size + 1)
    style: dict[str, Any] = {"loc": "outside lower center", "ncols": 4, "fontsize": size, "labelcolor": "white"}
    figure.legend(handles=list(handles.values()), facecolor="black", edgecolor="0.4", **style)
    return _written(figure, path)


def _written(figure: Figure, path: str | os.PathLike[str]) -> Path:
    from .io.atomic import write_atomically

    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)  # a name in a script that the font lacks
        figure.savefig(stream, format="png", metadata={"Software": "napari-weakseg"})
    return write_atomically(path, stream.getvalue())


def write_heatmap_overview(
    path: str | os.PathLike[str],
    volume: Volume,
    result: Result,
    name: str,
    *,
    slice_axis: int = 2,
    reference: Volume | None = None,
    slices: int = 3,
    title: str = "",
) -> Path:
    """Draw what a classifier decided from: image, heatmap with the places that decided, and mask, slice by slice.

    Parameters
    ----------
    path : path
        Where to; replaced atomically.
    volume : Volume
        The image.
    result : Result
        With ``heatmap <name>`` among its maps; its mask is drawn as a solid line.
    name : str
        The class.
    slice_axis : int
        Array axis along which slices were classified.
    reference : Volume, optional
        Reference mask, drawn as a thin magenta line: no method has seen it.
    slices : int
        How many rows; the slices with most of the reference, of the mask or of the heatmap.
    title : str
        First line of the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    view = _View.of(volume)
    normal = int(view.order[slice_axis, 0])
    across, down = (axis for axis in range(3) if axis != normal)
    image, heat = view.turn(np.asarray(volume.array)), view.turn(np.asarray(result.maps[f"heatmap {name}"]))
    masks = {"mask": view.turn(result.labels)} | ({} if reference is None else {"reference": view.turn(reference.array)})
    shown = _fullest(masks, heat, normal, slices)
    low, high = (float(n) for n in np.percentile(image[np.isfinite(image)], (1, 99.95)))
    coldest, hottest = float(np.median(heat)), float(heat.max())
    table = np.asarray(result.tables.get(f"decision points {name}", np.zeros((0, 5))))
    places = view.turn_points(table[:, :3])
    figure = Figure(figsize=(11, 3.7 * len(shown) + 0.8), dpi=90, facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    for row, index in enumerate(shown):
        for column, what in enumerate(("image", "heatmap and the places that decided", "mask")):
            axes = figure.add_subplot(len(shown), 3, 1 + column + 3 * row)
            axes.set_axis_off()
            aspect = view.spacing[down] / view.spacing[across]
            cut = np.moveaxis(image, normal, 0)[index].T
            axes.imshow(cut, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
            if column == 1:
                warm = np.clip((np.moveaxis(heat, normal, 0)[index].T - coldest) / max(hottest - coldest, 1e-9), 0, 1)
                axes.imshow(warm, cmap="magma", vmin=0, vmax=1, alpha=0.85 * warm, aspect=aspect, interpolation="nearest")
                _draw_decision(axes, places, table[:, 3], normal, across, down, index)
            if column == 2:
                _draw_masks(axes, masks, normal, index, {s.value: s.colour for s in result.structures})
            _letter(axes, across, down, view.letters)
            if row == 0:
                axes.set_title(what, color="white", fontsize=12)
    handles = _legend(masks, result, with_points=False)
    place: dict[str, Any] = {"fontsize": 12, "labelcolor": "white", "facecolor": "black", "edgecolor": "0.4"}
    figure.legend(handles=handles, loc="outside lower center", ncols=4, **place)
    figure.suptitle(_plain(title or volume.name), color="white", fontsize=13)
    return _written(figure, path)


def _fullest(masks: Mapping[str, NDArray[Any]], heat: NDArray[Any], normal: int, count: int) -> list[int]:
    """The slices to show, in their order: those with most of the reference, else of the mask, else the hottest."""
    others = tuple(axis for axis in range(3) if axis != normal)
    drawn = next((masks[name] != 0 for name in ("reference", "mask") if name in masks and masks[name].any()), None)
    amount = heat.max(axis=others) if drawn is None else drawn.sum(axis=others)
    best = np.argsort(-amount, kind="stable")[:count]
    return sorted(int(index) for index in best if drawn is None or amount[index] > 0)


def _draw_decision(
    axes: Axes, places: NDArray[Any], amounts: NDArray[Any], normal: int, across: int, down: int, index: int
) -> None:
    """The heaviest places on this slice: orange raises the score, blue lowers it, larger counts more."""
    here = np.flatnonzero(np.abs(places[:, normal] - index) <= 0.5)
    here = here[np.argsort(-np.abs(amounts[here]), kind="stable")[:_MOST_PLACES]]
    spots, values = places[here], amounts[here]
    size = 8 + 90 * np.abs(values) / max(float(np.abs(amounts).max(initial=0)), 1e-9)
    colours = np.where(values >= 0, "#E69F00", "#56B4E9")
    axes.scatter(spots[:, across], spots[:, down], s=size, c=colours, edgecolors="white", linewidths=0.7, zorder=3)


def _focus(masks: Mapping[str, NDArray[Any]], places: NDArray[Any], view: _View) -> tuple[list[int], NDArray[np.int64]]:
    """The slice per axis that shows most of the object, and the box to enlarge, shape (2, 3), ends included."""
    drawn = next(
        (labels != 0 for name in ("reference", "mask") if (labels := masks.get(name)) is not None and labels.any()), None
    )
    last = np.array(view.shape) - 1
    corners = [np.round(places).astype(int)] if len(places) else []
    corners += [np.argwhere(labels) for labels in masks.values() if labels.any()]
    if not corners:
        return [int(n) // 2 for n in view.shape], np.stack([np.zeros(3, int), last])
    every = np.concatenate(corners)
    low, high = every.min(axis=0), every.max(axis=0)
    if drawn is None:
        middle = [int(n) for n in (low + high) // 2]
    else:
        middle = [int(drawn.sum(axis=tuple(a for a in range(3) if a != axis)).argmax()) for axis in range(3)]
    spacing = np.array(view.spacing)
    margin = np.maximum(0.35 * ((high - low + 1) * spacing).max(), 4 * spacing.max())
    grow = np.ceil(margin / spacing).astype(int)
    return middle, np.stack([np.maximum(low - grow, 0), np.minimum(high + grow, last)])


def _window(image: NDArray[Any], box: NDArray[np.int64]) -> tuple[float, float]:
    """Grey window from the surroundings of the object, so that the object has contrast whatever lies elsewhere."""
    part = image[tuple(slice(a, b + 1) for a, b in box.T)].astype(np.float64)
    part = part[np.isfinite(part)]
    if part.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(part, (1, 99.5))
    return float(low), float(high) if high > low else float(low) + 1.0


def _draw_masks(axes: Axes, masks: Mapping[str, NDArray[Any]], normal: int, index: int, colours: Mapping[int, str]) -> None:
    styles = iter(_STYLES)
    for name, labels in masks.items():
        if name == "reference":
            line: dict[str, Any] = {"linestyles": "solid", "linewidths": 1.1}
        else:
            line = {
                "linestyles": "solid" if name == "mask" else next(styles, "dashdot"),
                "linewidths": 1.8 if name == "mask" else 1.5,
            }
        cut = np.moveaxis(labels, normal, 0)[index].T
        for value in np.unique(cut[cut != 0]):
            colour = _REFERENCE if name == "reference" else colours.get(int(value), "#E69F00")
            padded = np.pad(cut == value, 1).astype(float)
            rows, columns = np.arange(-1, cut.shape[0] + 1), np.arange(-1, cut.shape[1] + 1)
            drawn = axes.contour(columns, rows, padded, levels=[0.5], colors=[colour], **line)
            drawn.set_path_effects(_outline(line["linewidths"]))


def _draw_points(axes: Axes, places: NDArray[Any], normal: int, across: int, down: int, index: int, *, small: bool) -> None:
    on_slice = np.abs(places[:, normal] - index) <= 0.5
    size = 14 if small else 60
    for chosen, face in ((on_slice, _POINTS), (~on_slice, "none")):
        spots = places[chosen]
        style: dict[str, Any] = {"s": size, "facecolors": face, "edgecolors": _POINTS, "linewidths": 1.4, "zorder": 3}
        axes.scatter(spots[:, across], spots[:, down], path_effects=_outline(1.4), **style)


def _outline(width: float) -> list[Any]:
    """A dark rim, so that a line reads on bright tissue too."""
    from matplotlib.patheffects import Normal, Stroke

    return [Stroke(linewidth=width + 1.6, foreground="black", alpha=0.6), Normal()]


def _frame(axes: Axes, box: NDArray[np.int64], *, zoom: bool) -> None:
    """Enlarge the box, or show on the whole slice where it lies."""
    from matplotlib.patches import Rectangle

    axes.set_axis_off()
    (left, top), (right, bottom) = box + np.array([[-0.5], [0.5]])
    if zoom:
        axes.set_xlim(left, right)
        axes.set_ylim(bottom, top)
    else:
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="0.7", linewidth=0.8))


def _letter(axes: Axes, across: int, down: int, known: bool) -> None:
    if not known:
        return
    style: dict[str, Any] = {"transform": axes.transAxes, "color": "#56B4E9", "fontsize": 13, "fontweight": "bold"}
    axes.text(0.01, 0.5, _LETTERS[across][0], ha="left", va="center", **style)
    axes.text(0.99, 0.5, _LETTERS[across][1], ha="right", va="center", **style)
    axes.text(0.5, 0.985, _LETTERS[down][0], ha="center", va="top", **style)
    axes.text(0.5, 0.015, _LETTERS[down][1], ha="center", va="bottom", **style)


def _plain(name: str) -> str:
    """A name from elsewhere as matplotlib writes it: no formula, one line."""
    return one_line(name).replace("$", r"\$")


def _legend(masks: Mapping[str, NDArray[Any]], result: Result, *, with_points: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    colours = [(structure.name, structure.colour) for structure in result.structures] or [("mask", "#E69F00")]
    handles = [Line2D([], [], color=colour, linewidth=2.5, label=f"mask: {_plain(name)}") for name, colour in colours]
    styles = iter(_STYLES)
    for name in masks:
        if name == "reference":
            handles.append(Line2D([], [], color=_REFERENCE, linewidth=1.5, label="reference"))
        elif name != "mask":
            handles.append(Line2D([], [], color=colours[0][1], linestyle=next(styles, "dashdot"), linewidth=2, label=name))
    if with_points:
        spot: dict[str, Any] = {"marker": "o", "linestyle": "none", "markeredgecolor": _POINTS, "markersize": 8}
        handles.append(Line2D([], [], markerfacecolor=_POINTS, label="extreme point on this slice", **spot))
        handles.append(Line2D([], [], markerfacecolor="none", label="extreme point, projected", **spot))
    return handles
