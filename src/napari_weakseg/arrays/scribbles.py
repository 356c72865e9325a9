"""Strokes on one object: the walker that they seed, and the mask that they leave standing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from ..errors import PromptError
from ..prompts import BACKGROUND_STROKE, Scribbles
from .first_mask import BETA
from .intensity import finite_intensity, scaled_intensity
from .random_walker import BACKGROUND, FOREGROUND, FREE, random_walker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

REACH = 0.03
"""How far the image may move the boundary of a prior, as a share of the object's size (see `first_mask.sharpened`)."""


NO_BACKGROUND = "no stroke marks the background: nothing says where the structures end; draw some."

THICK = 5
"""Strokes thicker than so many voxels are masks rather than lines."""

LIKE_A_MASK = (
    f"the strokes look like a full mask (more than {THICK} voxels thick, none on the background); voxels of 0 count as not "
    "marked, so draw lines."
)


def foreground_of(strokes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where strokes mark the object: all codes but 0 (not marked) and 255 (background)."""
    marked: NDArray[np.bool_] = (strokes != 0) & (strokes != BACKGROUND_STROKE)
    return marked


def walked(
    image: NDArray[Any],
    prior: NDArray[np.float32],
    strokes: NDArray[np.uint8] | None,
    *,
    inside: tuple[slice, ...],
    side: ArrayLike,
    spacing: ArrayLike = (1, 1, 1),
    reach: float = REACH,
) -> NDArray[np.float32]:
    """Let the random walker draw the boundary of a probability along the image's edges, with strokes as its hard seeds.

    Parameters
    ----------
    image : ndarray, shape (i, j, k)
        Intensities of the window.
    prior : ndarray, shape (i, j, k), float32
        The probability to sharpen.
    strokes : ndarray, shape (i, j, k), uint8, or None
        0 = free, 255 = background, else object.
    inside : tuple of slice
        The part of the window that the object may lie in; foreground strokes count outside it too.
    side : three floats
        The object's extent in voxels: the diffusion length is `reach` times its geometric mean.
    spacing : three floats
        Voxel size; only its ratios count.
    reach : float
        So far may the image move the boundary, as a share of the object's size.

    Returns
    -------
    ndarray, shape (i, j, k), float32
        1 and 0 on the strokes.
    """
    seeds = np.full(prior.shape, BACKGROUND, dtype=np.int8)
    seeds[inside] = FREE
    if strokes is not None:
        seeds[strokes == BACKGROUND_STROKE] = BACKGROUND
        seeds[foreground_of(strokes)] = FOREGROUND
    extent = np.maximum(np.asarray(side, dtype=np.float64), 1)
    gamma = float(np.clip((0.08 * np.exp(np.log(extent).mean())) ** -2, 0.03, 1.0)) * (0.08 / reach) ** 2
    step = np.asarray(spacing, dtype=np.float64)
    scaled = scaled_intensity(image)
    maps = random_walker(scaled, seeds, spacing=step / step.min(), beta=BETA, gamma=gamma, prior=prior, start=prior, tol=1e-2)
    return np.asarray(maps[0])


def classical_stroke_mask(
    image: NDArray[Any],
    spacing: tuple[float, float, float],
    *,
    points: ArrayLike | None = None,
    strokes: NDArray[np.uint8] | None = None,
    previous: NDArray[Any] | None = None,
) -> tuple[NDArray[np.float32], tuple[slice, slice, slice]]:
    """Probability of one object from its marks without a network: a random walker from strokes, points and window border.

    Six points, or an earlier mask, are the walker's prior. Arguments and result as those of
    `napari_weakseg.networks.joined_first_mask.learned_first_mask`.
    """
    from .first_mask import Window, first_mask
    from .marks import frame_of

    marked = np.zeros((0, 3)) if points is None else np.asarray(points, dtype=np.float64).reshape(-1, 3)
    frame = frame_of(np.shape(image), spacing, marked, strokes, previous)
    index = frame.window
    part = finite_intensity(image[index])
    codes = None if strokes is None else strokes[index]
    shape = part.shape
    inside = tuple(slice(0, n) for n in shape)
    prior = None
    if previous is not None:
        prior = np.asarray(previous[index], dtype=np.float32)
    elif len(marked) == 6:
        window = Window.around(marked, np.shape(image), spacing)
        whole = np.zeros(np.shape(image), dtype=np.float32)
        whole[window.index] = first_mask(image[window.index], window)
        prior = whole[index]
    if prior is not None:
        side = frame.high - frame.low
        return walked(part, prior, codes, inside=inside, side=side, spacing=spacing, reach=4 * REACH), index
    seeds = np.full(shape, BACKGROUND, dtype=np.int8)
    seeds[tuple(slice(min(1, n // 3), max(n - 1, 1 + (n < 3))) for n in shape)] = FREE
    places = np.clip(np.round(marked - [side.start for side in index]), 0, np.array(shape) - 1).astype(int)
    seeds[tuple(places.T)] = FOREGROUND
    if codes is not None:
        seeds[codes == BACKGROUND_STROKE] = BACKGROUND
        seeds[foreground_of(codes)] = FOREGROUND
    step = np.asarray(spacing, dtype=np.float64)
    scaled = scaled_intensity(part)
    if not (seeds == BACKGROUND).any():  # the object may fill the whole volume
        return np.ones(shape, dtype=np.float32), index
    return random_walker(scaled, seeds, spacing=step / step.min(), beta=BETA, tol=1e-2)[0], index


def stroked_mask(
    probability: NDArray[np.floating[Any]],
    strokes: NDArray[np.uint8] | None,
    *,
    previous: NDArray[np.bool_] | None = None,
    threshold: float = 0.5,
) -> NDArray[np.bool_]:
    """The components that a foreground stroke or the earlier mask touches, holes filled; background strokes stay out.

    Parameters
    ----------
    probability : ndarray, shape (i, j, k)
        Of the object, in its window.
    strokes : ndarray, shape (i, j, k), uint8, or None
        As in `walked`.
    previous : ndarray of bool, shape (i, j, k), optional
        The mask before the correction.
    threshold : float
        A voxel above it may belong to the object.
    """
    mask = np.asarray(probability > threshold)
    held = np.zeros_like(mask) if previous is None else np.asarray(previous, dtype=bool).copy()
    if strokes is not None:
        held |= foreground_of(strokes)
    components, number = ndimage.label(mask)
    if number > 1 and (held & mask).any():
        mask = np.isin(components, np.setdiff1d(np.unique(components[held]), 0))
    filled: NDArray[np.bool_] = ndimage.binary_fill_holes(mask)
    return filled if strokes is None else (filled & (strokes != BACKGROUND_STROKE)) | foreground_of(strokes)


def stroke_notes(strokes: NDArray[np.uint8], spacing: Sequence[float]) -> tuple[str, ...]:
    """What strokes lack that a mask can be learnt from: any on the background, and perhaps that they are strokes at all.

    Parameters
    ----------
    strokes : ndarray, shape (I, J, K), uint8
        0 = not marked, 255 = background, else structures.
    spacing : three floats
        Voxel size; only its ratios count.
    """
    if (strokes == BACKGROUND_STROKE).any() or not strokes.any():
        return ()
    # all structures together: in a full mask a thin wall lies on what it surrounds, and lines seldom touch
    return (NO_BACKGROUND, LIKE_A_MASK) if _is_solid(strokes != 0, spacing) else (NO_BACKGROUND,)


def _is_solid(marked: NDArray[np.bool_], spacing: Sequence[float]) -> bool:
    """Whether most marked voxels lie in a square of more than `THICK` voxels a side that is marked in full.

    In the plane that was drawn in: across the longest voxels, or along the axis in which the fewest slices are marked.
    """
    box = ndimage.find_objects(marked.astype(np.uint8))[0]
    longest = int(np.argmax(spacing))
    share = [(side.stop - side.start) / length for side, length in zip(box, marked.shape, strict=True)]
    across = longest if spacing[longest] > 1.2 * float(np.median(spacing)) else int(np.argmin(share))
    square = [1 if axis == across else THICK + 1 for axis in range(3)]
    part = np.pad(marked[box], THICK + 1).astype(np.uint8)
    return bool(2 * np.count_nonzero(ndimage.grey_opening(part, square)) > np.count_nonzero(part))


def held_out_strokes(
    labels: NDArray[np.integer[Any]], share: float, *, seed: int | tuple[int, ...] = 0, unmarked: int = 0
) -> NDArray[np.bool_]:
    """Choose whole strokes to keep from training, so that a loss on them says how the rest is learnt.

    A stroke is one connected part of one label in one slice. Of each label at least one stroke stays.

    Parameters
    ----------
    labels : ndarray of int, shape (S, H, W)
        Strokes, slice by slice.
    share : float
        About how many of the strokes of each label are held out.
    seed : int or tuple of int
        Of the choice.
    unmarked : int
        The label of what is not marked.

    Returns
    -------
    ndarray of bool, shape (S, H, W)
        True on the strokes that are held out.
    """
    rng = np.random.default_rng(seed)
    in_slice = np.zeros((3, 3, 3), dtype=bool)
    in_slice[1] = True
    out = np.zeros(labels.shape, dtype=bool)
    for value in np.unique(labels):
        if value == unmarked:
            continue
        parts, number = ndimage.label(labels == value, structure=in_slice)
        count = min(int(rng.binomial(number, share)), number - 1)
        chosen = rng.permutation(number)[:count] + 1
        out |= np.isin(parts, chosen)
    return out


def joined_scribbles(sources: Sequence[Scribbles]) -> Scribbles:
    """Strokes of several people on one image as one: where two of them disagree nothing is marked, and a note says how much.

    Parameters
    ----------
    sources : sequence of Scribbles
        At least one, all of one shape.

    Raises
    ------
    PromptError
        Different shapes, one value for differently named structures, or none at all.
    """
    if not sources:
        raise PromptError("there are no strokes to join; give at least one person's.")
    labels = sources[0].labels.copy()
    structures = {structure.value: structure for structure in sources[0].structures}
    torn = np.zeros(labels.shape, dtype=bool)
    for other in sources[1:]:
        if other.labels.shape != labels.shape:
            raise PromptError(f"strokes {other.labels.shape} and {labels.shape} are of different images; join those of one.")
        for structure in other.structures:
            if structures.setdefault(structure.value, structure).name != structure.name:
                raise PromptError(f"the value {structure.value} means two structures; give each its own.")
        torn |= (labels != 0) & (other.labels != 0) & (labels != other.labels)
        labels = np.where(labels == 0, other.labels, labels)
    labels[torn] = 0
    notes = tuple(dict.fromkeys(note for source in sources for note in source.notes))
    if torn.any():
        notes += (f"{int(torn.sum()):,} voxels are marked differently by different people; their strokes were dropped there.",)
    return Scribbles(labels, tuple(structures[value] for value in sorted(structures)), notes)
