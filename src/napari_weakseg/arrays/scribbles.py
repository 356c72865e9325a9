"""Strokes on one object: the walker that they seed, and the mask that they leave standing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from ..prompts import BACKGROUND_STROKE
from .first_mask import BETA
from .intensity import scaled_intensity
from .random_walker import BACKGROUND, FOREGROUND, FREE, random_walker

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

REACH = 0.03
"""How far the image may move the boundary of a prior, as a share of the object's size (see `first_mask.sharpened`)."""


def foreground_of(strokes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where strokes mark the object: all codes but 0 (not marked) and 255 (background)."""
    marked: NDArray[np.bool_] = (strokes != 0) & (strokes != BACKGROUND_STROKE)
    return marked


def walked(
    image: NDArray[Any],
    prior: NDArray[np.float32],
    strokes: NDArray[np.uint8] | None,
    *,
    inside: tuple[slice, ...],
    side: ArrayLike,
    spacing: ArrayLike = (1, 1, 1),
    reach: float = REACH,
) -> NDArray[np.float32]:
    """Let the random walker draw the boundary of a probability along the image's edges, with strokes as its hard seeds.

    Parameters
    ----------
    image : ndarray, shape (i, j, k)
        Intensities of the window.
    prior : ndarray, shape (i, j, k), float32
        The probability to sharpen.
    strokes : ndarray, shape (i, j, k), uint8, or None
        0 = free, 255 = background, else object.
    inside : tuple of slice
        The part of the window that the object may lie in; foreground strokes count outside it too.
    side : three floats
        The object's extent in voxels: the diffusion length is `reach` times its geometric mean.
    spacing : three floats
        Voxel size; only its ratios count.
    reach : float
        So far may the image move the boundary, as a share of the object's size.

    Returns
    -------
    ndarray, shape (i, j, k), float32
        1 and 0 on the strokes.
    """
    seeds = np.full(prior.shape, BACKGROUND, dtype=np.int8)
    seeds[inside] = FREE
    if strokes is not None:
        seeds[strokes == BACKGROUND_STROKE] = BACKGROUND
        seeds[foreground_of(strokes)] = FOREGROUND
    extent = np.maximum(np.asarray(side, dtype=np.float64), 1)
    gamma = float(np.clip((0.08 * np.exp(np.log(extent).mean())) ** -2, 0.03, 1.0)) * (0.08 / reach) ** 2
    step = np.asarray(spacing, dtype=np.float64)
    scaled = scaled_intensity(image)
    maps = random_walker(scaled, seeds, spacing=step / step.min(), beta=BETA, gamma=gamma, prior=prior, start=prior, tol=1e-2)
    return np.asarray(maps[0])


def stroked_mask(
    probability: NDArray[np.floating[Any]],
    strokes: NDArray[np.uint8] | None,
    *,
    previous: NDArray[np.bool_] | None = None,
    threshold: float = 0.5,
) -> NDArray[np.bool_]:
    """The components that a foreground stroke or the earlier mask touches, holes filled; background strokes stay out.

    Parameters
    ----------
    probability : ndarray, shape (i, j, k)
        Of the object, in its window.
    strokes : ndarray, shape (i, j, k), uint8, or None
        As in `walked`.
    previous : ndarray of bool, shape (i, j, k), optional
        The mask before the correction.
    threshold : float
        A voxel above it may belong to the object.
    """
    mask = np.asarray(probability > threshold)
    held = np.zeros_like(mask) if previous is None else np.asarray(previous, dtype=bool).copy()
    if strokes is not None:
        held |= foreground_of(strokes)
    components, number = ndimage.label(mask)
    if number > 1 and (held & mask).any():
        mask = np.isin(components, np.setdiff1d(np.unique(components[held]), 0))
    filled: NDArray[np.bool_] = ndimage.binary_fill_holes(mask)
    return filled if strokes is None else (filled & (strokes != BACKGROUND_STROKE)) | foreground_of(strokes)
