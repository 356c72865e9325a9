r"""From a classifier's heatmap to a mask and to prompts.

One threshold serves a whole volume: with :math:`t_1 < t_2` from multi-Otsu (three classes) inside the body,

.. math:: t = t_2 - \varphi\,(t_2 - t_1), \qquad 0 \le \varphi \le 1,

so that no offset in units of logits has to be found on masks. Where the classifier does not see the class, nothing is drawn.

References
----------
Otsu, 1979; Liao, Chen and Chung, 2001 (several thresholds). Chatterjee et al., arXiv 2206.05148, threshold every slice by
itself, with an offset; one threshold per volume, φ and the threshold from images without the class are ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..prompts import LESION, ExtremePoints, Structure
from .body import box_of_mask
from .extreme_points import simulate_points

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

    from ..volume import Volume

    Map = NDArray[np.floating[Any]]

BINS = 256
"""Bins of the histogram, as published."""


def multi_otsu(heatmap: Map, inside: NDArray[np.bool_] | None = None) -> tuple[float, float]:
    """Two thresholds that part a heatmap's values into three classes.

    Parameters
    ----------
    heatmap : ndarray
        Any shape and unit; values that are not finite are left out.
    inside : ndarray of bool, optional
        Voxels that count (body, slices where the class is predicted); broadcast to the heatmap.

    Returns
    -------
    t1, t2 : float
        t1 <= t2. Two values: plain Otsu's threshold twice. A constant map: its value twice, so that no voxel lies above.
    """
    from skimage.filters import threshold_multiotsu, threshold_otsu

    values = heatmap[np.isfinite(heatmap) if inside is None else np.isfinite(heatmap) & inside]
    if values.size == 0:
        return 0.0, 0.0
    low, high = float(values.min()), float(values.max())
    if not high > low:
        return high, high
    counts, edges = np.histogram(values, bins=BINS, range=(low, high))
    histogram = (counts, (edges[:-1] + edges[1:]) / 2)
    if np.count_nonzero(counts) < 3:
        single = float(threshold_otsu(hist=histogram))
        return single, single
    first, second = (float(t) for t in threshold_multiotsu(hist=histogram, classes=3))
    return first, second


def threshold_at(pair: tuple[float, float], phi: float = 0.0) -> float:
    """The threshold t2 - φ (t2 - t1) of a pair from `multi_otsu`."""
    first, second = pair
    return second - phi * (second - first)


def negatives_threshold(heatmaps: Iterable[Map], *, percentile: float = 99.5, values_per_map: int = 100_000) -> float:
    """A threshold that only that share of voxels exceeds in images without the class: image labels alone set it.

    Parameters
    ----------
    heatmaps : iterable of ndarray
        The class's heatmap in images that are labelled not to show it; at best only what lies in the body.
    percentile : float
        Share in percent of their voxels that must stay below.
    values_per_map : int
        Of larger maps evenly spaced values are taken, so that many maps fit into memory.

    Raises
    ------
    ValueError
        No value at all.
    """
    parts = []
    for heatmap in heatmaps:
        values = np.asarray(heatmap, dtype=np.float32)[np.isfinite(heatmap)]
        parts.append(values[:: max(1, values.size // values_per_map)])
    if not parts or not any(part.size for part in parts):
        raise ValueError("a threshold from images without the class needs at least one such image")
    return float(np.percentile(np.concatenate(parts), percentile))


def where_predicted(
    shape: tuple[int, ...], predicted: bool | ArrayLike, *, slice_axis: int = 2, inside: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Voxels in which the class may be drawn.

    Parameters
    ----------
    shape : tuple of int
        Of the volume.
    predicted : bool or array of bool, shape (slices,)
        Whether the class is predicted: for the volume, or for each slice along `slice_axis`.
    slice_axis : int
        Array axis that the slices are stacked along.
    inside : ndarray of bool, optional
        The body; default everywhere.
    """
    flags = np.asarray(predicted, dtype=bool)
    if flags.ndim:
        flags = flags.reshape([-1 if axis == slice_axis else 1 for axis in range(len(shape))])
    allowed = np.broadcast_to(flags, shape)
    return np.array(allowed if inside is None else allowed & inside, dtype=bool)


