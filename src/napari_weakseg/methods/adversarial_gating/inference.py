"""Masks of new volumes, the gates as maps, and how little the discriminator believes each slice."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch.nn import functional

from ...training.slice_inference import load, predict_slices
from ...training.stacks import Cut, Frame
from .gates import GatedUNet, pyramid
from .training import new_discriminator, new_segmentor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ...case import Case
    from ...method import Result, Weights
    from . import AdversarialGatingRecipe

DOUBT = "discriminator doubt"


def predict(case: Case, weights: Weights) -> Result:
    """See `napari_weakseg.methods.adversarial_gating.predict`.

    After MAAG in 2D ``tables["discriminator doubt"]`` holds a figure per slice, in file order along the slice axis: 0 where the
    discriminator takes the mask for a real one, 1 where it does not.
    """
    recipe = cast("AdversarialGatingRecipe", weights.recipe)

    def build(meta: Mapping[str, Any]) -> GatedUNet:
        return new_segmentor(int(meta["channels"]), int(meta["classes"]), recipe)

    result, segmentor = predict_slices(case, weights, build)
    if segmentor is None or weights.meta.get("form") != "MAAG" or recipe.dimensions != "2D":
        return result
    doubt = discriminator_doubt(case, weights, cast("GatedUNet", segmentor), result.labels, recipe)
    return replace(result, tables={**result.tables, DOUBT: doubt}, scores={**result.scores, DOUBT: float(doubt.mean())})


@torch.inference_mode()
def discriminator_doubt(
    case: Case, weights: Weights, segmentor: GatedUNet, found: NDArray[Any], recipe: AdversarialGatingRecipe
) -> NDArray[np.float32]:
    """How little each slice's mask looks like a real one, (1 - D) / 2 clipped to [0, 1], in file order.

    The discriminator knows windows of one size around masks, so each slice is judged in such a window around what was found.
    """
    device = next(segmentor.parameters()).device
    discriminator = new_discriminator(int(weights.meta["classes"]) - 1, recipe).to(device).eval()
    load({"discriminator": discriminator}, weights)
    segmentor.eval()
    cut = Cut(case.volume, Frame(int(weights.meta["slice_axis"]), float(weights.meta["grid_spacing"])))
    image = torch.from_numpy(np.stack([cut.image(channel.array) for channel in case.channels.values()])).movedim(1, 0)
    image = _window(image, _middle(cut.slices(found) > 0, cut.sides), int(weights.meta["window"][-1]))
    scores = []
    for part in torch.split(image, recipe.batch):
        logits, attentions = segmentor(part.to(device))
        scores.append(discriminator(pyramid(logits.softmax(1), attentions)).cpu())
    doubt = ((1 - torch.cat(scores)) / 2).clamp(0, 1).numpy().astype(np.float32)
    return cut.in_file_order(doubt)


def _middle(found: NDArray[np.bool_], sides: tuple[int, int]) -> tuple[int, int]:
    """Middle of what was found, or of the slice, in pixels of the network's slices."""
    middle = []
    for axis, side in zip((1, 2), sides, strict=True):
        hits = np.flatnonzero(found.any(axis=(0, 3 - axis)))
        share = (hits[0] + hits[-1] + 1) / 2 / found.shape[axis] if len(hits) else 0.5
        middle.append(int(share * side))
    return middle[0], middle[1]


def _window(image: torch.Tensor, middle: tuple[int, int], side: int) -> torch.Tensor:
    """A window of the slices (S, C, H, W) as (S, C, side, side); beyond them the edge goes on."""
    for axis, centre in zip((2, 3), middle, strict=True):
        length = image.shape[axis]
        if length > side:
            image = image.narrow(axis, min(max(0, centre - side // 2), length - side), side)
    below, right = side - image.shape[2], side - image.shape[3]
    return functional.pad(image, (right // 2, right - right // 2, below // 2, below - below // 2), mode="replicate")
