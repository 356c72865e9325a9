"""SimPLe: six extreme points per lesion, a pseudo-mask, and a network that learns from it in three stages.

`objects`: whose marks are whose. `first_masks`: marks to first mask and pseudo-labels. `contrast`: stage 1's loss.
`propagation`: stage 2's vote. `fields`, `stages`: a network that sees the marks too, for the volume at hand. `volumes`,
`volume_stages`: as published, a network that sees the image alone, for a cohort.

References
----------
Y. Zhong and Y. Wang, "SimPLe: Similarity-Aware Propagation Learning for Weakly-Supervised Breast Cancer Segmentation in
DCE-MRI", MICCAI 2023, LNCS 14223, arXiv 2306.16714.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np

from ...arrays.extreme_points import box_of
from ...errors import DataError, MissingPackageError, RecipeError
from ...method import Card
from ...recipe import Recipe, knob

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from ...case import Case
    from ...method import Checkpoints, Result, Step, Weights

card = Card(
    name="simple_propagation",
    title="Extreme points (SimPLe)",
    prompts=("extreme_points", "scribbles"),
    paper="Zhong and Wang, MICCAI 2023",
    doi="10.1007/978-3-031-43901-8_54",
    corrects=True,
)

CODE = "authors' code"


@dataclass(frozen=True, kw_only=True)
class SimplePropagationRecipe(Recipe):
    """Settings of SimPLe; defaults are those of ``laptop``."""

    COHORT: ClassVar = {
        "laptop": {
            "marks": False,
            "widths": (16, 32, 64, 128),
            "patch": (),
            "grid_spacing": (),
            "learning_rate": 2e-3,
            "learning_rate_propagate": 2e-4,
            "batch": 1,
            "steps_train": 480,
            "steps_propagate": 40,
            "steps_retrain": 480,
            "sure_inside": 0.6,
            "sure_outside": 0.4,
            "first_share": 0.5,
            "augment": True,
            "averaging": 0.99,
            "fresh": False,
            "max_seconds": 900.0,
            "preview_seconds": 60.0,
        },
        "paper": {},
    }
    PRESETS: ClassVar = {
        "laptop": {},
        "paper": {
            "marks": False,
            "first_mask": "classical",
            "pseudo_mask": "paths",
            "steps_train": 20000,
            "steps_propagate": 100,
            "steps_retrain": 20000,
            "optimiser": "sgd",
            "learning_rate": 1e-2,
            "learning_rate_propagate": 1e-4,
            "batch": 2,
            "sharpen": False,
            "first_share": 0.0,
            "max_seconds": 1e7,
        },
    }

    first_mask: str = knob(
        "learned",
        choices=("learned", "classical"),
        tooltip="Who draws the first mask: a network that learnt shapes from made-up volumes, or image and marks alone",
    )
    pseudo_mask: str = knob(
        "first mask",
        choices=("first mask", "paths"),
        tooltip="Labels to learn from: the first mask's sure parts, or paths and walker as published",
    )
    rounds: int = knob(
        8, min=1, max=8, source=CODE, tooltip="Solves of the random walker (paths only); fewer for clear objects"
    )
    beta: float = knob(130.0, min=1, max=1e5, source=CODE, tooltip="How much an edge stops the random walker (paths only)")
    crop_margin: float = knob(12.0, min=1, max=100, unit="mm", tooltip="Margin of the window around the box (paths only)")
    ring: float = knob(4.0, min=0.5, max=50, unit="mm", tooltip="Distance of background seeds from the box (paths only)")
    sure_inside: float = knob(0.8, min=0.5, max=1, source=CODE, tooltip="Probability above which a voxel is labelled object")
    sure_outside: float = knob(
        0.1, min=0, max=0.5, source=CODE, tooltip="Probability below which a voxel is labelled background"
    )
    supervision: str = knob(
        "marks",
        choices=("marks", "masks"),
        tooltip="Learn from marks, or from full masks: for comparison only (without marks)",
    )
    marks: bool = knob(True, tooltip="Show the network the points as well as the image; needs points in every volume")
    start: str = knob(
        "synthetic",
        choices=("synthetic", "random"),
        tooltip="Weights to start from (with marks): learnt from this package's made-up volumes, or none",
    )
    widths: tuple[int, ...] = knob(
        (16, 32, 64, 128, 256), min=1, max=512, source=CODE, tooltip="Channels per resolution of the U-Net (without marks)"
    )
    patch: tuple[int, ...] = knob(
        (96, 128, 128), min=8, max=512, unit="voxels", source="paper", tooltip="Training patch (without marks)"
    )
    grid_spacing: tuple[float, ...] = knob(
        (1.0, 0.6, 0.6),
        min=0.05,
        max=20,
        unit="mm",
        source="paper",
        tooltip="Spacing (z, y, x) that volumes are resampled to (without marks); empty: the cohort's median",
    )
    batch: int = knob(2, min=1, max=64, source=CODE, tooltip="Patches per step and kind; 1 is slow on a CPU")
    optimiser: str = knob("adam", choices=("adam", "sgd"), tooltip="sgd: Nesterov momentum 0.99, as published, for long runs")
    learning_rate: float = knob(2e-4, min=0, max=1, tooltip="Learning rate of the first and third stage")
    learning_rate_propagate: float = knob(1e-4, min=0, max=1, tooltip="Learning rate of the second stage")
    steps_train: int = knob(24, min=0, max=10**6, tooltip="Steps of the first stage")
    steps_propagate: int = knob(8, min=0, max=10**6, tooltip="Steps of the second stage")
    steps_retrain: int = knob(16, min=0, max=10**6, tooltip="Steps of the third stage")
    voxels: int = knob(100, min=2, max=2000, source=CODE, tooltip="Voxels of each kind drawn for contrast and votes")
    temperature: float = knob(0.1, min=0.01, max=10, source=CODE, tooltip="Temperature of the contrastive loss")
    similarity: float = knob(0.96, min=-1, max=1, source=CODE, tooltip="Cosine above which a drawn voxel votes")
    agreement: float = knob(0.96, min=0, max=1, source=CODE, tooltip="Share of votes above which a voxel joins the object")
    propagation_weight: float = knob(0.1, min=0, max=10, source=CODE, tooltip="Weight of the voted voxels' loss")
    first_share: float = knob(
        0.6,
        min=0,
        max=1,
        tooltip="Share of the first mask beside the network: in the result (with marks), in stage 3's labels (without)",
    )
    keep_start: float = knob(0.5, min=0, max=1, tooltip="Share of the starting weights in the final ones (with marks)")
    augment: bool = knob(False, tooltip="Turn, scale and shade the training patches at random (without marks)")
    averaging: float = knob(0.0, min=0, max=0.9999, tooltip="Decay of the running mean of weights; 0: none (without marks)")
    fresh: bool = knob(True, source=CODE, tooltip="Stage 3 begins with a new network, not with stage 2's (without marks)")
    sharpen: bool = knob(True, tooltip="Draw the final boundary at full resolution with the random walker")
    preview_seconds: float = knob(2.0, min=0, max=1e6, unit="s", tooltip="Time between previews; 0 shows none")
    stop_after: tuple[int, ...] = knob((), min=0, hidden=True, tooltip="Steps actually done per stage, for replay")


recipe_class = SimplePropagationRecipe

BYTES_PER_WINDOW_VOXEL, BYTES_OF_NETWORKS = 60, 700 * 10**6
"""The first mask; torch with the small network and its cubes."""

BYTES_PER_PATCH_VOXEL, BYTES_PER_SEEN_VOXEL = 1500, 400
"""Activations of the U-Net without marks, in a step and in a prediction."""

LARGEST_PATCH = (48, 64, 64)
"""Most voxels along (z, y, x) of a patch whose size is left to the data: what a few CPU cores bear."""

BYTES_OF_FIRST_NETWORK = 270 * 10**6
"""torch and the network of the first mask, without training (measured)."""


def working_memory(case: Case, recipe: SimplePropagationRecipe, weights: Weights | None = None) -> int:
    """About how many bytes a fit needs beside the image and the result, from the objects' boxes alone.

    60 bytes per voxel of the largest window (objects take turns), and 270 MB for torch and the network that draws the first
    mask. With training 700 MB for torch, the network and two cubes of 48³ voxels in work, and 8 MB for each object's own
    cube. Without `marks` instead of the cubes: 30 bytes per voxel of the volume on the recipe's grid, and 1,500 per voxel of
    the patches in a batch, or 400 per voxel of two patches where nothing is learnt.
    """
    volume = case.volume
    boxes = [] if case.points is None else list(case.points.on(volume).placed)
    objects = len(boxes)
    for marked in (
        None if case.scribbles is None else case.scribbles.labels,
        None if case.previous is None else case.previous.array,
    ):
        if marked is not None and marked.shape == volume.shape and marked.any():
            lines = [np.flatnonzero(marked.any(axis=tuple(n for n in range(3) if n != axis))) for axis in range(3)]
            boxes.append(np.array([[line[0] for line in lines], [line[-1] for line in lines]], dtype=np.float64))
            objects += 1
    largest = 0
    for points in boxes:
        start, stop = box_of(points, volume.shape)
        sides = (stop - start).tolist()
        # as the windows of first masks, which would load numba here; where the volume ends, a little more
        paths = recipe.pseudo_mask == "paths"
        margin = volume.in_voxels(recipe.crop_margin, minimum=2) if paths else [max(3, ceil(side / 4)) for side in sides]
        grown = (min(n, side + 2 * more) for n, side, more in zip(volume.shape, sides, margin, strict=True))
        largest = max(largest, prod(grown))
    first = BYTES_PER_WINDOW_VOXEL * largest
    if recipe.max_seconds == 0:
        return first + (BYTES_OF_FIRST_NETWORK if recipe.first_mask == "learned" else 0)
    if recipe.marks:
        return first + BYTES_OF_NETWORKS + 8 * 10**6 * objects
    grid = (volume.spacing_known and recipe.grid_spacing) or volume.spacing
    resampled = prod(n * step for n, step in zip(volume.shape, volume.spacing, strict=True)) / prod(grid)
    voxels = prod(recipe.patch or LARGEST_PATCH)
    patches = BYTES_PER_PATCH_VOXEL * recipe.batch * voxels if weights is None else 2 * BYTES_PER_SEEN_VOXEL * voxels
    return (first if weights is None else 0) + BYTES_OF_NETWORKS + int(30 * resampled) + patches


def fit(
    cases: Sequence[Case],
    recipe: Recipe,
    weights: Weights | None = None,
    *,
    validation: Sequence[Case] = (),
    checkpoints: Checkpoints | None = None,
) -> Generator[Step, None, Weights]:
    """Learn from the extreme points and strokes of `cases`; the first step shows the first mask."""
    from .first_masks import NO_TORCH, fit_first

    if not cases:
        raise DataError("there is no case to learn from; give at least one volume with points.")
    recipe = cast("SimplePropagationRecipe", recipe)
    if recipe.max_seconds == 0:
        return (yield from fit_first(cases, recipe))
    if recipe.marks and recipe.supervision == "masks":
        raise RecipeError("supervision 'masks' is for networks that see the image alone; set marks to false as well.")
    try:
        from . import stages, volume_stages
    except (ImportError, OSError) as error:
        yield from fit_first(cases, recipe)
        raise MissingPackageError(f"{NO_TORCH} To refine it, install PyTorch again.") from error
    if recipe.marks:
        return (yield from stages.fit(cases, recipe, weights))
    return (yield from volume_stages.fit(cases, recipe, weights, checkpoints=checkpoints))


def predict(case: Case, weights: Weights) -> Result:
    """Segment `case`; with `marks`, its own points or strokes are needed. Weights without tensors give the first mask."""
    from .first_masks import predict_first

    if not weights.tensors:
        return predict_first(case, weights)
    if cast("SimplePropagationRecipe", weights.recipe).marks:
        from .stages import predict as run
    else:
        from .volume_stages import predict as run
    return run(case, weights)