class LiveThreshold:
    """A heatmap whose mask follows a slider: one comparison per change, nothing is allocated.

    Parameters
    ----------
    heatmap : ndarray, shape (I, J, K)
        The class's heatmap.
    allowed : ndarray of bool, optional
        Voxels that may be drawn, see `where_predicted`; default all.

    Notes
    -----
    Dropping small components takes tens of times longer than the comparison: do that (`clean_mask`) once the slider rests.
    """

    def __init__(self, heatmap: Map, allowed: NDArray[np.bool_] | None = None) -> None:
        values = np.asarray(heatmap, dtype=np.float32)
        self._values = np.where(np.isfinite(values) if allowed is None else allowed & np.isfinite(values), values, -np.inf)
        self._mask = np.zeros(values.shape, dtype=bool)

    @property
    def limits(self) -> tuple[float, float]:
        """Least and largest value that may be drawn; (0, 0) where there is none."""
        drawn = self._values[self._values > -np.inf]
        return (float(drawn.min()), float(drawn.max())) if drawn.size else (0.0, 0.0)

    def mask(self, threshold: float) -> NDArray[np.uint8]:
        """1 where the heatmap lies above `threshold`; the same array every time, so copy what is to stay."""
        np.greater(self._values, threshold, out=self._mask)
        return self._mask.view(np.uint8)


def clean_mask(
    mask: NDArray[Any], *, voxel_volume: float = 1.0, min_size: float = 0.0, keep: int | None = None, fill: bool = True
) -> NDArray[np.bool_]:
    """Drop small components and fill holes, in 3D.

    Parameters
    ----------
    mask : ndarray, shape (I, J, K)
        Non-zero is the object.
    voxel_volume : float
        mm³ of a voxel; 1 where the spacing is unknown (see `Volume.voxel_volume`).
    min_size : float
        Components below this many mm³ (voxels where the spacing is unknown) are dropped. Voxels that touch at a face, an edge
        or a corner belong together.
    keep : int, optional
        Largest components that stay; default all, since lesions are often several.
    fill : bool
        Fill what a component encloses on all sides.
    """
    from scipy import ndimage

    whole: NDArray[np.bool_] = np.asarray(mask) != 0
    box = box_of_mask(whole, margin=1)
    clean = whole[box]
    if not clean.any():
        return whole
    if min_size > 0 or keep is not None:
        components, _ = ndimage.label(clean, structure=np.ones((3,) * clean.ndim))
        sizes = np.bincount(components.ravel())
        sizes[0] = 0
        stays = sizes * voxel_volume >= max(min_size, 1e-12)
        if keep is not None:
            stays[np.argsort(sizes, kind="stable")[: max(0, len(sizes) - keep)]] = False
        stays[0] = False
        clean = stays[components]
    out = np.zeros_like(whole)
    out[box] = ndimage.binary_fill_holes(clean) if fill else clean
    return out


def heatmap_mask(
    heatmap: Map,
    threshold: float,
    *,
    allowed: NDArray[np.bool_] | None = None,
    voxel_volume: float = 1.0,
    min_size: float = 0.0,
    keep: int | None = None,
) -> NDArray[np.bool_]:
    """The thresholded and cleaned heatmap; parameters as of `LiveThreshold` and `clean_mask`."""
    above = LiveThreshold(heatmap, allowed).mask(threshold)
    return clean_mask(above, voxel_volume=voxel_volume, min_size=min_size, keep=keep)


def heatmap_points(
    mask: NDArray[Any], volume: Volume, *, structure: Structure = LESION, largest: int = 20, jitter: int = 0
) -> ExtremePoints | None:
    """Six extreme points on each component of a heatmap's mask: prompts for every method that takes them.

    Parameters
    ----------
    mask : ndarray, shape (I, J, K)
        A mask from the heatmap on the volume's grid.
    volume : Volume
        The image they are for.
    structure : Structure
        What they are of.
    largest : int
        Components that get points, the largest first.
    jitter : int
        Voxels by which points are moved at random, for simulations.

    Returns
    -------
    ExtremePoints or None
        None where no component spans two voxels along every axis that the volume has more than one of.
    """
    from scipy import ndimage

    components, number = ndimage.label(np.asarray(mask) != 0, structure=np.ones((3, 3, 3)))
    boxes = ndimage.find_objects(components)
    sizes = np.bincount(components.ravel(), minlength=number + 1)[1:]
    needed = np.minimum(2, volume.shape)
    sixes: list[NDArray[np.float64]] = []
    for index in np.argsort(-sizes, kind="stable"):
        box = boxes[index]
        if all(part.stop - part.start >= least for part, least in zip(box, needed, strict=True)) and len(sixes) < largest:
            rng = np.random.default_rng(len(sixes))
            corner = [part.start for part in box]
            six = simulate_points(components[box] == index + 1) + corner
            six = np.clip(six + rng.integers(-jitter, jitter + 1, six.shape), 0, np.array(volume.shape) - 1)
            sixes.append(six.astype(np.float64))
    return ExtremePoints.from_points(np.stack(sixes), volume, structure=structure) if sixes else None
