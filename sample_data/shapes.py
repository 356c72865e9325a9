"""Signed distances, band-limited noise and soft painting: what the made-up volumes are drawn with.

Positions and distances are in mm; arrays are float32 on a fine grid that is averaged down afterwards, so that every
border has partial volume. A signed distance is negative inside its shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Sequence

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """Voxels of a file and the finer voxels inside them.

    Parameters
    ----------
    shape : tuple of int
        Voxels (I, J, K) of the file.
    affine : ndarray, shape (4, 4)
        Voxel index to RAS mm.
    factors : tuple of int
        Fine voxels per voxel and axis.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    factors: tuple[int, int, int]

    @property
    def fine_spacing(self) -> tuple[float, ...]:
        """Distance of fine voxels per axis, mm."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return tuple(float(n) for n in lengths / self.factors)

    def positions(self) -> tuple[Array, Array, Array]:
        """RAS mm (x to the right, y to the front, z up) of every fine voxel."""
        steps = [(np.arange(n * f) + 0.5) / f - 0.5 for n, f in zip(self.shape, self.factors, strict=True)]
        i, j, k = np.meshgrid(*steps, indexing="ij", sparse=True)
        x, y, z = ((row[0] * i + row[1] * j + row[2] * k + row[3]).astype(np.float32) for row in self.affine[:3])
        return x, y, z

    def averaged(self, fine: Array) -> NDArray[np.float64]:
        """Mean of the fine voxels inside each voxel of the file."""
        (a, b, c), (f, g, h) = self.shape, self.factors
        return fine.reshape(a, f, b, g, c, h).mean(axis=(1, 3, 5), dtype=np.float64)


def oblique_affine(
    spacing: Sequence[float], shape: Sequence[int], centre: Sequence[float], *, codes: str, tilt: float = 0.0, turn: float = 0.0
) -> NDArray[np.float64]:
    """An affine whose axes run towards `codes` tilted about x and turned about z (degrees), `centre` in the middle."""
    a, b = np.deg2rad([tilt, turn])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    signs = [1.0 if code in "RAS" else -1.0 for code in codes]
    matrix = about_z @ about_x @ np.diag(signs) @ np.diag(spacing)
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = np.asarray(centre) - matrix @ ((np.array(shape) - 1) / 2)
    return affine.round(6)  # what a float32 header keeps anyway


class Noise:
    """Smooth noise of one wavelength, mean 0 and standard deviation 1, periodic over eight wavelengths.

    Parameters
    ----------
    wavelength : float
        In mm.
    rng : numpy.random.Generator
        Source of the white noise that is band-passed.
    band : float
        Relative width of the pass band: small gives evenly spaced folds.
    """

    def __init__(self, wavelength: float, rng: np.random.Generator, *, band: float = 0.35) -> None:
        side = 64
        self.step = wavelength / 8
        frequency = np.fft.fftfreq(side)
        radius = np.sqrt(frequency[:, None, None] ** 2 + frequency[None, :, None] ** 2 + frequency[None, None, :] ** 2)
        gain = np.exp(-0.5 * ((radius * 8 - 1) / band) ** 2)
        gain[0, 0, 0] = 0
        values = np.fft.ifftn(np.fft.fftn(rng.standard_normal((side,) * 3)) * gain).real
        self.values = (values / values.std()).astype(np.float32)

    def __call__(self, x: Array, y: Array, z: Array) -> Array:
        """The noise at these positions."""
        where = np.stack(np.broadcast_arrays(x, y, z)) / np.float32(self.step)
        found: Array = ndimage.map_coordinates(self.values, where, order=1, mode="grid-wrap", output=np.float32)
        return found


def ellipsoid(x: Array, y: Array, z: Array, centre: Sequence[float], radii: Sequence[float]) -> Array:
    """Signed distance (first order) to an ellipsoid along the axes."""
    a, b, c = ((v - np.float32(m)) / np.float32(r) for v, m, r in zip((x, y, z), centre, radii, strict=True))
    level = np.sqrt(a * a + b * b + c * c) + np.float32(1e-6)
    slope = np.sqrt((a / radii[0]) ** 2 + (b / radii[1]) ** 2 + (c / radii[2]) ** 2) + np.float32(1e-6)
    return (level * (level - 1) / slope).astype(np.float32)


def tube(x: Array, y: Array, z: Array, places: Sequence[Sequence[float]], radii: Sequence[float]) -> Array:
    """Signed distance to a round tube along a polyline, its radius changing from place to place."""
    best = np.full(np.broadcast_shapes(x.shape, y.shape, z.shape), np.inf, dtype=np.float32)
    for start, stop, first, last in zip(places[:-1], places[1:], radii[:-1], radii[1:], strict=True):
        way = np.subtract(stop, start).astype(np.float32)
        u, v, w = (p - np.float32(s) for p, s in zip((x, y, z), start, strict=True))
        share = np.clip((u * way[0] + v * way[1] + w * way[2]) / float(way @ way), 0, 1)
        gap = np.sqrt((u - share * way[0]) ** 2 + (v - share * way[1]) ** 2 + (w - share * way[2]) ** 2)
        np.minimum(best, gap - (first + share * np.float32(last - first)), out=best)
    return best


def join(a: Array, b: Array, blend: float) -> Array:
    """Union of two shapes whose seam is rounded over `blend` mm."""
    h = np.clip(0.5 + 0.5 * (b - a) / blend, 0, 1).astype(np.float32)
    return b + (a - b) * h - np.float32(blend) * h * (1 - h)


def cut(a: Array, b: Array, blend: float) -> Array:
    """Where both shapes are, with the seam rounded."""
    return -join(-a, -b, blend)


def cover(distance: Array, edge: float = 0.6) -> Array:
    """Share of a fine voxel that lies inside a shape, from its signed distance."""
    return np.clip(np.float32(0.5) - distance / np.float32(edge), 0, 1)


def paint(image: Array, distance: Array, value: Array | float, *, edge: float = 0.6, opacity: Array | float = 1.0) -> None:
    """Lay `value` over `image` where the shape is, in place."""
    share = cover(distance, edge) * np.float32(opacity) if np.isscalar(opacity) else cover(distance, edge) * opacity
    image += (value - image) * share
