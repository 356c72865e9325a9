"""Strokes on real targets, drawn by experts or simulated, and the stock methods that start from strokes.

*Full* strokes are the experts' own where the set has them (``acdc``, ``prostatex``, each with its codes); elsewhere they are
simulated: in the slice of largest area of each axis (a volume with fewer than 20 slices: first, largest and last slice)
the skeleton of the mask eroded by 2 voxels, and the ring at 5 to 6.2 voxels from it. *Sparse* strokes are always
simulated: one curve inside and one outside, both on one slice.
"""

from __future__ import annotations

import json
import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from cases import DATA, PER_SET, Target, list_targets
from ours import cleaned, learned
from peers import PEERS, TUNED, Peer, available
from scipy import ndimage
from seeds import THIN, Problem

from napari_weakseg.arrays.extreme_points import box_of
from napari_weakseg.arrays.marks import frame_of
from napari_weakseg.arrays.metrics import dice
from napari_weakseg.arrays.random_walker import random_walker
from napari_weakseg.prompts import BACKGROUND_STROKE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_weakseg.volume import Volume

    Mask = NDArray[np.bool_]
    Strokes = NDArray[np.uint8]

RING = (5.0, 6.2)
"""Distance of the outer stroke from the mask, in voxels of the slice."""
UNLABELLED = {"acdc": 4, "prostatex": 255}
"""How each set codes a voxel that no expert marked; 0 is a background stroke in both."""
CROPS = ("strokes", "window")
"""What a peer sees: the box of all strokes and 3 voxels more, or the window that our network takes."""


@dataclass(frozen=True)
class StrokeTarget(Target):
    """A target with a way to mark it."""

    sparse: bool = False

    def strokes(self, mask: Mask, spacing: Any) -> Strokes:
        """The marks on the whole grid: 1 object, 255 background, 0 neither."""
        if not self.sparse and (self.folder / "scribble.nii.gz").exists():
            drawn = np.asanyarray(nib.load(self.folder / "scribble.nii.gz").dataobj)
            return expert_strokes(drawn, self.labels, UNLABELLED[self.folder.parent.name])
        if self.sparse:
            return sparse_strokes(mask, spacing, np.random.default_rng([7, zlib.crc32(self.name.encode())]))
        return full_strokes(mask)


def list_stroke_targets(*, sparse: bool, per_set: int = PER_SET) -> Iterator[StrokeTarget]:
    """The targets of the points, and those that only strokes can describe: the myocardium, a prostate's two zones."""
    found = list(list_targets(per_set=per_set))
    found += [Target("acdc myocardium", t.folder, t.image, (2,)) for t in found if t.set == "acdc LV"]
    for case in sorted((DATA / "prostatex").glob("*/scribble.nii.gz")):
        found += [Target(f"prostatex zone {n}", case.parent, "image.nii.gz", (n,)) for n in (1, 2)]
    yield from (StrokeTarget(t.set, t.folder, t.image, t.labels, sparse) for t in found)


def expert_strokes(drawn: NDArray[Any], labels: tuple[int, ...], unlabelled: int) -> Strokes:
    """One object's strokes from a set's own codes: 0 and the other structures are background, `unlabelled` is nothing."""
    marks = np.full(drawn.shape, BACKGROUND_STROKE, dtype=np.uint8)
    marks[drawn == unlabelled] = 0
    marks[np.isin(drawn, labels)] = 1
    return marks


def skeleton(mask: Mask) -> Mask:
    """Skeleton of a mask in a slice, eroded by up to 2 voxels first: as much as leaves something."""
    from skimage.morphology import skeletonize

    for times in (2, 1):
        smaller = ndimage.binary_erosion(mask, iterations=times)
        if smaller.any():
            return np.asarray(skeletonize(smaller))
    return np.asarray(skeletonize(mask))


def ring(mask: Mask) -> Mask:
    """Pixels at `RING` from a mask in a slice; where the picture is too small, those farthest away."""
    distance = ndimage.distance_transform_edt(~mask)
    found = (distance >= RING[0]) & (distance < RING[1])
    return np.asarray(found if found.any() else (distance > 0) & (distance >= distance.max() - 1))


