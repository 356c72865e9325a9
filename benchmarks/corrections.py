"""A simulated user who corrects: one stroke in the largest error, again and again, the same rule for every method.

Each method starts from its own mask of the same six points. The user then looks at the largest face-connected component of
what is missing or too much, takes the slice on which most of it lies, and draws one curve along the middle of its largest
piece there. Our mask is updated from the mask before and all strokes so far; a peer adds the strokes to its seeds.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from ours import cleaned, learned
from peers import PEERS, tuned_settings
from scipy import ndimage
from seeds import Problem
from strokes import longest_curve

from napari_weakseg.arrays.metrics import dice
from napari_weakseg.prompts import BACKGROUND_STROKE

if TYPE_CHECKING:
    from collections.abc import Callable

    from cases import Target
    from numpy.typing import NDArray

    from napari_weakseg.volume import Volume

    Mask = NDArray[np.bool_]
    Strokes = NDArray[np.uint8]
    Update = Callable[[Strokes, Mask | None], Mask]

CAP = 10
"""The user gives up after so many strokes."""
GOALS = (0.90, 0.95)
USED = ("watershed", "geodesic distance")
"""The peers that take strokes as they come."""


def largest_error(mask: Mask, reference: Mask) -> tuple[Mask, bool] | None:
    """The largest face-connected component of what is missing or of what is too much, and whether it is missing."""
    best: tuple[Mask, bool] | None = None
    size = 0
    for missing in (True, False):
        components, number = ndimage.label(reference & ~mask if missing else mask & ~reference)
        if number:
            sizes = np.bincount(components.ravel())[1:]
            if sizes.max() > size:
                size = int(sizes.max())
                best = components == int(sizes.argmax()) + 1, missing
    return best


def draw_stroke(error: Mask, spacing: Any) -> tuple[NDArray[np.intp], ...]:
    """Index of one stroke: the middle line of the error's largest piece on the slice that shows most of it, as an area."""
    from skimage.morphology import skeletonize

    steps = np.asarray(spacing, dtype=float)
    counts = [error.sum(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    areas = [float(count.max()) * float(np.delete(steps, axis).prod()) for axis, count in enumerate(counts)]
    axis = 2 - int(np.argmax(areas[::-1]))  # of equals the last axis: the one that files are mostly sliced along
    number = int(counts[axis].argmax())
    pieces, _ = ndimage.label(np.take(error, number, axis), structure=np.ones((3, 3)))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    pixels = longest_curve(skeletonize(pieces == sizes.argmax()))
    return tuple(np.insert(pixels, axis, number, axis=1).T)


def correct(update: Update, reference: Mask, spacing: Any, *, cap: int = CAP) -> dict[str, Any]:
    """Correct until the highest goal is met or the user gives up.

    Parameters
    ----------
    update : callable
        (strokes, mask before or None) to mask; all on the grid of `reference`.
    reference : ndarray of bool
        What the user wants.
    spacing : three floats
        Voxel size: the user looks at areas, not at numbers of voxels.
    cap : int
        Strokes after which the user gives up.

    Returns
    -------
    dict
        ``dice`` at the start and after each stroke, ``cpu`` and ``wall`` seconds of each stroke.
    """
    strokes = np.zeros(reference.shape, dtype=np.uint8)
    mask = update(strokes, None)
    scores, cpu, wall = [dice(mask, reference)], [], []
    while scores[-1] < max(GOALS) and len(cpu) < cap:
        found = largest_error(mask, reference)
        if found is None:
            break
        error, missing = found
        strokes[draw_stroke(error, spacing)] = 1 if missing else BACKGROUND_STROKE
        clock = time.process_time(), time.perf_counter()
        mask = update(strokes, mask)
        cpu.append(time.process_time() - clock[0])
        wall.append(time.perf_counter() - clock[1])
        scores.append(dice(mask, reference))
    return {"dice": scores, "cpu": cpu, "wall": wall}


def needed(scores: list[float], goal: float) -> int | None:
    """How many strokes it took to reach `goal`; None where the user gave up before."""
    return next((number for number, score in enumerate(scores) if score >= goal), None)


def peer_update(name: str, volume: Volume, points: Any) -> Update:
    """A peer with its tuned settings: seeds from the points, and every stroke added to them."""
    problem = Problem.of(volume.array, points, volume.spacing)
    settings = tuned_settings(name)
    own, outside = problem.seeds(settings.pop("seeds"))
    peer = PEERS[name]

    def update(strokes: Strokes, before: Mask | None) -> Mask:
        part = strokes[problem.index]
        inside, beyond = (part > 0) & (part < BACKGROUND_STROKE), part == BACKGROUND_STROKE
        foreground = (own | inside) & ~beyond
        background = (outside | beyond) & ~inside
        if not foreground.any():
            foreground = own
        mask = peer.run(problem.image, problem.spacing, foreground, background, problem.points, **peer.fixed, **settings)
        full = np.zeros(volume.shape, dtype=bool)
        full[problem.index] = cleaned(mask, foreground, inside if inside.any() else None, background)
        return full

    return update


def our_update(volume: Volume, points: Any) -> Update:
    """Points at first; then the points, all strokes so far and the mask before."""

    def update(strokes: Strokes, before: Mask | None) -> Mask:
        given = strokes if strokes.any() else None
        return learned(volume, points=points, strokes=given, previous=before).mask

    return update


def measure_corrections(target: Target) -> dict[str, Any]:
    """Ours: the curve of Dice over strokes."""
    volume, reference = target.read()
    return {"first mask (ours)": correct(our_update(volume, target.points(reference)), reference, volume.spacing)}


def measure_peer_corrections(target: Target) -> dict[str, Any]:
    """The same for the peers."""
    volume, reference = target.read()
    points = target.points(reference)
    return {name: correct(peer_update(name, volume, points), reference, volume.spacing) for name in USED}
