"""Random volumes: a target among its neighbours, imaged on a random grid with random contrast, blur and noise.

Everything is drawn from the seed: no real image, and no statistic of one, enters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .fields import Axes, SmoothField, along_axes
from .shapes import Shape, random_shape

Array = NDArray[np.floating[Any]]
Rng = np.random.Generator

FINE = 60
"""Points per axis on which a scene is drawn, before it is imaged."""

MARGIN = 0.30
"""How far a scene reaches beyond the target's box, as a share of the box's side."""

HOLLOW = ("shell", "ring", "crescent", "plate", "branches")


@dataclass(frozen=True, eq=False)
class SyntheticCase:
    """One generated volume.

    Parameters
    ----------
    image : ndarray, shape (I, J, K), float32
        Voxels in arbitrary units.
    mask : ndarray, shape (I, J, K), bool
        The target: one face-connected component, at least two voxels long on each axis.
    spacing : tuple of float
        Voxel size along (i, j, k); only the ratios mean something.
    kind : str
        Which of `shapes.KINDS` the target is.
    """

    image: Array
    mask: NDArray[np.bool_]
    spacing: tuple[float, float, float]
    kind: str


def random_case(seed: int | tuple[int, ...], kind: str | None = None) -> SyntheticCase:
    """Draw one volume.

    Parameters
    ----------
    seed : int or tuple of int
        The same seed gives the same volume.
    kind : str, optional
        Kind of the target; default any.

    Notes
    -----
    A draw whose target vanishes between the slices is thrown away and the next one of the same generator is taken.
    """
    rng = np.random.default_rng(seed)
    while True:
        case = _draw(rng, kind)
        if case is not None:
            return case


def _draw(rng: Rng, kind: str | None) -> SyntheticCase | None:
    shape = random_shape(rng, kind)
    box = _box(shape)
    if box is None:
        return None
    low, high = box
    grow = MARGIN * (high - low)
    axes = Axes(*(np.linspace(a - g, b + g, FINE, dtype=np.float32) for a, b, g in zip(low, high, grow, strict=True)))
    level = shape(axes)
    labels, special = _regions(rng, shape, axes, level)
    fine = _intensities(rng, axes, labels, special)
    return _imaged(rng, fine, level, high - low, shape.kind)


def _box(shape: Shape) -> tuple[Array, Array] | None:
    """Box of a shape from a coarse look at it; None where there is next to nothing."""
    axes = Axes.cube(-2.0, 2.0, 32)
    inside = np.argwhere(shape(axes) > 0)
    if len(inside) < 8:
        return None
    step = 4.0 / 31
    low, high = -2.0 + step * (inside.min(axis=0) - 0.6), -2.0 + step * (inside.max(axis=0) + 0.6)
    return low, high


# ---------------------------------------------------------------- what lies where


@dataclass(frozen=True)
class _Special:
    """Which label numbers mean something."""

    base: int
    target: tuple[int, ...]
    alike: tuple[int, ...]
    air: int | None
    count: int


def _upsampled(values: Array) -> Array:
    """Half-resolution values to the fine grid, linearly."""
    place = np.linspace(0, values.shape[0] - 1, FINE)
    weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(values.shape[0])[None])).astype(np.float32)
    return along_axes(values, (weights, weights, weights))


def enclosed(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels outside the mask that have mask on both sides along at least two axes: holes, bays and hollows."""
    votes = np.zeros(mask.shape, dtype=np.uint8)
    for axis in range(3):
        before = np.logical_or.accumulate(mask, axis=axis)
        after = np.flip(np.logical_or.accumulate(np.flip(mask, axis), axis=axis), axis)
        votes += before & after
    return np.asarray((votes >= 2) & ~mask)


