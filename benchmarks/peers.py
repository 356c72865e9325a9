"""The stock ways from seeds to a mask, each from its library, behind one signature.

``run_peer(name, problem)`` takes a `seeds.Problem` and returns the mask on its crop. A peer's settings come from
``tuned_peers.json``, which `tune_peers` writes: the setting with the best mean Dice over the development cases.
All run on one thread and, as stock methods are mostly used, in voxel units unless their library takes a spacing.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage
from seeds import RECIPES, Problem, finished

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Image = NDArray[np.float32]
    Mask = NDArray[np.bool_]

TUNED = Path(__file__).resolve().parent / "tuned_peers.json"


def watershed(image: Image, spacing: Any, foreground: Mask, background: Mask, points: Any, *, sigma: float) -> Mask:
    """scikit-image's watershed of the gradient magnitude at `sigma` voxels, from the seeds."""
    from skimage.segmentation import watershed as flood

    markers = foreground.astype(np.int8) + 2 * background.astype(np.int8)
    return np.asarray(flood(ndimage.gaussian_gradient_magnitude(image, sigma), markers) == 1)


def random_walker(
    image: NDArray[np.float32],
    spacing: Any,
    foreground: Mask,
    background: Mask,
    points: Any,
    *,
    beta: float,
    mode: str,
    tol: float = 1e-3,
) -> Mask:
    """scikit-image's random walker; ``cg_mg`` needs pyamg."""
    from skimage.segmentation import random_walker as walk

    markers = foreground.astype(np.int8) + 2 * background.astype(np.int8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its notes on tolerance and on unreachable seeds
        return np.asarray(walk(image, markers, beta=beta, mode=mode, tol=tol) == 1)


def graph_cut(image: Image, spacing: Any, foreground: Mask, background: Mask, points: Any, *, edge: float) -> Mask:
    """Minimum cut by PyMaxflow: 32-bin histograms of the seeds, six neighbours, contrast-weighted edges times `edge`."""
    import maxflow

    level = np.minimum((image * 32).astype(int), 31)
    tables = []
    for seeds in (foreground, background):
        counts = ndimage.gaussian_filter1d(np.bincount(level[seeds], minlength=32).astype(float), 1.0)
        tables.append(-np.log(counts / counts.sum() + 1e-3))
    graph = maxflow.Graph[float](image.size, 3 * image.size)
    nodes = graph.add_grid_nodes(image.shape)
    differences = [np.diff(image, axis=axis) for axis in range(3)]
    variance = 2 * float(np.mean([np.mean(d**2) for d in differences if d.size])) + 1e-12
    for axis, difference in enumerate(differences):
        pad = [(0, int(a == axis)) for a in range(3)]
        weights = np.pad(edge * np.exp(-(difference**2) / variance), pad)
        structure = np.zeros((3, 3, 3))
        structure[tuple(2 if a == axis else 1 for a in range(3))] = 1
        graph.add_grid_edges(nodes, weights=weights, structure=structure, symmetric=True)
    hard = 1e6
    to_source = np.where(foreground, hard, np.where(background, 0, tables[1][level]))
    to_sink = np.where(background, hard, np.where(foreground, 0, tables[0][level]))
    graph.add_grid_tedges(nodes, to_source, to_sink)
    graph.maxflow()
    return ~np.asarray(graph.get_grid_segments(nodes))


def has_fastgeodis() -> bool:
    """Whether FastGeodis is installed; it is source only, so that many machines do without."""
    return importlib.util.find_spec("FastGeodis") is not None


def geodesic_engine() -> str:
    """The library behind `geodesic` on this machine: tables name it."""
    return "FastGeodis" if has_fastgeodis() else "scikit-image MCP_Geometric"


def geodesic(image: Image, spacing: Any, foreground: Mask, background: Mask, points: Any, *, balance: float) -> Mask:
    """Nearer class by geodesic distance; `balance` 0 is plain distance, 1 intensity alone.

    FastGeodis where it is installed. Else cheapest paths of scikit-image over the cost (1 - balance) + balance *
    gradient magnitude (sigma 1): the same idea as a path integral of the contrast, not the same algorithm.
    """
    if has_fastgeodis():
        import FastGeodis
        import torch

        picture = torch.from_numpy(np.ascontiguousarray(image))[None, None]
        distances = []
        for seeds in (foreground, background):
            soft = torch.from_numpy((~seeds).astype(np.float32))[None, None]
            distances.append(FastGeodis.generalised_geodesic3d(picture, soft, [1.0, 1.0, 1.0], 1e10, balance, 2)[0, 0].numpy())
        return np.asarray(distances[0] < distances[1])
    from skimage.graph import MCP_Geometric

    cost = (1 - balance) + balance * ndimage.gaussian_gradient_magnitude(image, 1.0).astype(float) + 1e-4
    edges = [seeds & ~ndimage.binary_erosion(seeds) for seeds in (foreground, background)]
    first, second = (MCP_Geometric(cost).find_costs(np.argwhere(edge))[0] for edge in edges)
    return np.asarray((first < second) | foreground)


def random_forest(image: Image, spacing: Any, foreground: Mask, background: Mask, points: Any, *, depth: int) -> Mask:
    """scikit-learn's forest (50 trees) on intensity and, at sigma 0.7, 1.6 and 3.5, Gaussian, gradient and Laplacian."""
    from sklearn.ensemble import RandomForestClassifier

    maps = [image]
    for sigma in (0.7, 1.6, 3.5):
        maps += [
            ndimage.gaussian_filter(image, sigma),
            ndimage.gaussian_gradient_magnitude(image, sigma),
            ndimage.gaussian_laplace(image, sigma),
        ]
    features = np.stack(maps, axis=-1)
    rng = np.random.default_rng(0)
    drawn = [np.flatnonzero(seeds) for seeds in (foreground, background)]
    drawn = [rng.choice(voxels, min(len(voxels), 4000), replace=False) for voxels in drawn]
    flat = features.reshape(-1, features.shape[-1])
    forest = RandomForestClassifier(50, max_depth=depth, class_weight="balanced", random_state=0, n_jobs=1)
    forest.fit(flat[np.concatenate(drawn)], np.repeat([1, 0], [len(drawn[0]), len(drawn[1])]))
    free = np.flatnonzero(~background)
    mask = np.zeros(image.size, dtype=bool)
    mask[free] = forest.predict(flat[free]) == 1
    return mask.reshape(image.shape) | foreground


def fast_marching(image: Image, spacing: Any, foreground: Mask, background: Mask, points: Any, *, contrast: float) -> Mask:
    """Two fronts of SimpleITK's fast marching, slowed by gradients above `contrast` times their median; first arrival wins."""
    import SimpleITK as sitk

    gradient = ndimage.gaussian_gradient_magnitude(image, 1.0)
    speed = 1e-3 + 1 / (1 + (gradient / (contrast * max(float(np.median(gradient)), 1e-6))) ** 2)
    picture = sitk.GetImageFromArray(speed.astype(np.float32))
    arrivals = []
    for seeds in (foreground, background):
        edge = seeds & ~ndimage.binary_erosion(seeds)
        front = sitk.FastMarchingImageFilter()
        front.SetTrialPoints([tuple(int(n) for n in voxel[::-1]) for voxel in np.argwhere(edge)])
        front.SetStoppingValue(1e9)
        arrivals.append(sitk.GetArrayFromImage(front.Execute(picture)))
    return np.asarray((arrivals[0] < arrivals[1]) | foreground)


def ellipsoid(image: Image, spacing: Any, foreground: Mask, background: Mask, points: Any, *, scale: float) -> Mask:
    """The ellipsoid inscribed in the box of the points, scaled; the image is not looked at."""
    index = (slice(None),) * 3
    return Problem(index, image, np.asarray(points), np.asarray(spacing)).radius < scale


@dataclass(frozen=True)
class Peer:
    """A stock method: who wrote it, how to run it, and what it is tuned over."""

    library: str
    run: Callable[..., Any]
    grid: dict[str, tuple[Any, ...]]
    fixed: dict[str, Any]
    recipes: tuple[str, ...] = RECIPES


PEERS: dict[str, Peer] = {
    "watershed": Peer("scikit-image", watershed, {"sigma": (0.3, 0.5, 0.7, 1.0)}, {}),
    "random walker": Peer("scikit-image", random_walker, {"beta": (130.0, 2000.0, 8000.0)}, {"mode": "cg_j"}),
    "random walker (multigrid)": Peer(
        "scikit-image, pyamg", random_walker, {"beta": (130.0, 2000.0, 8000.0)}, {"mode": "cg_mg"}
    ),
    "graph cut": Peer("PyMaxflow", graph_cut, {"edge": (1.0, 2.0, 3.0, 5.0)}, {}),
    "geodesic distance": Peer(geodesic_engine(), geodesic, {"balance": (0.9, 0.97, 0.99, 1.0)}, {}),
    "random forest": Peer("scikit-learn", random_forest, {"depth": (2, 4, 8)}, {}),
    "fast marching": Peer("SimpleITK", fast_marching, {"contrast": (0.1, 0.25, 0.5, 1.0)}, {}),
    "ellipsoid": Peer("numpy", ellipsoid, {"scale": (0.8, 0.9, 1.0)}, {}, ("core",)),
}


def available(name: str) -> bool:
    """Whether the peer's library is installed."""
    needs = {"graph cut": "maxflow", "random walker (multigrid)": "pyamg", "random forest": "sklearn"}.get(name)
    return needs is None or importlib.util.find_spec(needs) is not None


def tuned_settings(name: str) -> dict[str, Any]:
    """The settings with which the peer did best over the development cases: its parameter and ``seeds``."""
    twin = {"random walker (multigrid)": "random walker"}.get(name, name)  # the same equation
    return dict(json.loads(TUNED.read_text(encoding="utf-8"))["peers"][twin]["best"])


def run_peer(
    name: str, problem: Problem, settings: dict[str, Any] | None = None, *, seeds: tuple[Mask, Mask] | None = None
) -> Mask:
    """The peer's mask on the problem's crop, post-processed as all are.

    `settings` default to the tuned ones; `seeds` to those of the recipe that the settings name (made here, so give them
    to time the peer alone).
    """
    chosen = dict(tuned_settings(name) if settings is None else settings)
    recipe = chosen.pop("seeds")
    foreground, background = problem.seeds(recipe) if seeds is None else seeds
    peer = PEERS[name]
    mask = peer.run(problem.image, problem.spacing, foreground, background, problem.points, **peer.fixed, **chosen)
    return finished(mask, foreground, background)
