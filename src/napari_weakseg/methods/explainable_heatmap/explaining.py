"""A classifier carried out on a case's images: logits, heatmaps and decision points, exactly, in as much memory as there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ...training.inference import Window, mixed_precision, sliding_window
from .networks import build_network
from .pooling import DecisionPoints, TiledPooling

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...training.inference import Sizes
    from . import ExplainableHeatmapRecipe
    from .classifier import ExplainableClassifier

SLICES = 8
"""Slices per pass of a 2D network; a 3D one sees four times as many beside its halo."""


SMALLEST = 32
"""Rows and columns that a network sees at least beside its halo."""


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
    window: Sizes | None = None,
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
    window : tuple of int, optional
        Slices, rows and columns per pass, without what the network sees beyond them; default `usual_window`.
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
    sizes = window or usual_window(network, (slices, height, width))
    halo, stride = _reach_of(network)

    def predict(part: Tensor, place: Window) -> Tensor:
        with mixed_precision(device):
            if flat:
                batch = part[0].transpose(0, 1).contiguous(memory_format=torch.channels_last)
                features = network.features(batch).float().transpose(0, 1)
            else:
                features = network.features(part)[0].float()
        depth, rows, columns = place.valid
        first, top, left = (start + inside.start for start, inside in zip(place.start, place.valid, strict=True))
        sure = features[:, :, rows, columns]
        for index in range(depth.start, depth.stop):
            pools[place.start[0] + index].add(sure[:, index], (top, left))
        if not meta["by_slice"] and depth.stop > depth.start:
            whole.add(sure[:, depth], (first, top, left))
        return network.head.heatmap(features[None]) if heatmaps else features[None, :1]

    maps = sliding_window(predict, seen, sizes, halo=halo, stride=stride, device=device)
    by_slice = torch.stack([pool.logits() for pool in pools]).cpu()
    decided = pools if meta["by_slice"] else [whole]
    logits = by_slice if meta["by_slice"] else whole.logits()[None].cpu()
    found = [pool.points() for pool in decided] if points else []
    return Explained(logits, by_slice, maps if heatmaps else maps[:0], found)


def usual_window(network: ExplainableClassifier, size: Sizes) -> Sizes:
    """Slices, rows and columns that a network sees at once of images of that size: some slices, whole."""
    flat = len(network.kernels[0]) == 2
    whole = not flat and network.halo is None
    return (size[0] if whole else min(size[0], SLICES if flat else 4 * SLICES), *size[1:])


def smallest_window(network: ExplainableClassifier, size: Sizes) -> Sizes:
    """The least that a network can be shown at once; one whose features depend on the whole image is shown the whole."""
    flat = len(network.kernels[0]) == 2
    if network.halo is None:
        return (1 if flat else size[0], *size[1:])
    return (1, *(min(side, SMALLEST) for side in size[1:]))


def _reach_of(network: ExplainableClassifier) -> tuple[Sizes, Sizes]:
    """Halo and stride along slices, rows and columns; none where the image is seen whole."""
    if network.halo is None:
        return (0, 0, 0), (1, 1, 1)
    if len(network.kernels[0]) == 2:
        return (0, *network.halo), (1, *network.stride)
    return network.halo, network.stride
