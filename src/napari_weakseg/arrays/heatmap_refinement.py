r"""From a blurred heatmap to a boundary: its confident core and the image's own edges.

A heatmap says where, not how far: it is drawn by a network that was only ever asked *whether*. So of each component of the
thresholded heatmap only the hottest part is taken as certain, and what is far away as certainly not. In between three things
are weighed: the heatmap itself, how much the voxel looks like the core rather than like the surroundings (histograms,
re-estimated a few times with their own posterior, as in GrabCut), and the edges, which the random walker with prior sees
(`random_walker`, Grady 2005).

References
----------
Rother, Kolmogorov and Blake, GrabCut, SIGGRAPH 2004; Grady, CVPR 2005. The combination is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .body import box_of_mask
from .heatmaps import clean_mask
from .intensity import scaled_intensity
from .random_walker import BACKGROUND, FOREGROUND, FREE, random_walker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Map = NDArray[np.floating[Any]]

LEVELS = 48
"""Bins of an intensity histogram."""


@dataclass(frozen=True)
class Refinement:
    """How a heatmap becomes a boundary; the values were set by hand, not on a benchmark's masks.

    Parameters
    ----------
    core : float
        Hottest share of each component that is certain.
    reach : float
        How far beyond a component the boundary may lie, in radii of a ball of the component's volume.
    appearance : float
        Weight of the intensities beside the heatmap, which has 1.
    rounds : int
        Re-estimations of the histograms.
    beta : float
        How much an edge stops the walker.
    gamma : float
        Pull of the prior on the walker; small lets edges decide more.
    """

    core: float = 0.25
    reach: float = 0.5
    appearance: float = 0.7
    rounds: int = 3
    beta: float = 1000.0
    gamma: float = 0.05


def heatmap_seeds(
    heatmap: Map, mask: NDArray[np.bool_], *, spacing: ArrayLike = (1.0, 1.0, 1.0), core: float = 0.25, reach: float = 0.5
) -> NDArray[np.int8]:
    """Certain and uncertain voxels around a thresholded heatmap.

    Parameters
    ----------
    heatmap : ndarray, shape (I, J, K)
        The class's heatmap.
    mask : ndarray of bool, shape (I, J, K)
        The thresholded and cleaned heatmap.
    spacing : three floats
        Voxel size.
    core, reach : float
        See `Refinement`.

    Returns
    -------
    ndarray of int8
        `random_walker.FOREGROUND` in the hottest share of each component, `BACKGROUND` further than its reach (at least 1.5
        voxels) from every component, `FREE` between. All background for an empty mask.
    """
    from scipy import ndimage

    seeds = np.full(mask.shape, BACKGROUND, dtype=np.int8)
    if not mask.any():
        return seeds
    size = np.asarray(spacing, dtype=np.float64)
    components, number = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    volume = np.bincount(components.ravel())[1:] * float(size.prod())
    radius = np.cbrt(3 * volume / (4 * np.pi))
    distance, nearest = ndimage.distance_transform_edt(~mask, sampling=size, return_indices=True)
    owner = components[tuple(nearest)] - 1
    seeds[distance <= np.maximum(reach * radius, 1.5 * size.min())[owner]] = FREE
    for index, box in enumerate(ndimage.find_objects(components, number)):
        own = components[box] == index + 1
        hot = heatmap[box] >= np.quantile(heatmap[box][own], 1 - core)
        seeds[box][own & hot] = FOREGROUND
    return seeds


def refined_probability(
    images: Sequence[NDArray[Any]],
    heatmap: Map,
    threshold: float,
    *,
    allowed: NDArray[np.bool_] | None = None,
    spacing: ArrayLike = (1.0, 1.0, 1.0),
    settings: Refinement | None = None,
    voxel_volume: float = 1.0,
    min_size: float = 0.0,
) -> NDArray[np.float32]:
    """Probability of the object, from the heatmap's core and the image.

    Parameters
    ----------
    images : sequence of ndarray, shape (I, J, K)
        The channels.
    heatmap : ndarray, shape (I, J, K)
        The class's heatmap on the same grid.
    threshold : float
        As for the mask of the heatmap alone.
    allowed : ndarray of bool, optional
        Voxels that may be drawn, see `heatmaps.where_predicted`.
    spacing : three floats
        Voxel size; only ratios count.
    settings : Refinement, optional
        Default: its own defaults.
    voxel_volume, min_size : float
        See `heatmaps.clean_mask`.

    Returns
    -------
    ndarray, shape (I, J, K), float32
        The mask is what exceeds 0.5 (`refined_mask`); 0 where nothing may be drawn, and everywhere if nothing lies above the
        threshold.
    """
    how = Refinement() if settings is None else settings
    inside = np.isfinite(heatmap) if allowed is None else allowed & np.isfinite(heatmap)
    mask = clean_mask(inside & (heatmap > threshold), voxel_volume=voxel_volume, min_size=min_size) & inside
    full = np.zeros(mask.shape, dtype=np.float32)
    if not mask.any():
        return full
    size = np.asarray(spacing, dtype=np.float64) / float(np.min(spacing))
    radius = np.cbrt(3 * mask.sum() * size.prod() / (4 * np.pi))
    box = box_of_mask(mask, margin=4 + int(np.ceil(max(how.reach * radius, 1.5))))
    inside, values = inside[box], np.asarray(heatmap[box], dtype=np.float32)
    seeds = heatmap_seeds(values, mask[box], spacing=size, core=how.core, reach=how.reach)
    seeds[~inside] = BACKGROUND
    core = seeds == FOREGROUND
    channels = [scaled_intensity(image[box]) for image in images]
    prior = _prior(channels, values, threshold, seeds, how)
    edges = max(channels, key=lambda channel: _contrast(channel, core, seeds == BACKGROUND))
    maps = random_walker(edges, seeds, spacing=size, beta=how.beta, gamma=how.gamma, prior=prior, start=prior, tol=1e-2)
    full[box] = np.where(inside, maps[0], 0)
    return full


def refined_mask(
    probability: NDArray[np.floating[Any]], *, voxel_volume: float = 1.0, min_size: float = 0.0
) -> NDArray[np.bool_]:
    """What exceeds one half, cleaned as `heatmaps.clean_mask` does."""
    return clean_mask(probability > 0.5, voxel_volume=voxel_volume, min_size=min_size) & (probability > 0)


def _prior(
    channels: Sequence[NDArray[np.float32]],
    heatmap: NDArray[np.float32],
    threshold: float,
    seeds: NDArray[np.int8],
    how: Refinement,
) -> NDArray[np.float32]:
    """Heatmap and appearance as one probability."""
    core, free = seeds == FOREGROUND, seeds != BACKGROUND
    scale = max(float(np.median(heatmap[core])) - threshold, 1e-6)
    heat = np.clip((heatmap - threshold) / scale, -2, 2)
    cells = [np.minimum((channel * LEVELS).astype(np.int64), LEVELS - 1) for channel in channels]
    posterior = np.where(free, 1 / (1 + np.exp(-2 * heat)), 0)
    ratio = np.zeros(heatmap.shape)
    for _ in range(how.rounds if how.appearance > 0 else 0):
        posterior = np.where(core, 1.0, posterior)
        ratio = sum((_log_ratio(cell, posterior) for cell in cells), start=np.zeros(heatmap.shape)) / len(cells)
        posterior = np.where(free, 1 / (1 + np.exp(-(heat + how.appearance * ratio))), 0)
    return np.asarray(np.where(core, 1.0, posterior), dtype=np.float32)


def _log_ratio(cell: NDArray[np.int64], inside: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Log-likelihood ratio of the smoothed histograms inside and outside, clipped to +-4."""
    from scipy.ndimage import gaussian_filter1d

    tables = []
    for weight in (inside, 1 - inside):
        counts = np.bincount(cell.ravel(), weights=weight.ravel(), minlength=LEVELS)
        smooth = gaussian_filter1d(counts, 1.5, mode="nearest")
        tables.append(np.log(smooth / max(float(smooth.sum()), 1e-12) + 1e-3))
    return np.asarray(np.clip(tables[0] - tables[1], -4, 4)[cell])


def _contrast(channel: NDArray[np.float32], core: NDArray[np.bool_], outside: NDArray[np.bool_]) -> float:
    """Fisher's separation of core and surroundings: which channel shows the edge best."""
    if not core.any() or not outside.any():
        return 0.0
    inner, outer = channel[core], channel[outside]
    return float(np.square(inner.mean() - outer.mean()) / (inner.var() + outer.var() + 1e-6))
