"""An abdomen-like CT in Hounsfield units, portal phase, with a liver that touches the right kidney: drawn, not scanned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from shapes import Array, Grid, Noise, cover, cut, ellipsoid, join, oblique_affine, paint, tube

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPACING = (1.5, 1.5, 3.0)
SHAPE = (216, 160, 40)
AIR, FAT, MUSCLE, WATER = -1000.0, -102.0, 55.0, 12.0
Where = tuple[Array, Array, Array]


def make_abdomen(seed: int) -> tuple[NDArray[np.int16], NDArray[np.uint8], NDArray[np.float64]]:
    """Image (int16, HU), mask (uint8; 1 liver, 2 right kidney) and affine (RAS mm), in the file's voxel order."""
    rng = np.random.default_rng(seed)
    affine = oblique_affine(SPACING, SHAPE, (0.0, -4.0, 0.0), codes="LPS")
    grid = Grid(SHAPE, affine, (2, 2, 2))
    x, y, z = grid.positions()
    where = tuple((v + 2.0 * Noise(90, rng)(x, y, z) + 0.7 * Noise(35, rng)(x, y, z)).astype(np.float32) for v in (x, y, z))
    x, y, z = where
    skin, wall, cavity = _trunk(where, rng)
    image = np.full_like(x, AIR)
    _paint_wall(image, where, skin, wall, cavity, rng)
    lung = _lung(where, cavity, rng)
    kidney = _kidney((x, y, z), (57, -40, -20), rng)
    liver = _liver(where, cavity, lung, kidney, rng)
    paint(image, cavity, FAT + 5 * Noise(9, rng)(x, y, z))
    _paint_gut(image, where, np.maximum(cavity, np.maximum(3 - liver, 4 - kidney)), rng)
    _paint_back(image, where, rng)
    _paint_left_organs(image, where, np.maximum(cavity + 1.5, 2 - lung), rng)
    _paint_kidney(image, where, kidney, (57, -40, -20), 1, rng)
    _paint_vessels(image, where)
    _paint_liver(image, where, liver, rng)
    paint(image, lung, -850 + 25 * Noise(12, rng)(x, y, z))
    paint(image, np.maximum(lung + 2, 1.9 - 0.9 * Noise(11, rng)(x, y, z)), -300.0, edge=2.0)  # vessels of the lung
    heart = np.maximum(ellipsoid(x, y, z - 0.2 * x, (-16, 28, 62), (52, 40, 27)), np.maximum(cavity + 4, 4 - liver))
    paint(image, heart, 95.0)
    paint(image, heart + 9 + 2 * Noise(25, rng)(x, y, z), 150.0, edge=2.0)
    _paint_spine(image, where, rng)
    _paint_ribs(image, where, skin, wall, rng)
    couch = np.maximum(np.abs(y + 117 - 0.0006 * x * x) - 1.2, np.abs(x) - 150)
    paint(image, couch, -350.0)
    noise = ndimage.gaussian_filter(rng.standard_normal(SHAPE), (0.7, 0.7, 0.3))
    level = np.where(grid.averaged(cover(skin)) > 0.02, 13.0, 7.0) / noise.std()
    hounsfield = np.maximum(grid.averaged(image) + noise * level, -1024)
    return np.rint(hounsfield).astype(np.int16), _mask(grid, liver, kidney), affine


def _mask(grid: Grid, liver: Array, kidney: Array) -> NDArray[np.uint8]:
    """Voxels of which at least half belong to a structure, largest piece of each."""
    mask = np.zeros(grid.shape, dtype=np.uint8)
    for value, shape in ((1, liver), (2, kidney)):
        pieces, _ = ndimage.label(grid.averaged(cover(shape)) >= 0.5)
        mask[pieces == np.bincount(pieces.ravel())[1:].argmax() + 1] = value
    return mask


