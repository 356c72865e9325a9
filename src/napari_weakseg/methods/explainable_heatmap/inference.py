"""Weights to scores, heatmaps, decision points and a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from ...arrays.body import body_mask
from ...arrays.heatmap_refinement import refined_mask, refined_probability
from ...arrays.heatmaps import heatmap_mask, multi_otsu, threshold_at, where_predicted
from ...errors import DataError
from ...method import Result
from ...training.devices import pick_device
from ...training.inference import with_fallback
from .explaining import Explained, context_of, explained, network_of, smallest_window, usual_window
from .images import Images, images_of
from .learner import structures_of
from .sequence import in_sequence
from .symmetry import with_excess

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ...case import Case
    from ...method import Weights
    from ...training.inference import Sizes
    from . import ExplainableHeatmapRecipe
    from .classifier import ExplainableClassifier

MOST_NAMES, LARGEST_SPACING = 64, 1000.0
"""Channels or classes, and mm between voxels, beyond which weights are not believed."""

THRESHOLD_MASK = "heatmap mask"
"""Name among a result's maps of the mask that the threshold alone gives."""


def predict(case: Case, weights: Weights) -> Result:
    """See `napari_weakseg.methods.explainable_heatmap.predict`."""
    from . import working_memory

    recipe = cast("ExplainableHeatmapRecipe", weights.recipe)
    network, meta = network_from(weights)
    device, note = pick_device(recipe.device)
    images = images_of(case, recipe, channels=meta["channels"], slice_axis=int(meta["slice_axis"]))
    images = with_excess(images, meta.get("mirror"), recipe.symmetry)

    def run(where: torch.device, window: Sizes) -> Explained:
        return explained(network, images.tensor, recipe, meta, where, window=window, points=True)

    size = tuple(images.tensor.shape[1:])
    windows = usual_window(network, size), smallest_window(network, size)
    found, notes = with_fallback(run, device, windows[0], smallest=windows[1], needed=working_memory(case, recipe))
    result = _result(case, recipe, meta, images, found)
    every = (*([note] if note else []), *notes, *result.notes)
    return Result(result.mask, result.structures, result.maps, result.scores, {}, every, result.tables)


def network_from(weights: Weights) -> tuple[ExplainableClassifier, dict[str, Any]]:
    """The trained network, and what it was trained on.

    Raises
    ------
    DataError
        Weights that do not say what they are, or do not fit the network that they name.
    """
    recipe = cast("ExplainableHeatmapRecipe", weights.recipe)
    meta = dict(weights.meta)
    lacking = [name for name in ("channels", "classes", "slice_axis", "by_slice", "spacing", "inputs") if name not in meta]
    if lacking:
        raise DataError(f"the weights do not say their {lacking[0].replace('_', ' ')}; train again, or take another run.")
    if not _fits(meta, recipe):
        raise DataError("the weights say something odd of what they were trained on; train again, or take another run.")
    network = network_of(recipe, meta)
    state = {name: torch.from_numpy(np.array(value)) for name, value in weights.tensors.items()}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise DataError("the weights do not fit the network that they name; train again, or take another run.") from error
    return network, meta


def _fits(meta: Mapping[str, Any], recipe: ExplainableHeatmapRecipe) -> bool:
    """Whether a network can be built, and a prediction made, from what weights say: nothing protects that from edits."""
    channels, classes, mirror = meta["channels"], meta["classes"], meta.get("mirror")
    named = all(isinstance(names, list | tuple) and all(isinstance(n, str) for n in names) for names in (channels, classes))
    if not named or not 1 <= len(channels) <= MOST_NAMES or not 2 <= len(classes) <= MOST_NAMES:
        return False
    seen = len(channels) * (2 if mirror is not None and recipe.symmetry != "off" else 1) * (1 + 2 * context_of(recipe))
    good = meta["slice_axis"] in (0, 1, 2) and meta["inputs"] == seen and isinstance(meta["by_slice"], bool)
    good &= mirror is None or mirror in (0, 1, 2)
    count, thresholds, chain = len(classes), meta.get("thresholds"), meta.get("chain")
    try:
        spacing = np.asarray(meta["spacing"], dtype=np.float64)
        good &= spacing.shape == (3,) and bool(((spacing > 0) & (spacing < LARGEST_SPACING)).all())
        if thresholds is not None:
            values = np.asarray([0.0 if value is None else value for value in thresholds], dtype=np.float64)
            good &= values.shape == (count,) and bool(np.isfinite(values).all())
        if meta["by_slice"] and recipe.sequence > 0:
            shapes = {"first": (count,), "last": (count,), "steps": (count, count)}
            parts = {name: np.asarray(cast("Any", chain)[name], dtype=np.float64) for name in shapes}
            good &= all(part.shape == shapes[name] and bool((part > 0).all()) for name, part in parts.items())
    except (KeyError, TypeError, ValueError):
        return False
    return good