def _regions(rng: Rng, shape: Shape, axes: Axes, level: Array) -> tuple[NDArray[np.uint8], _Special]:
    """Label map of the scene: background tissues, neighbours, and the target with its parts."""
    coarse = Axes(*(np.linspace(line[0], line[-1], FINE // 2, dtype=np.float32) for line in axes))
    labels = np.zeros(level.shape, dtype=np.uint8)
    count = 1
    alike: list[int] = []
    if rng.random() < 0.75:
        tissue = _upsampled(SmoothField(rng, int(rng.integers(4, 9)))(coarse))
        for threshold in np.sort(rng.uniform(-0.7, 0.7, size=rng.integers(1, 4))):
            labels[tissue > threshold] = count
            count += 1
    if rng.random() < 0.3:  # curved sheets: septa, vessel walls, fat planes
        sheet = _upsampled(SmoothField(rng, int(rng.integers(4, 9)))(coarse))
        labels[np.abs(sheet) < rng.uniform(0.05, 0.15)] = count
        count += 1
    if rng.random() < 0.35:
        spots = _upsampled(SmoothField(rng, int(rng.integers(8, 14)))(coarse))
        labels[spots > rng.uniform(0.5, 0.9)] = count
        count += 1
    target = level > 0
    centre = np.array([line.mean() for line in axes])
    half = np.array([(line[-1] - line[0]) / (2 + 4 * MARGIN) for line in axes])
    gap = 0.0
    for _ in range(rng.integers(0, 5)):
        scale = rng.uniform(0.3, 1.2) * float(np.exp(np.log(half).mean()))
        direction = rng.normal(size=3)
        direction *= (rng.uniform(0.7, 1.2) * half + rng.uniform(0.2, 0.8) * scale) / np.linalg.norm(direction)
        neighbour = _upsampled(random_shape(rng)(coarse.moved(centre + direction, scale))) > 0
        labels[neighbour] = count
        if rng.random() < 0.3:
            alike.append(count)
            gap = rng.uniform(0.0, 0.12) if rng.random() < 0.5 else gap
        count += 1
    if rng.random() < (0.8 if shape.kind in HOLLOW else 0.3):
        labels[enclosed(target)] = count
        if rng.random() < 0.1:
            alike.append(count)
        count += 1
    if rng.random() < 0.25:  # a coat round the target: a wall, a capsule, oedema
        outside = level[~target]
        share = min(0.9, rng.uniform(0.1, 1.0) * target.sum() / max(1, outside.size))
        labels[(level > np.quantile(outside[::7], 1 - share)) & ~target] = count
        count += 1
    air = None
    if rng.random() < 0.25:
        air = count
        normal = rng.normal(size=3)
        normal /= np.linalg.norm(normal) * np.linalg.norm(half)
        x, y, z = axes.mesh()
        side = normal[0] * (x - centre[0]) + normal[1] * (y - centre[1]) + normal[2] * (z - centre[2])
        side = side + _upsampled(SmoothField(rng, 5)(coarse)) * 0.15
        labels[side > rng.uniform(0.3, 0.75)] = count
        count += 1
    if shape.cut is not None:  # the other half: an organ of two parts, of which one is wanted
        labels[(shape.whole(axes) > 0) & ~target] = count
        if rng.random() < 0.65:
            alike.append(count)
        count += 1
    if gap > 0:
        labels[(level > -gap) & ~target] = 0
    own = [count]
    labels[target] = count
    count += 1
    if rng.random() < 0.35:
        part = _part_of_target(rng, coarse, level, target)
        labels[part] = count
        own.append(count)
        count += 1
    counts = np.bincount(labels[~target], minlength=count)
    return labels, _Special(int(counts.argmax()), tuple(own), tuple(alike), air, count)


def _part_of_target(rng: Rng, coarse: Axes, level: Array, target: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A core, a rim, or patches of the target that look different."""
    draw = rng.random()
    depth = level[target][::5]
    if draw < 0.4:
        rough = _upsampled(SmoothField(rng, int(rng.integers(6, 12)))(coarse)) * (0.3 * float(depth.std()))
        return np.asarray(target & (level + rough > np.quantile(depth, rng.uniform(0.4, 0.9))))
    if draw < 0.6:
        return np.asarray(target & (level < np.quantile(depth, rng.uniform(0.15, 0.45))))
    patches = _upsampled(SmoothField(rng, int(rng.integers(4, 12)))(coarse))
    return np.asarray(target & (patches > rng.uniform(-0.2, 0.7)))


# ---------------------------------------------------------------- how bright it is


def _means(rng: Rng, special: _Special) -> tuple[Array, float]:
    """Brightness per label in 0..1, and how far the target stands out from its main surrounding."""
    means = rng.uniform(0, 1, size=special.count)
    main = special.target[0]
    if rng.random() < 0.6:
        step = float(np.exp(rng.uniform(np.log(0.04), np.log(0.6)))) * rng.choice([-1, 1])
        means[main] = means[special.base] + step
    for label in range(special.count):  # tissue elsewhere that looks like the target
        if label != main and label != special.base and rng.random() < 0.12:
            means[label] = means[main] + rng.normal(0, 0.03)
    for label in special.alike:
        means[label] = means[main] + rng.normal(0, 0.02)
    for label in special.target[1:]:
        means[label] = means[main] + rng.choice([-1, 1]) * rng.uniform(0.03, 0.5)
    if special.air is not None:
        means[special.air] = rng.uniform(-0.05, 0.05) if rng.random() < 0.8 else 1.0
        means[special.base] = max(means[special.base], 0.15)
    return means, float(abs(means[main] - means[special.base]))


def _ct_means(rng: Rng, special: _Special) -> tuple[Array, float]:
    """Brightness per label in CT numbers."""
    tissue = [(-1000, 10, 0.05), (-850, 60, 0.08), (-100, 15, 0.25), (40, 25, 0.37), (180, 90, 0.15), (600, 250, 0.10)]
    means = np.empty(special.count)
    for label in range(special.count):
        centre, spread, _ = tissue[rng.choice(6, p=[chance for _, _, chance in tissue])]
        means[label] = rng.normal(centre, spread)
    main = special.target[0]
    if rng.random() < 0.8:
        means[main] = rng.normal(*rng.choice([[40, 25], [40, 25], [180, 90]]))
    if rng.random() < 0.4:
        means[main] = means[special.base] + rng.choice([-1, 1]) * rng.uniform(10, 120)
    for label in special.alike:
        means[label] = means[main] + rng.normal(0, 5)
    for label in special.target[1:]:
        means[label] = means[main] + rng.choice([-1, 1]) * rng.uniform(10, 150)
    if special.air is not None:
        means[special.air] = -1000
    return means, float(np.clip(abs(means[main] - means[special.base]), 10, 150))


def _intensities(rng: Rng, axes: Axes, labels: NDArray[np.uint8], special: _Special) -> Array:
    """Fine image: brightness per region, texture, gradients, bias; in units where 1 is the whole range."""
    ct = rng.random() < 0.2
    means, contrast = _ct_means(rng, special) if ct else _means(rng, special)
    unit = 150.0 if ct else 1.0
    image = means.astype(np.float32)[labels]
    seen = max(contrast, 0.05 * unit)
    if rng.random() < 0.6:
        amounts = rng.uniform(0, 0.5, size=special.count) * seen
        image += amounts.astype(np.float32)[labels] * SmoothField(rng, int(rng.integers(14, 30)))(axes)
    if rng.random() < 0.4:
        amounts = rng.uniform(0, 0.8, size=special.count) * seen
        image += amounts.astype(np.float32)[labels] * SmoothField(rng, int(rng.integers(4, 7)))(axes)
    if not ct and rng.random() < 0.5:
        image *= np.exp(np.float32(rng.uniform(0.05, 0.4)) * SmoothField(rng, 4)(axes))
    noise = seen * np.exp(rng.uniform(np.log(0.05), np.log(0.9)))
    noise = float(np.clip(noise, 0.004 * unit, 0.25 * unit))
    if rng.random() < 0.5:  # grain that the imaging then blurs
        image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(noise * 1.5)
    return image / np.float32(unit) if not ct else _windowed(rng, image)


def _windowed(rng: Rng, image: Array) -> Array:
    """A CT as readers and files have it: a soft-tissue window, a wide one, or all of it."""
    draw = rng.random()
    if draw < 0.4:
        centre, width = rng.uniform(0, 80), rng.uniform(300, 600)
        return np.clip(image, centre - width / 2, centre + width / 2) / np.float32(width)
    return np.clip(image, -1024, 1000 if draw < 0.6 else 3000) / np.float32(1000)


# ---------------------------------------------------------------- how it is imaged


def _sampling(rng: Rng, voxels: float, cut: tuple[float, float]) -> tuple[Array, Array]:
    """Weights of the fine points in each voxel along one axis, for the image (with its blur) and for the mask.

    `voxels` is how many fit along the target's box; `cut` is what share of the fine axis is left away at each end.
    """
    width = FINE / (1 + 2 * MARGIN) / voxels
    first = cut[0] * FINE + rng.uniform(0, 1) * width
    centres = np.arange(first, FINE - 1 - cut[1] * FINE, width)
    if len(centres) < 2:
        centres = np.array([FINE * 0.45, FINE * 0.55])
    distance = np.abs(centres[:, None] - np.arange(FINE)[None])

    def slab(thickness: float) -> Array:
        weights = np.clip((thickness + 1) / 2 - distance, 0, 1) + 1e-9 * (distance < 1)
        return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)

    blur = rng.uniform(0, 1.2) if rng.random() < 0.6 else 0.0
    profile = slab(max(1.0, width * rng.uniform(0.7, 1.4)))
    if blur > 0:
        spread = np.exp(-0.5 * ((np.arange(FINE)[:, None] - np.arange(FINE)[None]) / max(blur, 0.3)) ** 2)
        profile = (profile @ (spread / spread.sum(axis=1, keepdims=True))).astype(np.float32)
    return profile, slab(max(1.0, width))


def _cuts(rng: Rng) -> list[tuple[float, float]]:
    """Share of the scene that the field of view leaves away per axis and side: sometimes a part of the target too."""
    cuts = np.zeros((3, 2))
    if rng.random() < 0.3:
        edge = MARGIN / (1 + 2 * MARGIN)
        for _ in range(rng.integers(1, 3)):
            cuts[rng.integers(3), rng.integers(2)] = edge + rng.uniform(-0.15, 0.12)
    return [(max(0.0, float(a)), max(0.0, float(b))) for a, b in cuts]


def _imaged(rng: Rng, fine: Array, level: Array, extent: Array, kind: str) -> SyntheticCase | None:
    """Sample the fine scene on a random grid, add noise and a random response."""
    from scipy import ndimage

    step = float(extent.max()) / np.exp(rng.uniform(np.log(9), np.log(60)))
    spacing = np.full(3, step)
    if rng.random() < 0.55:
        spacing[rng.integers(3) if rng.random() < 0.4 else 2] *= np.exp(rng.uniform(np.log(1.3), np.log(8)))
    voxels = np.clip(extent / spacing, rng.choice([2.5, 4, 6]), FINE / (1 + 2 * MARGIN))
    matrices = [_sampling(rng, float(count), cut) for count, cut in zip(voxels, _cuts(rng), strict=True)]
    image = along_axes(fine, (matrices[0][0], matrices[1][0], matrices[2][0]))
    amount = along_axes((level > 0).astype(np.float32), (matrices[0][1], matrices[1][1], matrices[2][1]))
    parts, count = ndimage.label(amount > 0.5)
    if count == 0:
        return None
    largest = 1 + int(np.bincount(parts.ravel())[1:].argmax())
    mask = parts == largest
    inside = np.argwhere(mask)
    if len(inside) < 12 or (np.ptp(inside, axis=0) < 1).any():
        return None
    image = _response(rng, image, mask)
    true = extent / voxels
    known = rng.random() > 0.15
    i, j, k = (true / true.min()).tolist() if known else (1.0, 1.0, 1.0)
    return SyntheticCase(image, mask, (i, j, k), kind)


def _response(rng: Rng, image: Array, mask: NDArray[np.bool_]) -> Array:
    """Noise of the detector, gamma, inversion, rounding."""
    low, high = np.quantile(image.ravel()[::3], [0.005, 0.995])
    image = (image - low) / max(float(high - low), 1e-6)
    inside = float(image[mask].mean())
    around = float(np.median(image[~mask][::5])) if not mask.all() else inside
    noise = np.clip(abs(inside - around) * np.exp(rng.uniform(np.log(0.03), np.log(0.8))), 0.003, 0.2)
    grain = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(noise)
    if rng.random() < 0.3:
        other = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(noise)
        image = np.sqrt((image + grain) ** 2 + other**2)
    else:
        image = image + grain
    if rng.random() < 0.4:
        image = np.sign(image) * np.abs(image) ** np.float32(np.exp(rng.uniform(-0.6, 0.6)))
    if rng.random() < 0.15:
        image = 1 - image
    if rng.random() < 0.3:
        image = np.round(image * rng.uniform(40, 1000))
    return np.asarray(image, dtype=np.float32)
