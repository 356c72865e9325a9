"""The layers that show what a classifier made of an image: heatmaps, decision points, and the mask of a threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .companions import Companions
from .edits import MaskPatch
from .layers import KEY, describe
from .session import Document

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..prompts import Structure
    from .explanation import Decision

COLOURS = ("magma", "cividis", "inferno", "viridis")
"""Colour maps of a heatmap: perceptually even ones only."""

TOWARDS, AGAINST = "#E69F00", "#56B4E9"
"""Colours of decision points that raise and that lower a class's score."""

MASK, DECISION = "heatmap mask", "decision points"


class HeatmapLayers(Companions):
    """The layers of one image that show what a classifier made of it, beside those of its points and mask."""

    def described(self, role: str, **more: Any) -> dict[str, Any]:
        """Metadata of a layer that belongs to this image."""
        return describe(self.volume, role=role, of=str(self.image.unique_id), **more)

    def heatmap(self, name: str) -> Any | None:
        """The heatmap layer of a class."""
        own = str(self.image.unique_id)
        for layer in self.viewer.layers:
            kept = layer.metadata.get(KEY, {})
            if kept.get("role") == "map" and kept.get("of") == own and kept.get("class") == name:
                return layer
        return None

    def show_heatmap(self, name: str, heat: NDArray[np.float32], limits: tuple[float, float]) -> None:
        """One layer per class, on the image's own grid, added to what lies under it."""
        data, layer = self.grid.to_layer(heat), self.heatmap(name)
        if layer is not None:
            layer.data, layer.contrast_limits = data, limits
            return
        active = self.viewer.layers.selection.active
        self.viewer.add_image(
            data,
            name=f"{self.image.name} heatmap {name}",
            colormap=COLOURS[0],
            blending="additive",
            opacity=0.7,
            contrast_limits=limits,
            visible=False,
            metadata=self.described("map", **{"class": name}),
            **self.grid.placement,
        )
        self._tidy(active)

    def show_decision(self, decision: Decision | None, slice_axis: int) -> None:
        """Points sized and coloured by what they add to the score: orange raises it, blue lowers it."""
        layer = self.find(DECISION)
        if decision is None:
            if layer is not None:
                layer.visible = False
            return
        amounts = np.abs(decision.contributions)
        share = amounts / amounts.max(initial=1e-12)
        in_plane = [n for axis, n in enumerate(self.volume.shape) if axis != slice_axis]
        largest = max(3.0, 0.06 * float(np.mean(in_plane)))
        if layer is None:
            active = self.viewer.layers.selection.active
            layer = self.viewer.add_points(
                np.empty((0, 3)),
                ndim=3,
                name=f"{self.image.name} {DECISION}",
                border_color="black",
                border_width=0.08,
                opacity=0.9,
                features={"contribution": np.empty(0), "channel": np.empty(0, dtype=int)},
                metadata=self.described(DECISION),
                **self.grid.placement,
            )
            self._tidy(active)
        layer.data = self.grid.points_to_layer(decision.voxels)
        layer.features = {"contribution": decision.contributions, "channel": decision.channels}
        if len(amounts):
            layer.size = largest * (0.25 + 0.75 * np.sqrt(share))
            layer.face_color = [TOWARDS if value >= 0 else AGAINST for value in decision.contributions]
        layer.selected_data = set()
        layer.visible = True

    def show_live_mask(self, voxels: NDArray[np.uint8], structure: Structure) -> None:
        """The mask that follows the threshold, 0 and 1: an outline, so that the heatmap stays seen; not painted into.

        The layer holds `voxels` itself: where they were changed in place, only the slice in view is drawn again.
        """
        from napari.utils import DirectLabelColormap

        data, layer = self.grid.to_layer(voxels), self.find(MASK)
        if layer is None:
            active = self.viewer.layers.selection.active
            layer = self.viewer.add_labels(
                data,
                name=f"{self.image.name} {MASK}",
                metadata=self.described(MASK),
                colormap=DirectLabelColormap(color_dict={None: "transparent", 0: "transparent", 1: "#00FFFF"}),
                **self.grid.placement,
            )
            layer.contour = 1
            layer.editable = False
            self._tidy(active)
        layer.metadata[KEY]["structures"] = (structure,)
        if np.shares_memory(layer.data, data):
            layer.refresh(thumbnail=False, highlight=False, extent=False)
        else:
            layer.data = data

    def write_class(self, mask: NDArray[np.bool_], structure: Structure, before: NDArray[np.bool_] | None) -> int:
        """Write a mask into the image's mask layer as one step of its undo; voxels of other structures are left alone.

        Returns
        -------
        int
            How many voxels were left to other labels.
        """
        document = self._document(structure)
        old = self.grid.to_volume(self.mask(document).data)
        new = old.copy()
        if before is not None:
            new[before & (old == structure.value)] = 0
        taken = mask & (new != 0) & (new != structure.value)
        new[mask & ~taken] = structure.value
        changed = np.nonzero(new != old)
        if len(changed[0]):
            self.apply(MaskPatch(changed, old[changed], new[changed]), document)
        return int(taken.sum())

    def _document(self, structure: Structure) -> Document:
        """Structures that the mask knows already, and this one."""
        layer = self.find("mask")
        kept = () if layer is None else tuple(layer.metadata[KEY].get("structures", ()))
        return Document(structures=(*(known for known in kept if known.value != structure.value), structure))
