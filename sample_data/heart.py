"""Short-axis slices of a made-up beating heart, held still: right ventricle, muscle and left ventricle. Drawn, not scanned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from shapes import Array, Grid, Noise, cover, cut, ellipsoid, join, oblique_affine, paint, tube

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPACING = (1.5, 1.5, 8.0)
SHAPE = (96, 96, 9)
RIGHT, MUSCLE, LEFT = 1, 2, 3
BLOOD, WALL, FAT, LUNG, BODY = 200.0, 88.0, 165.0, 22.0, 96.0
BASE = 27.0
"""Height of the valves, mm: above it are the atria, which belong to no structure."""

Where = tuple[Array, Array, Array]


def make_heart(seed: int) -> tuple[NDArray[np.int16], NDArray[np.uint8], NDArray[np.float64]]:
    """Image (int16), mask (uint8; 1 right ventricle, 2 muscle, 3 left ventricle) and affine (RAS mm), in the file's order."""
    rng = np.random.default_rng((seed, 7))
    grid = _grid()
    where = _breathing(grid.positions(), rng)
    shapes = _ventricles(where, np.random.default_rng((seed, 8)), usual=True)
    image = _chest(where, rng)
    _paint_heart(image, where, shapes, rng)
    x, y, _ = where
    coil = 1 + 0.16 * np.exp(-((x + 30) ** 2 + (y - 55) ** 2) / 90**2) - 0.05
    signal = 1.9 * grid.averaged(image * coil)
    noisy = np.hypot(signal + rng.normal(0, 17, SHAPE), rng.normal(0, 17, SHAPE))
    return np.rint(noisy).astype(np.int16), _mask(grid, where, shapes), grid.affine


