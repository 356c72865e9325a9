"""The layers that belong to one image: its points, box, first mask, preview and mask, under fixed names.

They are found by what their metadata say, not by name, so that renaming a layer breaks nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..arrays.doubt import voxel_doubt
from ..arrays.extreme_points import box_of, direction_names
from ..errors import GeometryError
from .edits import MaskPatch
from .layers import KEY, colours, describe, read_grid, transform_of, voxels_of, write_labels
from .proposals import FIRST, Proposal, owned
from .session import Document, ObjectKey, directions_of
from .strokes import painted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer, Points
    from numpy.typing import NDArray

    from ..prompts import Structure
    from ..volume import FloatArray, Volume

NAMES = {
    "points": "extreme points",
    "box": "box",
    "first": "first mask",
    "preview": "preview",
    "mask": "mask",
    "scribbles": "scribbles",
    "doubt": "doubt",
}
"""Role of a layer to the end of its name: the layer of image `x` with role ``mask`` is called ``x mask``."""

_STYLES = {"first": 0.35, "preview": 1.0}
"""Opacity of the layers that show proposals: first masks are filled, refined ones a contour over them."""

LETTERS = {"left": "L", "right": "R", "front": "A", "back": "P", "top": "S", "bottom": "I"}


def short_name(direction: str) -> str:
    """One or two letters for a direction: the patient's (L, R, A, P, S, I), or the axis with its sign."""
    if direction in LETTERS:
        return LETTERS[direction]
    _, axis, end = direction.split()
    return f"{axis}{'-' if end == 'low' else '+'}"


def clear_magma() -> Any:
    """napari's magma that lets the image through where the value is low: nothing is to be seen at 0."""
    from napari.utils.colormaps import Colormap, ensure_colormap

    value = np.linspace(0, 1, 64)
    colours_of_value = np.array(ensure_colormap("magma").map(value.astype(np.float32)))
    colours_of_value[:, 3] = np.clip(1.6 * value - 0.2, 0, 0.9)
    return Colormap(colours_of_value, name="clear magma")


@dataclass(frozen=True, eq=False)
class Claim:
    """What an object wrote into the mask when it was accepted: the proposal and the points at that time."""

    key: ObjectKey
    proposal: Proposal
    document: Document


def _inside(proposal: Proposal, offset: NDArray[np.int64]) -> tuple[slice, ...]:
    """A proposal's box as an index into a part of the volume that begins at `offset`."""
    return tuple(slice(side.start - o, side.stop - o) for side, o in zip(proposal.window, offset.tolist(), strict=True))


