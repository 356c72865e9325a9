r"""Is an explanation true? Measures that ask the classifier, not the eye.

Nothing here knows a network: a classifier is a function from a batch of images to one score each, and a map is an array. So
the same code judges our heatmap, Grad-CAM, occlusion, or anything else.

References
----------
Deletion and insertion: Petsiuk, Das and Saenko, RISE, BMVC 2018. Pointing game: Zhang et al., IJCV 2018. Energy inside:
Wang et al., Score-CAM, CVPR workshops 2020. Randomised weights: Adebayo et al., NeurIPS 2018. Occlusion: Zeiler and Fergus,
ECCV 2014.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.floating[Any]]
    Score = Callable[[NDArray[np.float32]], ArrayLike]
    """Images (B, C, axes...) to one score each, shape (B,): at best the class's probability."""

BATCH = 16
"""Images that are scored at once."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Score against the share of voxels that were exchanged.

    Parameters
    ----------
    shares : ndarray, shape (N,)
        0 to 1.
    scores : ndarray, shape (N,)
        The classifier's score at each share.
    """

    shares: NDArray[np.float64]
    scores: NDArray[np.float64]

    @property
    def area(self) -> float:
        """Area under the curve by trapezia, between 0 and 1 for a probability."""
        from scipy.integrate import trapezoid

        return float(trapezoid(self.scores, self.shares))


def blurred(image: Array, sigma: float | Sequence[float] = 8.0) -> NDArray[np.float32]:
    """An image (C, axes...) in which a lesion cannot be told any more: the usual stand-in for "not there"."""
    from scipy.ndimage import gaussian_filter

    return np.stack([gaussian_filter(channel.astype(np.float32), sigma) for channel in image])


def deletion_curve(
    score: Score,
    image: Array,
    heatmap: Array,
    *,
    stand_in: Array | None = None,
    steps: int = 20,
    inside: NDArray[np.bool_] | None = None,
) -> Curve:
    """Take away the hottest voxels first; a true map makes the score fall at once, so a small area is good.

    Parameters
    ----------
    score : callable
        Images (B, C, axes...) float32 to scores (B,).
    image : ndarray, shape (C, axes...)
        The image that was classified.
    heatmap : ndarray, shape (axes...)
        The map that is judged; only its order counts.
    stand_in : ndarray, shape (C, axes...), optional
        What takes a voxel's place; default the image, `blurred`.
    steps : int
        Points of the curve after the first.
    inside : ndarray of bool, shape (axes...), optional
        Voxels that take part, for example the body; default all.

    Raises
    ------
    ValueError
        The map does not fit the image, or no voxel takes part.
    """
    return _exchange(score, _with_stand_in(image, stand_in), heatmap, steps, inside)


def insertion_curve(
    score: Score,
    image: Array,
    heatmap: Array,
    *,
    stand_in: Array | None = None,
    steps: int = 20,
    inside: NDArray[np.bool_] | None = None,
) -> Curve:
    """Put the hottest voxels into the stand-in first; a true map makes the score rise at once, so a large area is good.

    Parameters and errors as of `deletion_curve`.
    """
    return _exchange(score, _with_stand_in(image, stand_in)[::-1], heatmap, steps, inside)


def _with_stand_in(image: Array, stand_in: Array | None) -> tuple[NDArray[np.float32], ...]:
    """An image and what takes its voxels' place.

    Raises
    ------
    ValueError
        They differ in shape.
    """
    start = np.asarray(image, dtype=np.float32)
    other = blurred(image) if stand_in is None else np.asarray(stand_in, dtype=np.float32)
    if other.shape != start.shape:
        raise ValueError(f"a stand-in of shape {other.shape} does not fit an image of shape {start.shape}")
    return start, other


