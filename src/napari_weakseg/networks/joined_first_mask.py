"""The first mask of one object from any marks: what a network knows of shapes, joined with what the marks say themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit, logit

from ..arrays.cues import stroke_votes
from ..arrays.first_mask import Window, sharpened
from ..arrays.intensity import finite_intensity
from ..arrays.marks import frame_of, marked_cube
from ..arrays.scribbles import foreground_of, walked
from .first_mask_model import first_mask_learned, read_first_mask_model

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

NETWORK_SHARE = 0.5
"""Share of the network beside the classical first mask where all six points are there."""

REACH = 0.03
"""How far the image may move the joined boundary, as a share of the object's size."""

MOST_OF_VOTES = 0.9
"""So sure the classical answers to strokes may be at most: they are many, and alike."""

Index = tuple[slice, slice, slice]


def learned_first_mask(
    image: NDArray[Any],
    spacing: tuple[float, float, float],
    *,
    points: ArrayLike | None = None,
    strokes: NDArray[np.uint8] | None = None,
    previous: NDArray[Any] | None = None,
) -> tuple[NDArray[np.float32], Index]:
    """Probability of one object, from any subset of marks on it.

    Parameters
    ----------
    image : ndarray, shape (I, J, K)
        One channel; voxels that are not finite take the minimum of the others.
    spacing : tuple of float
        Voxel size; only the ratios count, (1, 1, 1) where unknown.
    points : array, shape (N, 3), optional
        Up to six extreme points, voxel coordinates, any order.
    strokes : ndarray, shape (I, J, K), uint8, optional
        0 = not marked, 255 = background stroke, anything else = this object.
    previous : ndarray, shape (I, J, K), optional
        Mask or probability that the strokes correct.

    Returns
    -------
    probability : ndarray, float32
        On the window; 1 and 0 on the strokes.
    window : tuple of slice
        The part of the volume; outside it the probability is 0.

    Raises
    ------
    ValueError
        Nothing says where the object is.
    DataError
        The weights are missing or damaged.
    """
    marked = np.zeros((0, 3)) if points is None else np.asarray(points, dtype=np.float64).reshape(-1, 3)
    if strokes is not None and not strokes.any():
        strokes = None
    if len(marked) == 6 and previous is None:
        probability, window = _from_six_points(image, spacing, marked)
        if strokes is None:
            return probability, window
        previous = _on_grid(probability, window, image.shape)
    frame = frame_of(image.shape, spacing, marked, strokes, previous)
    where = frame.window
    if not np.isfinite(image[where]).all():
        image = finite_intensity(image)
    begun = None
    if strokes is not None and previous is None and foreground_of(strokes[where]).any():
        network, window = first_mask_learned(image, spacing, points=marked, strokes=strokes)
        votes = np.clip(stroke_votes(image[window], strokes[window], spacing), 1 - MOST_OF_VOTES, MOST_OF_VOTES)
        begun = expit(0.5 * _logit(network) + _logit(votes))
        previous = _on_grid(begun, window, image.shape)
    probability, window = first_mask_learned(image, spacing, points=marked, strokes=strokes, previous=previous)
    if begun is not None:
        begun = _on_grid(begun, where, image.shape)[window]
        probability = expit(0.5 * (_logit(probability) + _logit(begun)))
    part = None if strokes is None else strokes[window]
    inside = tuple(slice(0, n) for n in probability.shape)
    side = frame.high - frame.low
    return walked(image[window], probability, part, inside=inside, side=side, spacing=spacing, reach=REACH), window


def _on_grid(probability: NDArray[np.float32], window: Index, shape: tuple[int, ...]) -> NDArray[np.float32]:
    whole = np.zeros(shape, dtype=np.float32)
    whole[window] = probability
    return whole


def _logit(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(logit(np.clip(probability, 0.02, 0.98)))


def _from_six_points(
    image: NDArray[Any], spacing: tuple[float, float, float], points: NDArray[np.float64]
) -> tuple[NDArray[np.float32], Index]:
    """Network and classical first mask err in different places: their mean, with the boundary drawn at full resolution."""
    window = Window.around(points, image.shape, spacing)
    part = finite_intensity(image[window.index])
    cube = marked_cube(part, spacing, points=window.points)
    assert cube.classical is not None
    network = np.zeros(window.shape, dtype=np.float32)
    network[cube.frame.window] = read_first_mask_model().probability(cube)
    joined = np.zeros(window.shape, dtype=np.float32)
    box = window.box
    joined[box] = NETWORK_SHARE * network[box] + (1 - NETWORK_SHARE) * cube.classical[box]
    return sharpened(part, joined, window, reach=REACH), window.index
