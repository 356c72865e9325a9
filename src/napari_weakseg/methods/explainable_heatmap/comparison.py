"""Is the explanation true? Our heatmap beside Grad-CAM, occlusion and chance, on the same network and the same image.

On these networks Grad-CAM *at the last features* is nothing else: the gradient of a maximum is 1 at one voxel, so each channel
is weighed with W_kc / |Ω| and the result is the heatmap without its bias, cut at 0. So Grad-CAM is taken, as is usual, at the
deepest features, where it is coarse.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn

from ...arrays.faithfulness import (
    blurred,
    deletion_curve,
    energy_inside,
    insertion_curve,
    map_similarity,
    occlusion_map,
    pointing_game,
)
from .layers import resize

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from .classifier import ExplainableClassifier

    Map = NDArray[np.float32]

EXPLAINERS = ("heatmap", "Grad-CAM", "occlusion", "chance")
"""What is compared: ours, two that are usual, and noise, which no explanation may fail to beat."""

MEASURES = ("deletion", "insertion", "pointing", "energy", "randomised: rank", "randomised: structure")
"""Area under the deletion curve (small is good) and the insertion curve (large); hottest voxel inside the mask; share of the
energy inside the mask; likeness to the map of a network with random weights, by ranks and by structure (small)."""


class Judged(NamedTuple):
    """Maps (axes...) by explainer, and their measures; pointing and energy are nan without a mask."""

    maps: dict[str, Map]
    measures: dict[str, dict[str, float]]


class ClassScore:
    """The probability of one class, as a function of arrays (B, C, axes...)."""

    def __init__(self, network: ExplainableClassifier, label: int) -> None:
        self.network, self.label = network.eval(), label
        self.device = next(network.parameters()).device

    def __call__(self, images: Map) -> Map:
        """Score a batch."""
        with torch.inference_mode():
            logits = self.network(torch.from_numpy(np.ascontiguousarray(images)).to(self.device))
            scores: Map = logits.float().softmax(dim=1)[:, self.label].cpu().numpy()
        return scores


def own_map(network: ExplainableClassifier, image: Tensor, label: int) -> Map:
    """The network's heatmap of one image (C, axes...)."""
    with torch.inference_mode():
        heatmap: Map = network.eval().explain(image[None]).heatmap[0, label].float().cpu().numpy()
    return heatmap


def grad_cam(network: ExplainableClassifier, image: Tensor, label: int, *, layer: str = "") -> Map:
    """MONAI's Grad-CAM of one image (C, axes...), grown to the image's size by linear interpolation.

    Parameters
    ----------
    network : ExplainableClassifier
        Stays as it is.
    image : Tensor, shape (C, axes...)
        On the network's device.
    label : int
        The class.
    layer : str
        Name of the module whose features are weighed; default the network's `deepest`.
    """
    from monai.visualize import GradCAM

    copy = deepcopy(network).eval()  # MONAI's hooks stay on the network that they were put on
    copy.requires_grad_(True)
    camera = GradCAM(copy, target_layers=layer or copy.deepest)
    with torch.enable_grad():
        coarse = camera.compute_map(image[None].clone(), class_idx=label).detach().float()
    size = copy.padded_size(image.shape[1:])
    grown = resize(coarse, size, "bilinear")[0, 0]
    found: Map = grown[tuple(slice(n) for n in image.shape[1:])].cpu().numpy()
    return found


def randomised(network: ExplainableClassifier, seed: int = 0) -> ExplainableClassifier:
    """The same network with random weights everywhere; a map that stays the same does not show what was learnt."""
    copy = deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in copy.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset) and not isinstance(module, nn.PReLU):
                reset()
    copy.head.centre()
    return copy.eval()


def judged(
    network: ExplainableClassifier,
    image: Tensor,
    label: int,
    *,
    mask: NDArray[np.bool_] | None = None,
    inside: NDArray[np.bool_] | None = None,
    steps: int = 20,
    seed: int = 0,
) -> Judged:
    """Make and measure the explanations of one decision.

    Parameters
    ----------
    network : ExplainableClassifier
        Trained.
    image : Tensor, shape (C, axes...)
        What it was shown, on its device: a slice (2D) or a volume (3D), not more than memory holds in one pass.
    label : int
        The class whose decision is explained; to make sense, the predicted one.
    mask : ndarray of bool, shape (axes...), optional
        Where the class really is, for pointing game and energy alone.
    inside : ndarray of bool, shape (axes...), optional
        The body: voxels that take part.
    steps : int
        Points of the deletion and insertion curves.
    seed : int
        Of the random weights and of the noise.
    """
    network = deepcopy(network)
    network.head.centre()  # what all classes share explains none of them
    score = ClassScore(network, label)
    picture = image.detach().float().cpu().numpy()
    shape = picture.shape[1:]
    away = blurred(picture, [max(1.0, n / 12) for n in shape])
    cover = tuple(max(2, n // 8) for n in shape)
    half = tuple(max(1, n // 2) for n in cover)

    def explanations(net: ExplainableClassifier, number: int) -> dict[str, Map]:
        noise = np.random.default_rng((seed, number)).normal(size=shape).astype(np.float32)
        occluded = occlusion_map(ClassScore(net, label), picture, size=cover, step=half, stand_in=away, inside=inside)
        return dict(zip(EXPLAINERS, (own_map(net, image, label), grad_cam(net, image, label), occluded, noise), strict=True))

    maps, unlearnt = explanations(network, 0), explanations(randomised(network, seed), 1)
    measures: dict[str, dict[str, float]] = {}
    for name, values in maps.items():
        alike = map_similarity(values, unlearnt[name], inside=inside)
        hit, energy = float("nan"), float("nan")
        if mask is not None and mask.any():
            seen = values if inside is None else np.where(inside, values, values.min())
            hit, energy = float(pointing_game(seen, mask)), energy_inside(values, mask, inside=inside)
        found = (
            deletion_curve(score, picture, values, stand_in=away, steps=steps, inside=inside).area,
            insertion_curve(score, picture, values, stand_in=away, steps=steps, inside=inside).area,
            hit,
            energy,
            alike["rank correlation"],
            alike["structural similarity"],
        )
        measures[name] = dict(zip(MEASURES, found, strict=True))
    return Judged(maps, measures)