def _exchange(
    score: Score,
    images: tuple[NDArray[np.float32], ...],
    heatmap: Array,
    steps: int,
    inside: NDArray[np.bool_] | None,
) -> Curve:
    """Exchange the voxels of the first image for those of the second, the hottest first; equals in a fixed random order."""
    start, end = images
    if heatmap.shape != start.shape[1:]:
        raise ValueError(f"a map of shape {heatmap.shape} does not fit an image of shape {start.shape}")
    places = np.arange(heatmap.size) if inside is None else np.flatnonzero(inside)
    if places.size == 0:
        raise ValueError("no voxel takes part in the curve")
    values = np.nan_to_num(heatmap.ravel()[places], nan=-np.inf, neginf=-np.inf)
    ties = np.random.default_rng(0).permutation(places.size)  # a flat map must not profit from the order of the voxels
    order = places[np.lexsort((ties, -values))]
    cuts = np.round(np.linspace(0, order.size, steps + 1)).astype(int)
    scores: list[float] = []
    current = start.reshape(len(start), -1).copy()
    replaced = end.reshape(len(end), -1)
    batch = [current.copy()]
    for number, (low, high) in enumerate(pairwise(cuts), start=1):
        current[:, order[low:high]] = replaced[:, order[low:high]]
        batch.append(current.copy())
        if len(batch) == BATCH or number == steps:
            scores += _scores(score, np.stack(batch).reshape(-1, *start.shape))
            batch = []
    return Curve(cuts / order.size, np.array(scores))


def _scores(score: Score, images: NDArray[np.float32]) -> list[float]:
    found = np.asarray(score(images), dtype=np.float64)
    if found.shape != (len(images),):
        raise ValueError(f"the classifier gave scores of shape {found.shape} for {len(images)} images; one each is needed")
    return [float(value) for value in found]


def pointing_game(heatmap: Array, mask: NDArray[Any], *, tolerance: int = 0) -> bool:
    """Whether the hottest voxel lies in the mask, or within `tolerance` voxels of it; a constant map misses.

    Raises
    ------
    ValueError
        An empty mask: there is nothing to point at.
    """
    from scipy.ndimage import distance_transform_edt

    truth = _truth(heatmap, mask)
    if not truth.any():
        raise ValueError("there is nothing to point at in an empty mask")
    finite = np.where(np.isfinite(heatmap), heatmap, -np.inf)
    if finite.max() == finite.min():
        return False
    hottest = np.unravel_index(int(finite.argmax()), truth.shape)
    if truth[hottest] or tolerance == 0:
        return bool(truth[hottest])
    return bool(distance_transform_edt(~truth)[hottest] <= tolerance)


def energy_inside(heatmap: Array, mask: NDArray[Any], *, inside: NDArray[np.bool_] | None = None) -> float:
    """Share of the map's energy that lies in the mask, 0 to 1; nan for a constant map.

    The map is counted from its median in `inside` (default everywhere), and what lies below is 0, so that a constant that is
    added to a heatmap changes nothing. By chance the share is about that of the mask in the volume: report both.
    """
    truth = _truth(heatmap, mask)
    part = np.isfinite(heatmap) if inside is None else inside & np.isfinite(heatmap)
    if not part.any():
        return float("nan")
    energy = np.where(part, np.maximum(heatmap - np.median(heatmap[part]), 0), 0).astype(np.float64)
    total = float(energy.sum())
    return float(energy[truth].sum()) / total if total > 0 else float("nan")


def _truth(heatmap: Array, mask: NDArray[Any]) -> NDArray[np.bool_]:
    truth: NDArray[np.bool_] = np.asarray(mask) != 0
    if truth.shape != heatmap.shape:
        raise ValueError(f"a map of shape {heatmap.shape} does not fit a mask of shape {truth.shape}")
    return truth


