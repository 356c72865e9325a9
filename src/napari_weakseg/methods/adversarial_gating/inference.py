"""Masks of new volumes, the gates as maps, and which slices the discriminator believes least."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch.nn import functional

from ...training.partial_losses import IGNORE
from ...training.slice_inference import load, predict_slices
from ...training.stacks import Cut, Frame
from .adversary import real_pyramid
from .training import game_began, new_discriminator, new_segmentor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ...case import Case
    from ...method import Result, Weights
    from ...volume import Volume
    from . import AdversarialGatingRecipe
    from .gates import GatedUNet

DOUBT = "discriminator doubt"


def predict(case: Case, weights: Weights) -> Result:
    """See `napari_weakseg.methods.adversarial_gating.predict`.

    After a game in 2D ``tables["discriminator doubt"]`` holds a figure per slice, in file order along the slice axis: 0 for the
    slice whose mask the discriminator believes most, 1 for the one that it believes least.
    """
    recipe = cast("AdversarialGatingRecipe", weights.recipe)

    def build(meta: Mapping[str, Any]) -> GatedUNet:
        return new_segmentor(int(meta["channels"]), int(meta["classes"]), recipe)

    result = predict_slices(case, weights, build)
    played = weights.meta.get("form") == "MAAG" and game_began(recipe, sum(weights.meta.get("steps", ())))
    if not (weights.tensors and played and recipe.dimensions == "2D"):
        return result
    return replace(result, tables={**result.tables, DOUBT: discriminator_doubt(result.mask, weights)})


@torch.inference_mode()
def discriminator_doubt(mask: Volume, weights: Weights) -> NDArray[np.float32]:
    """How little the discriminator believes each slice of a mask, from 0 (most of this volume) to 1 (least), in file order.

    The slices are shown to it as real masks are, so that shapes count and not how sure a network was. What it answers to one
    volume lies close together, and the order is what says where to look: on 20 volumes of ACDC its rank correlation with the
    slice's Dice was -0.64 in the mean. It knows windows of one size around masks, and is shown such windows.

    Parameters
    ----------
    mask : Volume
        Labels on the image's grid.
    weights : Weights
        Of a training with unpaired masks.
    """
    recipe = cast("AdversarialGatingRecipe", weights.recipe)
    classes = int(weights.meta["classes"])
    discriminator = new_discriminator(classes - 1, recipe).eval()
    load({"discriminator": discriminator}, weights)
    cut = Cut(mask, Frame(int(weights.meta["slice_axis"]), float(weights.meta["grid_spacing"])))
    order = np.zeros(256, dtype=np.int16)  # there may be 254 structures
    order[[structure.value for structure in weights.structures]] = np.arange(1, classes)
    labels = cut.labels(order[mask.array], classes)
    window = _window(torch.from_numpy(labels), _middle(labels > 0, cut.sides), int(weights.meta["window"][-1]))
    shown = functional.one_hot(window.clamp(min=0).long(), classes).movedim(-1, 1).float()
    parts = torch.split(shown, recipe.batch)
    score = torch.cat([discriminator(real_pyramid(part, soften=recipe.soften)) for part in parts]).numpy()
    spread = float(np.ptp(score))
    return cut.in_file_order(np.asarray((score.max() - score) / max(spread, 1e-6), dtype=np.float32))


def _middle(found: NDArray[np.bool_], sides: tuple[int, int]) -> tuple[int, int]:
    """Middle of what was found, or of the slice."""
    middle = []
    for axis, side in zip((1, 2), sides, strict=True):
        hits = np.flatnonzero(found.any(axis=(0, 3 - axis)))
        middle.append(int(hits[0] + hits[-1] + 1) // 2 if len(hits) else side // 2)
    return middle[0], middle[1]


def _window(labels: torch.Tensor, middle: tuple[int, int], side: int) -> torch.Tensor:
    """A window of the slices (S, H, W) as (S, side, side); beyond them nothing is labelled."""
    for axis, centre in zip((1, 2), middle, strict=True):
        length = labels.shape[axis]
        if length > side:
            labels = labels.narrow(axis, min(max(0, centre - side // 2), length - side), side)
    below, right = side - labels.shape[1], side - labels.shape[2]
    return functional.pad(labels, (right // 2, right - right // 2, below // 2, below - below // 2), value=IGNORE)
