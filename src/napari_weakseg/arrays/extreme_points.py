"""Six extreme points as geometry: their directions, their box, and how to simulate them from a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ..volume import Volume

DIRECTIONS = ("i-", "i+", "j-", "j+", "k-", "k+")
"""The six directions in a fixed order: towards lower and higher index of each array axis."""


def order_points(points: ArrayLike) -> NDArray[np.float64]:
    """Give each of six points the direction it extends most, so that the user never has to say which is which.

    Parameters
    ----------
    points : array, shape (6, 3)
        Voxel indices in any order.

    Returns
    -------
    ndarray, shape (6, 3)
        The same points in the order of `DIRECTIONS`, by the assignment with the largest total extent
        (`scipy.optimize.linear_sum_assignment`).
    """
    from scipy.optimize import linear_sum_assignment

    array = np.asarray(points, dtype=np.float64)
    _, order = linear_sum_assignment(-_towards(_offset(array)).T)
    ordered: NDArray[np.float64] = array[order]
    return ordered


def _offset(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each point's offset from the middle of all, per axis, 1 or -1 for the outermost.

    The middle is the median and both sides share one scale: where a side has no point yet, the inner points must not
    count as its extreme.
    """
    offset = points - np.median(points, axis=0)
    return np.asarray(offset / np.maximum(np.abs(offset).max(axis=0), 1e-9))


def _towards(offset: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each point extends towards each of `DIRECTIONS`, shape (N, 6)."""
    return np.stack([-offset, offset], axis=2).reshape(-1, 6)


def extremes_of(points: ArrayLike) -> NDArray[np.float64]:
    """Of many points the six that are outermost per axis and side, in the order of `DIRECTIONS`."""
    array = np.asarray(points, dtype=np.float64)
    return np.stack([array[end(array[:, axis])] for axis in range(3) for end in (np.argmin, np.argmax)])


def missing_directions(points: ArrayLike, volume: Volume) -> tuple[str, ...]:
    """Directions that fewer than six points leave open, in the patient's words where the orientation is known.

    Each point takes the direction it extends most beyond the middle of the points; with none, all six are missing.
    """
    array = np.asarray(points, dtype=np.float64).reshape(-1, 3)
    taken = set(assign_directions(array, volume.shape))
    names = direction_names(volume)
    return tuple(names[number] for number in range(6) if number not in taken and volume.shape[number // 2] > 1)


def assign_directions(points: NDArray[np.float64], shape: tuple[int, int, int]) -> tuple[int, ...]:
    """Number of the direction (see `DIRECTIONS`) that each of at most six points takes.

    Directions along an axis of one voxel are taken last: nothing extends there.
    """
    from scipy.optimize import linear_sum_assignment

    if len(points) == 0:
        return ()
    # A single point has nothing to be compared with: the volume's nearest face decides.
    offset = 2 * points / np.maximum(np.array(shape) - 1, 1) - 1 if len(points) == 1 else _offset(points)
    reach = _towards(offset)
    reach[:, np.repeat(np.array(shape) == 1, 2)] = -10.0
    rows, columns = linear_sum_assignment(-reach)
    taken = np.empty(len(points), dtype=int)
    taken[rows] = columns
    return tuple(int(n) for n in taken)


def direction_of(point: ArrayLike, points: NDArray[np.float64], shape: tuple[int, int, int]) -> int:
    """Number of the direction in which one more point reaches furthest, measured by the box of the others."""
    low, high = points.min(axis=0), points.max(axis=0)
    share = (np.asarray(point, dtype=np.float64)[None] - low) / np.maximum(high - low, 1e-9)
    reach = _towards(2 * share - 1)[0]
    reach[np.repeat(np.array(shape) == 1, 2)] = -np.inf
    return int(reach.argmax())


def direction_names(volume: Volume) -> tuple[str, ...]:
    """Words for `DIRECTIONS`: left, right, front, back, top, bottom where the orientation is known, else the axes."""
    if not volume.orientation_known:
        return tuple(f"axis {'ijk'[n // 2]} {'low' if n % 2 == 0 else 'high'}" for n in range(6))
    words = {"R": "right", "L": "left", "A": "front", "P": "back", "S": "top", "I": "bottom"}
    opposite = {"R": "L", "L": "R", "A": "P", "P": "A", "S": "I", "I": "S"}
    names: list[str] = []
    for code in volume.orientation:
        names += [words[opposite[code]], words[code]]
    return tuple(names)


def box_of(points: ArrayLike, shape: tuple[int, ...], *, margin: ArrayLike = 0) -> NDArray[np.int64]:
    """Half-open box [start, stop) of points, grown by `margin` voxels per axis and clipped to the volume.

    The upper end is one past the outermost voxel, so that a point on the last slice stays inside.

    Returns
    -------
    ndarray, shape (2, 3), int64
        First voxel and one past the last, per axis.
    """
    array = np.round(np.asarray(points, dtype=np.float64).reshape(-1, 3)).astype(np.int64)
    grow = np.broadcast_to(np.asarray(margin, dtype=np.int64), (3,))
    start = np.maximum(array.min(axis=0) - grow, 0)
    stop = np.minimum(array.max(axis=0) + 1 + grow, np.array(shape))
    return np.stack([start, stop])


def simulate_points(mask: NDArray[Any], *, jitter: int = 0, rng: np.random.Generator | None = None) -> NDArray[np.int64]:
    """The six extreme voxels of a mask, as a careful user would click them.

    Of the voxels at each extreme coordinate the one nearest to that face's centre is taken, then moved by a whole
    number of voxels drawn uniformly from -jitter..jitter per axis and clipped to the volume.

    Parameters
    ----------
    mask : ndarray, shape (I, J, K)
        Non-zero is the object.
    jitter : int
        Largest displacement per axis, in voxels.
    rng : numpy.random.Generator, optional
        Source of the displacement; default seed 0.

    Returns
    -------
    ndarray, shape (6, 3), int64
        Voxel indices in the order of `DIRECTIONS`.
    """
    voxels = np.argwhere(mask)
    if len(voxels) == 0:
        raise ValueError("an empty mask has no extreme points")
    rng = np.random.default_rng(0) if rng is None else rng
    points = []
    for axis in range(3):
        for end in (voxels[:, axis].min(), voxels[:, axis].max()):
            face = voxels[voxels[:, axis] == end]
            points.append(face[((face - face.mean(axis=0)) ** 2).sum(axis=1).argmin()])
    moved = np.array(points) + rng.integers(-jitter, jitter + 1, size=(6, 3))
    return np.clip(moved, 0, np.array(mask.shape) - 1)
