r"""What strokes and image say of every voxel, for several structures and the background at once.

Per class c, the background included, on a working grid of at most `LARGEST` voxels:

1. *Distance*: :math:`-\log(1 + d_c)`, d the distance to the nearest stroke of c in voxels of the finest axis.
2. *Walk*: :math:`\log p_c` of a random walker (`random_walker`) from all strokes, in voxel units.
3. *Flood*: the logarithm of a blurred watershed of the gradient magnitude from all strokes; where slices are thick, in each
   slice by itself.
4. *Look*: the log-density of the intensity under a normal distribution with mean and variance of the strokes of c round about.
5. *Absence*: where slices are thick, people draw slice by slice. A slice with strokes on the background and on a structure, but
   not on c, probably holds no c.

They are added with the weights `WEIGHTS`, chosen once on development volumes; a softmax makes probabilities of the sums.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from ..prompts import BACKGROUND_STROKE
from .background_contours import outside_background_contours
from .intensity import averaged, interpolated, scaled_intensity
from .random_walker import FREE, random_walker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Maps = NDArray[np.float32]

LARGEST = 2**18
"""Voxels of the working grid at most."""

AT_ONCE = 2
"""Pieces of work that are done at the same time: most of it runs beside Python; more would hold more of a large volume."""

THICK = 3.0
"""Slices are thick where their distance is so many times the size of their pixels."""

WALKER_BETA = 1000.0
"""How much an edge stops the walker between strokes."""

LOOK_REACH = 8.0
"""Strokes so many voxels away say how a class looks here."""

WEIGHTS = {"distance": 2.0, "walk": 0.3, "flood": 0.45, "look": 0.16, "absence": 4.0, "background": 1.2}
"""Weights of the kinds of evidence."""

NO_STROKE = -30.0
"""Logit of a class without any stroke."""


def stroke_logits(
    image: NDArray[Any], strokes: NDArray[np.uint8], spacing: tuple[float, float, float], values: Sequence[int]
) -> Maps:
    """Logits of the background and of each structure; their softmax is a probability.

    Parameters
    ----------
    image : ndarray, shape (i, j, k)
        Finite intensities of a window round the structures. Its faces along axes of 20 voxels and more count as background.
    strokes : ndarray, shape (i, j, k), uint8
        0 = not marked, 255 = background, others are structures.
    spacing : tuple of float
        Voxel size; only the ratios count.
    values : sequence of int
        The structures, in the order of the maps.

    Returns
    -------
    ndarray, shape (1 + C, i, j, k), float32
        The background first.
    """
    evidence, factors = stroke_evidence(image, strokes, spacing, values)
    total = sum(np.float32(WEIGHTS[name]) * maps for name, maps in evidence.items())
    whole = (slice(0, image.shape[0]), slice(0, image.shape[1]), slice(0, image.shape[2]))
    marked = [bool((strokes == value).any()) for value in (BACKGROUND_STROKE, *values)]
    marked[0] |= bool((evidence["distance"][0] > NO_STROKE).any())
    logits = np.full((len(marked), *image.shape), NO_STROKE, dtype=np.float32)

    def grow(index: int) -> None:
        logits[index] = interpolated(np.asarray(total)[index], factors, whole)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(grow, np.flatnonzero(marked).tolist()))
    return logits


def stroke_evidence(
    image: NDArray[Any], strokes: NDArray[np.uint8], spacing: tuple[float, float, float], values: Sequence[int]
) -> tuple[dict[str, Maps], NDArray[np.int64]]:
    """Each kind of evidence (1 + C, ...) on the working grid, and by how much that is coarser; arguments as `stroke_logits`."""
    factors = _factors(image.shape, spacing)
    picture = averaged(scaled_intensity(image), factors)
    classes = _classes(strokes, values, factors, spacing)
    steps = np.asarray(spacing, dtype=np.float64) * factors
    steps /= steps.min()
    fine = ndimage.gaussian_filter(picture, 0.7 / steps)
    background = np.zeros((len(values) + 1, *picture.shape), dtype=np.float32)
    background[0] = 1
    kinds: dict[str, Callable[[], Maps]] = {
        "distance": lambda: np.stack([_distance(classes == index, steps) for index in range(len(values) + 1)]),
        "walk": lambda: _walk(picture, classes, len(values)),
        "flood": lambda: _flood(picture, classes, steps, len(values)),
        "look": lambda: np.stack([_look(fine, classes == index, steps) for index in range(len(values) + 1)]),
        "absence": lambda: _absence(classes, steps, len(values)),
    }
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = {name: pool.submit(kind) for name, kind in kinds.items()}
    return {name: maps.result() for name, maps in found.items()} | {"background": background}, factors


def _factors(shape: tuple[int, ...], spacing: Sequence[float]) -> NDArray[np.int64]:
    """Blocks that keep the working grid small, from the finest axis on."""
    factors = np.ones(3, dtype=np.int64)
    while np.prod(np.ceil(np.array(shape) / factors)) > LARGEST:
        sizes = np.array(spacing, dtype=np.float64) * factors
        sizes[np.ceil(np.array(shape) / factors) <= 1] = np.inf
        factors[int(sizes.argmin())] += 1
    return factors


def _classes(
    strokes: NDArray[np.uint8], values: Sequence[int], factors: NDArray[np.int64], spacing: Sequence[float]
) -> NDArray[np.int16]:
    """Class of each marked voxel of the working grid, `FREE` elsewhere; a structure wins over the background in a block.

    What a closed background stroke leaves outside is background.
    """
    shape = strokes.shape
    order = np.full(256, FREE, dtype=np.int16)
    order[BACKGROUND_STROKE] = 0
    for index, value in enumerate(values):
        order[value] = index + 1
    fine = order[strokes]
    axis = _slice_axis(np.asarray(spacing) / min(spacing))
    if axis is not None:
        turned = np.moveaxis(fine, axis, 0)  # a view
        turned[outside_background_contours(turned == 0, turned > 0) & (turned == FREE)] = 0
    coarse = tuple(int(np.ceil(n / f)) for n, f in zip(shape, factors, strict=True))
    classes = np.full(coarse, FREE, dtype=np.int16)
    marked = np.argwhere(fine != FREE)
    np.maximum.at(classes, tuple((marked // factors).T), fine[tuple(marked.T)])
    for axis in (axis for axis in range(3) if shape[axis] >= 20):
        for face in (0, -1):
            side = classes[tuple(face if a == axis else slice(None) for a in range(3))]
            side[side == FREE] = 0
    return classes


def _slice_axis(steps: NDArray[np.float64]) -> int | None:
    """The axis of thick slices, if there is one."""
    thick = np.flatnonzero(steps >= THICK)
    return int(thick[0]) if len(thick) == 1 else None


def _distance(marks: NDArray[np.bool_], steps: NDArray[np.float64]) -> Maps:
    """Minus the logarithm of the distance to the nearest mark."""
    if not marks.any():
        return np.full(marks.shape, NO_STROKE, np.float32)
    return np.asarray(-np.log1p(ndimage.distance_transform_edt(~marks, sampling=steps)), dtype=np.float32)


def _walk(picture: Maps, classes: NDArray[np.int16], structures: int) -> Maps:
    if not ((classes == 0).any() and (classes > 0).any()):
        return np.zeros((structures + 1, *picture.shape), dtype=np.float32)
    seeds = classes.copy()
    absent = [index for index in range(1, structures + 1) if not (classes == index).any()]
    maps = np.zeros((structures, *picture.shape), dtype=np.float32)
    found = random_walker(picture, seeds, beta=WALKER_BETA, tol=1e-2)
    maps[: len(found)] = found
    maps[[index - 1 for index in absent]] = 0
    whole = np.concatenate([1 - maps.sum(axis=0, keepdims=True), maps])
    return np.asarray(np.log(np.clip(whole, 0.01, 1)), dtype=np.float32)


def _flood(picture: Maps, classes: NDArray[np.int16], steps: NDArray[np.float64], structures: int) -> Maps:
    from skimage.segmentation import watershed

    markers = classes.astype(np.int32) + 1
    axis = _slice_axis(steps)
    if axis is None:
        flooded = watershed(ndimage.gaussian_gradient_magnitude(picture, 0.6), markers)
    else:
        levels = zip(np.moveaxis(picture, axis, 0), np.moveaxis(markers, axis, 0), strict=True)
        floods = [watershed(ndimage.gaussian_gradient_magnitude(level, 0.6), marks) for level, marks in levels]
        flooded = np.stack(floods, axis=axis)
    shares = [
        ndimage.gaussian_filter((flooded == index + 1).astype(np.float32), 1.5 / steps) for index in range(structures + 1)
    ]
    return np.asarray(np.log(np.stack(shares) + np.float32(0.05)))


def _look(picture: Maps, marks: NDArray[np.bool_], steps: NDArray[np.float64]) -> Maps:
    """Log-density of the intensity under the normal distribution of the strokes round about."""
    if not marks.any():
        return np.zeros(picture.shape, dtype=np.float32)
    sigma = LOOK_REACH / steps
    own = picture[marks]
    least = np.float32(1e-5)
    weight, first, second = (
        ndimage.gaussian_filter(np.where(marks, values, np.float32(0)), sigma, truncate=3) + least * np.float32(typical)
        for values, typical in ((np.float32(1), 1), (picture, own.mean()), (picture**2, np.square(own).mean()))
    )
    mean = first / weight
    variance = np.maximum(second / weight - mean**2, 0) + np.float32(0.03**2)
    return np.asarray(np.clip(-0.5 * (picture - mean) ** 2 / variance - 0.5 * np.log(variance), -8, 3), dtype=np.float32)


def _absence(classes: NDArray[np.int16], steps: NDArray[np.float64], structures: int) -> Maps:
    """-1 in thick slices that are marked, but not with the structure; else 0."""
    absent = np.zeros((structures + 1, *classes.shape), dtype=np.float32)
    axis = _slice_axis(steps)
    if axis is None:
        return absent
    inner = classes[tuple(slice(None) if a == axis or classes.shape[a] < 3 else slice(1, -1) for a in range(3))]
    others = tuple(a for a in range(3) if a != axis)
    drawn = np.stack([(inner == index).any(axis=others) for index in range(structures + 1)])
    marked = drawn[0] & drawn[1:].any(axis=0)
    place = tuple(slice(None) if a == axis else None for a in range(3))
    for index in range(1, structures + 1):
        absent[index] -= (marked & ~drawn[index])[place]
    return absent
