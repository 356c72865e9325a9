"""The first mask from strokes alone, of all structures at once: one for every method that takes strokes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from scipy import ndimage
from scipy.special import logit, softmax

from ..prompts import BACKGROUND_STROKE
from .intensity import finite_intensity
from .marks import frame_of
from .scribbles import foreground_of
from .stroke_evidence import AT_ONCE, stroke_logits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Index = tuple[slice, slice, slice]
    Maps = NDArray[np.float32]

MARGIN = 3
"""Voxels round the box of the marks."""

DENSE = 0.1
"""Strokes say enough by themselves where half of all voxels lie closer to one than this share of the structures' size."""

SURE = 0.998
"""No probability comes closer to 1."""


class OneStructure(Protocol):
    """What draws one structure from its strokes, for example `networks.joined_first_mask.learned_first_mask`."""

    def __call__(
        self, image: NDArray[Any], spacing: tuple[float, float, float], *, strokes: NDArray[np.uint8]
    ) -> tuple[Maps, Index]:
        """Probability on a window, and the window."""
        ...


def structure_masks(
    channels: Sequence[NDArray[Any]],
    strokes: NDArray[np.uint8],
    spacing: tuple[float, float, float],
    values: Sequence[int],
    one: OneStructure,
) -> tuple[Maps, Index]:
    """Probability of the background and of each structure from strokes.

    Where strokes are dense, as an expert's on every slice are, `stroke_logits` weighs all structures against each other.
    Where they are sparse, what lies between them has to be known from elsewhere: `one` draws each structure, the strokes on
    others being background to it, and the most probable one wins. Parts that no stroke of their structure touches go to the
    background.

    Parameters
    ----------
    channels : sequence of ndarray, shape (I, J, K)
        One or more on the same grid; what several say is averaged as logits.
    strokes : ndarray, shape (I, J, K), uint8
        0 = not marked, 255 = background, others are structures.
    spacing : tuple of float
        Voxel size; only the ratios count.
    values : sequence of int
        The structures, in the order of the maps.
    one : callable
        Draws a structure where strokes are sparse.

    Returns
    -------
    maps : ndarray, shape (1 + C, i, j, k), float32
        The background first; they sum to 1, and are 0 or 1 on strokes.
    window : tuple of slice
        The part of the volume that they are of; elsewhere is background.

    Raises
    ------
    ValueError
        No structure is marked.
    """
    shape = _three(strokes.shape)
    frame = frame_of(shape, spacing, np.zeros((0, 3)), strokes, None)
    if stroke_gap(strokes, spacing) < DENSE:
        low, high = np.floor(frame.low + 0.5).astype(int) - MARGIN, np.ceil(frame.high + 0.5).astype(int) + MARGIN
        i, j, k = (slice(max(int(a), 0), min(int(b), n)) for a, b, n in zip(low, high, shape, strict=True))
        window = (i, j, k)
        said = [stroke_logits(finite_intensity(image[window]), strokes[window], spacing, values) for image in channels]
        logits = said[0] if len(said) == 1 else np.mean(said, axis=0)
    else:
        logits, window = _one_by_one(channels, strokes, spacing, values, one)
    marks = strokes[window]
    maps = np.asarray(softmax(logits, axis=0), dtype=np.float32)
    for index, value in enumerate((BACKGROUND_STROKE, *values)):
        maps[:, marks == value] = 0
        maps[index][marks == value] = 1
    _drop_islands(maps, marks, values)
    return maps, window


def stroke_gap(strokes: NDArray[np.uint8], spacing: Sequence[float]) -> float:
    """Median distance to the nearest stroke in the box of the structures' strokes, as a share of the size of that box.

    Parameters
    ----------
    strokes : ndarray, shape (I, J, K), uint8
        0 = not marked, 255 = background, others are structures, of which some is marked.
    spacing : three floats
        Voxel size; only the ratios count.
    """
    own = np.argwhere(foreground_of(strokes))
    low, high = own.min(axis=0), own.max(axis=0) + 1
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    step = np.asarray(spacing, dtype=np.float64)
    if (strokes[box] != 0).all():
        return 0.0
    distance = ndimage.distance_transform_edt(strokes[box] == 0, sampling=step)
    return float(np.median(distance) / np.exp(np.log((high - low) * step).mean()))


def _three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    i, j, k = shape
    return i, j, k


def _one_by_one(
    channels: Sequence[NDArray[Any]],
    strokes: NDArray[np.uint8],
    spacing: tuple[float, float, float],
    values: Sequence[int],
    one: OneStructure,
) -> tuple[Maps, Index]:
    """Logit of each structure against everything else, averaged over the channels; 0 for the background."""
    others = np.where(strokes != 0, np.uint8(BACKGROUND_STROKE), np.uint8(0))

    def draw(work: tuple[int, NDArray[Any]]) -> tuple[Maps, Index]:
        index, image = work
        return one(image, spacing, strokes=np.where(strokes == values[index - 1], np.uint8(1), others))

    marked = [index for index, value in enumerate(values, start=1) if (strokes == value).any()]
    works = [(index, image) for index in marked for image in channels]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        drawn = list(pool.map(draw, works))
    windows = [window for _, window in drawn]
    i, j, k = (slice(min(w[a].start for w in windows), max(w[a].stop for w in windows)) for a in range(3))
    logits = np.full((len(values) + 1, *(part.stop - part.start for part in (i, j, k))), logit(1 - SURE), dtype=np.float32)
    logits[0] = 0
    for (index, _), (probability, window) in zip(works, drawn, strict=True):
        place = tuple(slice(w.start - o.start, w.stop - o.start) for w, o in zip(window, (i, j, k), strict=True))
        more = logit(np.clip(probability, 1 - SURE, SURE)) - logit(1 - SURE)
        logits[index][place] += np.asarray(more / len(channels), dtype=np.float32)
    return logits, (i, j, k)


def _drop_islands(maps: Maps, strokes: NDArray[np.uint8], values: Sequence[int]) -> None:
    """Give parts of a structure that no stroke of it touches to the background, in place."""
    labels = maps.argmax(axis=0)
    for index, value in enumerate(values, start=1):
        parts, number = ndimage.label(labels == index)
        if number > 1:
            lost = np.ones(number + 1, dtype=bool)
            lost[[0, *np.unique(parts[strokes == value])]] = False
            island = lost[parts]
            maps[:, island] *= np.float32(1e-3)
            maps[0, island] += 1 - maps[:, island].sum(axis=0)
