r"""The random walker, matrix-free and fused: what makes the first mask come at once.

The graph joins each voxel with its six neighbours. With weights w, degrees d and the seeds fixed at 0 or 1, the unknowns
x minimise

.. math:: \tfrac12 \sum_{ij} w_{ij} (x_i - x_j)^2 + \tfrac{\gamma}{2} \sum_i (x_i - p_i)^2,

i.e. they solve :math:`(L_{UU} + \gamma I) x_U = W_{US} x_S + \gamma p_U`. With :math:`\gamma = 0` this is the random walker
(Grady, PAMI 2006), with :math:`\gamma > 0` the one with a prior p per voxel (Grady, CVPR 2005).

No matrix is built. The system is scaled to a unit diagonal,
:math:`\tilde w_{ij} = w_{ij} / \sqrt{(d_i + \gamma)(d_j + \gamma)}`, which makes plain conjugate gradients the same as
Jacobi-preconditioned ones and leaves seven float32 arrays on the bounding box of the unknowns: three weights, solution,
residual, search direction, product. An iteration is two passes over them (52 bytes
per voxel): the direction's update runs one plane ahead of the product that reads it, and the dot products ride along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

FREE, BACKGROUND, FOREGROUND = -1, 0, 1
"""Codes of `seeds`: unknown, or fixed at 0, or fixed at 1 (k for the k-th structure)."""

EPSILON = 1e-10
"""Least weight of an edge, so that no part of the graph falls off (as in `skimage.segmentation.random_walker`)."""


def random_walker(
    image: NDArray[Any],
    seeds: NDArray[np.integer[Any]],
    *,
    spacing: ArrayLike = (1.0, 1.0, 1.0),
    beta: float = 130.0,
    gamma: float = 0.0,
    prior: NDArray[np.floating[Any]] | None = None,
    start: NDArray[np.floating[Any]] | None = None,
    tol: float = 1e-3,
    max_iterations: int = 2000,
) -> NDArray[np.float32]:
    r"""Probability that a walker from each voxel first meets a seed of each structure.

    Parameters
    ----------
    image : ndarray, shape (I, J, K)
        Intensities, best scaled to about [0, 1]: the weights are
        :math:`w_{ij} = \exp(-\beta ((c_i - c_j)/h_{ij})^2 / (10\,\mathrm{std}(c))) + 10^{-10}` with h the spacing along
        the edge, as in `skimage.segmentation.random_walker`.
    seeds : ndarray of int, shape (I, J, K)
        -1 free, 0 background, 1..C structures.
    spacing : three floats
        Voxel size; only its ratios to 1 matter, in whatever unit `beta` was chosen for.
    beta : float
        How much an edge in the image stops the walker.
    gamma : float
        Weight of the prior; 0 for the plain walker.
    prior : ndarray, shape (I, J, K) or (C, I, J, K), optional
        Probability per voxel of each structure, needed where `gamma` > 0.
    start : ndarray, shape (I, J, K) or (C, I, J, K), optional
        A previous solution: the warm start after another stroke.
    tol : float
        Residual relative to the right-hand side at which to stop.
    max_iterations : int
        Bound on the iterations per structure.

    Returns
    -------
    ndarray, shape (C, I, J, K), float32
        One map per structure; the background's is one minus their sum.

    Raises
    ------
    ValueError
        Without a prior, a missing foreground or background seed: the equation has no unique answer then.
    """
    order = tuple(int(axis) for axis in np.argsort(np.shape(image), kind="stable"))
    if order != (0, 1, 2):  # the innermost loop should run along the longest axis
        maps = [None if a is None else _per_structure(a).transpose(0, *(n + 1 for n in order)) for a in (prior, start)]
        turned = random_walker(
            np.transpose(image, order),
            np.transpose(seeds, order),
            spacing=np.broadcast_to(spacing, 3)[list(order)],
            beta=beta,
            gamma=gamma,
            prior=maps[0],
            start=maps[1],
            tol=tol,
            max_iterations=max_iterations,
        )
        return turned.transpose(0, *(int(n) + 1 for n in np.argsort(order)))
    image = np.asarray(image, dtype=np.float32)
    seeds = np.asarray(seeds)
    priors = None if prior is None else _per_structure(prior)
    structures = max(int(seeds.max(initial=0)), 0 if priors is None else len(priors))
    if gamma > 0 and (priors is None or len(priors) < structures):
        raise ValueError("a prior weight needs a prior for every structure")
    if gamma <= 0 and (structures == 0 or not (seeds == BACKGROUND).any()):
        raise ValueError("the random walker needs a foreground and a background seed")
    out = np.stack([(seeds == value).astype(np.float32) for value in range(1, structures + 1)])
    free = [np.flatnonzero((seeds == FREE).any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    if len(free[0]) == 0:
        return out
    # All the work happens on the unknowns' bounding box with one voxel of context, in a halo that no edge reaches.
    box = tuple(slice(max(0, int(hits[0]) - 1), int(hits[-1]) + 2) for hits in free)
    codes = np.pad(seeds[box].astype(np.int16), 1, constant_values=_OUTSIDE)
    scale = beta / (10 * max(float(image.std()), 1e-12))
    factors = (scale / np.square(np.asarray(spacing, dtype=np.float64))).astype(np.float32)
    empty = np.zeros((0, 0, 0, 0), dtype=np.float32)
    pulls = empty if gamma <= 0 or priors is None else _in_halo(priors, box)
    w0, w1, w2, root, right = _assemble(
        np.pad(image[box], 1), codes, factors, np.float32(gamma), np.float32(EPSILON), pulls, structures
    )
    starts = _per_structure(start) if start is not None else (priors if gamma > 0 else None)
    for index in range(structures):
        y = np.zeros_like(root) if starts is None else np.pad(starts[index][box].astype(np.float32), 1) * root
        _conjugate_gradients(w0, w1, w2, right[index], y, tol, max_iterations)
        solution = (y / np.maximum(root, np.float32(1e-30)))[1:-1, 1:-1, 1:-1]
        inside = codes[1:-1, 1:-1, 1:-1] == FREE
        out[index][box][inside] = solution[inside]
    return out


_OUTSIDE = -2


def _per_structure(maps: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """(I, J, K) as (1, I, J, K)."""
    return maps[None] if maps.ndim == 3 else maps


def _in_halo(maps: NDArray[np.floating[Any]], box: tuple[slice, ...]) -> NDArray[np.float32]:
    """Maps (C, I, J, K) on the box, with one voxel of zeros around it."""
    return np.pad(maps[(slice(None), *box)].astype(np.float32), ((0, 0), (1, 1), (1, 1), (1, 1)))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _assemble(
    image: NDArray[np.float32],
    codes: NDArray[np.int16],
    factors: NDArray[np.float32],
    gamma: np.float32,
    epsilon: np.float32,
    priors: NDArray[np.float32],
    structures: int,
) -> tuple[NDArray[np.float32], ...]:
    """Scaled weights towards the next voxel of each axis, root of the diagonal, right-hand sides; all in the halo's frame."""
    n0, n1, n2 = codes.shape
    w0, w1, w2 = np.zeros_like(image), np.zeros_like(image), np.zeros_like(image)
    root = np.zeros_like(image)
    right = np.zeros((structures, n0, n1, n2), dtype=np.float32)
    for i in range(1, n0 - 1):
        for j in range(1, n1 - 1):
            for k in range(1, n2 - 1):
                here, c = codes[i, j, k], image[i, j, k]
                if here == -2:
                    continue
                if codes[i + 1, j, k] != -2 and (here == -1 or codes[i + 1, j, k] == -1):
                    w0[i, j, k] = np.exp(-factors[0] * (image[i + 1, j, k] - c) ** 2) + epsilon
                if codes[i, j + 1, k] != -2 and (here == -1 or codes[i, j + 1, k] == -1):
                    w1[i, j, k] = np.exp(-factors[1] * (image[i, j + 1, k] - c) ** 2) + epsilon
                if codes[i, j, k + 1] != -2 and (here == -1 or codes[i, j, k + 1] == -1):
                    w2[i, j, k] = np.exp(-factors[2] * (image[i, j, k + 1] - c) ** 2) + epsilon
    for i in range(1, n0 - 1):
        for j in range(1, n1 - 1):
            for k in range(1, n2 - 1):
                if codes[i, j, k] != -1:
                    continue
                degree = w0[i, j, k] + w0[i - 1, j, k] + w1[i, j, k] + w1[i, j - 1, k] + w2[i, j, k] + w2[i, j, k - 1]
                root[i, j, k] = np.sqrt(degree + gamma)
                for c in range(structures):
                    pull = np.float32(0.0)
                    if codes[i + 1, j, k] == c + 1:
                        pull += w0[i, j, k]
                    if codes[i - 1, j, k] == c + 1:
                        pull += w0[i - 1, j, k]
                    if codes[i, j + 1, k] == c + 1:
                        pull += w1[i, j, k]
                    if codes[i, j - 1, k] == c + 1:
                        pull += w1[i, j - 1, k]
                    if codes[i, j, k + 1] == c + 1:
                        pull += w2[i, j, k]
                    if codes[i, j, k - 1] == c + 1:
                        pull += w2[i, j, k - 1]
                    if gamma > 0:
                        pull += gamma * priors[c, i, j, k]
                    right[c, i, j, k] = pull / root[i, j, k]
    for i in range(1, n0 - 1):
        for j in range(1, n1 - 1):
            for k in range(1, n2 - 1):
                # an edge to a seed is on the right-hand side already: root is 0 there and takes the edge away
                here = root[i, j, k]
                w0[i, j, k] = w0[i, j, k] / (here * root[i + 1, j, k]) if here * root[i + 1, j, k] > 0 else np.float32(0.0)
                w1[i, j, k] = w1[i, j, k] / (here * root[i, j + 1, k]) if here * root[i, j + 1, k] > 0 else np.float32(0.0)
                w2[i, j, k] = w2[i, j, k] / (here * root[i, j, k + 1]) if here * root[i, j, k + 1] > 0 else np.float32(0.0)
    return w0, w1, w2, root, right


@njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _product_row(
    w0: NDArray[np.float32],
    w1: NDArray[np.float32],
    w2: NDArray[np.float32],
    s: NDArray[np.float32],
    q: NDArray[np.float32],
    i: int,
    j: int,
) -> np.float32:
    """q = (I - W) s on one row; returns the row's share of s.q."""
    n = s.shape[2] - 2
    here, left, right = s[i, j, 1:-1], s[i, j, :-2], s[i, j, 2:]
    up, down, front, back = s[i - 1, j, 1:-1], s[i + 1, j, 1:-1], s[i, j - 1, 1:-1], s[i, j + 1, 1:-1]
    a0, b0 = w0[i - 1, j, 1:-1], w0[i, j, 1:-1]
    a1, b1 = w1[i, j - 1, 1:-1], w1[i, j, 1:-1]
    a2, b2 = w2[i, j, :-2], w2[i, j, 1:-1]
    out = q[i, j, 1:-1]
    total = np.float32(0.0)
    for k in range(n):
        value = (
            here[k] - a0[k] * up[k] - b0[k] * down[k] - a1[k] * front[k] - b1[k] * back[k] - a2[k] * left[k] - b2[k] * right[k]
        )
        out[k] = value
        total += value * here[k]
    return total


@njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _conjugate_gradients(
    w0: NDArray[np.float32],
    w1: NDArray[np.float32],
    w2: NDArray[np.float32],
    b: NDArray[np.float32],
    y: NDArray[np.float32],
    tol: float,
    max_iterations: int,
) -> int:
    """Solve (I - W) y = b in place from the start in `y`; returns the number of iterations."""
    n0, n1, n2 = b.shape
    q, s, r = np.zeros_like(b), np.zeros_like(b), np.zeros_like(b)
    size, rho = 0.0, 0.0
    for i in range(1, n0 - 1):
        for j in range(1, n1 - 1):
            _product_row(w0, w1, w2, y, q, i, j)
            row_size, row_rho = np.float32(0.0), np.float32(0.0)
            for k in range(1, n2 - 1):
                value = b[i, j, k]
                rest = value - q[i, j, k]
                r[i, j, k] = rest
                row_size += value * value
                row_rho += rest * rest
            size += float(row_size)
            rho += float(row_rho)
    goal = tol * tol * size
    factor = np.float32(0.0)
    for iteration in range(max_iterations):
        if rho <= goal:
            return iteration
        curvature = 0.0
        for i in range(n0 - 1):  # the direction is one plane ahead of the product that reads it
            if i + 1 < n0 - 1:
                for j in range(1, n1 - 1):
                    ahead, rest = s[i + 1, j], r[i + 1, j]
                    for k in range(n2):
                        ahead[k] = rest[k] + factor * ahead[k]
            if i > 0:
                for j in range(1, n1 - 1):
                    curvature += _product_row(w0, w1, w2, s, q, i, j)
        step = np.float32(rho / curvature)
        before, rho = rho, 0.0
        for i in range(1, n0 - 1):
            for j in range(1, n1 - 1):
                yy, rr, ss, qq = y[i, j], r[i, j], s[i, j], q[i, j]
                row = np.float32(0.0)
                for k in range(n2):
                    yy[k] += step * ss[k]
                    rest = rr[k] - step * qq[k]
                    rr[k] = rest
                    row += rest * rest
                rho += float(row)
        factor = np.float32(rho / before)
    return max_iterations
