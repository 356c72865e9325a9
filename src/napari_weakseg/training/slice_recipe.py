"""Settings that every method which learns slices from strokes has: the same budget makes a comparison fair. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from ..recipe import Recipe, knob

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..case import Case
    from ..method import Weights

CODE = "authors' code"

PAPER: Mapping[str, Any] = {
    "filters": 32,
    "size": 224,
    "grid_spacing": 1.5117,
    "batch": 12,
    "steps": 25000,
    "learning_rate": 1e-4,
    "schedule": "triangle",
    "momentum": 0.01,
    "rotation": 90.0,
    "background_contours": False,
    "one_component": "no",
}
"""What the ``paper`` preset changes; 25,000 steps are its 450 epochs of about 55 batches. The papers have cohorts only: on one
volume the first mask stays beside the network."""


@dataclass(frozen=True, kw_only=True)
class SliceRecipe(Recipe):
    """Network, data and budget; defaults are those of ``laptop``."""

    PRESETS: ClassVar = {"laptop": {}, "paper": PAPER}
    COHORT: ClassVar = {
        "laptop": {
            "max_seconds": 2700.0,
            "batch": 8,
            "steps": 4000,
            "field": 2.5,
            "first_weight": 0.0,
            "first_share": 0.0,
            # few patients for many steps: windows that differ more than the published ones keep a network from learning them
            "rotation": 60.0,
            "scale": 0.25,
            "contrast": 0.3,
            "noise": 0.1,
        },
        "paper": {"field": 2.5, "first_weight": 0.0, "first_share": 0.0, "hold_out": 0.2, "max_seconds": 1e7},
    }

    supervision: str = knob(
        "marks", choices=("marks", "masks"), tooltip="Learn from strokes, or from full masks (for comparisons only)"
    )
    dimensions: str = knob(
        "2D", choices=("2D", "3D"), tooltip="2D: slices in the plane of best resolution; 3D: where slices are not thick"
    )
    filters: int = knob(16, min=2, max=256, tooltip="Channels at full resolution, doubled at each of four coarser ones")
    grid_spacing: float = knob(
        0.0, min=0, max=20, unit="mm", tooltip="Pixel size that slices are resampled to; 0: from the extent of the strokes"
    )
    field: float = knob(
        1.5, min=1, max=10, tooltip="What a window shows, as a multiple of the extent of the strokes (where grid_spacing is 0)"
    )
    size: int = knob(
        112, min=16, max=1024, unit="voxels", tooltip="Side of the training window, rounded up to a multiple of 16"
    )
    depth: int = knob(16, min=16, max=256, unit="voxels", tooltip="Slices in a training window (3D only), a multiple of 16")
    batch: int = knob(4, min=2, max=256, tooltip="Windows per step and stream; 1 is slow on a CPU")
    steps: int = knob(400, min=1, max=10**7, tooltip="Steps of the optimiser")
    learning_rate: float = knob(1e-3, min=0, max=1, tooltip="Learning rate of Adam at its highest")
    schedule: str = knob(
        "decay",
        choices=("decay", "triangle"),
        tooltip="decay: falls to a tenth; triangle: up and down between a tenth and all of it, as published",
    )
    cycle: int = knob(2200, min=2, max=10**7, source=CODE, tooltip="Steps of one cycle (triangle only): 40 epochs")
    momentum: float = knob(0.1, min=0.001, max=1, tooltip="Share of a batch in batch normalisation's running figures")
    rotation: float = knob(30.0, min=0, max=180, tooltip="Windows are turned by up to so many degrees")
    shift: float = knob(0.1, min=0, max=0.5, source=CODE, tooltip="Windows are shifted by up to this share of their side")
    scale: float = knob(0.1, min=0, max=0.5, tooltip="Windows are enlarged or shrunk by up to this share")
    noise: float = knob(0.02, min=0, max=1, source=CODE, tooltip="Noise and brightness changes, in interquartile ranges")
    contrast: float = knob(0.05, min=0, max=0.9, source=CODE, tooltip="Contrast is changed by up to this share")
    background_contours: bool = knob(
        True, tooltip="What a background stroke closed around all structure strokes of a slice leaves outside is background"
    )
    first_weight: float = knob(
        1.0, min=0, max=100, tooltip="Weight of the first mask as weak labels beside the strokes: on one volume these are few"
    )
    first_share: float = knob(
        0.5, min=0, max=1, tooltip="Share of the first mask beside the network in the mask of a volume with strokes"
    )
    one_component: str = knob(
        "auto",
        choices=("auto", "yes", "no"),
        tooltip="Leave out what lies apart from the largest component of all structures; auto: where the strokes hang together",
    )
    hold_out: float = knob(
        0.0, min=0, max=0.5, tooltip="Share of whole strokes kept from training, to choose the best weights by; 0: the last"
    )
    preview_seconds: float = knob(5.0, min=0, max=1e6, unit="s", tooltip="Time between previews; 0 shows none")
    stop_after: tuple[int, ...] = knob((), min=0, hidden=True, tooltip="Steps actually done, for replay")

    @property
    def window(self) -> tuple[int, ...]:
        """Sides of the training window: (size, size), or (depth, size, size) in 3D; multiples of 16."""
        size, depth = -(-self.size // 16) * 16, -(-self.depth // 16) * 16
        return (size, size) if self.dimensions == "2D" else (depth, size, size)


def learning_rate_at(step: int, recipe: SliceRecipe) -> float:
    """Learning rate of step `step`, counted from 0: never below a tenth of its highest, so that no step is without effect.

    The published schedule goes to 0 at the end of every cycle, because its minimum is divided as a whole number.
    """
    low = recipe.learning_rate / 10
    if recipe.schedule == "decay":
        height = float((1 - min(1.0, step / recipe.steps)) ** 0.9)
        return low + (recipe.learning_rate - low) * height
    half = recipe.cycle / 2
    place = step % recipe.cycle
    height = place / half if place <= half else 2 - place / half
    epochs = step / (recipe.cycle / 40)
    return (low + (recipe.learning_rate - low) * height) / (1 + 1e-4 * epochs)


BYTES_OF_TORCH, BYTES_OF_IMPORT = 470 * 10**6, 360 * 10**6
"""Of torch at work on small networks, and of torch alone (measured, as what follows, on a processor with bfloat16)."""

BYTES_OF_FIRST_MASK, BYTES_PER_MAP, MAPS = 40, 22, 7.5
"""Bytes per voxel of the first mask; per voxel and map of a prediction on its way to the volume's grid; maps at full resolution
that a step keeps for its gradient."""


def working_bytes(case: Case, recipe: SliceRecipe, *, streams: int, gates: int = 0, weights: Weights | None = None) -> int:
    """About how many bytes a fit on `case`, or a prediction, needs beside image and result.

    Within 10 % of what was measured on volumes of 0.2 to 8 million voxels, with windows of 112 to 256 and batches of 4 to 16.

    Parameters
    ----------
    case : Case
        The image.
    recipe : SliceRecipe
        Its window, batch and filters.
    streams : int
        How many windows a step sees for each of its batch.
    gates : int
        Maps that are predicted beside the classes.
    weights : Weights, optional
        What a prediction is made with.
    """
    voxels, learning = case.volume.array.size, weights is None
    structures = len(case.structures if weights is None else weights.structures)
    first = BYTES_OF_FIRST_MASK * voxels
    if learning and recipe.max_seconds == 0:
        return BYTES_OF_IMPORT + first
    predicted = BYTES_PER_MAP * voxels * (structures + 1 + gates)
    step = int(4 * 2 * 1.5 * MAPS * recipe.filters * prod(recipe.window) * recipe.batch * streams) if learning else 0
    return BYTES_OF_TORCH + max(first if learning else 0, step, predicted) + 4 * voxels * (len(case.channels) - 1)
