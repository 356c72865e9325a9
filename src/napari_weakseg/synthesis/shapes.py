"""Random targets: functions of space that are positive inside, of many kinds.

Every kind returns a *level*: a function of three coordinate arrays, positive inside, falling off roughly like a distance.
`random_shape` bends, turns, roughens and cuts one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .fields import Axes, SmoothField

Array = NDArray[np.floating[Any]]
Level = Callable[[Array, Array, Array], Array]
Rng = np.random.Generator


def _superellipsoid(rng: Rng, radii: Array | None = None, centre: Array | None = None) -> Level:
    a, b, c = np.exp(rng.uniform(np.log(0.35), 0, size=3)).astype(np.float32) if radii is None else radii
    u, v, w = np.zeros(3, np.float32) if centre is None else centre
    power = float(rng.choice([2.0, 2.0, 2.0, 3.0, 4.0]))

    def level(x: Array, y: Array, z: Array) -> Array:
        if power == 2.0:
            return np.asarray(1 - np.sqrt(((x - u) / a) ** 2 + ((y - v) / b) ** 2 + ((z - w) / c) ** 2))
        total = np.abs((x - u) / a) ** power + np.abs((y - v) / b) ** power + np.abs((z - w) / c) ** power
        return np.asarray(1 - total ** (1 / power))

    return level


def ellipsoid(rng: Rng) -> Level:
    """Ellipsoid, or a rounder box of the same radii."""
    return _superellipsoid(rng)


def cylinder(rng: Rng) -> Level:
    """Cylinder or cone along one axis with flat ends, as a stack of slices through a chamber shows it."""
    a, b = rng.uniform(0.4, 1.0, size=2)
    half, taper = rng.uniform(0.4, 1.1), rng.uniform(-0.6, 0.6)

    def level(x: Array, y: Array, z: Array) -> Array:
        wide = np.maximum(1 + taper * z / half, 0.15)
        return np.asarray(np.minimum(1 - np.sqrt((x / a) ** 2 + (y / b) ** 2) / wide, half - np.abs(z)))

    return level


def _along_curve(points: Array, radii: Array) -> Level:
    """Union of balls along a curve; the distance to it is taken segment-free, from densely placed points."""

    def level(x: Array, y: Array, z: Array) -> Array:
        best: Array | None = None
        for (u, v, w), radius in zip(points, radii, strict=True):
            distance = ((x - u) ** 2 + (y - v) ** 2 + (z - w) ** 2) * np.float32(1 / radius**2)
            best = distance if best is None else np.minimum(best, distance, out=best)
        assert best is not None
        return np.asarray(1 - np.sqrt(best))

    return level


def _curve(rng: Rng, start: Array, length: float, bend: float, count: int) -> Array:
    """Points along a path whose direction drifts."""
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    drift = rng.normal(size=3) * bend
    points = [start]
    for _ in range(count - 1):
        direction = direction + (drift + rng.normal(size=3) * bend) / count
        direction /= np.linalg.norm(direction)
        points.append(points[-1] + direction * length / count)
    return np.array(points, dtype=np.float32)


def tube(rng: Rng) -> Level:
    """One bent tube of changing width."""
    radius, count = rng.uniform(0.12, 0.4), 14
    points = _curve(rng, np.zeros(3), rng.uniform(1.2, 2.6), rng.uniform(0.2, 3.0), count)
    radii = radius * np.exp(np.interp(np.arange(count), np.linspace(0, count - 1, 4), rng.normal(0, 0.3, 4)))
    return _along_curve(points - points.mean(axis=0), radii)


def branches(rng: Rng) -> Level:
    """A tube with branches that leave it and get thinner, sometimes out of a thick body (a chamber with its veins)."""
    trunk = _curve(rng, np.zeros(3), rng.uniform(1.0, 2.0), rng.uniform(0.2, 2.0), 9)
    radius = rng.uniform(0.12, 0.32)
    parts, widths = [trunk], [np.full(9, radius)]
    for _ in range(rng.integers(1, 5)):
        start = trunk[rng.integers(1, 9)]
        parts.append(_curve(rng, start, rng.uniform(0.5, 1.2), rng.uniform(0.2, 2.0), 6))
        widths.append(np.full(6, radius * rng.uniform(0.4, 0.9)))
    if rng.random() < 0.5:
        parts.append(trunk[4:5])
        widths.append(np.array([rng.uniform(0.4, 0.8)]))
    points = np.concatenate(parts)
    return _along_curve(points - points.mean(axis=0), np.concatenate(widths))


def shell(rng: Rng) -> Level:
    """Between two deformed ellipsoids: closed, or cut open to a cup."""
    outer = _superellipsoid(rng, rng.uniform(0.6, 1.0, size=3).astype(np.float32))
    share = rng.uniform(0.5, 0.85)
    shift = (rng.normal(size=3) * (1 - share) * 0.2).astype(np.float32)
    opening = rng.normal(size=3)
    opening /= np.linalg.norm(opening)
    cut = rng.uniform(-0.1, 0.6) if rng.random() < 0.6 else 9.0
    wall = 1 - share

    def level(x: Array, y: Array, z: Array) -> Array:
        value = outer(x, y, z)
        inner = outer((x - shift[0]) / share, (y - shift[1]) / share, (z - shift[2]) / share) * share
        value = np.minimum(value, -inner) / wall
        return np.asarray(np.minimum(value, cut - (opening[0] * x + opening[1] * y + opening[2] * z)) if cut < 5 else value)

    return level


def ring(rng: Rng) -> Level:
    """A hollow cylinder or cone: closed round, or open on one side."""
    a, b = rng.uniform(0.6, 1.0, size=2)
    wall, half, taper = rng.uniform(0.18, 0.5), rng.uniform(0.25, 1.0), rng.uniform(-0.5, 0.5)
    shift = rng.normal(size=2) * wall * 0.15
    gap = rng.uniform(0.2, 0.9) if rng.random() < 0.3 else 0.0
    angle = rng.uniform(0, 2 * np.pi)

    def level(x: Array, y: Array, z: Array) -> Array:
        wide = np.maximum(1 + taper * z / half, 0.2)
        outer = 1 - np.sqrt((x / a) ** 2 + (y / b) ** 2) / wide
        inner = 1 - np.sqrt(((x - shift[0]) / a) ** 2 + ((y - shift[1]) / b) ** 2) / (wide * (1 - wall))
        value = np.minimum(np.minimum(outer, -inner * (1 - wall)) / wall, half - np.abs(z))
        if gap:
            along, across = np.cos(angle) * x + np.sin(angle) * y, np.sin(angle) * x - np.cos(angle) * y
            value = np.minimum(value, np.maximum(np.abs(across) - gap / 2, -along))
        return np.asarray(value)

    return level


def crescent(rng: Rng) -> Level:
    """An ellipsoid out of which a shifted one is bitten: wraps round a neighbour."""
    radii = rng.uniform(0.55, 1.0, size=3).astype(np.float32)
    body, bite = _superellipsoid(rng, radii), _superellipsoid(rng, radii * rng.uniform(0.6, 1.1))
    direction = rng.normal(size=3) * np.array([1, 1, 0.3])
    direction *= rng.uniform(0.45, 0.9) / np.linalg.norm(direction)

    def level(x: Array, y: Array, z: Array) -> Array:
        return np.minimum(body(x, y, z), -bite(x - direction[0], y - direction[1], z - direction[2]))

    return level


def union(rng: Rng) -> Level:
    """Two to four ellipsoids that overlap."""
    count = int(rng.integers(2, 5))
    parts: list[Level] = []
    for _ in range(count):
        radii = rng.uniform(0.25, 0.7, size=3).astype(np.float32)
        parts.append(_superellipsoid(rng, radii, rng.uniform(-0.45, 0.45, size=3).astype(np.float32)))

    def level(x: Array, y: Array, z: Array) -> Array:
        value = parts[0](x, y, z)
        for part in parts[1:]:
            value = np.maximum(value, part(x, y, z))
        return value

    return level


def spiculated(rng: Rng) -> Level:
    """A ball with lobes or spikes in random directions."""
    count, sharp = int(rng.integers(4, 12)), float(rng.choice([2, 4, 8, 16]))
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    heights = rng.uniform(0.15, 0.9, size=count)
    radii = rng.uniform(0.5, 1.0, size=3)

    def level(x: Array, y: Array, z: Array) -> Array:
        x, y, z = x / radii[0], y / radii[1], z / radii[2]
        distance = np.sqrt(x**2 + y**2 + z**2) + 1e-3
        reach = np.full(distance.shape, 0.5, dtype=np.float32)
        for (u, v, w), height in zip(directions.astype(np.float32), heights.astype(np.float32), strict=True):
            cosine = np.maximum((u * x + v * y + w * z) / distance, 0)
            reach += height * 0.6 * cosine**sharp
        return np.asarray(reach - distance)

    return level


def plate(rng: Rng) -> Level:
    """A thin sheet inside an ellipsoid; the warp bends it."""
    rim = _superellipsoid(rng, np.append(rng.uniform(0.5, 1.0, size=2), 1.0).astype(np.float32))
    half, dish = rng.uniform(0.09, 0.25), rng.uniform(-0.8, 0.8)

    def level(x: Array, y: Array, z: Array) -> Array:
        return np.minimum(rim(x, y, z), (half - np.abs(z - dish * (x**2 + y**2 - 0.3))) / (2 * half))

    return level


def blob(rng: Rng) -> Level:
    """A ball whose surface is left to the roughness that `random_shape` adds: strong here."""
    return _superellipsoid(rng, rng.uniform(0.55, 0.9, size=3).astype(np.float32))


KINDS: dict[str, tuple[Callable[[Rng], Level], float]] = {
    "ellipsoid": (ellipsoid, 2.0),
    "blob": (blob, 2.5),
    "cylinder": (cylinder, 1.2),
    "tube": (tube, 1.6),
    "branches": (branches, 1.3),
    "shell": (shell, 1.2),
    "ring": (ring, 1.5),
    "crescent": (crescent, 1.6),
    "union": (union, 1.5),
    "spiculated": (spiculated, 1.2),
    "plate": (plate, 0.9),
}
"""Kind to (maker, how often it is drawn relative to the others)."""


def _rotation(rng: Rng) -> Array:
    """A random rotation; half of the time only a small tilt, since slices tend to follow the body's axes."""
    turn = rng.normal(size=4) if rng.random() < 0.5 else np.array([1, *rng.normal(0, 0.15, size=3)])
    w, x, y, z = turn / np.linalg.norm(turn)
    matrix = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return matrix[rng.permutation(3)].astype(np.float32)