def map_similarity(first: Array, second: Array, *, inside: NDArray[np.bool_] | None = None) -> dict[str, float]:
    """How alike two maps are, whatever their units: for the check with randomised weights, where a low value is good.

    Returns
    -------
    dict
        ``"rank correlation"`` (Spearman), and ``"structural similarity"`` (mean SSIM of the maps scaled to 0..1, over planes of
        the longest two axes in 3D). 0 where one of them is constant: it says nothing then.
    """
    from scipy.stats import rankdata

    if first.shape != second.shape:
        raise ValueError(f"maps of shapes {first.shape} and {second.shape} cannot be compared")
    part = np.isfinite(first) & np.isfinite(second) & (True if inside is None else inside)
    if not part.any() or np.ptp(first[part]) == 0 or np.ptp(second[part]) == 0:
        return {"rank correlation": 0.0, "structural similarity": 0.0}
    ranks = [rankdata(values[part]) for values in (first, second)]
    correlation = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    return {"rank correlation": correlation, "structural similarity": _structural_similarity(first, second, part)}


def _structural_similarity(first: Array, second: Array, part: NDArray[np.bool_]) -> float:
    """Mean over the planes of the two longest axes; each map scaled by its own values where it counts."""
    from skimage.metrics import structural_similarity

    scaled = []
    for values in (first, second):
        low, high = float(values[part].min()), float(values[part].max())
        scaled.append(np.where(part, (np.nan_to_num(values) - low) / (high - low), 0).clip(0, 1).astype(np.float64))
    axis = int(np.argmin(first.shape)) if first.ndim == 3 else None
    pairs = [(scaled[0], scaled[1])] if axis is None else list(zip(*(np.moveaxis(m, axis, 0) for m in scaled), strict=True))
    window = min(7, *pairs[0][0].shape)
    window -= 1 - window % 2
    if window < 3:
        return 0.0
    return float(np.mean([structural_similarity(a, b, data_range=1.0, win_size=window) for a, b in pairs]))


def occlusion_map(
    score: Score,
    image: Array,
    *,
    size: ArrayLike = 16,
    step: ArrayLike = 8,
    stand_in: Array | None = None,
    inside: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """How much the score falls when a box is covered, averaged over the boxes that cover a voxel.

    Parameters
    ----------
    score : callable
        Images (B, C, axes...) float32 to scores (B,).
    image : ndarray, shape (C, axes...)
        The image that was classified.
    size, step : int or one per axis
        Sides of the box in voxels, and how far it moves.
    stand_in : ndarray, shape (C, axes...), optional
        What covers; default the image, `blurred`.
    inside : ndarray of bool, shape (axes...), optional
        Boxes that miss it are not tried.

    Returns
    -------
    ndarray, shape (axes...), float32
        High where the score depends on what is there; 0 where no box was tried.
    """
    start, other = _with_stand_in(image, stand_in)
    shape = start.shape[1:]
    whole = _scores(score, start[None])[0]
    total, count = np.zeros(shape), np.zeros(shape)
    boxes = [box for box in _boxes(shape, size, step) if inside is None or inside[box].any()]
    for first in range(0, len(boxes), BATCH):
        group = boxes[first : first + BATCH]
        covered = np.repeat(start[None], len(group), axis=0)
        for number, box in enumerate(group):
            covered[number][(slice(None), *box)] = other[(slice(None), *box)]
        for box, found in zip(group, _scores(score, covered), strict=True):
            total[box] += whole - found
            count[box] += 1
    return np.asarray(total / np.maximum(count, 1), dtype=np.float32)


def _boxes(shape: tuple[int, ...], size: ArrayLike, step: ArrayLike) -> Iterator[tuple[slice, ...]]:
    """Boxes that together cover the whole image; the last of each axis ends at the border."""
    sides = np.minimum(np.broadcast_to(size, len(shape)), shape)
    moves = np.maximum(1, np.minimum(np.broadcast_to(step, len(shape)), sides))
    starts = [sorted({*range(0, n - side + 1, move), n - side}) for n, side, move in zip(shape, sides, moves, strict=True)]
    for corner in np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, len(shape)):
        yield tuple(slice(int(low), int(low + side)) for low, side in zip(corner, sides, strict=True))