def full_strokes(mask: Mask) -> Strokes:
    """Skeleton and ring on the largest slice of each axis, or on three slices where the slices are few."""
    marks = np.zeros(mask.shape, dtype=np.uint8)
    areas = [mask.sum(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    thin = int(np.argmin(mask.shape))
    if mask.shape[thin] < THIN:
        own = np.flatnonzero(areas[thin])
        slices = [(thin, int(n)) for n in {own[0], areas[thin].argmax(), own[-1]}]
    else:
        slices = [(axis, int(area.argmax())) for axis, area in enumerate(areas)]
    for value, draw in ((BACKGROUND_STROKE, ring), (1, skeleton)):  # where slices cross, the object's stroke wins
        for axis, number in slices:
            place = tuple(number if a == axis else slice(None) for a in range(3))
            line = draw(mask[place])
            marks[place][line & (mask[place] == (value == 1))] = value
    return marks


def longest_curve(line: Mask) -> NDArray[np.intp]:
    """Pixels of the longest shortest way within a thin line of a slice, end to end, shape (N, 2): one stroke of a pen."""
    from skimage.graph import MCP

    pixels = np.argwhere(line)
    cost = np.where(line, 1.0, -1.0)  # negative: never entered
    end = tuple(pixels[0])
    for _ in range(2):
        start = end
        search = MCP(cost)
        lengths, _ = search.find_costs([start])
        lengths[~np.isfinite(lengths)] = -1
        end = np.unravel_index(int(lengths.argmax()), line.shape)
    return np.asarray(search.traceback(end), dtype=np.intp)


def slice_axis(mask: Mask, spacing: Any) -> int:
    """The axis that a user would leaf through: the largest distance of slices; if all are alike, that of the largest slice."""
    steps = np.asarray(spacing, dtype=float)
    if steps.max() > 1.2 * steps.min():
        return int(steps.argmax())
    return int(np.argmax([mask.sum(axis=tuple(a for a in range(3) if a != axis)).max() for axis in range(3)]))


def sparse_strokes(mask: Mask, spacing: Any, rng: np.random.Generator) -> Strokes:
    """One stroke inside, along the skeleton, and one outside, half of the ring from an angle drawn at random; one slice."""
    axis = slice_axis(mask, spacing)
    number = int(mask.sum(axis=tuple(a for a in range(3) if a != axis)).argmax())
    place = tuple(number if a == axis else slice(None) for a in range(3))
    marks = np.zeros(mask.shape, dtype=np.uint8)
    face = mask[place]
    around = np.argwhere(ring(face))
    offset = around - np.argwhere(face).mean(axis=0)
    angle = (np.arctan2(offset[:, 1], offset[:, 0]) - rng.uniform(0, 2 * np.pi)) % (2 * np.pi)
    half = around[angle < np.pi] if (angle < np.pi).any() else around
    marks[place][tuple(half.T)] = BACKGROUND_STROKE
    marks[place][tuple(longest_curve(skeleton(face)).T)] = 1
    return marks


def crop_of(volume: Volume, strokes: Strokes, crop: str) -> tuple[Problem, Mask, Mask]:
    """What a peer gets: the crop, seeds of the object and of the background.

    Faces of the crop along axes of 20 voxels and more are background: without them a region would leak to the border.
    """
    object_stroke = (strokes > 0) & (strokes < BACKGROUND_STROKE)
    if crop == "window":
        i, j, k = volume.spacing
        index = frame_of(volume.shape, (i, j, k), np.zeros((0, 3)), strokes, None).window
    else:
        start, stop = box_of(np.argwhere(strokes), volume.shape, margin=3)
        index = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    part = volume.array[index].astype(np.float32)
    low, high = np.percentile(part, (1, 99))
    scaled = np.clip((part - low) / max(float(high - low), 1e-12), 0, 1).astype(np.float32)
    foreground = object_stroke[index]
    background = strokes[index] == BACKGROUND_STROKE
    for axis in (a for a in range(3) if part.shape[a] >= THIN):
        for face in (0, -1):
            background[tuple(face if a == axis else slice(None) for a in range(3))] = True
    corners = np.argwhere(foreground)
    points = np.stack([corners.min(axis=0), corners.max(axis=0)]).astype(float)
    return Problem(index, scaled, points, np.asarray(volume.spacing)), foreground, background & ~foreground


def prior_walker(
    image: NDArray[np.float32], spacing: Any, foreground: Mask, background: Mask, points: Any, *, gamma: float
) -> Mask:
    """The random walker with a histogram prior (Grady, CVPR 2005), solved by ours: no stock library has it."""
    level = np.minimum((ndimage.gaussian_filter(image, 0.7) * 32).astype(int), 31)
    tables = []
    for seeds in (foreground, background):
        counts = ndimage.gaussian_filter1d(np.bincount(level[seeds], minlength=32).astype(float), 1.5)
        tables.append(counts / counts.sum() + 2e-3)
    prior = (tables[0] / (tables[0] + tables[1]))[level].astype(np.float32)
    seeds = np.where(foreground, 1, np.where(background, 0, -1)).astype(np.int8)
    return np.asarray(random_walker(image, seeds, beta=130, gamma=gamma, prior=prior, start=prior, tol=1e-2)[0] > 0.5)


NAMES = ("watershed", "random walker", "graph cut", "geodesic distance", "random forest")
STROKE_PEERS: dict[str, Peer] = {
    **{name: PEERS[name] for name in NAMES if available(name)},
    "random walker + prior": Peer("napari-weakseg", prior_walker, {}, {}),
}


def run_stroke_peer(name: str, problem: Problem, foreground: Mask, background: Mask, settings: dict[str, Any]) -> Mask:
    """A peer's mask on its crop, after what follows every method."""
    peer = STROKE_PEERS[name]
    mask = peer.run(problem.image, problem.spacing, foreground, background, problem.points, **peer.fixed, **settings)
    return cleaned(mask, foreground, foreground, background)


def tuned_stroke_settings(name: str, *, sparse: bool) -> dict[str, Any]:
    """The settings with which the peer did best over the development cases, ``crop`` among them."""
    tuned = json.loads(TUNED.read_text(encoding="utf-8"))["sparse strokes" if sparse else "full strokes"]
    return dict(tuned["peers"][name]["best"])


def measure_stroke_peers(target: StrokeTarget) -> dict[str, Any]:
    """Every peer with its tuned settings, from the same strokes; CPU seconds of the method alone."""
    volume, reference = target.read()
    strokes = target.strokes(reference, volume.spacing)
    out: dict[str, Any] = {}
    for name in STROKE_PEERS:
        settings = tuned_stroke_settings(name, sparse=target.sparse)
        problem, foreground, background = crop_of(volume, strokes, settings.pop("crop"))
        clock = time.process_time(), time.perf_counter()
        mask = run_stroke_peer(name, problem, foreground, background, settings)
        times = {"cpu": time.process_time() - clock[0], "wall": time.perf_counter() - clock[1]}
        full = np.zeros(volume.shape, dtype=bool)
        full[problem.index] = mask
        out[name] = {"dice": dice(full, reference), **times}
    return out


def measure_strokes(target: StrokeTarget) -> dict[str, Any]:
    """Our first mask from the same strokes, everything included."""
    volume, reference = target.read()
    strokes = target.strokes(reference, volume.spacing)
    clock = time.process_time(), time.perf_counter()
    outcome = learned(volume, strokes=strokes)
    times = {"cpu": time.process_time() - clock[0], "wall": time.perf_counter() - clock[1]}
    marked = {"object": int((strokes == 1).sum()), "background": int((strokes == BACKGROUND_STROKE).sum())}
    return {"dice": dice(outcome.mask, reference), "doubt": outcome.doubt, **times, "voxels marked": marked}
