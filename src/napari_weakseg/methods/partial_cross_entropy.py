r"""Partial cross-entropy: a plain U-Net that learns from the marked voxels and from nothing else. The baseline for strokes.

.. math:: L = -\frac{1}{|\Omega_s|} \sum_{i \in \Omega_s} \log p_{i, y_i}, \qquad \Omega_s = \text{marked voxels}

It has the network, windows, augmentation and number of steps of adversarial gating, so that the two can be compared. With
``supervision="masks"`` every voxel is marked: full supervision, the ceiling of such a comparison.

References
----------
K. Gotkowski et al., "Embarrassingly Simple Scribble Supervision for 3D Medical Segmentation", arXiv 2403.12834: with a loss on
marked voxels alone, stock networks beat most methods made for strokes outside the heart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

from ..method import Card
from ..recipe import knob
from ..training.slice_recipe import PAPER, SliceRecipe, working_bytes

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    import torch
    from torch import nn

    from ..case import Case
    from ..method import Checkpoints, Result, Step, Weights
    from ..recipe import Recipe
    from ..training.slice_batches import Batch
    from ..training.slice_material import Material

card = Card(
    name="partial_cross_entropy",
    title="Scribbles (partial cross-entropy)",
    prompts=("scribbles",),
    dimensions="2D, 3D",
    learns_unmarked=True,
)


@dataclass(frozen=True, kw_only=True)
class PartialCrossEntropyRecipe(SliceRecipe):
    """Settings of the baseline: those that it shares with adversarial gating, and no others of weight."""

    PRESETS: ClassVar = {"laptop": {}, "paper": PAPER}

    balanced: bool = knob(False, tooltip="Every class counts the same, however little of it is marked; else every voxel")


recipe_class = PartialCrossEntropyRecipe


def working_memory(case: Case, recipe: PartialCrossEntropyRecipe, weights: Weights | None = None) -> int:
    """About how many bytes a fit or a prediction needs beside image and result, see `training.slice_recipe.working_bytes`."""
    return working_bytes(case, recipe, streams=1, weights=weights)


def fit(
    cases: Sequence[Case],
    recipe: Recipe,
    weights: Weights | None = None,
    *,
    validation: Sequence[Case] = (),
    checkpoints: Checkpoints | None = None,
) -> Generator[Step, None, Weights]:
    """Learn from the strokes of `cases`; the first step shows the first mask of the first case with strokes."""
    from ..training.slice_fit import fit_slices

    settings = cast("PartialCrossEntropyRecipe", recipe)

    def new_learner(material: Material, device: torch.device) -> _Learner:
        return _Learner(_network(material.channels, material.classes, settings).to(device), settings)

    return fit_slices(
        cases, settings, weights, method=card.name, new_learner=new_learner, validation=validation, checkpoints=checkpoints
    )


def predict(case: Case, weights: Weights) -> Result:
    """Segment `case`; weights without tensors give the first mask from its own strokes."""
    from ..training.slice_inference import predict_slices

    settings = cast("PartialCrossEntropyRecipe", weights.recipe)

    def new_segmentor(meta: Mapping[str, Any]) -> nn.Module:
        return _network(int(meta["channels"]), int(meta["classes"]), settings)

    return predict_slices(case, weights, new_segmentor)


def _network(channels: int, classes: int, recipe: PartialCrossEntropyRecipe) -> nn.Module:
    from ..networks.slice_unet import SliceUNet

    return SliceUNet(channels, classes, recipe.filters, dimensions=int(recipe.dimensions[0]), momentum=recipe.momentum)


class _Learner:
    """One network, one loss."""

    def __init__(self, segmentor: nn.Module, recipe: PartialCrossEntropyRecipe) -> None:
        import torch

        self.segmentor, self.recipe = segmentor, recipe
        self.modules = {"segmentor": segmentor}
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "segmentor": torch.optim.Adam(segmentor.parameters(), lr=recipe.learning_rate)
        }

    def learn(self, batch: Batch) -> Mapping[str, float]:
        """One step on the marked windows; the others are not looked at."""
        from ..training.partial_losses import partial_cross_entropy_loss, weighted_partial_cross_entropy_loss
        from ..training.slice_fit import descend, with_weak_labels
        from ..training.slice_inference import forward

        logits, _ = forward(self.segmentor, batch.images)
        loss_of = weighted_partial_cross_entropy_loss if self.recipe.balanced else partial_cross_entropy_loss
        loss = with_weak_labels(loss_of(logits, batch.labels), logits, batch, self.recipe)
        descend(loss, self.optimisers["segmentor"])
        return {"cross-entropy": float(loss.detach())}
