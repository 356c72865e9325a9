"""Strokes on a cohort, and complete masks of other patients where there are any: adversarial attention gates.

`gates`: the segmentor. `adversary`: the discriminator and its losses. `losses`: the dynamic weight and the self-consistency
that takes the discriminator's place without unpaired masks (PyAG). `training`: both games, in order. `inference`: masks, the
gates as maps, and the discriminator's doubt per slice.

References
----------
G. Valvano, A. Leo, S. A. Tsaftaris, "Learning to Segment From Scribbles Using Multi-Scale Adversarial Attention Gates", IEEE
Transactions on Medical Imaging 40(8):1990-2001, 2021, arXiv 2007.01152 (MAAG); the same authors, "Self-supervised
Multi-scale Consistency for Weakly Supervised Segmentation Learning", DART 2021, arXiv 2108.11900 (PyAG).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ...method import Card
from ...recipe import knob
from ...training.slice_recipe import CODE, PAPER, SliceRecipe, working_bytes

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from ...case import Case
    from ...method import Checkpoints, Result, Step, Weights
    from ...recipe import Recipe
    from ...volume import Volume

card = Card(
    name="adversarial_gating",
    title="Scribbles (adversarial gates)",
    prompts=("scribbles",),
    paper="Valvano, Leo and Tsaftaris, IEEE TMI 2021",
    doi="10.1109/TMI.2021.3069634",
    dimensions="2D, 3D",
    learns_unmarked=True,
    learns_masks=True,
)


@dataclass(frozen=True, kw_only=True)
class AdversarialGatingRecipe(SliceRecipe):
    """Settings of MAAG and PyAG; defaults are those of ``laptop``."""

    PRESETS: ClassVar = {
        "laptop": {},
        "paper": {
            **PAPER,
            "discriminator_filters": 32,
            "head": 28,
            "warm_up": 0.0,
            "class_weights": True,
            "balance": "published",
            "consistency_weight": 0.2,
            "soften": 0.0,
        },
    }

    steps: int = knob(200, min=1, max=10**7, tooltip="Steps of the optimiser")
    form: str = knob(
        "auto",
        choices=("auto", "MAAG", "PyAG"),
        tooltip="MAAG: gates learn from unpaired masks; PyAG: from the prediction itself; auto: MAAG where there are masks",
    )
    adversarial_weight: float = knob(0.2, min=0, max=100, source=CODE, tooltip="Weight of the game (MAAG only)")
    class_weights: bool = knob(
        False, tooltip="Every class's strokes count the same, however few; published: yes, and too much is drawn (MAAG only)"
    )
    warm_up: float = knob(
        0.4, min=0, max=1, tooltip="Share of the steps that learn from strokes alone, before the game begins (MAAG only)"
    )
    marked_weight: float = knob(
        0.1, min=0, max=100, source=CODE, tooltip="Weight of the discriminator's loss on marked windows (MAAG only)"
    )
    balance: str = knob(
        "game",
        choices=("game", "published"),
        tooltip="What sets the strokes' weight: the segmentor's part of the game, or the discriminator's loss (MAAG only)",
    )
    consistency_weight: float = knob(1.0, min=0, max=100, tooltip="Weight of the self-consistency (PyAG only)")
    largest_weight: float = knob(100.0, min=1, max=1e6, tooltip="Bound on the dynamic weight of the strokes' loss")
    discriminator_filters: int = knob(8, min=1, max=256, tooltip="Channels of the discriminator's first layer (MAAG only)")
    head: int = knob(4, min=1, max=64, tooltip="Side of the grid that the discriminator's last map is averaged to (MAAG only)")
    input_noise: float = knob(0.2, min=0, max=2, source=CODE, tooltip="Noise on what the discriminator sees (MAAG only)")
    label_noise: float = knob(
        0.1, min=0, max=0.5, source=CODE, tooltip="How often the discriminator's answer is turned round (MAAG only)"
    )
    soften: float = knob(
        0.1, min=0, max=0.5, tooltip="Share of real masks' voxels spread over the classes: hides their sharpness (MAAG only)"
    )


recipe_class = AdversarialGatingRecipe


def working_memory(case: Case, recipe: AdversarialGatingRecipe, weights: Weights | None = None) -> int:
    """About how many bytes a fit or a prediction needs beside image and result, see `training.slice_recipe.working_bytes`."""
    return working_bytes(case, recipe, streams=3 if recipe.form == "MAAG" else 2, gates=4, weights=weights)


def fit(
    cases: Sequence[Case],
    recipe: Recipe,
    weights: Weights | None = None,
    *,
    validation: Sequence[Case] = (),
    checkpoints: Checkpoints | None = None,
    unpaired_masks: Sequence[Volume] = (),
) -> Generator[Step, None, Weights]:
    """Learn from the strokes of `cases`; the first step shows the first mask of the first case with strokes.

    Cases without strokes take part: the gates and the game learn from every slice. A case whose strokes cover every voxel is a
    full mask. `unpaired_masks` are masks of other patients (same structures, same view): with them the form is MAAG, without
    them PyAG, and a note says which. `validation` is for choosing the weights by its strokes; its masks are never read.
    """
    from .training import fit as run

    return run(cases, recipe, weights, validation=validation, checkpoints=checkpoints, unpaired_masks=unpaired_masks)


def predict(case: Case, weights: Weights) -> Result:
    """Segment `case`; weights without tensors give the first mask from its own strokes."""
    from .inference import predict as run

    return run(case, weights)