def _trunk(where: Where, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Signed distances to the skin, to the muscle wall under the fat, and to the cavity inside the wall."""
    x, y, z = where
    back = np.clip(-y / 100, 0, 1)
    level = (np.abs(x / 152) ** 2.5 + np.abs(y / (104 - 6 * back)) ** 2.5) ** 0.4
    skin = (np.sqrt(x * x + y * y) * (1 - 1 / np.maximum(level, 0.05))).astype(np.float32)
    fat = 13 + 7 * back + 5 * np.clip(np.abs(x) / 150, 0, 1) ** 2 - 0.04 * z + 1.2 * Noise(80, rng)(x, y, z)
    wall = skin + fat
    return skin, wall.astype(np.float32), (wall + 12 + 0.8 * Noise(60, rng)(x, y, z)).astype(np.float32)


def _paint_wall(image: Array, where: Where, skin: Array, wall: Array, cavity: Array, rng: np.random.Generator) -> None:
    """Skin, fat under it with fine strands, and a wall of layered muscle."""
    strands = Noise(7, rng)(*where)
    paint(image, skin, 30.0)
    paint(image, skin + 2, FAT + 6 * strands)
    layers = np.abs(np.mod(wall + 0.6 * strands, 4.6) - 2.3)
    paint(image, wall, MUSCLE + 4 * strands - 95 * np.clip(0.6 - layers, 0, 0.6), edge=1.0)


def _lung(where: Where, cavity: Array, rng: np.random.Generator) -> Array:
    """Bases of both lungs above the diaphragm's domes, and in the narrow recesses beside them."""
    x, y, z = where
    right = 50 - 0.0075 * (x - 62) ** 2 - 0.0060 * (y - 8) ** 2
    left = 44 - 0.0085 * (x + 66) ** 2 - 0.0065 * (y - 5) ** 2
    dome = np.where(x > -4, right, left) + 1.0 * Noise(40, rng)(x, y, z)
    middle = np.maximum(26 - np.abs(x), 0) * 2.2  # heart and mediastinum
    return np.maximum(np.maximum(dome - z, cavity + 1.5) + middle, 6 - z).astype(np.float32)


def _kidney(where: Where, centre: tuple[float, float, float], rng: np.random.Generator) -> Array:
    """A bean whose notch looks towards the spine."""
    x, y, z = where
    side = np.sign(centre[0])
    u, v, w = (x - centre[0]) * side, y - centre[1], z - centre[2]
    u = u + 0.20 * w + 0.012 * w * w - 0.25 * v  # upper end towards the spine, front turned outwards
    bean = ellipsoid(u, v, w, (6, 0, 0), (25, 25, 37))
    notch = ellipsoid(u, v, w, (-20, 2, 0), (13, 8, 12))
    bumps = 0.7 * Noise(26, rng)(x, y, z)
    return cut(bean + bumps, -notch, 5)


def _liver(where: Where, cavity: Array, lung: Array, kidney: Array, rng: np.random.Generator) -> Array:
    """A large right lobe and a thin left one, under the diaphragm, moulded to the wall and to the kidney."""
    x, y, z = where
    right = ellipsoid(x, y, z, (74, 2, 0), (66, 80, 46))
    left = ellipsoid(x, y, z + 0.18 * x, (8, 46, 26), (62, 30, 19))
    shape = join(right, left, 18)
    shape = cut(shape, -ellipsoid(x, y, z, (14, -12, -8), (34, 40, 44)), 10)  # porta and lesser sac
    shape = cut(shape, -ellipsoid(x, y, z, (30, -72, -10), (42, 32, 70)), 8)  # room for the spine's muscles
    shape = cut(shape, -ellipsoid(x, y, z, (52, 42, -34), (16, 24, 20)), 5)  # bed of the gall bladder
    shape = shape + 1.4 * Noise(48, rng)(x, y, z)
    shape = cut(shape, cavity + 1.2, 3)
    shape = cut(shape, 2.5 - lung, 2)
    return np.maximum(shape, -kidney).astype(np.float32)


def _tree(rng: np.random.Generator, root: np.ndarray, way: np.ndarray, length: float, radius: float, depth: int) -> list[tuple]:
    """Branches (start, stop, first radius, last radius) of a vessel that forks at random."""
    stop = root + way * length
    branches = [(root, stop, radius, radius * 0.8)]
    if depth:
        for _ in range(2):
            turned = way + rng.normal(0, 0.55, 3)
            branches += _tree(rng, stop, turned / np.linalg.norm(turned), length * 0.78, radius * 0.72, depth - 1)
    return branches


def _paint_liver(image: Array, where: Where, liver: Array, rng: np.random.Generator) -> None:
    """Parenchyma with faint texture, portal and hepatic veins inside it, gall bladder beside it."""
    x, y, z = where
    paint(image, liver, 108 + 3.5 * Noise(8, rng)(x, y, z) + 2.5 * Noise(40, rng)(x, y, z))
    branches = _tree(rng, np.array([34.0, 2, -4]), np.array([0.85, 0.1, 0.35]), 30, 6.5, 4)
    branches += _tree(rng, np.array([34.0, 8, 0]), np.array([-0.25, 0.85, 0.4]), 28, 5.0, 3)
    for way in ([0.75, 0.35, -0.35], [0.35, 0.9, -0.2], [0.8, -0.25, -0.45]):
        branches += _tree(rng, np.array([26.0, -16, 30]), np.array(way), 30, 5.5, 3)
    (box,) = ndimage.find_objects((liver < 2).astype(np.uint8))
    vessels = np.full_like(x[box], 1e3)
    for start, stop, first, last in branches:
        np.minimum(vessels, tube(x[box], y[box], z[box], [start, stop], [first, last]), out=vessels)
    paint(image[box], np.maximum(vessels, liver[box] + 1.5), 168.0, edge=1.2)
    bladder = ellipsoid(x, y, z - 0.3 * (y - 42), (52, 44, -34), (12, 19, 13)) + 0.8 * Noise(30, rng)(x, y, z)
    bladder = np.maximum(bladder, 0.5 - liver)
    paint(image, bladder, 48.0)
    paint(image, bladder + 2, WATER)


def _paint_kidney(
    image: Array, where: Where, kidney: Array, centre: tuple[float, float, float], side: int, rng: np.random.Generator
) -> None:
    """Cortex, pyramids and a sinus with fat and urine."""
    x, y, z = where
    u, v, w = (x - centre[0]) * side, y - centre[1], z - centre[2]
    paint(image, kidney, 172 + 4 * Noise(9, rng)(x, y, z))
    pyramids = np.maximum(kidney + 6.5, 0.15 - Noise(17, rng, band=0.2)(x, y, z))
    paint(image, pyramids, 128.0, edge=2.5)
    sinus = ellipsoid(u + 0.20 * w + 0.012 * w * w - 0.25 * v, v, w, (-5, 1, 0), (17, 8, 19)) + 1.5 * Noise(10, rng)(x, y, z)
    sinus = np.maximum(sinus, kidney + 5)
    paint(image, sinus, FAT + 12.0, edge=1.5)
    paint(image, np.maximum(sinus + 3.0, kidney + 6), 22.0, edge=1.5)


def _paint_left_organs(image: Array, where: Where, inside: Array, rng: np.random.Generator) -> None:
    """Stomach with a fluid level, spleen, pancreas and the left kidney."""
    x, y, z = where
    spleen = ellipsoid(x + 0.25 * (y + 25), y, z - 0.2 * (y + 25), (-102, -24, 12), (27, 50, 36))
    body, way_out = ellipsoid(x, y, z, (-62, 22, 26), (40, 46, 32)), [(-52, 46, 6), (-22, 56, -10), (8, 42, -14)]
    stomach = join(body, tube(x, y, z, way_out, [24, 18, 12]), 12)
    stomach = np.maximum(stomach + 1.5 * Noise(40, rng)(x, y, z), inside + 1)
    left = _kidney(where, (-60, -44, -8), rng)
    spleen = np.maximum(np.maximum(spleen + 1.2 * Noise(35, rng)(x, y, z), inside), np.maximum(3 - stomach, 1.5 - left))
    pancreas = tube(x, y, z, [(-70, -14, 12), (-36, 2, 8), (-4, 8, 2), (26, 4, -12)], [9, 8, 7, 12])
    pancreas = np.maximum(pancreas + 2.0 * Noise(9, rng)(x, y, z), 2 - stomach)
    paint(image, pancreas, 92 + 8 * Noise(6, rng)(x, y, z))
    _paint_kidney(image, where, left, (-60, -44, -8), -1, rng)
    paint(image, spleen, 118 + 3 * Noise(8, rng)(x, y, z))
    folds = 1.3 * Noise(12, rng)(x, y, z)
    paint(image, stomach, 72.0)
    content = stomach + 4.0 + folds
    paint(image, content, 28 + 9 * Noise(9, rng)(x, y, z))
    paint(image, np.maximum(content, 40 - y), -960.0)


def _paint_gut(image: Array, where: Where, inside: Array, rng: np.random.Generator) -> None:
    """Loops of small bowel, and a colon with gas and faeces."""
    x, y, z = where
    loops = np.abs(Noise(44, rng, band=0.2)(x, y, z)) * 14 - 7.5
    region = np.maximum(ellipsoid(x, y, z, (-18, 24, -48), (78, 50, 44)), inside + 4)
    small = np.maximum(loops + 1.0 * Noise(14, rng)(x, y, z), region)
    paint(image, small, 82.0, edge=1.0)
    paint(image, small + 3, 24 + 12 * Noise(12, rng)(x, y, z))
    across = [(92, 8, -58), (78, 46, -44), (30, 66, -36), (-30, 68, -30), (-84, 44, -14), (-108, 2, -14), (-112, -16, -62)]
    colon = tube(x, y, z, across, [21, 18, 17, 16, 15, 14, 14]) + 2.2 * np.sin(Noise(26, rng)(x, y, z) * 2)
    colon = np.maximum(colon, inside + 3)
    paint(image, colon, 62.0, edge=1.0)
    paint(image, colon + 2.5, 38 + 45 * Noise(7, rng)(x, y, z) - 120 * np.clip(Noise(6, rng)(x, y, z) - 1.2, 0, 1))
    ceiling = tube(x, y - 9, z, across, [15, 13, 12, 12, 10, 10, 9])
    paint(image, np.maximum(colon + 3.5, ceiling + 2 * Noise(18, rng)(x, y, z)), -940.0)


def _paint_back(image: Array, where: Where, rng: np.random.Generator) -> None:
    """Muscles beside the spine and the crura of the diaphragm."""
    x, y, z = where
    ax, streak = np.abs(x), Noise(6, rng)(x, y, z)
    psoas = tube(ax, y, z, [(27, -58, 20), (33, -56, -30), (40, -52, -90)], [3, 13, 20])
    erector = ellipsoid(ax, y, np.zeros_like(z), (33, -80, 0), (31, 15, 400)) + 0.8 * streak
    square = ellipsoid(ax, y, np.zeros_like(z), (64, -70, 0), (24, 8, 400))
    crura = tube(ax, y, z, [(13, -30, 60), (17, -42, 0), (14, -48, -40)], [3.0, 4.5, 3.0])
    for shape in (np.maximum(square, z - 4), psoas, crura, erector):
        paint(image, shape, MUSCLE + 2 + 6 * streak - 50 * np.clip(streak - 1.5, 0, 1), edge=1.2)


def _paint_vessels(image: Array, where: Where) -> None:
    """Aorta with a fleck of calcium, vena cava, and the large branches."""
    x, y, z = where
    cava = tube(x, y, z, [(26, -20, 70), (24, -26, 0), (20, -34, -70)], [11, 11, 10])
    aorta = tube(x, y, z, [(-8, -36, 70), (-7, -36, -70)], [11.5, 10])
    renal = tube(x, y, z, [(18, -24, -6), (-14, -22, -6), (-48, -42, -8)], [3.5, 4, 4])
    renal = np.minimum(renal, tube(x, y, z, [(24, -30, -18), (46, -38, -20)], [4, 3.2]))
    mesenteric = tube(x, y, z, [(-6, -28, 2), (-4, -10, -10), (-2, 4, -70)], [3.5, 3.5, 3])
    portal = tube(x, y, z, [(6, 6, -70), (8, 2, -8), (36, 4, -2)], [5, 6, 6])
    splenic = tube(x, y, z, [(8, 0, -4), (-34, -6, 6), (-78, -20, 14)], [5, 4, 3])
    for shape, value in ((cava, 138.0), (renal, 165.0), (mesenteric, 172.0), (portal, 160.0), (splenic, 158.0), (aorta, 176.0)):
        paint(image, shape, value, edge=1.0)
    paint(image, np.maximum(np.abs(aorta + 1) - 1.2, ellipsoid(x, y, z, (-17, -40, -22), (6, 9, 16))), 620.0)


def _paint_spine(image: Array, where: Where, rng: np.random.Generator) -> None:
    """Vertebral bodies with discs between them, the canal, arches and processes."""
    x, y, z = where
    step = np.mod(z + 12, 34.0) - 17  # 0 in the middle of a body
    waist = 1.6 * np.clip(1 - np.abs(step) / 13, 0, 1)
    oval = ellipsoid(x, y, np.zeros_like(z), (0, -61, 0), (23, 17, 400))
    body = np.maximum(oval + waist, np.abs(step) - 13.5)
    spongy = 185 + 45 * Noise(5, rng)(x, y, z)
    paint(image, np.maximum(oval, 13 - np.abs(step)), 88.0)
    arch = np.maximum(ellipsoid(np.abs(x), y, step, (11, -84, 2), (9, 13, 13)), 60 - 1.0 * np.abs(y))
    spinous = tube(x, y, step, [(0, -90, 0), (0, -101, -6)], [4.0, 4.5])
    across = tube(np.abs(x), y, step, [(10, -80, 3), (36, -83, 4)], [5, 3.2])
    bone = np.minimum(np.minimum(body, arch), np.minimum(spinous, across))
    paint(image, bone, 520 + 60 * Noise(7, rng)(x, y, z), edge=1.0)
    paint(image, bone + 2.0, spongy, edge=1.6)
    canal = ellipsoid(x, y, np.zeros_like(z), (0, -84, 0), (10.5, 8, 400))
    paint(image, canal, 28.0)
    paint(image, canal + 3.5, 42.0)


def _paint_ribs(image: Array, where: Where, skin: Array, wall: Array, rng: np.random.Generator) -> None:
    """Ribs that run down and forward inside the wall, the lower ones shorter."""
    x, y, z = where
    turn = np.arctan2(np.abs(x), -(y + 40)) / np.pi  # 0 behind, 1 in front
    ribs = np.full_like(x, 1e3)
    for number in range(7):
        height = 100 - 27 * number - 75 * turn
        reach = (0.95, 0.95, 0.85, 0.75, 0.62, 0.5, 0.36)[number]
        across = np.sqrt(((wall + 6.0) / 4.2) ** 2 + ((z - height) / 8.5) ** 2)
        np.minimum(ribs, np.maximum((across - 1) * 4.2, (turn - reach) * 120), out=ribs)
    ribs = np.maximum(ribs, 26 - np.abs(x))
    paint(image, ribs, 560.0, edge=1.0)
    paint(image, ribs + 1.7, 190 + 30 * Noise(6, rng)(x, y, z), edge=1.2)
