"""A brain-like T1-weighted volume after contrast agent, with one irregular lesion: drawn, not scanned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from shapes import Array, Grid, Noise, cover, cut, ellipsoid, join, oblique_affine, paint, tube

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPACING = (1.0, 1.0, 3.0)
SHAPE = (164, 200, 38)
WHITE, GREY, FLUID = 100.0, 71.0, 24.0
LESION_CENTRE = (29.0, 17.0, 27.0)


def make_brain(seed: int) -> tuple[NDArray[np.int16], NDArray[np.uint8], NDArray[np.float64]]:
    """Image (int16, white matter about 400), lesion mask (uint8) and affine (RAS mm), in the file's voxel order."""
    rng = np.random.default_rng(seed)
    affine = oblique_affine(SPACING, SHAPE, (0.0, -2.0, 20.0), codes="LAS", tilt=12.0, turn=4.0)
    grid = Grid(SHAPE, affine, (2, 2, 3))
    x, y, z = _bent(grid, rng)
    lesion = _lesion(x, y, z, rng)
    cerebrum = _cerebrum(x, y, z)
    halves = join(ellipsoid(np.abs(x), y, z, (22, -51, -36), (31, 32, 27)), ellipsoid(x, y, z, (0, -46, -22), (16, 26, 22)), 6)
    cerebellum = np.maximum(halves, 2.0 - cerebrum)
    stem = tube(x, y, z, [(0, -13, -5), (0, -19, -24), (0, -24, -70)], [13, 13, 14])
    behind = ellipsoid(x, y, z, (0, -32, -18), (54, 51, 38))  # the skull bridges the cleft between the two
    hull = join(join(join(cerebrum, cerebellum, 14), behind, 8), stem, 10) - np.float32(2.2)
    image = _head(x, y, z, hull, rng)
    paint(image, hull, FLUID)
    _paint_cerebrum(image, (x, y, z), cerebrum, lesion, grid, rng)
    _paint_cerebellum(image, (x, y, z), cerebellum, stem, rng)
    _paint_deep(image, (x, y, z), rng)
    sinus = np.maximum(hull, np.abs(x) - 4.6 - 0.8 * hull)
    paint(image, np.maximum(np.maximum(sinus, y - 55), -z - 12), 122.0, edge=1.5)
    patchy = Noise(9, rng)(x, y, z)
    core = Noise(22, rng)(x, y, z)
    inside = 121 + 6 * patchy - 22 * np.clip(core - 0.5, 0, 1) * np.clip(-lesion / 3 - 0.6, 0, 1)
    paint(image, lesion, inside.astype(np.float32), edge=1.6)
    signal = grid.averaged(image) * _bias(grid, rng)
    noisy = np.hypot(4 * signal + rng.normal(0, 11, SHAPE), rng.normal(0, 11, SHAPE))
    mask = grid.averaged(cover(lesion)) >= 0.5
    return np.rint(noisy).astype(np.int16), mask.astype(np.uint8), affine