def _result(case: Case, recipe: ExplainableHeatmapRecipe, meta: Mapping[str, Any], images: Images, found: Explained) -> Result:
    """Everything on the volume's grid."""
    classes, axis = tuple(meta["classes"]), int(meta["slice_axis"])
    structures = structures_of(classes)
    probability = torch.softmax(found.logits.double(), dim=1).numpy()
    by_slice = torch.softmax(found.slice_logits.double(), dim=1).numpy()
    if meta["by_slice"] and recipe.sequence > 0:
        probability = by_slice = in_sequence(found.logits.numpy(), meta["chain"], recipe.sequence)
    heatmaps = {k: images.frame.to_volume(found.heatmaps[k]) for k in range(1, len(classes))}
    maps: dict[str, NDArray[Any]] = {f"heatmap {classes[k]}": heatmap for k, heatmap in heatmaps.items()}
    decided = _decisions(found, images, classes, bool(meta["by_slice"]))
    tables = {"slice probabilities": by_slice, "slice logits": found.slice_logits.double().numpy()} | decided
    predicted = probability.argmax(axis=1)
    body = body_mask(case.volume.array)
    plain = np.zeros(case.volume.shape, dtype=np.uint8)
    refined = np.zeros_like(plain)
    best = {False: np.full(plain.shape, -np.inf, dtype=np.float32), True: np.full(plain.shape, -np.inf, dtype=np.float32)}
    scores = {f"decided in air {name}": _in_air(decided[f"decision points {name}"], body) for name in classes[1:]}
    for k, heatmap in heatmaps.items():
        shown = predicted == k if meta["by_slice"] else bool(predicted[0] == k)
        allowed = where_predicted(case.volume.shape, shown, slice_axis=axis, inside=body)
        threshold = _threshold(heatmap, allowed, recipe, meta, k)
        scores[f"threshold {classes[k]}"] = threshold
        if not allowed.any():
            continue
        limits: dict[str, Any] = {"voxel_volume": case.volume.voxel_volume, "min_size": recipe.min_component}
        mask = heatmap_mask(heatmap, threshold, allowed=allowed, **limits)
        _draw(plain, mask, k, heatmap - threshold, best[False])
        if recipe.refine:
            channels = [volume.array for volume in case.channels.values()]
            near = refined_probability(channels, heatmap, threshold, allowed=allowed, spacing=case.volume.spacing, **limits)
            _draw(refined, refined_mask(near, **limits), k, near, best[True])
    maps[THRESHOLD_MASK] = plain.astype(np.float32)
    volume = probability[0] if not meta["by_slice"] else _of_slices(by_slice)
    scores |= {f"probability {name}": float(value) for name, value in zip(classes, volume, strict=True)}
    drawn = case.volume.with_array(refined if recipe.refine else plain)
    return Result(drawn, structures, maps, scores, {}, (), tables)


def _in_air(points: NDArray[np.float64], body: NDArray[np.bool_]) -> float:
    """Share of a decision's weight whose places lie outside the body: what speaks there is that nothing is seen.

    A feature map that is lowest on the body has its maximum in the air around it, or where the image was padded; such a
    point is put at the nearest voxel of the image. It is as much part of the sum as any other.
    """
    i, j, k = points[:, :3].astype(int).T
    weight = np.abs(points[:, 3])
    return float(weight[~body[i, j, k]].sum() / weight.sum()) if weight.any() else 0.0


def _threshold(
    heatmap: NDArray[np.float32], allowed: NDArray[np.bool_], recipe: ExplainableHeatmapRecipe, meta: Mapping[str, Any], k: int
) -> float:
    """One threshold for the volume: from training images without the class, or from the histogram where it is predicted."""
    learnt = (meta.get("thresholds") or [None] * (k + 1))[k]
    if recipe.threshold == "negatives" and learnt is not None:
        return float(learnt)
    return threshold_at(multi_otsu(heatmap, allowed), recipe.phi)


def _draw(
    labels: NDArray[np.uint8], mask: NDArray[np.bool_], value: int, strength: NDArray[np.float32], best: NDArray[np.float32]
) -> None:
    """Put a class into the labels where it is the strongest."""
    wins = mask & (strength > best)
    labels[wins], best[wins] = value, strength[wins]


def _of_slices(by_slice: NDArray[np.float64]) -> NDArray[np.float64]:
    """A volume shows a class as surely as its surest slice; the rest is the class without a finding."""
    volume = by_slice.max(axis=0)
    volume[0] = by_slice[:, 0].min()
    return np.asarray(volume / volume.sum())


def _decisions(found: Explained, images: Images, classes: tuple[str, ...], by_slice: bool) -> dict[str, NDArray[np.float64]]:
    """Tables of decision points on the volume's grid, and the biases that they start from."""
    tables: dict[str, NDArray[np.float64]] = {}
    for k in range(1, len(classes)):
        rows = []
        for index, points in enumerate(found.points):
            table = points.table(k, slice_axis=0, slice_index=index) if by_slice else points.table(k)
            table[:, :3] = images.frame.to_voxels(table[:, :3].astype(np.int64))
            rows.append(table)
        tables[f"decision points {classes[k]}"] = np.concatenate(rows) if rows else np.zeros((0, 5))
        bias = found.points[0].bias[k] if found.points else 0.0
        tables[f"decision bias {classes[k]}"] = np.array([bias])
    return tables
