"""Where all structures of a mask hang together, what lies apart from them is a mistake; strokes say whether they do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray


def largest_component(labels: NDArray[Any], strokes: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """The largest component of all structures together, and every other one that a stroke touches.

    Parameters
    ----------
    labels : ndarray, shape (I, J, K)
        Non-zero is a structure, whichever. Voxels that touch at a face, an edge or a corner belong together.
    strokes : ndarray of bool, shape (I, J, K), optional
        What somebody marked as a structure.

    Returns
    -------
    ndarray of bool, shape (I, J, K)
    """
    components, number = ndimage.label(labels != 0, structure=np.ones((3, 3, 3)))
    if number < 2:
        return np.asarray(components > 0)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    stays = np.zeros(number + 1, dtype=bool)
    stays[sizes.argmax()] = True
    if strokes is not None:
        stays[np.unique(components[strokes])] = True
    stays[0] = False
    return np.asarray(stays[components])


def strokes_apart(labels: NDArray[Any], marked: NDArray[Any]) -> tuple[int, int]:
    """How many voxels of structure strokes were found, and how many of these lie apart from the largest component.

    Parameters
    ----------
    labels : ndarray of int, shape (I, J, K)
        A mask; 0 is the background.
    marked : ndarray of int, shape (I, J, K)
        Strokes in the same codes; what is not above 0 is not counted.

    Returns
    -------
    found, apart : int
    """
    found = (marked > 0) & (labels == marked)
    return int(found.sum()), int((found & ~largest_component(labels)).sum())