def _bent(grid: Grid, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Positions, gently bent so that the two sides are alike and not the same, and narrower in front."""
    x, y, z = grid.positions()
    moved = [v + 1.6 * Noise(110, rng)(x, y, z) + 0.5 * Noise(30, rng)(x, y, z) for v in (x, y, z)]
    return moved[0] * (1 + 0.0012 * moved[1]), moved[1], moved[2]


def _lesion(x: Array, y: Array, z: Array, rng: np.random.Generator) -> Array:
    """Several lobes around a centre, joined, with a rough border."""
    cx, cy, cz = LESION_CENTRE
    shape = ellipsoid(x, y, z, (cx, cy, cz), (11, 12, 11))
    for step in ((9, 8, 2, 8), (-5, 11, 4, 7), (4, -11, 4, 8), (10, -2, -7, 7), (-4, -3, 8, 7)):
        lobe = ellipsoid(x, y, z, (cx + step[0], cy + step[1], cz + step[2]), (step[3],) * 3)
        shape = join(shape, lobe, 2.0)
    return shape + np.float32(1.0) * Noise(14, rng)(x, y, z) + np.float32(0.3) * Noise(6, rng)(x, y, z)


def _cerebrum(x: Array, y: Array, z: Array) -> Array:
    """The smooth hull of both hemispheres: a vault with a flat base, and the temporal lobes."""
    ax = np.abs(x)
    behind = np.clip((-y - 12) / 25, 0, 1)
    base = -19 - 7 * behind + 15 * behind * np.exp(-((x / 22) ** 2))  # the tentorium rises to a ridge in the middle
    vault = cut(ellipsoid(x, y, z, (0, -2, 2), (66, 85, 66)), (base - z).astype(np.float32), 8)
    temporal = ellipsoid(ax, y, z, (41, -6, -22), (24, 46, 24))
    return join(vault, temporal, 5)


def _fissures(x: Array, y: Array, z: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Signed distances to the great fissures, and to the callosal region that bridges the midline."""
    bridge = ellipsoid(np.zeros_like(x), y, z, (0, -3, 4), (1, 41, 25))  # its x does not matter: a cylinder across the midline
    rough = Noise(16, rng)(x, y, z)
    middle = np.maximum(np.abs(x + 0.7 * rough) - 1.2, -bridge)
    ax = np.abs(x)
    roof = z + 3 + 0.2 * y
    lateral = np.maximum(np.maximum(np.abs(roof + 1.5 * rough) - 1.5, 39 - ax), np.abs(y - 1) - 36)
    insula = np.maximum(np.maximum(np.abs(ax - 39.5 - 1.2 * rough) - 1.4, np.abs(roof) - 14), np.abs(y - 3) - 24)
    return np.minimum(middle, np.minimum(lateral, insula)).astype(np.float32), bridge


def _sulci(x: Array, y: Array, z: Array, depth: Array, grid: Grid, rng: np.random.Generator) -> Array:
    """Signed distance to the sulci: zero sheets of noise that is read at the nearest place of the surface.

    Such sheets stand upright on the surface, wander over it as folds do, and end at a depth that varies.
    """
    smooth = ndimage.gaussian_filter(depth, [2.5 / step for step in grid.fine_spacing])
    slopes = np.gradient(smooth, *grid.fine_spacing)
    steep = np.sqrt(sum(g * g for g in slopes)) + np.float32(1e-3)
    turn = grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)
    side = np.sign(x)
    inward = [sum(np.float32(t) * g for t, g in zip(row, slopes, strict=True)) / steep for row in turn]
    qx, qy, qz = (p - depth * way for p, way in zip((x, y, z), inward, strict=True))
    centre = ellipsoid(np.abs(x), y, z, (0, -4, 4), (36, 51, 25))
    sheets = np.full_like(x, 1e3)
    for wavelength, deep, vary, width in ((25.0, 16.0, 4.0, 0.7), (16.0, 8.0, 2.5, 0.45)):
        alike, own = Noise(wavelength, rng, band=0.22), Noise(wavelength, rng, band=0.22)
        height = 0.75 * alike(np.abs(qx), qy, qz) + 0.65 * own(qx + 40 * side, qy, qz)
        slope = np.sqrt(sum(g * g for g in np.gradient(height, *grid.fine_spacing)))
        floor = deep + vary * Noise(45, rng)(qx + 25 * side, qy, qz)
        thin = np.abs(height) / np.maximum(slope, 0.04) - (width + 0.9 * np.exp(-np.maximum(depth, 0) / 4))
        np.minimum(sheets, np.maximum(np.maximum(thin, depth - floor), -centre), out=sheets)
    return sheets


def _paint_cerebrum(
    image: Array, where: tuple[Array, Array, Array], cerebrum: Array, lesion: Array, grid: Grid, rng: np.random.Generator
) -> None:
    """White matter, the cortex that follows every fold, and swelling around the lesion."""
    x, y, z = where
    fissures, bridge = _fissures(x, y, z, rng)
    depth = -np.maximum(cerebrum, -fissures)
    fluid = np.minimum(np.minimum(-cerebrum, fissures), _sulci(x, y, z, depth, grid, rng))
    to_fluid = ndimage.distance_transform_edt(fluid > 0, sampling=grid.fine_spacing).astype(np.float32)
    thickness = 2.9 + 0.35 * Noise(20, rng)(x, y, z)
    cortex = np.maximum(to_fluid - thickness, 2.5 - bridge)
    white = WHITE + 1.5 * Noise(35, rng)(x, y, z) + 1.0 * Noise(9, rng)(x, y, z)
    white -= 13 * np.clip(1 - (lesion + 1.5 * Noise(15, rng)(x, y, z)) / 9, 0, 1)
    paint(image, cerebrum, white.astype(np.float32))
    paint(image, cortex, GREY + 1.5 * Noise(12, rng)(x, y, z), edge=1.2, opacity=cover(cerebrum))
    paint(image, np.maximum(fluid, cerebrum), FLUID)


def _paint_cerebellum(
    image: Array, where: tuple[Array, Array, Array], cerebellum: Array, stem: Array, rng: np.random.Generator
) -> None:
    """Brain stem, and a cerebellum with fine leaves around a branching white core."""
    x, y, z = where
    wander = Noise(24, rng)(x, y, z)
    leaves = np.cos(2 * np.pi / 6.5 * (np.sqrt((y + 26) ** 2 + (z + 26) ** 2 + (0.55 * x) ** 2) + 2.0 * wander))
    depth = -cerebellum
    core = np.clip((depth - 9 + 3 * wander + 2.5 * leaves) / 3, 0, 1)
    tissue = GREY + 3 - 60 * np.clip(leaves - 0.5, 0, 1) * np.clip(1.5 - depth / 9, 0, 1)
    paint(image, cerebellum, (tissue + (WHITE - 4 - tissue) * core).astype(np.float32))
    paint(image, stem, WHITE - 9 + 2 * Noise(10, rng)(x, y, z))
    paint(image, tube(x, y, z, [(0, -30, -22), (0, -36, -42)], [1.3, 5.0]), FLUID)