@dataclass(frozen=True)
class Shape:
    """A placed shape: bent by `warps`, turned, with a rough surface and an optional flat cut.

    Call it with `Axes` to get its level (I, J, K), positive inside.
    """

    kind: str
    level: Level
    rotation: Array
    warps: tuple[SmoothField, SmoothField, SmoothField]
    bend: float
    roughness: tuple[tuple[SmoothField, float], ...] = ()
    cut: tuple[Array, float] | None = None
    half: int = field(default=1)

    def __call__(self, axes: Axes) -> Array:
        """Level on the grid, float32."""
        value = self.whole(axes)
        return np.minimum(value, self.side(axes)) if self.cut is not None else value

    def whole(self, axes: Axes) -> Array:
        """Level without the cut."""
        u, v, w = (line + self.bend * warp(axes) for line, warp in zip(axes.mesh(), self.warps, strict=True))
        r = self.rotation
        turned = (r[n, 0] * u + r[n, 1] * v + r[n, 2] * w for n in range(3))
        value = self.level(*turned).astype(np.float32, copy=False)
        for rough, amount in self.roughness:
            value = value + np.float32(amount) * rough(axes)
        return value

    def side(self, axes: Axes) -> Array:
        """Distance to the cutting plane, positive on the side that is kept."""
        assert self.cut is not None
        normal, offset = self.cut
        x, y, z = axes.mesh()
        bent = self.warps[0](axes) * (0.3 * self.bend)
        return np.asarray(normal[0] * x + normal[1] * y + normal[2] * z - offset + bent, dtype=np.float32)


