"""What a closed background stroke says beyond itself: outside of it there is nothing to find."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

GAP = 10
"""Gaps in a background contour up to so many pixels are bridged: people do not quite close their strokes."""


def outside_background_contours(background: NDArray[np.bool_], structures: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels that a background stroke, drawn as a contour, separates from every structure stroke of their slice.

    They are those from which the edge of the slice is reached without crossing the background stroke. Where a structure stroke
    is reached too, the contour is open and nothing follows; nor does it in a slice without structure strokes, where nobody
    said what is to be found.

    Parameters
    ----------
    background, structures : ndarray of bool, shape (S, H, W)
        Strokes.

    Returns
    -------
    ndarray of bool, shape (S, H, W)
        The strokes themselves are not among them.
    """
    outside = np.zeros(background.shape, dtype=bool)
    reach = GAP // 2 + 1
    for s in np.flatnonzero(background.any(axis=(1, 2)) & structures.any(axis=(1, 2))):
        stroke, inside = np.pad(background[s], reach + 1), np.pad(structures[s], reach + 1)
        for wall in (stroke, ndimage.binary_dilation(stroke, iterations=reach)):  # the second is closed over gaps
            regions, _ = ndimage.label(~wall)
            reached = regions == regions[0, 0]
            if not (reached & inside).any():
                outside[s] = reached[reach + 1 : -reach - 1, reach + 1 : -reach - 1]
                break
    return outside
