"""Where the patient is: the body without the air around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .intensity import finite_intensity

if TYPE_CHECKING:
    from numpy.typing import NDArray

AIR = 0.25
"""Where between the means of air and tissue the body begins: low, so that dark tissue is kept."""


def body_mask(image: NDArray[Any]) -> NDArray[np.bool_]:
    """The largest connected part of an image that is brighter than air, with what it encloses.

    Parameters
    ----------
    image : ndarray, shape (I, J, K)
        MRI, or CT in HU.

    Returns
    -------
    ndarray of bool, shape (I, J, K)
        All True where no air can be told from tissue: a constant image, or one that has been cut to tissue.
    """
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    array = finite_intensity(image)
    low, high = float(array.min()), float(np.percentile(array.ravel()[:: max(1, array.size // 200_000)], 99))
    if not high > low:
        return np.ones(array.shape, dtype=bool)
    counts, edges = np.histogram(array, bins=256, range=(low, high))
    threshold = float(threshold_otsu(hist=(counts, (edges[:-1] + edges[1:]) / 2)))
    dark, bright = array[array <= threshold].mean(), array[array > threshold].mean()
    smooth = ndimage.uniform_filter(array, [min(3, n) for n in array.shape])
    tissue = smooth > dark + AIR * (min(float(bright), high) - dark)
    components, number = ndimage.label(tissue)
    if number == 0:
        return np.ones(array.shape, dtype=bool)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    body = components == int(sizes.argmax())
    # air inside (sinuses, lungs, bowel) often has a way out in 3D and none within a slice
    thin = int(np.argmin(array.shape))
    for index in range(array.shape[thin]):
        plane = tuple(index if axis == thin else slice(None) for axis in range(3))
        body[plane] = ndimage.binary_fill_holes(body[plane])
    return np.asarray(body, dtype=bool)


def box_of_mask(mask: NDArray[np.bool_], *, margin: int = 0) -> tuple[slice, slice, slice]:
    """The smallest box that holds a mask, grown by `margin` voxels and clipped; the whole grid for an empty mask."""
    if not mask.any():
        i, j, k = (slice(0, n) for n in mask.shape)
        return i, j, k
    slices = []
    for axis, length in enumerate(mask.shape):
        hits = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        slices.append(slice(max(0, int(hits[0]) - margin), min(length, int(hits[-1]) + 1 + margin)))
    i, j, k = slices
    return i, j, k
