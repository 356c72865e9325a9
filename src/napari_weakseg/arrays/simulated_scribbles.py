"""Strokes as an annotator may draw them, made from a mask: for benchmarks, and for studies of how many are enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from ..prompts import BACKGROUND_STROKE

if TYPE_CHECKING:
    from numpy.typing import NDArray

INTERIOR_SHARE, BORDER_SHARE = 0.7, 0.35
"""How much of a skeleton and of a border a stroke follows."""

BACKGROUND_REACH = 12
"""Pixels from the structures within which the background's inner stroke runs."""


def simulate_scribbles(
    mask: NDArray[Any], *, axis: int = 2, every: int = 1, seed: int = 0, border: bool = True
) -> NDArray[np.uint8]:
    """Draw strokes on every label and on the background, slice by slice.

    Per slice and label: one stroke along a part of the skeleton, and one along a part of the border, a pixel inside it, as
    advised for learning from strokes. The background gets the same: a stroke along a part of the outline around all
    structures, some pixels away, and one further out.

    Parameters
    ----------
    mask : ndarray of int, shape (I, J, K)
        0 = background, 1 to 254 = structures.
    axis : int
        Array axis along which slices are stacked.
    every : int
        Strokes in every n-th of the slices that hold a structure.
    seed : int
        The same seed draws the same strokes.
    border : bool
        False leaves the strokes along borders out.

    Returns
    -------
    ndarray, shape (I, J, K), uint8
        0 = not marked, structures as in the mask, 255 = background stroke. A structure's stroke lies inside the structure, the
        background's outside all of them.

    References
    ----------
    K. Gotkowski et al., arXiv 2403.12834: strokes inside and along the border of every class in every slice. The lines are
    drawn our own way.
    """
    slices = np.moveaxis(np.asarray(mask), axis, 0)
    out = np.zeros(slices.shape, dtype=np.uint8)
    held = [index for index in range(len(slices)) if (slices[index] != 0).any()]
    for index in held[::every]:
        rng = np.random.default_rng((seed, index))
        flat = slices[index]
        for value in np.unique(flat):
            if value:
                drawn = _strokes_in(flat == value, rng, border=border)
                out[index][drawn] = value
        out[index][_around(flat != 0, rng)] = BACKGROUND_STROKE
    return np.ascontiguousarray(np.moveaxis(out, 0, axis))


def _strokes_in(region: NDArray[np.bool_], rng: np.random.Generator, *, border: bool) -> NDArray[np.bool_]:
    """A stroke along the skeleton of the largest part of a region, and one along its border."""
    from skimage.morphology import skeletonize

    parts, number = ndimage.label(region, structure=np.ones((3, 3)))
    largest = parts == 1 + int(np.bincount(parts.ravel())[1:].argmax()) if number else region
    drawn = _part_of(skeletonize(largest), INTERIOR_SHARE, rng)
    if border:
        inner = ndimage.binary_erosion(largest)
        rim = inner & ~ndimage.binary_erosion(inner)  # a pixel inside the border: nobody draws on it
        drawn |= _part_of(rim, BORDER_SHARE, rng)
    return drawn & region


def _around(structures: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """A stroke near the structures' outline and one further out, outside all structures."""
    distance = ndimage.distance_transform_edt(~structures)
    near, far = 0.25 * BACKGROUND_REACH, BACKGROUND_REACH
    drawn = _part_of((distance > near) & (distance <= near + 1), BORDER_SHARE * 1.5, rng)
    drawn |= _part_of((distance > far) & (distance <= far + 1), BORDER_SHARE, rng)
    if not drawn.any() and (~structures).any():  # hardly any background: its voxel that is farthest from a structure
        drawn[np.unravel_index(int(distance.argmax()), distance.shape)] = True
    return drawn & ~structures


def _part_of(line: NDArray[np.bool_], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A connected part of a thin line, `share` of its pixels around a random one of them; at least one pixel."""
    places = np.argwhere(line)
    drawn = np.zeros(line.shape, dtype=bool)
    if len(places) == 0:
        return drawn
    start = places[int(rng.integers(len(places)))]
    seen = np.zeros(line.shape, dtype=bool)
    seen[tuple(start)] = True
    front, wanted = [tuple(start)], max(1, round(share * len(places)))
    count = 1
    while front and count < wanted:  # a walk along the line to both sides
        i, j = front.pop(0)
        for a in range(max(0, i - 1), min(line.shape[0], i + 2)):
            for b in range(max(0, j - 1), min(line.shape[1], j + 2)):
                if line[a, b] and not seen[a, b] and count < wanted:
                    seen[a, b] = True
                    count += 1
                    front.append((a, b))
    drawn |= seen
    return drawn
