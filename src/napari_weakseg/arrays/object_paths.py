"""Minimum-cost paths between opposite extreme points: voxels that should lie inside the object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from .extreme_points import box_of, order_points
from .intensity import averaged, block_factors, scaled_intensity

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

SMALL = 100
"""Lesions whose box holds fewer voxels than this get paths without dilation."""


def object_paths(image: NDArray[Any], points: ArrayLike, spacing: ArrayLike = (1.0, 1.0, 1.0)) -> NDArray[np.bool_]:
    """Three minimum-cost paths between opposite points, dilated once.

    The cost of a step is gradient magnitude (Sobel, divided by its 99th percentile) times the step's length, on a grid of
    at most 64 voxels per axis, since at full resolution the paths take longer than the walker.

    Parameters
    ----------
    image : ndarray, shape (I, J, K)
        Intensities around one object.
    points : array, shape (6, 3)
        Its extreme points in voxels of `image`, any order.
    spacing : three floats
        Voxel size.

    Returns
    -------
    ndarray of bool, shape (I, J, K)
        Never empty; inside the box of the points.

    References
    ----------
    Zhong and Wang, SimPLe, MICCAI 2023. Ours: paths know the spacing, and their ends, which lie on the surface, are trimmed
    by the voxel that the dilation would add outside.
    """
    from skimage.graph import MCP_Geometric

    ordered = order_points(points)
    factors = block_factors(np.shape(image))
    coarse = averaged(scaled_intensity(image), factors)
    gradient = np.sqrt(sum(np.square(ndimage.sobel(coarse, axis=axis)) for axis in range(3)))
    cost = gradient / max(float(np.percentile(gradient, 99)), 1e-6) + 0.01
    ends = np.clip(np.round((ordered + 0.5) / factors - 0.5), 0, np.array(coarse.shape) - 1).astype(int)
    small = np.prod(np.ptp(ordered, axis=0) + 1) < SMALL
    paths = np.zeros(coarse.shape, dtype=bool)
    for low, high in ends.reshape(3, 2, 3):
        walk = MCP_Geometric(cost, sampling=tuple(np.asarray(spacing, dtype=np.float64) * factors))
        walk.find_costs([tuple(low)], [tuple(high)])
        path = np.array(walk.traceback(tuple(high)))
        path = path[1:-1] if len(path) > 2 and not small else path
        paths[tuple(path.T)] = True
    if not small:
        paths = ndimage.binary_dilation(paths, np.ones((3, 3, 3), dtype=bool))
    for axis, factor in enumerate(factors):
        paths = np.repeat(paths, factor, axis=axis)
    box = tuple(slice(a, b) for a, b in box_of(ordered, np.shape(image)).T)
    kept = np.zeros(np.shape(image), dtype=bool)
    kept[box] = paths[box]
    return kept
