"""A small cohort of FLAIR-like heads, half of them with a lesion: drawn, not scanned.

What differs from case to case: size and turn of the head, ventricles, bright caps beside them, gain of the coils, and of the
lesion place, size, brightness and the swelling around it. It is an easy task on purpose: it is learnt in under a minute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from shapes import Array, Grid, Noise, cover, ellipsoid, join, oblique_affine, paint, tube

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPACING = (3.0, 3.0, 6.0)
SHAPE = (56, 68, 18)
TRAINING, TESTING = 12, 4
WHITE, GREY, FLUID = 74.0, 92.0, 16.0


def make_case(number: int, seed: int) -> tuple[NDArray[np.int16], NDArray[np.uint8], NDArray[np.float64]]:
    """Image (int16), lesion mask (uint8) and affine (RAS mm); cases with an odd number have no lesion."""
    rng = np.random.default_rng((seed, number))
    affine = oblique_affine(SPACING, SHAPE, (0.0, -4.0, 14.0), codes="LPS")
    grid = Grid(SHAPE, affine, (2, 2, 2))
    x, y, z = _turned(grid, rng)
    brain = ellipsoid(x, y, z, (0, -4, 8), (61, 77, 58)) + 1.2 * Noise(45, rng)(x, y, z)
    image = np.full_like(x, 1.0)
    paint(image, brain - 13.0, 96 + 6 * Noise(14, rng)(x, y, z))
    paint(image, brain - 8.0, 8.0)
    paint(image, brain - 2.5, FLUID)
    folds = 1.6 * np.abs(Noise(22, rng, band=0.22)(x, y, z)) - 1.0
    paint(image, brain + np.maximum(folds, 0) * 3, GREY + 3 * Noise(16, rng)(x, y, z), edge=2.0)
    paint(image, brain + 6.5 + 3.0 * folds, WHITE + 2 * Noise(30, rng)(x, y, z), edge=3.0)
    _paint_ventricles(image, (x, y, z), rng)
    lesion = _lesion((x, y, z), rng) if number % 2 == 0 else np.full_like(x, 1e3)
    halo = np.maximum(lesion - rng.uniform(3, 8) - 2.5 * Noise(18, rng)(x, y, z), brain + 7)
    paint(image, halo, 104 + 4 * Noise(12, rng)(x, y, z), edge=6.0)
    paint(image, lesion, rng.uniform(118, 150) + 5 * Noise(10, rng)(x, y, z), edge=2.0)
    signal = grid.averaged(image) * _gain(rng)
    noisy = np.hypot(signal + rng.normal(0, 2.4, SHAPE), rng.normal(0, 2.4, SHAPE))
    mask = grid.averaged(cover(lesion)) >= 0.5
    return np.rint(noisy).astype(np.int16), mask.astype(np.uint8), affine


def _turned(grid: Grid, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Positions in a head of another size, turned by some degrees and bent a little."""
    x, y, z = grid.positions()
    angle = np.deg2rad(rng.uniform(-7, 7))
    size = rng.uniform(0.93, 1.05, size=3)
    turned = (np.cos(angle) * x - np.sin(angle) * y) / size[0], (np.sin(angle) * x + np.cos(angle) * y) / size[1], z / size[2]
    bent = [v.astype(np.float32) + np.float32(1.5) * Noise(90, rng)(x, y, z) for v in turned]
    return bent[0], bent[1], bent[2]


def _paint_ventricles(image: Array, where: tuple[Array, Array, Array], rng: np.random.Generator) -> None:
    """Dark ventricles with bright caps at their ends, in every case."""
    x, y, z = where
    ax, wide = np.abs(x), rng.uniform(0.8, 1.4)
    body = [(9, 30, 0), (9, 22, 10), (11, 2, 17), (16, -20, 16), (24, -36, 8)]
    lateral = tube(ax, y, z, body, [4 * wide, 6 * wide, 5 * wide, 6 * wide, 6 * wide])
    caps = np.minimum(ellipsoid(ax, y, z, (12, 37, 2), (6, 6, 7)), ellipsoid(ax, y, z, (27, -46, 8), (6, 7, 7)))
    paint(image, caps, rng.uniform(104, 116), edge=4.0)
    paint(image, lateral + 0.7 * Noise(12, rng)(x, y, z), FLUID, edge=2.0)
    third = np.maximum(np.abs(x) - 2.5, ellipsoid(x, y, z, (0, -8, 0), (20, 15, 10)))
    paint(image, third, FLUID, edge=2.0)


def _lesion(where: tuple[Array, Array, Array], rng: np.random.Generator) -> Array:
    """Some lobes around a place in the white matter, on either side."""
    x, y, z = where
    side = rng.choice([-1.0, 1.0])
    centre = np.array([side * rng.uniform(28, 37), rng.uniform(-34, 28), rng.uniform(2, 30)])
    size = rng.uniform(8, 15)
    shape = ellipsoid(x, y, z, centre, (size, 1.1 * size, size))
    for _ in range(3):
        lobe = centre + rng.normal(0, 0.55 * size, size=3)
        shape = join(shape, ellipsoid(x, y, z, lobe, (0.7 * size,) * 3), 3.0)
    return shape + np.float32(0.8) * Noise(14, rng)(x, y, z)


def _gain(rng: np.random.Generator) -> NDArray[np.float64]:
    """A smooth gain as receiver coils give it, and another scale in each case."""
    i, j, k = (np.linspace(-1, 1, n) for n in SHAPE)
    u, v, w = np.meshgrid(i, j, k, indexing="ij", sparse=True)
    a = rng.uniform(-0.07, 0.07, size=3)
    gain: NDArray[np.float64] = rng.uniform(0.85, 1.2) * (1 + a[0] * u + a[1] * v + a[2] * w)
    return gain
