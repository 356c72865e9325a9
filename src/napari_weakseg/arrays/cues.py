"""What image edges say of marks: cheap classical answers that the first-mask network sees, or that are joined with it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..prompts import BACKGROUND_STROKE
from .intensity import averaged, block_factors, interpolated, scaled_intensity
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


SLOWNESS = 40.0
"""How much longer a path across the strongest edge of a volume is than one through an even region."""


def stroke_votes(image: NDArray[Any], strokes: NDArray[np.uint8], spacing: tuple[float, float, float]) -> NDArray[np.float32]:
    """What a random walker, a watershed and geodesic distance make of the same strokes, averaged.

    They work on a grid of at most 64 voxels per axis; faces of axes of 20 voxels and more count as background.

    Parameters
    ----------
    image : ndarray, shape (i, j, k)
        Finite intensities of a window round the object.
    strokes : ndarray, shape (i, j, k), uint8
        0 = not marked, 255 = background, else object; at least one voxel of the object.
    spacing : tuple of float
        Voxel size; only the ratios count.

    Returns
    -------
    ndarray, shape (i, j, k), float32
        0..1.
    """
    from skimage.graph import MCP_Geometric
    from skimage.measure import block_reduce
    from skimage.segmentation import watershed

    factors = block_factors(image.shape)
    coarse = averaged(scaled_intensity(image), factors)
    here = tuple(slice(0, n) for n in coarse.shape)
    inside = block_reduce((strokes != 0) & (strokes != BACKGROUND_STROKE), tuple(factors), np.max)[here]
    outside = block_reduce(strokes == BACKGROUND_STROKE, tuple(factors), np.max)[here]
    for axis in (axis for axis in range(3) if image.shape[axis] >= 20):
        for face in (0, -1):
            outside[tuple(face if a == axis else slice(None) for a in range(3))] = True
    outside &= ~inside
    if not outside.any():
        return np.ones(image.shape, dtype=np.float32)
    step = np.asarray(spacing, dtype=np.float64) * factors
    step = step / step.min()
    seeds = np.where(inside, 1, np.where(outside, BACKGROUND, FREE)).astype(np.int8)
    walked = np.clip(random_walker(coarse, seeds, spacing=step, beta=WALKER_BETA, tol=1e-2)[0], 0, 1)
    gradient = ndimage.gaussian_gradient_magnitude(coarse, 0.5)
    flooded = watershed(gradient, np.where(inside, 1, np.where(outside, 2, 0))) == 1
    cost = 1 + SLOWNESS * gradient
    near, far = (MCP_Geometric(cost, sampling=tuple(step)).find_costs(np.argwhere(s).tolist())[0] for s in (inside, outside))
    closer = 1 / (1 + np.exp(-12 * (far / np.maximum(near + far, 1e-6) - 0.5)))
    votes = ((walked + flooded + closer) / 3).astype(np.float32)
    return interpolated(votes, factors, tuple(slice(0, n) for n in image.shape))
