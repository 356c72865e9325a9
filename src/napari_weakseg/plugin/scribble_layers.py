"""The layers of the scribbles panel: its strokes, the masks that they make, what gates let through; the mask is shared."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .companions import NAMES, Companions, clear_magma
from .edits import MaskPatch
from .layers import KEY
from .scribble_session import new_document, structure_key
from .session import Document
from .strokes import Stroke, painted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.layers import Image, Labels
    from numpy.typing import NDArray

    from ..prompts import Structure
    from .proposals import Proposal


class ScribbleLayers(Companions):
    """One image layer, the strokes on it, and what comes of them.

    Strokes and proposals are apart from those of the extreme points panel, so that both panels may be open; the mask is one.
    """

    NAMES: ClassVar[Mapping[str, str]] = {**NAMES, "first": "mask of strokes", "preview": "refined mask of strokes"}
    ROLES: ClassVar[Mapping[str, str]] = {"scribbles": "strokes", "first": "mask of strokes", "preview": "refined of strokes"}

    hidden: frozenset[int] = frozenset()
    """Values of structures that are not drawn; a way of looking, so no part of the document."""

    def seen(self, role: str, document: Document) -> tuple[Structure, ...]:
        """Hidden structures are clear everywhere; locked ones where something is proposed, because it will not be written."""
        clear = self.hidden | (document.locked if role in ("first", "preview") else frozenset())
        return tuple(replace(s, colour="transparent") if s.value in clear else s for s in document.structures)

    # -- strokes ---------------------------------------------------------------------------

    def strokes(self, document: Document) -> Labels:
        """The layer that is drawn into, with the document in its metadata."""
        layer = super().strokes(document)
        layer.metadata.update(self._metadata("scribbles", document))
        layer.metadata[KEY]["document"] = document.to_json()
        return layer

    def show_strokes(self, document: Document) -> None:
        """Write the document's strokes into their layer, which is there from the start."""
        self.strokes(document)
        super().show_strokes(document)

    def drawn(self) -> NDArray[np.uint8]:
        """What is drawn (I, J, K), as a copy of its own."""
        voxels = self.read_strokes()
        if voxels is None:
            return np.zeros(self.volume.shape, dtype=np.uint8)
        return np.ascontiguousarray(voxels, dtype=np.uint8).copy()

    def kept_document(self) -> Document:
        """The strokes that an existing layer holds, for example when the panel was closed and is opened again."""
        layer = self.find("scribbles")
        if layer is None:
            return new_document()
        kept = layer.metadata[KEY].get("document")
        document = new_document() if kept is None else Document.from_json(kept)
        codes = self.drawn()
        known = {structure.value for structure in document.structures} | {0, 255}
        if np.array_equal(painted(document.strokes, self.volume.shape), codes) or not set(np.unique(codes).tolist()) <= known:
            return document
        flat = codes.reshape(-1)
        strokes = tuple(
            Stroke(structure_key(int(code)), int(code), np.flatnonzero(flat == code).astype(np.int64).tobytes())
            for code in np.unique(flat)
            if code
        )
        return replace(document, strokes=strokes)

    # -- the mask --------------------------------------------------------------------------

    def accept_unlocked(self, proposal: Proposal, document: Document) -> tuple[MaskPatch, int]:
        """Write the unlocked structures of a proposal into the mask in place of what they were; every other label stays.

        Returns
        -------
        MaskPatch
            The voxels that changed.
        int
            How many voxels were left to other labels.
        """
        writes = np.zeros(256, dtype=bool)
        writes[[structure.value for structure in document.structures if structure.value not in document.locked]] = True
        old = self.grid.to_volume(self.mask(document).data)
        new = old.copy()
        new[writes[np.minimum(old, 255)] & (old > 0)] = 0
        region = new[proposal.window]
        wanted = writes[proposal.labels]
        free = region == 0
        region[wanted & free] = proposal.labels[wanted & free]
        changed = np.nonzero(new != old)
        patch = MaskPatch(changed, old[changed], new[changed])
        self.apply(patch, document)
        return patch, int((wanted & ~free).sum())

    # -- maps ------------------------------------------------------------------------------

    def map_layer(self, name: str) -> Image | None:
        """The layer of a further map, None where there is none."""
        own = str(self.image.unique_id)
        kept = ((layer, layer.metadata.get(KEY, {})) for layer in self.viewer.layers)
        return next((layer for layer, said in kept if said.get("map") == name and said.get("of") == own), None)

    def show_maps(self, maps: Mapping[str, NDArray[np.float32]], document: Document, *, visible: bool) -> None:
        """One layer per map of the whole volume, 0 to 1; nothing is made before it is asked for."""
        for name, values in maps.items() if visible else ():
            data, layer = self.grid.to_layer(values), self.map_layer(name)
            if layer is None:
                self._add_map(name, data, document)
            elif not np.shares_memory(layer.data, data):
                layer.data = data
        for layer in self.viewer.layers:
            said = layer.metadata.get(KEY, {})
            if said.get("of") == str(self.image.unique_id) and str(said.get("map", "")).startswith("attention"):
                layer.visible = visible and said["map"] in maps

    def _add_map(self, name: str, data: NDArray[np.float32], document: Document) -> None:
        active = self.viewer.layers.selection.active
        options: dict[str, Any] = {**self._options("doubt", document), "name": f"{self.image.name} {name}"}
        options["metadata"][KEY] |= {"role": "map", "map": name}
        looks = {"colormap": clear_magma(), "blending": "translucent_no_depth", "contrast_limits": (0.0, 1.0), "opacity": 0.6}
        layer = self.viewer.add_image(data, visible=False, **options, **looks)
        first = self.viewer.layers.index(self.image) + 1
        self.viewer.layers.move(self.viewer.layers.index(layer), first)  # under strokes and masks
        if active is not None and active in self.viewer.layers:
            self.viewer.layers.selection.active = active
