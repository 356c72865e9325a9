"""The work of the heatmap panel without any widget: its layers, the live threshold, the mask, and what is saved of it.

It needs no display (napari's `ViewerModel` is enough), so that it is tested as plain code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays.heatmaps import LiveThreshold, heatmap_points
from ..case import Case
from ..errors import DataError, GeometryError, PromptError, WeaksegError
from ..io.names import without_suffix
from ..io.nifti_write import export_notes, write_map, write_mask
from ..io.records import write_record
from .companions import other_channels
from .export import as_nifti
from .heatmap_layers import HeatmapLayers
from .slices import go_to_slice, slice_shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari.components import ViewerModel
    from napari.layers import Image
    from numpy.typing import NDArray

    from ..prompts import Structure
    from ..volume import FloatArray, Volume
    from .explanation import Decision, Explanation


@dataclass(frozen=True, eq=False)
class Writing:
    """What a save writes, its own whatever happens in the viewer meanwhile."""

    volume: Volume
    path: Path
    record: Mapping[str, Any]
    is_map: bool

    def write(self) -> str:
        """Write it and its record; returns a sentence.

        Raises
        ------
        WeaksegError
            The target cannot be written, or is the image itself.
        """
        path = as_nifti(self.path)
        written = (write_map if self.is_map else write_mask)(self.volume, path)
        record = {**self.record, "saved": {**self.record.get("saved", {}), "sha256": self.volume.sha256}}
        write_record(record, written.with_name(f"{without_suffix(written)}.weakseg.json"))
        notes = "" if self.is_map else "".join(f" Note: {note}" for note in export_notes(self.volume, written))
        return f"saved {written.name} and its record.{notes}"


class HeatmapDesk:
    """One viewer, the chosen image, and what a classifier says of it.

    Parameters
    ----------
    viewer : napari viewer
        Where the layers are.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer
        self.layers: HeatmapLayers | None = None
        self.problem = ""
        self.explanation: Explanation | None = None
        self.chosen = ""
        self.thresholds: dict[str, float] = {}
        self.automatic: dict[str, float] = {}
        self.decision_shown = False
        self._live: LiveThreshold | None = None
        self._highest: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self._refined: NDArray[np.bool_] | None = None
        self._accepted: dict[str, NDArray[np.bool_]] = {}

    # -- image and result ------------------------------------------------------------------

    def choose_image(self, image: Image | None) -> None:
        """Work on this image; what was shown of another stays in its layers."""
        self.layers, self.problem, self.explanation, self.chosen = None, "", None, ""
        self.thresholds, self.automatic, self._accepted = {}, {}, {}
        self._live = self._refined = None
        self.decision_shown = False
        if image is None:
            return
        try:
            self.layers = HeatmapLayers(self.viewer, image)
        except WeaksegError as error:
            self.problem = str(error)

    def case(self, channels: tuple[str, ...] = ("image",)) -> Case:
        """The image, with further channels of its grid where the run needs them, by name.

        Raises
        ------
        GeometryError, DataError
            No usable image, or a channel that no open image has.
        """
        if self.layers is None:
            raise GeometryError(self.problem or "open an image and choose it above.")
        own = self.layers.volume
        if len(channels) <= 1:
            return Case("image", {channels[0] if channels else "image": own})
        open_now = {volume.name: volume for volume in (own, *other_channels(self.viewer, self.layers.image, own))}
        found = {}
        for channel in channels:
            fitting = [name for name in open_now if channel.lower() in name.lower()]
            if len(fitting) != 1:
                raise DataError(
                    f"this run needs the channels {', '.join(channels)}: open each on one grid, its name holding the channel's."
                )
            found[channel] = open_now[fitting[0]]
        return Case("image", found)

    def show(self, explanation: Explanation) -> None:
        """Draw heatmaps, mask and decision points; go to where the class shows most."""
        if self.layers is None:
            return
        self.explanation, self._accepted = explanation, {}
        self.automatic = {name: explanation.threshold(name) for name in explanation.mapped}
        self.thresholds = dict(self.automatic)
        self.chosen = explanation.first_choice  # before any layer comes, whose news make the panel look at all this
        self._take(self.chosen)
        for name in explanation.mapped:
            self.layers.show_heatmap(name, explanation.heatmap(name), explanation.range_of(name))
        self.choose_class(self.chosen)
        self.go_to(explanation.best_slice(self.chosen))

    def choose_class(self, name: str) -> None:
        """Look at another class."""
        if self.explanation is None or self.layers is None:
            return
        self.chosen = name
        self._take(name)
        for mapped in self.explanation.mapped:
            layer = self.layers.heatmap(mapped)
            if layer is not None:
                layer.visible = mapped == name
        self._draw_mask()
        self.show_decision(self.decision_shown)

    def _take(self, name: str) -> None:
        """Make ready what a moving threshold needs of a class."""
        assert self.explanation is not None
        explanation = self.explanation
        self._live, self._refined = LiveThreshold(explanation.heatmap(name), explanation.allowed(name)), None
        seen = np.where(explanation.allowed(name), explanation.heatmap(name), -np.inf)
        self._highest = seen.max(axis=tuple(axis for axis in range(3) if axis != explanation.slice_axis))

    # -- threshold and mask ----------------------------------------------------------------

    def set_threshold(self, value: float) -> None:
        """Draw the mask of another threshold: made for a slider that is being dragged."""
        self.thresholds[self.chosen] = value
        self._refined = None
        self._draw_mask()

    @property
    def threshold(self) -> float:
        """The chosen class's threshold, in the heatmap's own unit."""
        return self.thresholds[self.chosen]

    @property
    def structure(self) -> Structure:
        """The structure that the chosen class is written as."""
        assert self.explanation is not None
        return self.explanation.structure(self.chosen)

    @property
    def refined(self) -> bool:
        """Whether the mask shown has its boundary drawn on the image instead of by the threshold."""
        return self._refined is not None

    def mask(self) -> NDArray[np.bool_]:
        """The mask shown, shape (I, J, K)."""
        if self._refined is not None:
            return self._refined
        return self._drawn().copy()

    def _drawn(self) -> NDArray[np.bool_]:
        """What lies above the threshold: the live mask's own memory."""
        assert self._live is not None
        return self._live.mask(self.threshold).view(np.bool_)

    def show_refined(self, mask: NDArray[np.bool_]) -> None:
        """Draw a mask whose boundary was found on the image."""
        self._refined = mask
        self._draw_mask()

    def boundary(self) -> Callable[[], NDArray[np.bool_]]:
        """What finds the mask's boundary on the image: it takes seconds and may run in any thread."""
        assert self.explanation is not None
        explanation, name, threshold = self.explanation, self.chosen, self.threshold
        return lambda: boundary_on_image(explanation, name, threshold)

    def _draw_mask(self) -> None:
        if self.layers is None or self.explanation is None:
            return
        drawn = self._drawn() if self._refined is None else self._refined
        self.layers.show_live_mask(drawn.view(np.uint8), self.structure)

    def size(self) -> tuple[int, int]:
        """Voxels of the mask shown, and on how many slices they lie."""
        assert self.explanation is not None
        if self._refined is not None:
            others = tuple(axis for axis in range(3) if axis != self.explanation.slice_axis)
            return int(np.count_nonzero(self._refined)), int(np.count_nonzero(self._refined.any(axis=others)))
        return int(np.count_nonzero(self._drawn())), int(np.count_nonzero(self._highest > self.threshold))

    def accept(self) -> str:
        """Write the mask shown into the image's mask, where it can be painted; returns a sentence."""
        if self.layers is None or self.explanation is None:
            return "run a classifier on an image first."
        mask = self.mask()
        if not mask.any():
            return "nothing is above the threshold: there is no mask to accept."
        left = self.layers.write_class(mask, self.structure, self._accepted.get(self.chosen))
        self._accepted[self.chosen] = mask
        spared = f"; {left} voxels of other finished labels were left as they are" if left else ""
        return f"accepted into {self.layers.image.name} mask, where it can be corrected{spared}."

    def prompts(self) -> FloatArray:
        """Six extreme points of the mask's largest piece, as voxel indices (6, 3).

        Raises
        ------
        PromptError
            There is no mask, or it spans too little to click on.
        """
        if self.explanation is None:
            raise PromptError("run a classifier on an image first.")
        points = heatmap_points(self.mask(), self.explanation.volume, structure=self.structure, largest=1)
        if points is None:
            raise PromptError(
                "no piece of this mask spans two slices and more; lower the threshold before its points are used."
            )
        six: FloatArray = points.points[0]
        return six

    # -- decision --------------------------------------------------------------------------

    def decision(self, *, here: bool = True) -> Decision | None:
        """What decided on the chosen class, in the slice that is shown or in the volume."""
        if self.explanation is None:
            return None
        return self.explanation.decision(self.chosen, self.slice_shown() if here else None)

    def show_decision(self, shown: bool) -> None:
        """Draw the decision points, or take them away."""
        self.decision_shown = shown
        if self.layers is not None and self.explanation is not None:
            points = self.decision(here=False) if shown else None
            self.layers.show_decision(None if points is None else points.heaviest(), self.explanation.slice_axis)

    # -- moving about ----------------------------------------------------------------------

    def go_to(self, index: int) -> None:
        """Show a slice along the axis that was classified."""
        if self.layers is None or self.explanation is None:
            return
        go_to_slice(self.layers, self.explanation.slice_axis, index)

    def slice_shown(self) -> int | None:
        """The slice that is looked at, along the axis that was classified; None where the view runs along it."""
        if self.layers is None or self.explanation is None:
            return None
        return slice_shown(self.layers, self.explanation.slice_axis)

    # -- saving ----------------------------------------------------------------------------

    def save_mask(self, path: str | Path) -> Writing:
        """The image's mask as it stands, accepted and corrected; where none was accepted, the one that is shown.

        Raises
        ------
        WeaksegError
            There is nothing to write.
        """
        if self.layers is None or self.explanation is None:
            raise PromptError("run a classifier on an image first.")
        if self.layers.find("mask") is None:
            words = self.accept()
            if self.layers.find("mask") is None:
                raise PromptError(words)
        return Writing(self.layers.to_volume(), Path(path), self.record(), is_map=False)

    def save_heatmap(self, path: str | Path) -> Writing:
        """The chosen class's heatmap, float32, on the image's grid."""
        if self.layers is None or self.explanation is None:
            raise PromptError("run a classifier on an image first.")
        heat = self.layers.volume.with_array(self.explanation.heatmap(self.chosen), name=f"heatmap {self.chosen}")
        return Writing(heat, Path(path), self.record(), is_map=True)

    def record(self) -> dict[str, Any]:
        """How it was made: the run's own record, with what was chosen here."""
        assert self.explanation is not None
        saved = {
            "class": self.chosen,
            "threshold": float(self.threshold),
            "automatic_threshold": float(self.automatic[self.chosen]),
            "boundary": "image" if self.refined else "threshold",
            "probability": self.explanation.probability(self.chosen),
        }
        return {**dict(self.explanation.result.record), "saved": saved}


def boundary_on_image(explanation: Explanation, name: str, threshold: float) -> NDArray[np.bool_]:
    """The mask of a class with its boundary found on all channels, as predicting does; empty where it is not predicted."""
    from ..arrays.heatmap_refinement import refined_mask, refined_probability

    volume = explanation.volume
    limits: dict[str, Any] = {"voxel_volume": volume.voxel_volume, "min_size": explanation.min_component}
    probability = refined_probability(
        [channel.array for channel in explanation.channels or (volume,)],
        explanation.heatmap(name),
        threshold,
        allowed=explanation.allowed(name),
        spacing=volume.spacing,
        **limits,
    )
    return refined_mask(probability, **limits)
