"""What happens when the clicks are off, when there is nothing to see, and whether the probability means what it says."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ours import learned
from peers import run_peer
from scipy import ndimage
from seeds import Problem

from napari_weakseg.arrays.extreme_points import box_of, simulate_points
from napari_weakseg.arrays.metrics import dice
from napari_weakseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cases import Target
    from numpy.typing import NDArray

HANDS = ("0", "1", "2", "3", "one off by 10")
"""Largest displacement per axis in voxels; or that of 1 and one of the six points off by ten voxels along some axis."""
SHAKEN_PEERS = ("watershed", "geodesic distance")
BINS = 20


def shaken(target: Target, mask: NDArray[np.bool_], hand: str) -> NDArray[np.int64]:
    """Six points as that hand would place them."""
    if hand != "one off by 10":
        return target.points(mask, jitter=int(hand))
    points = target.points(mask, jitter=1)
    rng = np.random.default_rng([10, zlib.crc32(target.name.encode())])
    which, axis = rng.integers(6), rng.integers(3)
    points[which, axis] += 10 * rng.choice([-1, 1])
    return np.clip(points, 0, np.array(mask.shape) - 1)


def measure_jitter(target: Target) -> dict[str, Any]:
    """Ours for every hand."""
    volume, reference = target.read()
    return {hand: {"ours": dice(learned(volume, points=shaken(target, reference, hand)).mask, reference)} for hand in HANDS}


def measure_peer_jitter(target: Target) -> dict[str, Any]:
    """The same for the peers, with their tuned settings."""
    volume, reference = target.read()
    out: dict[str, Any] = {}
    for hand in HANDS:
        problem = Problem.of(volume.array, shaken(target, reference, hand), volume.spacing)
        out[hand] = {}
        for name in SHAKEN_PEERS:
            full = np.zeros(volume.shape, dtype=bool)
            full[problem.index] = run_peer(name, problem)
            out[hand][name] = dice(full, reference)
    return out


GRIDS = {  # shape, spacing, half axes of the ellipsoid that is clicked
    "cube": ((64, 64, 64), (1.0, 1.0, 1.0), (14, 18, 10)),
    "thick slices": ((96, 96, 16), (1.0, 1.0, 5.0), (22, 17, 4)),
    "large": ((128, 128, 100), (0.7, 0.7, 1.0), (40, 30, 25)),
}


@dataclass(frozen=True)
class Nothing:
    """A volume in which nothing can be seen: `set` says of which kind, `grid` how large."""

    set: str
    grid: str
    seed: int

    @property
    def name(self) -> str:
        """Key of the cache."""
        return f"{self.set}/{self.grid} {self.seed}"

    def make(self) -> tuple[Volume, NDArray[np.bool_], NDArray[np.int64]]:
        """Volume, an ellipsoid and six points that touch it, off by up to a voxel."""
        shape, spacing, half = GRIDS[self.grid]
        rng = np.random.default_rng([11, self.seed])
        grids = np.ogrid[tuple(slice(0, n) for n in shape)]
        mask = sum(((g - n / 2) / h) ** 2 for g, n, h in zip(grids, shape, half, strict=True)) < 1
        array = np.full(shape, 100, dtype=np.float32)
        if self.set != "constant":
            noise = rng.normal(0, 20, shape)
            array = (100 + (5 * ndimage.gaussian_filter(noise, 1.5) if self.set == "smooth noise" else noise)).astype(
                np.float32
            )
        volume = Volume(array, np.diag([*spacing, 1.0]), name=self.set)
        return volume, mask, simulate_points(mask, jitter=1, rng=rng)


def list_nothing() -> Iterator[Nothing]:
    """Every volume in which nothing can be seen: three draws of each noise on each grid."""
    for kind in ("constant", "noise", "smooth noise"):
        for grid in GRIDS:
            yield from (Nothing(kind, grid, seed) for seed in range(1 if kind == "constant" else 3))


def measure_nothing(case: Nothing) -> dict[str, float]:
    """Agreement with the ellipsoid, and the doubt."""
    volume, ellipsoid, points = case.make()
    outcome = learned(volume, points=points)
    return {"dice": dice(outcome.mask, ellipsoid), "doubt": outcome.doubt}


def binned(probability: NDArray[Any], truth: NDArray[np.bool_], bins: int = BINS) -> dict[str, list[float]]:
    """Voxels, mean probability and share of the object per bin of the probability; empty bins hold zeros."""
    level = np.minimum((probability.ravel() * bins).astype(int), bins - 1)
    count = np.bincount(level, minlength=bins)
    weight = np.maximum(count, 1)
    said = np.bincount(level, weights=probability.ravel().astype(float), minlength=bins) / weight
    held = np.bincount(level, weights=truth.ravel().astype(float), minlength=bins) / weight
    return {"voxels": count.tolist(), "said": said.tolist(), "was": held.tolist()}


def calibration_error(curve: dict[str, list[float]]) -> float:
    """Expected calibration error: mean |said - was| over voxels."""
    voxels, said, was = (np.array(curve[key], dtype=float) for key in ("voxels", "said", "was"))
    return float((voxels * np.abs(said - was)).sum() / max(voxels.sum(), 1))


def measure_calibration(target: Target) -> dict[str, Any]:
    """The reliability of the probability that is shown, and of the network's own, in the box of the points.

    Voxels outside the box are left out: nearly all are right and would make any probability look good.
    """
    from napari_weakseg.networks.first_mask_model import first_mask_learned

    volume, reference = target.read()
    points = target.points(reference)
    outcome = learned(volume, points=points)
    i, j, k = volume.spacing
    alone, window = first_mask_learned(volume.array, (i, j, k), points=points)
    start, stop = box_of(points, volume.shape, margin=1)
    box = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    out: dict[str, Any] = {"dice": dice(outcome.mask, reference), "doubt": outcome.doubt}
    for name, probability, part in (("shown", outcome.probability, outcome.window), ("network", alone, window)):
        full = np.zeros(volume.shape, dtype=np.float32)
        full[part] = probability
        curve = binned(full[box], reference[box])
        out[name] = {**curve, "error": calibration_error(curve)}
    return out
