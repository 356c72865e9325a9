r"""The ellipsoid that six extreme points already fix: it touches the box where the user clicked.

An ellipsoid :math:`(x-c)^\top A^{-1} (x-c) = 1` reaches furthest along axis a at :math:`c + A e_a / \sqrt{A_{aa}}`.
So the six points give more than a box: half the box's side is :math:`h_a = \sqrt{A_{aa}}`, and where on the two faces
the points
lie gives the off-diagonals, :math:`A_{ba} = h_a (x^{a+}_b - x^{a-}_b) / 2`. For an oblique object (a hippocampus) that is a far
better guess than the ellipsoid inscribed in the box, at no cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .extreme_points import order_points

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

SHRINK = 0.95
"""Factor on the off-diagonals: clicks are off by a voxel, and the estimate should err towards the plain ellipsoid."""

LEAST_EIGENVALUE = 0.08
"""Least eigenvalue of the correlation matrix: points that no ellipsoid fits still give a body and not a needle."""


def tangent_ellipsoid(points: ArrayLike, *, shrink: float = SHRINK) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre c and matrix A of the ellipsoid that touches the points' box near the points.

    Parameters
    ----------
    points : array, shape (6, 3)
        Voxel indices in any order.
    shrink : float
        Factor on the off-diagonal part; 0 gives the ellipsoid inscribed in the box.

    Returns
    -------
    centre : ndarray, shape (3,)
    matrix : ndarray, shape (3, 3)
        Symmetric and positive definite; its diagonal holds the squared half sides of the box, which reaches half a voxel
        beyond the outermost voxels' centres.
    """
    ordered = order_points(points)
    low, high = ordered.min(axis=0) - 0.5, ordered.max(axis=0) + 0.5
    half = (high - low) / 2
    # column a of the correlation matrix: where the two points of axis a lie, in half sides
    correlation = np.stack([(ordered[2 * a + 1] - ordered[2 * a]) / (2 * half) for a in range(3)], axis=1)
    correlation = np.clip((correlation + correlation.T) / 2 * shrink, -1, 1)
    np.fill_diagonal(correlation, 1)
    values, vectors = np.linalg.eigh(correlation)
    correlation = vectors @ np.diag(np.maximum(values, LEAST_EIGENVALUE)) @ vectors.T
    root = np.sqrt(np.diag(correlation))
    return (low + high) / 2, correlation / np.outer(root, root) * np.outer(half, half)


def ellipsoid_radius(points: ArrayLike, shape: tuple[int, ...], *, shrink: float = SHRINK) -> NDArray[np.float32]:
    """Radius of each voxel in units of the tangent ellipsoid: 0 at its centre, 1 on its surface; float32 of `shape`."""
    centre, matrix = tangent_ellipsoid(points, shrink=shrink)
    inverse = np.linalg.inv(matrix)
    x, y, z = (np.arange(n, dtype=np.float64) - c for n, c in zip(shape, centre, strict=True))
    # the quadratic form as sums of outer terms: no (..., 3) grid is made
    plane = inverse[0, 0] * x[:, None] ** 2 + 2 * inverse[0, 1] * x[:, None] * y[None, :] + inverse[1, 1] * y[None, :] ** 2
    cross = 2 * (inverse[0, 2] * x[:, None] + inverse[1, 2] * y[None, :])
    squared = plane[:, :, None] + cross[:, :, None] * z + inverse[2, 2] * z**2
    return np.asarray(np.sqrt(np.maximum(squared, 0)), dtype=np.float32)
