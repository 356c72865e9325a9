"""What image edges say of marks on a cube: cheap classical answers that the first-mask network sees beside the image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .random_walker import BACKGROUND, FREE, random_walker

Array = NDArray[np.floating[Any]]

CORES_AND_RIMS = ((0.4, 1.35), (0.6, 1.5))
"""Radii inside which a watershed starts as object and outside which as background."""

WALKER_BETA = 8000.0
"""How much an edge stops the walker between strokes."""


def edge_votes(picture: Array, ellipsoid: Array, box: Array, foreground: Array, background: Array) -> Array:
    """Watersheds of the gradient magnitude from two cores of the ellipsoid: share that falls to the object, -1..1.

    Strokes are markers as well, and the box is the outermost boundary.

    Parameters
    ----------
    picture : ndarray, shape (n, n, n)
        Image on the cube, about -1..1.
    ellipsoid, box : ndarray, same shape
        1 in the middle and 0 on the surface of the ellipsoid; positive inside the box.
    foreground, background : ndarray, same shape
        Strokes, positive where they lie.
    """
    from skimage.segmentation import watershed

    gradient = ndimage.gaussian_gradient_magnitude(picture, 1.0)
    votes = np.zeros_like(picture)
    for core, rim in CORES_AND_RIMS:
        markers = np.where(ellipsoid > 1 - core, 1, 0)
        markers[(box < 0) | (ellipsoid < 1 - rim)] = 2
        markers[foreground > 0] = 1
        markers[background > 0] = 2
        votes += watershed(gradient, markers) == 1
    return votes * (2 / len(CORES_AND_RIMS)) - 1


def stroke_walk(picture: Array, box: Array, foreground: Array, background: Array) -> Array:
    """Random walker between strokes, with everything outside the box as background; -1..1, arguments as `edge_votes`."""
    seeds = np.full(picture.shape, FREE, dtype=np.int8)
    seeds[(box < 0) | (background > 0)] = BACKGROUND
    seeds[foreground > 0] = 1
    scaled = np.clip((picture + 1) / 2, 0, 1).astype(np.float32)
    return np.asarray(2 * random_walker(scaled, seeds, beta=WALKER_BETA, tol=1e-2)[0] - 1)
