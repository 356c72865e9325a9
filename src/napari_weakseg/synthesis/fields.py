"""Smooth random functions of space: cubic B-splines on few random knots, evaluated by three small matrix products."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

REACH = 2.2
"""Fields are defined on [-REACH, REACH] per axis; further out they keep the value of the border."""


class Axes(NamedTuple):
    """Coordinates of a grid along its three axes, each a 1D float32 array."""

    x: Array
    y: Array
    z: Array

    @classmethod
    def cube(cls, low: float, high: float, size: int) -> Axes:
        """The same coordinates along all three axes."""
        line = np.linspace(low, high, size, dtype=np.float32)
        return cls(line, line, line)

    def moved(self, centre: Array, scale: float) -> Axes:
        """The same places in the coordinates of an object at `centre` that is `scale` times larger."""
        return Axes(*(((line - c) / scale).astype(np.float32) for line, c in zip(self, centre, strict=True)))

    def mesh(self) -> tuple[Array, Array, Array]:
        """Coordinates of all points, broadcast lazily: shapes (I, 1, 1), (1, J, 1), (1, 1, K)."""
        return self.x[:, None, None], self.y[None, :, None], self.z[None, None, :]


def spline_basis(line: Array, knots: int) -> Array:
    """Weights of `knots` cubic B-splines at the coordinates `line`, shape (len(line), knots); rows sum to one."""
    place = (np.clip(line, -REACH, REACH) + REACH) / (2 * REACH) * (knots - 1)
    distance = np.abs(place[:, None] - np.arange(-1, knots + 1)[None])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance) ** 3 / 6
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
    weights[:, 1] += weights[:, 0]
    weights[:, -2] += weights[:, -1]
    return np.ascontiguousarray(weights[:, 1:-1], dtype=np.float32)


def along_axes(values: Array, matrices: tuple[Array, Array, Array]) -> Array:
    """Apply one matrix per axis: (a, b, c) with (A, a), (B, b), (C, c) to (A, B, C)."""
    result: Array = np.ascontiguousarray(values, dtype=np.float32)
    a, b, c = result.shape
    result = (matrices[0] @ result.reshape(a, b * c)).reshape(-1, b, c)
    result = np.matmul(matrices[1], result)
    return np.asarray(np.matmul(result, matrices[2].T))


class SmoothField:
    """A smooth random function with values around -1..1.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the knots.
    knots : int or (int, int, int)
        Knots per axis over [-REACH, REACH]: 4 is one or two bumps across an object, 24 is texture.
    """

    def __init__(self, rng: np.random.Generator, knots: int | tuple[int, int, int]) -> None:
        shape = (knots, knots, knots) if isinstance(knots, int) else knots
        self.knots = rng.uniform(-1.7, 1.7, size=shape).astype(np.float32)

    def __call__(self, axes: Axes) -> Array:
        """Values on the grid, shape (I, J, K), float32."""
        i, j, k = self.knots.shape
        return along_axes(self.knots, (spline_basis(axes.x, i), spline_basis(axes.y, j), spline_basis(axes.z, k)))
