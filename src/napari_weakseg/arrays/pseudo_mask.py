"""SimPLe's own pseudo-mask: minimum-cost paths between opposite points, then rounds of the random walker.

References
----------
Zhong and Wang, SimPLe, MICCAI 2023, and the authors' code, with its traps avoided: margins are in mm (voxels where the
spacing is unknown), windows include their last slice, faces on the volume's border carry no seeds, paths know the
spacing and are trimmed where dilation would leave the object, and rounds stop when the mask no longer changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .extreme_points import box_of
from .intensity import scaled_intensity
from .object_paths import object_paths
from .random_walker import BACKGROUND, FOREGROUND, FREE, random_walker

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .first_mask import Window


def background_ring(window: Window, ring: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Voxels `ring` voxels or more outside the box on any axis; none on a face that the window's border cuts off.

    Returns
    -------
    ndarray of bool, shape of `window`
        True is background. At least one voxel: without any free face the window's corners are taken.
    """
    start, stop = box_of(window.points, window.shape)
    seeds = np.ones(window.shape, dtype=bool)
    seeds[tuple(slice(max(0, int(a) - r + 1), int(b) + r - 1) for a, b, r in zip(start, stop, ring, strict=True))] = False
    if not seeds.any():
        seeds[tuple(np.ix_(*[[0, n - 1] for n in window.shape]))] = True
    return seeds


def published_pseudo_mask(
    image: NDArray[Any],
    window: Window,
    *,
    ring: tuple[int, int, int],
    rounds: int = 8,
    beta: float = 130.0,
    sure: float = 0.8,
    unsure: float = 0.1,
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Pseudo-mask of one object by rounds of the random walker.

    Parameters
    ----------
    image : ndarray, shape of `window`
        Intensities.
    window : Window
        Margin 12 mm as the paper's crop is large; background seeds lie `ring` voxels outside the box.
    ring : three ints
        Distance of the background seeds from the box, in voxels.
    rounds : int
        Solves of the walker, 1 to 8. Few for clear objects, more for weak ones.
    beta, sure, unsure : float
        Edge strictness; probability above which a voxel is object, and up to which it becomes a background seed.

    Returns
    -------
    labels : ndarray of int8
        1 object, 0 background (all outside the box), -1 unlabelled.
    probability : ndarray of float32
        Of the last round.
    """
    scaled = scaled_intensity(image)
    box = tuple(slice(int(a), int(b)) for a, b in box_of(window.points, window.shape).T)
    paths = object_paths(image, window.points, window.spacing)
    seeds = np.full(window.shape, FREE, dtype=np.int8)
    seeds[background_ring(window, ring)] = BACKGROUND
    seeds[paths] = FOREGROUND
    probability = random_walker(scaled, seeds, spacing=window.spacing, beta=beta)[0]
    before = probability > sure
    for _ in range(rounds - 1):
        seeds = np.where(probability > sure, FOREGROUND, np.where(probability <= unsure, BACKGROUND, FREE)).astype(np.int8)
        if not (seeds == FOREGROUND).any() or not (seeds == BACKGROUND).any() or not (seeds == FREE).any():
            break  # a missing label would turn the equation around; the last result stands
        probability = random_walker(scaled, seeds, spacing=window.spacing, beta=beta, start=probability)[0]
        now = probability > sure
        if (now != before).sum() < 0.01 * max(1, int(before.sum())):
            break
        before = now
    labels = np.zeros(window.shape, dtype=np.int8)
    labels[box] = np.where(probability[box] > sure, 1, -1)
    return labels, probability