def _paint_deep(image: Array, where: tuple[Array, Array, Array], rng: np.random.Generator) -> None:
    """Deep grey nuclei and the ventricles, on both sides; what lies under them in the middle."""
    x, y, z = where
    ax = np.abs(x) + 0.8 * Noise(25, rng)(x, y, z)
    rough = 0.5 * Noise(11, rng)(x, y, z)
    putamen = ellipsoid(ax - 0.10 * y, y, z, (26.5, 2, 1), (5.5, 18, 11))
    pallidum = ellipsoid(ax - 0.10 * y, y, z, (19.5, -1, -1), (4.5, 11, 7))
    thalamus = ellipsoid(ax + 0.25 * (y + 14), y, z, (11.5, -14, 7), (8.5, 15, 10))
    caudate = tube(ax, y, z, [(14, 30, -1), (15.5, 20, 8), (18, 2, 17), (21, -20, 19)], [6, 6, 3.5, 2.2])
    for shape, value in ((putamen, GREY + 4), (pallidum, GREY + 14), (thalamus, GREY + 12), (caudate, GREY + 2)):
        paint(image, shape + rough, value, edge=1.6)
    paint(image, ellipsoid(x, y, z, (0, -2, -13), (10, 11, 8)) + rough, GREY + 8, edge=3.0)
    paint(image, ellipsoid(x, y, z, (0, 5, -23), (17, 14, 8)) + 2 * rough, FLUID, edge=1.5)
    paint(image, ellipsoid(x, y, z, (0, 14, -37), (17, 22, 14)) + rough, 52 + 14 * Noise(9, rng)(x, y, z), edge=2.0)
    body = [(8.5, 33, -3), (8.5, 25, 9), (10, 5, 17), (14, -17, 18), (23, -35, 12), (33, -22, -11), (34, -6, -19)]
    lateral = tube(ax, y, z, body, [3.0, 5.0, 5.0, 5.5, 6.5, 3.0, 2.0])
    horn = tube(ax, y, z, [(23, -35, 12), (22, -58, 5)], [6.0, 1.8])
    third = np.maximum(np.abs(x) - 1.7, ellipsoid(x, y, z, (0, -8, 0), (20, 14, 9)))
    paint(image, np.minimum(join(lateral, horn, 3), third) + rough, FLUID)
    plexus = tube(ax, y, z, [(13, -16, 15), (22, -34, 9)], [1.2, 2.6]) + rough
    paint(image, plexus, 112.0, edge=1.5)


def _head(x: Array, y: Array, z: Array, hull: Array, rng: np.random.Generator) -> Array:
    """What lies around the brain: skull with its marrow, muscle, fat and skin; air outside."""
    thick = 6.3 + 0.6 * Noise(60, rng)(x, y, z)
    scalp = thick + 5.3 + 0.5 * Noise(90, rng)(x, y, z)
    image = np.full_like(x, 1.0)
    face = ellipsoid(x, y, z, (0, 26, -46), (46, 52, 30))
    hull = join(hull, face, 12)
    paint(image, hull - scalp, 78.0)
    paint(image, hull - scalp + 1.6, 128 + 7 * Noise(10, rng)(x, y, z))
    temple = np.abs(y - 22 + 0.4 * z) / 34 + np.abs(z + 8) / 34
    paint(image, np.maximum(hull - scalp + 2.6, 9 * (temple - 1)), 62 + 5 * Noise(7, rng)(x, y, z))
    paint(image, hull - thick, 9.0)
    marrow = np.abs(hull - 0.5 * thick) - (0.26 * thick - 0.2)
    paint(image, marrow, 52 + 16 * Noise(8, rng)(x, y, z), edge=1.2)
    paint(image, face + 3, 50 + 14 * Noise(9, rng)(x, y, z), edge=3.0)
    return image


def _bias(grid: Grid, rng: np.random.Generator) -> NDArray[np.float64]:
    """A smooth gain as receiver coils give it: brighter near the back and one side, +-15 % or so."""
    i, j, k = (np.linspace(-1, 1, n) for n in grid.shape)
    u, v, w = np.meshgrid(i, j, k, indexing="ij", sparse=True)
    a = rng.uniform(-0.03, 0.03, size=3)
    mixed = a[0] * u * v + a[1] * v * w + a[2] * u * w
    field: NDArray[np.float64] = 1.02 + 0.05 * u - 0.07 * v + 0.04 * w + 0.05 * (u * u + v * v) + mixed
    return field
