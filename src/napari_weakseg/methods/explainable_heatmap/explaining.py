"""A classifier carried out on a case's images: logits, heatmaps and decision points, exactly, in as much memory as there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor

from ...training.inference import Window, mixed_precision, sliding_window
from .networks import build_network
from .pooling import DecisionPoints, TiledPooling

if TYPE_CHECKING:
    from collections.abc import Mapping

    from . import ExplainableHeatmapRecipe
    from .classifier import ExplainableClassifier

SLICES = 8
"""Slices per pass of a 2D network; a 3D one sees four times as many beside its halo."""


class Explained(NamedTuple):
    """What a classifier says of a case.

    `logits` (N, K): one row per slice, or a single one for the volume, as the labels were. `slice_logits` (slices, K).
    `heatmaps` (K, slices, height, width), empty where they were not asked for. `points`: one `DecisionPoints` per row of
    `logits`.
    """

    logits: Tensor
    slice_logits: Tensor
    heatmaps: Tensor
    points: list[DecisionPoints]


def context_of(recipe: ExplainableHeatmapRecipe) -> int:
    """Neighbours on either side of a slice that a 2D network sees as further channels."""
    return recipe.context if recipe.dimensions == "2D" else 0


def with_neighbours(images: Tensor, context: int, slices: Tensor | None = None) -> Tensor:
    """Images (C, slices, H, W) with each slice's neighbours as channels, (C * (2 context + 1), slices, H, W), float32.

    Beyond the first and the last slice these are repeated. `slices` picks some of the slices.
    """
    here = torch.arange(images.shape[1]) if slices is None else slices
    if context == 0:
        return images[:, here].float()
    places = here[None] + torch.arange(-context, context + 1)[:, None]
    near = images[:, places.clamp(0, images.shape[1] - 1)].float()
    return near.flatten(0, 1)


def network_of(recipe: ExplainableHeatmapRecipe, meta: Mapping[str, Any]) -> ExplainableClassifier:
    """An untrained network for what `meta` says was learnt from."""
    return build_network(recipe, inputs=int(meta["inputs"]), classes=len(meta["classes"]), spacing=meta["spacing"])


@torch.inference_mode()
def explained(
    network: ExplainableClassifier,
    images: Tensor,
    recipe: ExplainableHeatmapRecipe,
    meta: Mapping[str, Any],
    device: torch.device,
    *,
    window: int = 0,
    heatmaps: bool = True,
    points: bool = False,
    only: Tensor | None = None,
) -> Explained:
    """Carry out a classifier.

    Parameters
    ----------
    network : ExplainableClassifier
        Put on the device and into evaluation.
    images : Tensor, shape (C, slices, H, W)
        See `images.Images`.
    recipe, meta
        Of the weights.
    device : torch.device
        Where it runs.
    window : int
        Slices per pass; 0 for the usual number.
    heatmaps, points : bool
        Whether these are wanted.
    only : Tensor of int, optional
        Slices to look at (2D alone); default all.
    """
    flat = recipe.dimensions == "2D"
    network = network.to(device).eval()
    seen = with_neighbours(images, context_of(recipe), only)
    _, slices, height, width = seen.shape
    pools = [TiledPooling(network.head, (height, width)) for _ in range(slices)]
    whole = TiledPooling(network.head, (slices, height, width))
    halo, stride = (0, 0, 0), (1, 1, 1)
    if flat:
        sizes = (window or SLICES, height, width)
    elif network.halo is None:
        sizes = (slices, height, width)
    else:
        halo, stride = cast("tuple[int, int, int]", network.halo), cast("tuple[int, int, int]", network.stride)
        sizes = (window or 4 * SLICES, height, width)

    def predict(part: Tensor, place: Window) -> Tensor:
        with mixed_precision(device):
            if flat:
                batch = part[0].transpose(0, 1).contiguous(memory_format=torch.channels_last)
                features = network.features(batch).float().transpose(0, 1)
            else:
                features = network.features(part)[0].float()
        first, inside = place.start[0], place.valid[0]
        for index in range(inside.start, inside.stop):
            pools[first + index].add(features[:, index], (0, 0))
        if not meta["by_slice"] and inside.stop > inside.start:
            whole.add(features[:, inside], (first + inside.start, 0, 0))
        return network.head.heatmap(features[None]) if heatmaps else features[None, :1]

    maps = sliding_window(predict, seen, sizes, halo=halo, stride=stride, device=device)
    by_slice = torch.stack([pool.logits() for pool in pools]).cpu()
    decided = pools if meta["by_slice"] else [whole]
    logits = by_slice if meta["by_slice"] else whole.logits()[None].cpu()
    found = [pool.points() for pool in decided] if points else []
    return Explained(logits, by_slice, maps if heatmaps else maps[:0], found)