def make_other_mask(number: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The mask of somebody else's heart, larger or smaller, thicker or thinner, and its affine; there is no image of it."""
    rng = np.random.default_rng((seed, 100 + number))
    grid = _grid()
    x, y, z = _breathing(grid.positions(), rng)
    affine = grid.affine.copy()
    affine[:3, 3] += rng.uniform(-15, 15, 3).round(1)  # nobody lies in the scanner just as somebody else does,
    aside = rng.uniform(-10, 10, 2).astype(np.float32)  # and no heart in the chest
    where = (x + aside[0], y + aside[1], z)
    return _mask(grid, where, _ventricles(where, rng, usual=False)), affine


def _grid() -> Grid:
    return Grid(SHAPE, oblique_affine(SPACING, SHAPE, (0.0, 0.0, 0.0), codes="LPS"), (2, 2, 2))


def _breathing(where: Where, rng: np.random.Generator) -> Where:
    """Each slice comes from its own breath, so it lies a little beside its neighbours."""
    x, y, z = (np.broadcast_to(v, np.broadcast_shapes(*(w.shape for w in where))) for v in where)
    layer = np.clip(((z + 36) / SPACING[2]).astype(int), 0, SHAPE[2] - 1)
    shift = rng.normal(0, 0.8, (2, SHAPE[2])).astype(np.float32)
    return (x + shift[0][layer]).astype(np.float32), (y + shift[1][layer]).astype(np.float32), z.astype(np.float32)


def _ventricles(where: Where, rng: np.random.Generator, *, usual: bool) -> dict[str, Array]:
    """Signed distances to left cavity, the muscle's outer face, and the right cavity, for one person."""
    vary = (lambda low, high: (low + high) / 2) if usual else rng.uniform
    size, wall, turn = vary(0.86, 1.14), vary(7.0, 11.0), np.deg2rad(vary(10.0, 50.0))
    wide, long_ = vary(0.85, 1.2), vary(56.0, 70.0)
    x, y, z = where
    u = (np.cos(turn) * x + np.sin(turn) * y).astype(np.float32)  # from the left ventricle to the right one
    v = (-np.sin(turn) * x + np.cos(turn) * y).astype(np.float32)
    left = ellipsoid(u, v, z, (-8, 0, 26), (21 * size, 22 * size, long_))
    left = left + np.float32(0.9) * Noise(28, rng)(x, y, z)
    outer = ellipsoid(u, v, z, (-8, 0, 26), (21 * size + wall, 22 * size + wall, long_ + wall))
    outer = np.minimum(outer, left + np.float32(0.7 * wall))
    right = ellipsoid(u, v, z, (16, 4, 26), (31 * wide, 38, 0.9 * long_))
    right = cut(right + np.float32(1.2) * Noise(26, rng)(x, y, z), np.float32(0.5) - outer, 5)
    return {"left": left, "outer": outer, "right": right, "u": u, "v": v}


def _mask(grid: Grid, where: Where, shapes: dict[str, Array]) -> NDArray[np.uint8]:
    """Voxels of which at least half belong to a structure, below the valves."""
    below = np.float32(BASE) - where[2]
    mask = np.zeros(grid.shape, dtype=np.uint8)
    muscle = np.maximum(shapes["outer"], -shapes["left"])
    for value, shape in ((RIGHT, shapes["right"]), (MUSCLE, muscle), (LEFT, shapes["left"])):
        mask[grid.averaged(cover(np.maximum(shape, -below))) >= 0.5] = value
    return mask


def _chest(where: Where, rng: np.random.Generator) -> Array:
    """Lungs, the wall of the chest with its fat, the liver's dome under the heart, the aorta behind it."""
    x, y, z = where
    image = np.full_like(x, LUNG)
    chest = y - 58 - 2 * Noise(50, rng)(x, y, z)
    paint(image, -chest, BODY + 6 * Noise(9, rng)(x, y, z))  # muscles in front, fat before them
    paint(image, 7 - chest, FAT + 8 * Noise(12, rng)(x, y, z))
    spine = ellipsoid(x, y, np.zeros_like(z), (30, -74, 0), (22, 20, 1))
    paint(image, spine, 120 + 8 * Noise(8, rng)(x, y, z))
    aorta = tube(x, y, z, [(-4, -66, -60), (-4, -66, 60)], [10.5, 11.5])
    paint(image, aorta, BLOOD)
    liver = ellipsoid(x, y, z, (52, -30, -52), (58, 50, 44))
    paint(image, liver, 118 + 5 * Noise(10, rng)(x, y, z))
    stomach = ellipsoid(x, y, z, (-58, -34, -48), (26, 24, 26))
    paint(image, stomach, 60 + 30 * Noise(14, rng)(x, y, z))
    return image


def _paint_heart(image: Array, where: Where, shapes: dict[str, Array], rng: np.random.Generator) -> None:
    """Fat around the heart, its walls, blood, papillary muscles; above the valves the atria."""
    x, y, z = where
    left, outer, right = shapes["left"], shapes["outer"], shapes["right"]
    sac = join(outer, right - np.float32(3), 6)
    paint(image, sac - np.float32(3.5) - np.float32(3.0) * Noise(22, rng)(x, y, z), FAT)
    paint(image, right - np.float32(2.6), WALL + 5 * Noise(8, rng)(x, y, z))
    paint(image, outer, WALL + 6 * Noise(9, rng)(x, y, z) + 5 * Noise(30, rng)(x, y, z))
    stirred = 9 * Noise(16, rng)(x, y, z)
    paint(image, right, BLOOD - 12 + stirred, edge=1.2)
    rough = np.float32(0.9) * Noise(9, rng)(x, y, z) + np.float32(1.1) - np.float32(0.09) * right
    beams = np.maximum(right + np.float32(1), rough)
    paint(image, beams, 135.0, edge=2.0)
    paint(image, left, BLOOD + stirred, edge=1.2)
    u, v = shapes["u"], shapes["v"]
    for place in ((-15, 11), (-16, -11)):
        papilla = tube(u, v, z, [(*place, -26), (*place, 14)], [4.6, 3.0])
        paint(image, np.maximum(papilla, left), WALL + 12)
    rooms = join(ellipsoid(u, v, z, (-14, -12, 36), (27, 30, 15)), ellipsoid(u, v, z, (28, 0, 36), (24, 30, 15)), 3)
    atria = np.maximum(rooms, np.float32(BASE) - z)
    paint(image, atria, BLOOD - 6 + stirred)