def random_shape(rng: Rng, kind: str | None = None, *, cut: bool | None = None) -> Shape:
    """Draw a shape.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of everything random.
    kind : str, optional
        One of `KINDS`; default drawn by their weights.
    cut : bool, optional
        Whether a plane cuts a part off; default in one of eight.
    """
    if kind is None:
        weights = np.array([weight for _, weight in KINDS.values()])
        kind = str(rng.choice(list(KINDS), p=weights / weights.sum()))
    level = KINDS[kind][0](rng)
    bend = 0.0 if rng.random() < 0.1 else rng.uniform(0.05, 0.35)
    warps = tuple(SmoothField(rng, int(rng.integers(4, 7))) for _ in range(3))
    rough: list[tuple[SmoothField, float]] = []
    if kind == "blob":
        rough.append((SmoothField(rng, int(rng.integers(5, 10))), rng.uniform(0.2, 0.6)))
    elif rng.random() < 0.35:
        rough.append((SmoothField(rng, int(rng.integers(6, 14))), rng.uniform(0.03, 0.2)))
    if rng.random() < 0.2:
        rough.append((SmoothField(rng, int(rng.integers(18, 30))), rng.uniform(0.05, 0.25)))
    plane = None
    if rng.random() < 0.125 if cut is None else cut:
        normal = rng.normal(size=3)
        plane = ((normal / np.linalg.norm(normal)).astype(np.float32), float(rng.uniform(-0.3, 0.3)))
    return Shape(kind, level, _rotation(rng), (warps[0], warps[1], warps[2]), float(bend), tuple(rough), plane)
