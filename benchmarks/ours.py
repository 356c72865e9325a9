"""Our first mask as the benchmarks call it, from any marks, and what follows every peer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_weakseg.arrays.doubt import overall_doubt
from napari_weakseg.arrays.first_mask import Window, clean_mask
from napari_weakseg.arrays.scribbles import stroked_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_weakseg.volume import Volume

    Mask = NDArray[np.bool_]
    Index = tuple[slice, slice, slice]


def cleaned(mask: Mask, core: NDArray[Any], foreground: Mask | None = None, background: Mask | None = None) -> Mask:
    """What follows every peer that gets strokes: one component, holes filled, except where the user said otherwise.

    Parameters
    ----------
    mask : ndarray of bool
        Any shape of three axes.
    core : ndarray, same shape
        Where the object surely is, as weights: the component that holds most of it stays.
    foreground, background : ndarray of bool, same shape, optional
        The user's strokes: they are obeyed, a component that a foreground stroke touches stays, a hole with a background
        stroke in it is not filled.
    """
    if background is not None:
        mask = mask & ~background
    if foreground is not None:
        mask = mask | foreground
    components, number = ndimage.label(mask)
    if number > 1:
        held = np.bincount(components.ravel(), weights=core.ravel().astype(float))
        held[0] = 0
        keep = np.zeros(number + 1, dtype=bool)
        keep[(held if held.any() else np.bincount(components.ravel()) * (np.arange(number + 1) > 0)).argmax()] = True
        if foreground is not None:
            keep[np.unique(components[foreground])] = True
        keep[0] = False
        mask = keep[components]
    full = ndimage.binary_fill_holes(mask)
    if background is not None and (full & background).any():
        holes, _ = ndimage.label(full & ~mask)
        full &= ~np.isin(holes, np.unique(holes[background & (holes > 0)]))
    return np.asarray(full, dtype=bool)


@dataclass(frozen=True, eq=False)
class Outcome:
    """A first mask with what it was made from.

    Parameters
    ----------
    mask : ndarray of bool
        On the whole grid.
    probability : ndarray, float32
        On `window`; 0 elsewhere.
    window : tuple of slice
    """

    mask: Mask
    probability: NDArray[np.float32]
    window: Index

    @property
    def doubt(self) -> float:
        """1 minus the Dice that the probability itself expects of the mask: 0 = sure of every voxel."""
        return overall_doubt(self.probability, self.mask[self.window])


def learned(volume: Volume, *, points: Any = None, strokes: NDArray[np.uint8] | None = None, previous: Any = None) -> Outcome:
    """The product's first mask from the marks, cleaned as the product does it."""
    from napari_weakseg.arrays.structure_masks import structure_masks
    from napari_weakseg.networks.joined_first_mask import learned_first_mask

    i, j, k = volume.spacing
    mask = np.zeros(volume.shape, dtype=bool)
    if strokes is not None and points is None and previous is None:
        maps, window = structure_masks([volume.array], strokes, (i, j, k), (1,), learned_first_mask)
        mask[window] = maps[1] > maps[0]
        return Outcome(mask, maps[1], window)
    probability, window = learned_first_mask(volume.array, (i, j, k), points=points, strokes=strokes, previous=previous)
    if strokes is None and previous is None:
        start, stop = ([getattr(part, end) for part in window] for end in ("start", "stop"))
        place = Window(tuple(start), tuple(stop), np.asarray(points, dtype=float) - start, np.asarray(volume.spacing))
        part = clean_mask(probability, place)
    else:
        marks, before = (None if array is None else array[window] for array in (strokes, previous))
        part = stroked_mask(probability, marks, previous=before)
    mask[window] = part
    return Outcome(mask, probability, window)


@lru_cache(maxsize=1)
def weights_digest() -> str:
    """The first characters of the weights' hash: what is cached for other weights is measured again."""
    from napari_weakseg.networks.first_mask_model import read_first_mask_model

    return read_first_mask_model().digest[:12]
