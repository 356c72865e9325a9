"""Is the explanation true? Our heatmap beside Grad-CAM, occlusion and chance, on the same network and the same image.

On these networks Grad-CAM *at the last features* is nothing else: the gradient of a maximum is 1 at one voxel, so each channel
is weighed with W_kc / |Ω| and the result is the heatmap without its bias, cut at 0. So Grad-CAM is taken, as is usual, at the
deepest features, where it is coarse.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from torch import nn

from ...arrays.body import body_mask
from ...arrays.faithfulness import (
    blurred,
    deletion_curve,
    energy_inside,
    insertion_curve,
    map_similarity,
    occlusion_map,
    pointing_game,
)
from ...training.devices import pick_device
from .explaining import context_of, explained, with_neighbours
from .images import images_of
from .inference import network_from
from .layers import resize
from .symmetry import with_excess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from ...case import Case
    from ...method import Weights
    from . import ExplainableHeatmapRecipe
    from .classifier import ExplainableClassifier
    from .images import Images

    Map = NDArray[np.float32]

EXPLAINERS = ("heatmap", "Grad-CAM", "occlusion", "chance")
"""What is compared: ours, two that are usual, and noise, which no explanation may fail to beat."""

MEASURES = {
    "deletion": "area under the class's probability while the hottest voxels are blurred first; small is good",
    "insertion": "the same while the hottest voxels are put into the blurred image first; large is good",
    "pointing": "share of images whose hottest voxel lies in the mask",
    "energy": "share of the map above its median that lies in the mask; compare with the mask's own share",
    "randomised: rank": "rank correlation with the map of random weights; near 0 is good",
    "randomised: structure": "structural similarity with the map of random weights; near 0 is good",
}
"""What is measured, and what it says."""


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


def faithfulness(
    cases: Sequence[Case],
    weights: Weights,
    *,
    per_case: int = 2,
    steps: int = 20,
    seed: int = 0,
    on_case: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, float | None]]:
    """Judge the explanations of what a trained network predicts rightly on labelled cases.

    Parameters
    ----------
    cases : sequence of Case
        With image-level labels; reference masks, where they are, give pointing and energy.
    weights : Weights
        Of this method.
    per_case : int
        Slices of a case that are judged, evenly spaced among those whose class is not the first one and is predicted rightly;
        where labels are per volume, the whole volume once.
    steps, seed : int
        See `judged`.
    on_case : callable, optional
        Gets the number of the case that was judged, from 1, and of all.

    Returns
    -------
    dict
        Per explainer the mean of each of `MEASURES`, None where it is undefined everywhere, and ``"images"``, how many were
        judged; JSON values.
    """
    network, meta = network_from(weights)
    recipe = cast("ExplainableHeatmapRecipe", weights.recipe)
    device, _ = pick_device(recipe.device)
    network = network.to(device)
    rows: list[dict[str, dict[str, float]]] = []
    for number in range(len(cases)):
        case = cases[number]
        images = images_of(case, recipe, channels=meta["channels"], slice_axis=int(meta["slice_axis"]))
        images = with_excess(images, meta.get("mirror"), recipe.symmetry)
        for image, label, window in _decisions(network, images, case, recipe, meta, per_case, device):
            inside = _seen(body_mask(case.volume.array), images, window)
            mask = None if case.reference is None else _seen(_of_class(case.reference.array, label), images, window)
            rows.append(
                judged(
                    network, image, label, mask=mask, inside=inside if inside.any() else None, steps=steps, seed=seed
                ).measures
            )
        if on_case is not None:
            on_case(number + 1, len(cases))
    return {
        name: {**{measure: _mean([row[name][measure] for row in rows]) for measure in MEASURES}, "images": float(len(rows))}
        for name in EXPLAINERS
    }


def _decisions(
    network: ExplainableClassifier,
    images: Images,
    case: Case,
    recipe: ExplainableHeatmapRecipe,
    meta: Mapping[str, Any],
    per_case: int,
    device: torch.device,
) -> Iterator[tuple[Tensor, int, int | None]]:
    """Images (C, axes...) that are predicted rightly, with their class and, where it is one slice, its number."""
    if case.image_label is None:
        return
    truth = np.atleast_1d(case.image_label.label)
    if recipe.dimensions == "3D":
        whole, label = images.tensor.float().to(device), int(truth.max())
        with torch.inference_mode():
            guess = int(network.eval()(whole[None]).argmax())
        if label > 0 and guess == label:
            yield whole, label, None
        return
    found = explained(network, images.tensor, recipe, meta, device, heatmaps=False).slice_logits.argmax(dim=1).numpy()
    wanted = np.broadcast_to(truth, found.shape)
    right = np.flatnonzero((wanted > 0) & (found == wanted))
    for place in np.unique(np.linspace(0, max(0, len(right) - 1), per_case).astype(int))[: len(right)]:
        index = int(right[place])
        image = with_neighbours(images.tensor, context_of(recipe), torch.tensor([index]))[:, 0]
        yield image.to(device), int(wanted[index]), index


def _seen(mask: NDArray[np.bool_], images: Images, index: int | None) -> NDArray[np.bool_]:
    """A mask on the volume's grid as the network's images show it, one slice of it where `index` is given."""
    shown: NDArray[np.bool_] = images.frame.to_images(mask).numpy() > 0.5
    return shown if index is None else shown[index]


def _of_class(reference: NDArray[Any], label: int) -> NDArray[np.bool_]:
    """Where the class is: its own number in the mask, or all that is marked where the mask knows one structure alone."""
    own = reference == label
    return np.asarray(own if own.any() else reference != 0, dtype=bool)


def _mean(values: Sequence[float]) -> float | None:
    """Mean of what is defined."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else None