class Companions:
    """One image layer and the layers that belong to it.

    Parameters
    ----------
    viewer : napari viewer
        Where they are.
    image : napari Image layer
        The image.

    Raises
    ------
    GeometryError
        The layer cannot be used as a volume.
    """

    NAMES: ClassVar[Mapping[str, str]] = NAMES
    ROLES: ClassVar[Mapping[str, str]] = {}
    """What metadata call a role, where that is not its own name: layers that two kinds of companions must not share."""

    def __init__(self, viewer: ViewerModel, image: Image) -> None:
        self.viewer = viewer
        self.image = image
        self.volume, self.grid = read_grid(image)
        self._drawn: dict[str, tuple[Proposal, ...]] = {}
        self._coloured: dict[str, tuple[Structure, ...]] = {}

    # -- finding and making ----------------------------------------------------------------

    def find(self, role: str) -> Any | None:
        """The layer of that role, None where there is none."""
        own = str(self.image.unique_id)
        fallback = None
        for layer in self.viewer.layers:
            kept = layer.metadata.get(KEY, {})
            if kept.get("role") == self.ROLES.get(role, role):
                if kept.get("of") == own:
                    return layer
                by_name = "of" not in kept and layer.name == f"{self.image.name} {self.NAMES[role]}"
                if by_name and layer.data.shape == self.image.data.shape:
                    fallback = layer  # one that the reader made, for example a mask that was saved earlier
        return fallback

    def _metadata(self, role: str, document: Document) -> dict[str, Any]:
        own = self.ROLES.get(role, role)
        return describe(self.volume, role=own, of=str(self.image.unique_id), structures=document.structures)

    def _options(self, role: str, document: Document) -> dict[str, Any]:
        return {
            **self.grid.placement,
            "name": f"{self.image.name} {self.NAMES[role]}",
            "metadata": self._metadata(role, document),
        }

    def _labels(self, role: str, document: Document, **options: Any) -> Labels:
        layer = self.find(role)
        if layer is None:
            empty = self.grid.to_layer(np.zeros(self.volume.shape, dtype=np.uint8))
            active = self.viewer.layers.selection.active
            layer = self.viewer.add_labels(empty, **{**self._options(role, document), **options})
            self._coloured.pop(role, None)
            self._tidy(active)
        seen = self.seen(role, document)
        if self._coloured.get(role) != seen:  # napari maps all values anew
            layer.colormap = colours(seen)
            self._coloured[role] = seen
        return layer

    def seen(self, role: str, document: Document) -> tuple[Structure, ...]:
        """The structures in the colours that they have in a layer."""
        return document.structures

    def _tidy(self, active: Layer | None) -> None:
        """Keep the points on top and the layer that was active so: a new layer must not take the clicks."""
        points = self.find("points")
        if points is not None:
            where = self.viewer.layers.index(points)
            self.viewer.layers.move(where, len(self.viewer.layers))
        if active is not None and active in self.viewer.layers:
            self.viewer.layers.selection.active = active

    # -- points ----------------------------------------------------------------------------

    def points(self, document: Document) -> Points:
        """The points layer, made where there is none."""
        layer = self.find("points")
        if layer is None:
            size = max(2.0, 0.04 * float(np.sort(self.volume.shape)[1:].mean()))
            layer = self.viewer.add_points(
                np.empty((0, 3)),
                ndim=3,
                size=size,
                face_color="transparent",
                border_color="white",
                border_width=0.2,
                canvas_size_limits=(0, 24),  # a lower limit would show the point of size 0 that napari hides in the corner
                features={"structure": np.empty(0, int), "object": np.empty(0, int), "direction": np.empty(0, str)},
                text={"string": "{direction}", "size": 12, "color": "yellow", "anchor": "upper_left"},
                **self._options("points", document),
            )
        return layer

    def kept_document(self) -> Document:
        """The marks that an existing points layer holds, for example when the panel was closed and is opened again."""
        layer = self.find("points")
        kept = {} if layer is None else layer.metadata[KEY].get("document", {})
        if layer is None or len(kept.get("marks", ())) != len(layer.data):
            return Document()
        return Document.from_json(kept)

    def show_points(self, document: Document) -> None:
        """Write all marks into the points layer; those of the current object carry their direction's letter."""
        layer = self.points(document)
        layer.metadata.update(self._metadata("points", document))
        layer.metadata[KEY]["document"] = document.to_json()
        names = direction_names(self.volume)
        letters = {row: short_name(names[number]) for number, row in directions_of(document, self.volume).items()}
        voxels = np.array([mark.voxel for mark in document.marks], dtype=np.float64).reshape(-1, 3)
        layer.data = self._to_points_layer(layer, voxels)
        layer.selected_data = set()
        layer.features = {
            "structure": np.array([mark.object.structure for mark in document.marks], dtype=int),
            "object": np.array([mark.object.number for mark in document.marks], dtype=int),
            "direction": np.array([letters.get(row, "") for row in range(len(document.marks))], dtype=str),
        }
        if document.marks:
            layer.border_color = [document.structure(mark.object.structure).colour for mark in document.marks]
        layer.refresh()

    def _to_points_layer(self, layer: Points, voxels: FloatArray) -> FloatArray:
        if len(voxels) == 0:
            return np.empty((0, 3))
        homogeneous = np.c_[self.grid.points_to_layer(voxels), np.ones(len(voxels))]
        through = np.linalg.inv(transform_of(layer)) @ transform_of(self.image)
        moved: FloatArray = (homogeneous @ through.T)[:, :3]
        return moved

    def read_points(self) -> FloatArray:
        """The points layer's coordinates as voxel indices (N, 3)."""
        layer = self.find("points")
        return np.empty((0, 3)) if layer is None else voxels_of(layer, self.image, self.grid)

    # -- box -------------------------------------------------------------------------------

    def show_box(self, document: Document) -> None:
        """The current object's box: an outline on every slice of every plane."""
        points = document.points_of(document.current)
        layer = self.find("box")
        if len(points) < 2:
            if layer is not None:
                layer.visible = False
            return
        start, stop = box_of(points, self.volume.shape)
        corners = self.grid.points_to_layer(np.stack([start, stop - 1]))
        low, high = corners.min(axis=0).astype(int), corners.max(axis=0).astype(int)
        filled = np.pad(np.ones(high - low + 1, dtype=np.uint8), 1)  # the rim lets napari draw the outline
        place = self._shifted(low - 1)
        if layer is None:
            active = self.viewer.layers.selection.active
            layer = self.viewer.add_labels(filled, opacity=0.45, **{**self._options("box", document), **place})
            layer.contour = 1
            self._tidy(active)
        else:
            layer.data = filled
            for name, value in place.items():
                setattr(layer, name, value)
        from napari.utils import DirectLabelColormap

        layer.colormap = DirectLabelColormap(color_dict={None: "transparent", 0: "transparent", 1: "white"})
        layer.visible = self.viewer.dims.ndisplay == 2

    def _shifted(self, low: NDArray[np.int64]) -> dict[str, Any]:
        """Where a layer lies whose first voxel is voxel `low` of the image layer."""
        if "affine" not in self.grid.placement:
            return {"translate": np.array(self.grid.placement["translate"]) + low * np.array(self.grid.placement["scale"])}
        moved = transform_of(self.image)
        moved[:3, 3] += moved[:3, :3] @ low
        return {"scale": (1, 1, 1), "translate": (0, 0, 0), "rotate": np.eye(3), "shear": (0, 0, 0), "affine": moved}

    # -- strokes ---------------------------------------------------------------------------

    def strokes(self, document: Document) -> Labels:
        """The layer that strokes are drawn into, made where there is none."""
        known = self.find("scribbles") is not None
        layer = self._labels("scribbles", document, opacity=0.9)
        if not known:
            layer.n_edit_dimensions = 2
            layer.brush_size = max(2, round(0.015 * float(np.sort(self.volume.shape)[1:].mean())))
        return layer

    def read_strokes(self) -> NDArray[Any] | None:
        """What is drawn (I, J, K), as a view of its layer; None where there is no such layer."""
        layer = self.find("scribbles")
        return None if layer is None else self.grid.to_volume(np.asarray(layer.data))

    def show_strokes(self, document: Document) -> None:
        """Write the document's strokes into their layer."""
        if not document.strokes and self.find("scribbles") is None:
            return
        layer = self.strokes(document)
        voxels = self.grid.to_volume(layer.data)
        wanted = painted(document.strokes, self.volume.shape)
        where = np.nonzero(voxels != wanted)
        if len(where[0]):
            coordinates = self.grid.points_to_layer(np.stack(where, axis=1)).astype(np.intp)
            write_labels(layer, tuple(coordinates.T), wanted[where].astype(layer.data.dtype))

    # -- doubt -----------------------------------------------------------------------------

    def doubt_layer(self) -> Image | None:
        """The layer of the doubt, None where there is none."""
        own = str(self.image.unique_id)
        kept = ((layer, layer.metadata.get(KEY, {})) for layer in self.viewer.layers)
        return next((layer for layer, said in kept if said.get("map") == "doubt" and said.get("of") == own), None)

    def show_doubt(self, proposal: Proposal | None, document: Document, *, visible: bool) -> None:
        """Draw how unsure a mask is of each voxel of its box; nothing is made before it is asked for."""
        layer = self.doubt_layer()
        if not visible or proposal is None or proposal.probability is None:
            if layer is not None:
                layer.visible = False
            return
        # flips and transposition alone: they are the same for a part of the volume
        values = np.ascontiguousarray(self.grid.to_layer(voxel_doubt(proposal.probability)))
        corner = self.grid.points_to_layer(np.stack([proposal.start, np.add(proposal.start, proposal.labels.shape) - 1]))
        place = self._shifted(corner.min(axis=0).astype(int))
        if layer is None:
            active = self.viewer.layers.selection.active
            options = {**self._options("doubt", document), **place}
            options["metadata"][KEY] |= {"role": "map", "map": "doubt"}
            looks = {"colormap": clear_magma(), "blending": "translucent_no_depth", "contrast_limits": (0.0, 1.0)}
            layer = self.viewer.add_image(values, **options, **looks)
            self._tidy(active)
        else:
            layer.data = values
            for name, value in place.items():
                setattr(layer, name, value)
        layer.visible = True

    # -- masks -----------------------------------------------------------------------------

    def prepare(self, document: Document) -> None:
        """Make the hidden layers of the proposals: napari takes long to add one, and nothing may wait during a run."""
        for role in _STYLES:
            if self.find(role) is None:
                self._proposal_layer(role, document)

    def _proposal_layer(self, role: str, document: Document) -> Labels:
        known = self.find(role) is not None
        layer = self._labels(role, document, opacity=_STYLES[role], **({} if known else {"visible": False}))
        if not known:
            self._drawn[role] = ()
        if role == "preview" and layer.contour != 1:
            layer.contour = 1
        return layer

    def show_proposals(self, proposals: Sequence[Proposal], document: Document) -> None:
        """Draw what is proposed: first masks filled, refined ones as a contour over them. Only their boxes are touched."""
        for role in _STYLES:
            shown = tuple(proposal for proposal in proposals if (proposal.stage == FIRST) == (role == "first"))
            if not shown and self.find(role) is None:
                continue
            layer = self._proposal_layer(role, document)
            drawn = self._drawn.get(role)
            if shown == drawn:
                continue
            voxels = self.grid.to_volume(layer.data)
            for window in [...] if drawn is None else [proposal.window for proposal in drawn]:
                voxels[window] = 0
            for proposal in shown:
                inside = proposal.labels > 0
                voxels[proposal.window][inside] = proposal.labels[inside]
            self._drawn[role] = shown
            if bool(shown) != bool(drawn):
                layer.visible = bool(shown)  # this draws it too
            layer.refresh(thumbnail=False, highlight=False, extent=False)

    def mask(self, document: Document) -> Labels:
        """The mask layer, made where there is none; only accepting and the user's own painting write into it."""
        layer = self._labels("mask", document, opacity=0.5)
        layer.metadata.update(self._metadata("mask", document))
        return layer

    def mask_voxels(self) -> NDArray[Any] | None:
        """The mask (I, J, K) as a view of its layer; None where there is no such layer."""
        layer = self.find("mask")
        return None if layer is None else self.grid.to_volume(np.asarray(layer.data))

    def accept(
        self, proposals: Sequence[Proposal], earlier: Sequence[Claim], document: Document, *, overwrite: bool
    ) -> tuple[MaskPatch, int]:
        """Write proposals into the mask as one undoable step.

        Parameters
        ----------
        proposals : sequence of Proposal
            What is shown and stands.
        earlier : sequence of Claim
            What these objects wrote before: it is replaced.
        document : Document
            The marks, for the structures' colours.
        overwrite : bool
            False leaves every other voxel that has a label as it is.

        Returns
        -------
        MaskPatch
            The voxels that changed.
        int
            How many voxels were left to other labels.
        """
        boxes = [p.window for p in (*proposals, *(claim.proposal for claim in earlier))]
        frame = tuple(slice(min(box[a].start for box in boxes), max(box[a].stop for box in boxes)) for a in range(3))
        offset = np.array([side.start for side in frame])
        old = self.grid.to_volume(self.mask(document).data)[frame]
        new = old.copy()
        for claim in earlier:
            region = new[_inside(claim.proposal, offset)]
            mine = owned(claim.proposal, claim.document, claim.key, self.volume.shape)
            region[mine & (region == claim.key.structure)] = 0
        blocked = 0
        for proposal in proposals:
            region = new[_inside(proposal, offset)]
            wanted = proposal.labels > 0
            taken = np.zeros_like(wanted) if overwrite else wanted & (region != 0) & (region != proposal.labels)
            region[wanted & ~taken] = proposal.labels[wanted & ~taken]
            blocked += int(taken.sum())
        changed = np.nonzero(new != old)
        patch = MaskPatch(tuple(axis + start for axis, start in zip(changed, offset, strict=True)), old[changed], new[changed])
        self.apply(patch, document)
        return patch, blocked

    def apply(self, patch: MaskPatch, document: Document, *, only_unchanged: bool = False) -> None:
        """Write a patch into the mask; `only_unchanged` spares what was painted since (for undo)."""
        layer = self.mask(document)
        voxels = self.grid.to_volume(layer.data)
        where, after = patch.where, patch.after
        if only_unchanged:
            same = voxels[where] == patch.before
            where, after = tuple(axis[same] for axis in where), after[same]
        coordinates = self.grid.points_to_layer(np.stack(where, axis=1)).astype(np.intp)
        write_labels(layer, tuple(coordinates.T), after)

    def to_volume(self) -> Volume:
        """A copy of the mask as it is to be written: painting may go on meanwhile.

        Raises
        ------
        GeometryError
            There is no mask, or its layer has another shape than the image.
        """
        voxels = self.mask_voxels()
        if voxels is None:
            raise GeometryError("there is no mask yet; accept one first.")
        if voxels.shape != self.volume.shape:
            raise GeometryError("the mask layer has another shape than the image; remove it and accept again.")
        return self.volume.with_array(voxels.copy(order="K"), name=f"{self.volume.name} mask")

    # -- moving about ----------------------------------------------------------------------

    def jump(self, voxel: FloatArray, *, across: int | None = None, normal: int | None = None) -> None:
        """Show the slice with a voxel; `across` is the volume axis that must be seen in it, `normal` the one that must not."""
        position = self.image.data_to_world(tuple(self.grid.points_to_layer(voxel)[0]))
        dims = self.viewer.dims
        dims.ndisplay = 2
        offset = dims.ndim - 3
        if across is not None or normal is not None:
            if normal is not None:
                sliced = self.grid.layer_axis(normal) + offset
            else:
                axis = self.grid.layer_axis(across or 0) + offset
                sliced = offset if axis != offset else offset + 1  # axial where it shows the direction, else coronal
            plane = [n for n in range(offset, dims.ndim) if n != sliced]
            if dims.order != (*range(offset), sliced, *plane):
                dims.order = (*range(offset), sliced, *plane)
                self.viewer.reset_view()
        dims.set_point(range(offset, dims.ndim), position)


def other_channels(viewer: ViewerModel, image: Layer, volume: Volume) -> tuple[Volume, ...]:
    """Further images of the viewer that lie on the same grid."""
    from napari.layers import Image

    found = []
    for layer in viewer.layers:
        if not isinstance(layer, Image) or layer == image or layer.metadata.get(KEY, {}).get("role") == "map":
            continue
        try:
            other, _ = read_grid(layer)
        except GeometryError:
            continue
        if volume.same_grid(other):
            found.append(other)
    return tuple(found)
