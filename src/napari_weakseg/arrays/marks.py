"""Marks and image as a cube of fixed size: what the first-mask network sees.

The box of the marks always lies at `LOW`..`HIGH` of the cube's `GRID` voxels, per axis and whatever its size, so the
network never has to find the object or its scale; the shape of the voxels travels in `MarkedCube.condition`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..prompts import BACKGROUND_STROKE
from .cues import edge_votes, stroke_walk
from .extreme_points import assign_directions
from .first_mask import Window, coarse_first_mask
from .tangent_ellipsoid import ellipsoid_radius

Array = NDArray[np.floating[Any]]

GRID = 48
LOW, HIGH = 7, 41

CHANNELS = (
    "image", "image, window of the inside", "likelihood ratio, ellipsoid", "likelihood ratio, marks", "distance to the box",
    "ellipsoid", "points along i", "points along j", "points along k", "foreground strokes", "background strokes",
    "previous mask", "edge votes", "classical first mask", "validity",
)  # fmt: skip
"""What each channel of `MarkedCube.channels` holds."""

CONDITIONS = (
    "shape of a cube voxel i", "j", "k", "voxels across the box i", "j", "k", "points", "foreground strokes",
    "background strokes", "previous mask",
)  # fmt: skip
"""What each number of `MarkedCube.condition` says."""

_TINY = 1e-6
_BINS = 32


@dataclass(frozen=True, eq=False)
class CubeFrame:
    """Where the cube lies in a volume.

    Parameters
    ----------
    low, high : ndarray, shape (3,)
        Voxel coordinates of the box's faces (a voxel i reaches from i - 0.5 to i + 0.5); they land on `LOW` and `HIGH`.
    shape : tuple of int
        Shape of the volume.
    """

    low: Array
    high: Array
    shape: tuple[int, int, int]

    @property
    def step(self) -> Array:
        """Voxels of the volume per voxel of the cube, per axis."""
        return np.asarray((self.high - self.low) / (HIGH - LOW))

    @property
    def window(self) -> tuple[slice, slice, slice]:
        """The part of the volume that the cube covers."""
        reach = LOW * self.step
        start = np.maximum(np.floor(self.low - reach + 0.5), 0).astype(int)
        stop = np.minimum(np.ceil(self.high + (GRID - HIGH) * self.step + 0.5), self.shape).astype(int)
        start = np.minimum(start, np.array(self.shape) - 1)
        i, j, k = (slice(int(a), int(max(b, a + 1))) for a, b in zip(start, stop, strict=True))
        return i, j, k

    def to_cube_coordinates(self, points: ArrayLike) -> Array:
        """Voxel coordinates (..., 3) to those of the cube, where voxel c has its centre at c."""
        return np.asarray(LOW - 0.5 + (np.asarray(points, dtype=np.float64) - self.low) / self.step)

    def centres(self, axis: int) -> Array:
        """Voxel coordinates of the cube's voxel centres along one axis."""
        return np.asarray(self.low[axis] + (np.arange(GRID) + 0.5 - LOW) * self.step[axis])

    def to_cube(self, volume: NDArray[Any]) -> Array:
        """Resample a volume: linear where the cube is finer, triangle-weighted means where it is coarser; edges repeat.

        Parameters
        ----------
        volume : ndarray, shape (I, J, K)
            On the whole grid, of which only `window` is read.

        Returns
        -------
        ndarray, shape (GRID, GRID, GRID), float32
        """
        result: Array = np.ascontiguousarray(volume[self.window], dtype=np.float32)
        for axis in np.argsort([-n for n in result.shape]):  # the longest first: the rest gets cheaper
            matrix = self._weights(int(axis))
            result = np.moveaxis(np.tensordot(matrix, result, axes=(1, int(axis))), 0, int(axis))
        return np.ascontiguousarray(result, dtype=np.float32)

    def _weights(self, axis: int) -> Array:
        window = self.window[axis]
        voxels = np.arange(window.start, window.stop)
        centres = np.clip(self.centres(axis), voxels[0], voxels[-1])
        weights = np.maximum(0, 1 - np.abs(centres[:, None] - voxels[None]) / max(1.0, self.step[axis]))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)

    def from_cube(self, cube: Array) -> Array:
        """Values of a cube on the voxels of `window`, trilinear, float32."""
        result = np.asarray(cube, dtype=np.float32)
        for axis in range(3):
            window = self.window[axis]
            place = LOW - 0.5 + (np.arange(window.start, window.stop) - self.low[axis]) / self.step[axis]
            place = np.clip(place, 0, GRID - 1)
            matrix = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(GRID)[None])).astype(np.float32)
            result = np.moveaxis(np.tensordot(matrix, result, axes=(1, axis)), 0, axis)
        return np.ascontiguousarray(result)

    def validity(self) -> Array:
        """1 where the cube lies inside the volume, else 0."""
        lines = [self.centres(axis) for axis in range(3)]
        i, j, k = ((line >= -0.5) & (line <= count - 0.5) for line, count in zip(lines, self.shape, strict=True))
        return np.asarray(i[:, None, None] & j[None, :, None] & k[None, None, :], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class MarkedCube:
    """Input of the first-mask network.

    Parameters
    ----------
    channels : ndarray, shape (15, GRID, GRID, GRID), float32
        See `CHANNELS`.
    condition : ndarray, shape (10,), float32
        See `CONDITIONS`.
    frame : CubeFrame
        Where the cube lies.
    classical : ndarray, shape (I, J, K), float32, or None
        What `first_mask.coarse_first_mask` makes of six points, on the volume's grid.
    """

    channels: Array
    condition: Array
    frame: CubeFrame
    classical: Array | None = None


def marked_cube(
    image: NDArray[Any],
    spacing: tuple[float, float, float],
    *,
    points: ArrayLike | None = None,
    strokes: NDArray[np.uint8] | None = None,
    previous: NDArray[Any] | None = None,
) -> MarkedCube:
    """Build the network's input from an image and any marks on one object.

    Parameters
    ----------
    image : ndarray, shape (I, J, K)
        One channel; any real type.
    spacing : tuple of float
        Voxel size; only the ratios count.
    points : array, shape (N, 3), optional
        Up to six extreme points in voxel coordinates, in any order.
    strokes : ndarray, shape (I, J, K), uint8, optional
        0 = not marked, 255 = background stroke, anything else = this object.
    previous : ndarray, shape (I, J, K), optional
        Mask or probability in 0..1 to correct.

    Raises
    ------
    ValueError
        Neither points nor foreground strokes nor a previous mask: nothing says where the object is.
    """
    marked = np.zeros((0, 3)) if points is None else np.asarray(points, dtype=np.float64).reshape(-1, 3)
    frame = frame_of(image.shape, spacing, marked, strokes, previous)
    valid = frame.validity()
    foreground = _strokes(frame, strokes, foreground=True)
    background = _strokes(frame, strokes, foreground=False)
    sampled = frame.to_cube(image)
    picture, bins = _equalised(sampled, valid)
    ellipsoid, box = _fixed_maps()
    if len(marked) == 6:
        ellipsoid = 1 - ellipsoid_radius(frame.to_cube_coordinates(marked), valid.shape)
    pairs, inner = _point_maps(frame, marked)
    inside = inner + foreground if inner.any() or foreground.any() else np.maximum(ellipsoid, 0)
    outside = np.where(box < 0, valid, 0)
    if background.any():
        outside = outside / max(outside.sum(), 1) + background / background.sum()
    channels = np.empty((len(CHANNELS), GRID, GRID, GRID), dtype=np.float32)
    channels[0] = picture
    channels[1] = _windowed(sampled, np.maximum(ellipsoid, 0) * valid)
    channels[2] = _likelihood_ratio(bins, (ellipsoid > 0) * valid, np.where(ellipsoid > 0, 0, valid))
    channels[3] = _likelihood_ratio(bins, inside, outside)
    channels[4], channels[5] = box, np.maximum(ellipsoid, -1.5)
    channels[6:9] = pairs
    channels[9], channels[10] = _halo(foreground), _halo(background)
    channels[11] = 0 if previous is None else 2 * np.clip(frame.to_cube(previous), 0, 1) - 1
    channels[12] = edge_votes(picture, ellipsoid, box, foreground, background)
    classical = _classical(image, spacing, marked)
    channels[13] = 0
    if classical is not None or foreground.any():
        walk = stroke_walk(picture, box, foreground, background) if classical is None else 2 * frame.to_cube(classical) - 1
        channels[13] = np.where(foreground > 0, 1, np.where(background > 0, -1, walk))
    channels[14] = valid
    channels[:4] *= valid
    shape = np.log2(frame.step * np.asarray(spacing, dtype=np.float64))
    across = np.log2((frame.high - frame.low) / 16)
    given = [len(marked) / 6, float(foreground.any()), float(background.any()), float(previous is not None)]
    condition = np.concatenate([(shape - shape.mean()) / 2, across / 3, given]).astype(np.float32)
    return MarkedCube(channels, condition, frame, classical)


def _classical(image: NDArray[Any], spacing: tuple[float, float, float], points: Array) -> Array | None:
    """What six points alone say, without a network; None for fewer."""
    if len(points) != 6:
        return None
    i, j, k = image.shape
    window = Window.around(points, (i, j, k), spacing)
    whole = np.zeros((i, j, k), dtype=np.float32)
    whole[window.index] = coarse_first_mask(image[window.index], window)
    return whole


def frame_of(
    shape: tuple[int, ...],
    spacing: tuple[float, float, float],
    points: Array,
    strokes: NDArray[np.uint8] | None,
    previous: NDArray[Any] | None,
) -> CubeFrame:
    """Place the cube: the box of all that belongs to the object, grown where six points do not make it tight.

    Raises
    ------
    ValueError
        Nothing marks the object.
    """
    corners = [points] if len(points) else []
    if strokes is not None:
        corners += _extent((strokes != 0) & (strokes != BACKGROUND_STROKE))
    if previous is not None and len(points) < 6:
        corners += _extent(np.asarray(previous) > 0.5)
    if not corners:
        raise ValueError("neither points nor foreground strokes nor a previous mask say where the object is")
    places = np.concatenate(corners)
    low, high = places.min(axis=0) - 0.5, places.max(axis=0) + 0.5
    if len(points) < 6 and previous is None:
        low, high = _grown(low, high, shape, spacing, share=0.1 if len(points) >= 4 else 0.3)
        if strokes is not None and len(points) < 4:
            for corner in _extent(strokes == BACKGROUND_STROKE):  # strokes round the object say how far it may reach
                side = high - low
                low, high = (
                    np.clip(np.minimum(low, corner[0]), low - side / 2, None),
                    np.clip(np.maximum(high, corner[1]), None, high + side / 2),
                )
        low, high = np.maximum(low, -0.5), np.minimum(high, np.array(shape) - 0.5)
    i, j, k = shape
    return CubeFrame(low, high, (i, j, k))


def _grown(low: Array, high: Array, shape: tuple[int, ...], spacing: ArrayLike, *, share: float) -> tuple[Array, Array]:
    """A box with room round it: no side shorter than 0.8 of the longest, nor than 8 % of the volume, both as lengths."""
    step = np.asarray(spacing, dtype=np.float64)
    length = (high - low) * step
    least = max(0.8 * float(length.max()), 0.08 * float((np.array(shape) * step).max()))
    side = np.maximum(length, least) * (1 + 2 * share) / step
    centre = (low + high) / 2
    return centre - side / 2, centre + side / 2


def _extent(mask: NDArray[np.bool_]) -> list[Array]:
    """Lowest and highest index of a mask per axis, as a list of one (2, 3) array; empty for an empty mask."""
    lines = [np.flatnonzero(mask.any(axis=tuple(n for n in range(3) if n != axis))) for axis in range(3)]
    if len(lines[0]) == 0:
        return []
    return [np.array([[line[0] for line in lines], [line[-1] for line in lines]], dtype=np.float64)]


@lru_cache(maxsize=1)
def _fixed_maps() -> tuple[Array, Array]:
    """Ellipsoid level (1 at the centre, 0 on its surface) and distance to the box (positive inside, in margins)."""
    place = (np.arange(GRID) + 0.5 - (LOW + HIGH) / 2) / ((HIGH - LOW) / 2)
    x, y, z = np.meshgrid(place, place, place, indexing="ij")
    ellipsoid = 1 - np.sqrt(x**2 + y**2 + z**2)
    box = (1 - np.maximum(np.maximum(np.abs(x), np.abs(y)), np.abs(z))) * ((HIGH - LOW) / 2 / LOW)
    return ellipsoid.astype(np.float32), box.astype(np.float32)


@lru_cache(maxsize=4)
def _blur(sigma: float) -> Array:
    distance = np.arange(GRID)[:, None] - np.arange(GRID)[None]
    weights = np.exp(-0.5 * (distance / sigma) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def _smoothed(cube: Array, sigma: float) -> Array:
    """Gaussian blur of a cube by three matrix products."""
    matrix = _blur(sigma)
    first = (matrix @ cube.reshape(GRID, -1)).reshape(cube.shape)
    return np.asarray(np.matmul(np.matmul(matrix, first), matrix.T))


def _equalised(cube: Array, valid: Array) -> tuple[Array, NDArray[np.intp]]:
    """Image scaled to -1..1 between its percentiles, and its bin in a histogram with equally full bins."""
    inside = cube[valid > 0] if valid.any() else cube.ravel()
    low, high = np.quantile(inside[::3], [0.005, 0.995])
    scale = 2 / max(float(high - low), _TINY)
    picture = np.clip((cube - np.float32(low)) * np.float32(scale) - 1, -1.5, 1.5)
    level = np.clip((_smoothed(picture, 0.7) + 1) * 255.5, 0, 511).astype(np.intp)
    counts = np.bincount(level.ravel(), weights=valid.ravel(), minlength=512)
    share = (np.cumsum(counts) - 0.5 * counts) / max(counts.sum(), 1)
    return picture, np.minimum((share * _BINS).astype(np.intp), _BINS - 1)[level]


def _windowed(cube: Array, weight: Array) -> Array:
    """Image relative to what is usual inside: its median and spread there; shows detail that a wide range hides."""
    chosen = cube[weight > 0.25]
    if chosen.size == 0:
        return np.zeros_like(cube)
    low, middle, high = np.quantile(chosen[::3], [0.1, 0.5, 0.9])
    return np.asarray(np.tanh((cube - np.float32(middle)) / np.float32(max(float(high - low), _TINY))))


def _likelihood_ratio(bins: NDArray[np.intp], inside: Array, outside: Array) -> Array:
    """log p(bin | inside) / p(bin | outside), limited to -1..1 at a ratio of e^4."""
    smooth = np.exp(-0.5 * ((np.arange(_BINS)[:, None] - np.arange(_BINS)[None]) / 1.5) ** 2)
    logs = []
    for weight in (inside, outside):
        counts = smooth @ np.bincount(bins.ravel(), weights=weight.ravel(), minlength=_BINS)
        logs.append(np.log(counts / max(counts.sum(), _TINY) + 2e-3))
    return np.asarray(np.clip((logs[0] - logs[1]) / 4, -1, 1).astype(np.float32)[bins])


def _point_maps(frame: CubeFrame, points: NDArray[np.float64]) -> tuple[Array, Array]:
    """One map per axis with its two points and the line between them, and the places just inside the points."""
    maps = np.zeros((3, GRID, GRID, GRID), dtype=np.float32)
    inner = np.zeros((GRID, GRID, GRID), dtype=np.float32)
    if len(points) == 0:
        return maps, inner
    directions = assign_directions(points, frame.shape)
    places = frame.to_cube_coordinates(points)
    line = np.arange(GRID)

    def ball(place: Array, sigma: float) -> Array:
        x, y, z = (np.exp(-0.5 * ((line - c) / sigma) ** 2).astype(np.float32) for c in place)
        return np.asarray(x[:, None, None] * y[None, :, None] * z[None, None, :])

    ends: dict[int, Array] = dict(zip(directions, places, strict=True))
    for direction, place in ends.items():
        axis, side = divmod(direction, 2)
        maps[axis] = np.maximum(maps[axis], ball(place, 1.5))
        shifted = place.copy()
        shifted[axis] += 2.5 if side == 0 else -2.5
        inner += ball(shifted, 1.5)
    for axis in range(3):
        if 2 * axis in ends and 2 * axis + 1 in ends:
            first, last = ends[2 * axis], ends[2 * axis + 1]
            maps[axis] = np.maximum(maps[axis], 0.6 * _line(first, last, axis))
    inner[_fixed_maps()[1] <= 0] = 0
    return maps, np.where(inner > 0.05, inner, 0)


def _line(first: Array, last: Array, axis: int) -> Array:
    """A soft line between two places that lie on opposite faces of `axis`."""
    line = np.arange(GRID)
    share = np.clip((line - first[axis]) / max(float(last[axis] - first[axis]), 1.0), 0, 1)
    others = [n for n in range(3) if n != axis]
    curves = []
    for other in others:
        centre = first[other] + share * (last[other] - first[other])
        curves.append(np.exp(-0.5 * ((line[None] - centre[:, None]) / 2.5) ** 2))
    tapered = np.where((line < first[axis] - 1) | (line > last[axis] + 1), 0.0, 1.0)
    result = tapered[:, None, None] * curves[0][:, :, None] * curves[1][:, None, :]
    return np.asarray(np.moveaxis(result, 0, axis), dtype=np.float32)


def _strokes(frame: CubeFrame, strokes: NDArray[np.uint8] | None, *, foreground: bool) -> Array:
    """Strokes of one kind on the cube: every voxel that a stroke touches, 0 or 1."""
    cube = np.zeros((GRID, GRID, GRID), dtype=np.float32)
    if strokes is None:
        return cube
    part = strokes[frame.window]
    chosen = (part != 0) & (part != BACKGROUND_STROKE) if foreground else part == BACKGROUND_STROKE
    if not chosen.any():
        return cube
    start = np.array([window.start for window in frame.window])
    places = np.round(frame.to_cube_coordinates(np.argwhere(chosen) + start)).astype(int)
    places = places[((places >= 0) & (places < GRID)).all(axis=1)]
    cube[tuple(places.T)] = 1
    if (frame.step < 1).any():  # a voxel of the volume covers several of the cube
        whole = np.zeros(frame.shape, dtype=np.float32) if part.size == strokes.size else None
        if whole is None:
            whole = np.zeros(strokes.shape, dtype=np.float32)
        whole[frame.window] = chosen
        cube = np.maximum(cube, frame.to_cube(whole) > 0.5)
    return cube


def _halo(cube: Array) -> Array:
    """Strokes with a soft surrounding, so that thin ones are seen from afar."""
    return np.maximum(cube, np.clip(4 * _smoothed(cube, 3.0), 0, 0.5)) if cube.any() else cube
