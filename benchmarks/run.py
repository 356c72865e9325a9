"""Measure everything that the documentation claims, case by case, ours beside the peers in one run.

    python benchmarks/run.py                   # all parts; results of cases that are done are kept in benchmarks/cache
    python benchmarks/run.py --parts first peers walker --fresh
    python benchmarks/run.py --parts strokes --limit 5    # a quick look
    python benchmarks/run.py --parts report    # tables from what has been measured

Parts: ``first`` (six points to the first mask) and ``classical`` (the one without a network), ``peers`` (stock methods on the
same points), ``walker`` (our solver against scikit-image's, same equation, same seeds), ``refine`` (SimPLe, preset laptop),
``strokes`` and ``sparse`` (first mask from strokes), ``corrections`` (a simulated user corrects), ``jitter`` (shaky clicks),
each of these with a part ``...-peers``, ``degenerate`` (nothing to see), ``calibration``, ``memory`` (peak of the largest
case, a fresh process each), ``slices`` (a training step of the stroke methods).
What depends on the weights in the package is measured again when they change.
Writes ``benchmarks/results.json`` and ``docs/benchmarks.md``. One thread, except ``refine``, which is background work on two.
"""

from __future__ import annotations

import os

if __name__ == "__main__":  # before NumPy and torch read them; a test that imports this keeps its own
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import itertools
import json
import platform
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from cases import PER_SET, Target, list_targets
from corrections import measure_corrections, measure_peer_corrections
from ours import learned, weights_digest
from peers import PEERS, available, run_peer, tuned_settings
from report import write_report
from robustness import list_nothing, measure_calibration, measure_jitter, measure_nothing, measure_peer_jitter
from seeds import Problem
from strokes import list_stroke_targets, measure_stroke_peers, measure_strokes

import napari_weakseg as ws
from napari_weakseg.arrays.extreme_points import box_of
from napari_weakseg.arrays.first_mask import Window, clean_mask, first_mask
from napari_weakseg.arrays.metrics import dice
from napari_weakseg.arrays.random_walker import random_walker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HERE = Path(__file__).resolve().parent
CACHE = HERE / "cache"
LARGE = 300_000
"""Voxels of a crop from which the solver's speed is compared."""
MAX_SECONDS = 60.0
LEFT_OUT = ("random walker (multigrid)",)


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Result, CPU seconds of the process and wall seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def measure_first(target: Target) -> dict[str, Any]:
    """Clicks to mask with the network, everything but reading the weights included."""
    volume, reference = target.read()
    points = target.points(reference)
    outcome, times = timed(lambda: learned(volume, points=points))
    box = np.diff(box_of(points, volume.shape), axis=0)[0]
    return {"dice": dice(outcome.mask, reference), **times, "box": int(box.prod()), "doubt": outcome.doubt}


def measure_classical(target: Target) -> dict[str, Any]:
    """Clicks to mask without a network, seeds and cleaning included."""
    volume, reference = target.read()
    points = target.points(reference)

    def clicks_to_mask() -> Any:
        window = Window.around(points, volume.shape, volume.spacing)
        return window, clean_mask(first_mask(volume.array[window.index], window), window)

    (window, mask), times = timed(clicks_to_mask)
    full = np.zeros(volume.shape, dtype=bool)
    full[window.index] = mask
    box = np.diff(box_of(points, volume.shape), axis=0)[0]
    return {"dice": dice(full, reference), **times, "box": int(box.prod())}


def measure_peers(target: Target) -> dict[str, Any]:
    """Every peer with its tuned settings; seeds are made outside the clock, which is to the peers' advantage."""
    volume, reference = target.read()
    problem = Problem.of(volume.array, target.points(reference), volume.spacing)
    out: dict[str, Any] = {}
    for name in PEERS:
        if name in LEFT_OUT or not available(name):
            continue
        seeds = problem.seeds(tuned_settings(name)["seeds"])
        mask, times = timed(lambda name=name, seeds=seeds: run_peer(name, problem, seeds=seeds))
        full = np.zeros(volume.shape, dtype=bool)
        full[problem.index] = mask
        out[name] = {"dice": dice(full, reference), **times}
    return out


def measure_walker(target: Target) -> dict[str, Any] | None:
    """The same equation solved by us and by scikit-image, on crops of 0.3 million voxels and more."""
    from skimage.segmentation import random_walker as peer

    volume, reference = target.read()
    problem = Problem.of(volume.array, target.points(reference), volume.spacing)
    if problem.image.size < LARGE:
        return None
    foreground, background = problem.seeds("paths")
    seeds = np.where(foreground, 1, np.where(background, 0, -1)).astype(np.int8)
    markers = foreground.astype(np.int8) + 2 * background.astype(np.int8)
    ours, our_times = timed(lambda: random_walker(problem.image, seeds, beta=130, tol=1e-3)[0] > 0.5)
    theirs, their_times = timed(lambda: peer(problem.image, markers, beta=130, mode="cg_j", tol=1e-3) == 1)
    part = reference[problem.index]
    return {
        "voxels": problem.image.size,
        "ours": {"dice": dice(ours, part), **our_times},
        "scikit-image": {"dice": dice(theirs, part), **their_times},
        "agreement": dice(ours, theirs),
    }


def measure_refine(target: Target, max_seconds: float = MAX_SECONDS) -> dict[str, Any]:
    """The whole of SimPLe on this volume: first mask, after each stage's last preview, and the end."""
    import torch

    torch.set_num_threads(2)
    volume, reference = target.read()
    points = ws.ExtremePoints.from_points(target.points(reference), volume)
    first: list[float] = []

    def on_step(step: Any) -> None:
        if step.stage == "first mask":
            first.append(dice(step.preview.labels() > 0, reference))

    recipe = ws.new_recipe("simple_propagation", max_seconds=max_seconds, preview_seconds=0.0)
    result, times = timed(lambda: ws.segment(volume, points, recipe=recipe, on_step=on_step))
    steps = result.record["recipe"]["stop_after"]
    return {"first": first[0], "dice": dice(result.labels > 0, reference), **times, "steps": list(steps)}


def measure_memory(method: str) -> float:
    """Growth of the peak of this process's memory, in MB, by one method on the largest case. Run in a fresh process."""
    import resource

    target = max(list_targets(("la",)), key=lambda t: t.read()[0].array.size)
    volume, reference = target.read()
    points = target.points(reference)
    problem = Problem.of(volume.array, points, volume.spacing)
    small = Window.around([[3, 6, 6], [8, 6, 6], [6, 3, 6], [6, 8, 6], [6, 6, 3], [6, 6, 8]], (12, 12, 12))
    first_mask(np.zeros((12, 12, 12)), small)  # compiled code and imports are not what is measured
    if method == "ours, first mask":
        learned(ws.Volume(np.zeros((12, 12, 12)), np.eye(4)), points=small.points)
    foreground, background = problem.seeds("paths")
    seeds = np.where(foreground, 1, np.where(background, 0, -1)).astype(np.int8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if method == "ours, first mask":
        learned(volume, points=points)
    elif method == "ours, classical first mask":
        window = Window.around(points, volume.shape, volume.spacing)
        first_mask(volume.array[window.index], window)
    elif method == "ours, walker":
        random_walker(problem.image, seeds)
    elif method == "random walker, beta 130":
        run_peer("random walker", problem, {"seeds": "paths", "beta": 130.0}, seeds=(foreground, background))
    else:
        run_peer(method, problem, seeds=(foreground, background))
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


@dataclass(frozen=True)
class Part:
    """One thing to measure: how, on what, and whether it depends on the weights."""

    work: Callable[[Any], Any]
    targets: Callable[[int], Iterable[Any]]
    ours: bool = False


def points_targets(per_set: int) -> Iterable[Any]:
    """The targets of the six points."""
    return list_targets(per_set=per_set)


def stroke_targets(per_set: int) -> Iterable[Any]:
    """Experts' strokes where there are any, simulated ones elsewhere."""
    return list_stroke_targets(sparse=False, per_set=per_set)


def sparse_targets(per_set: int) -> Iterable[Any]:
    """One stroke inside and one outside on one slice."""
    return list_stroke_targets(sparse=True, per_set=per_set)


PARTS: dict[str, Part] = {
    "first": Part(measure_first, points_targets, ours=True),
    "classical": Part(measure_classical, points_targets),
    "walker": Part(measure_walker, points_targets),
    "peers": Part(measure_peers, points_targets),
    "strokes": Part(measure_strokes, stroke_targets, ours=True),
    "sparse": Part(measure_strokes, sparse_targets, ours=True),
    "strokes-peers": Part(measure_stroke_peers, stroke_targets),
    "sparse-peers": Part(measure_stroke_peers, sparse_targets),
    "corrections": Part(measure_corrections, points_targets, ours=True),
    "corrections-peers": Part(measure_peer_corrections, points_targets),
    "jitter": Part(measure_jitter, points_targets, ours=True),
    "jitter-peers": Part(measure_peer_jitter, points_targets),
    "degenerate": Part(measure_nothing, lambda per_set: list_nothing(), ours=True),
    "calibration": Part(measure_calibration, points_targets, ours=True),
    "refine": Part(measure_refine, points_targets, ours=True),
}


def cached(name: str, part: Part, target: Any, fresh: bool) -> None:
    """Measure once per part, target and weights; a second run goes on where the first one stopped."""
    path = CACHE / name / f"{target.name.replace('/', '_').replace(' ', '-')}.json"
    weights = weights_digest() if part.ours else None
    if path.exists() and not fresh and json.loads(path.read_text()).get("weights") == weights:
        return
    value = part.work(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"target": target.name, "set": target.set, "weights": weights, "value": value}))
    print(name, target.name, json.dumps(value)[:150], flush=True)


def in_turn(targets: Iterable[Any]) -> list[Any]:
    """The first target of every set, then the second of every set: a run that is stopped has some of each."""
    sets: dict[str, list[Any]] = {}
    for target in targets:
        sets.setdefault(target.set, []).append(target)
    return [target for row in itertools.zip_longest(*sets.values()) for target in row if target is not None]


def machine() -> dict[str, Any]:
    """What the figures were taken on, without the machine's name."""
    import torch

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.system(),
        "cores": os.cpu_count(),
        "date": time.strftime("%Y-%m-%d"),
    }


def measure_all_memory() -> None:
    """Every method in a process of its own."""
    names = ["ours, first mask", "ours, classical first mask", "ours, walker", "random walker, beta 130"]
    names += [name for name in PEERS if name not in LEFT_OUT and available(name)]
    grown = {}
    for name in names:
        done = subprocess.run([sys.executable, __file__, "--memory-of", name], capture_output=True, text=True, check=True)
        grown[name] = float(done.stdout.split()[-1])
        print("memory", name, grown[name], flush=True)
    (CACHE / "memory.json").write_text(json.dumps(grown))


def main() -> None:
    """Measure the parts that were asked for, then write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = (*PARTS, "memory", "slices", "report")
    parser.add_argument("--parts", nargs="*", default=list(parts), choices=parts)
    parser.add_argument("--per-set", type=int, default=PER_SET)
    parser.add_argument("--limit", type=int, help="only so many targets of each part, some of every set first")
    parser.add_argument("--max-seconds", type=float, default=MAX_SECONDS, help="time for a refinement")
    parser.add_argument("--fresh", action="store_true", help="measure again what is in the cache")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print(measure_memory(options.memory_of))
        return
    targets = list(list_targets(per_set=options.per_set))
    if not targets:
        print("there are no real volumes beside the project (shared/data): nothing is measured, the tables stay as they are.")
        return
    if any(name in options.parts for name in PARTS):  # compile and load before the clock runs
        measure_classical(targets[0])
        if any(part.ours for name, part in PARTS.items() if name in options.parts):
            measure_first(targets[0])
        block = np.random.default_rng(0).random((9, 9, 9))
        random_walker(block, np.where(block < 0.1, 0, np.where(block > 0.9, 1, -1)))
    table = {**PARTS, "refine": replace(PARTS["refine"], work=lambda target: measure_refine(target, options.max_seconds))}
    for name, part in ((name, part) for name, part in table.items() if name in options.parts):
        for target in in_turn(part.targets(options.per_set))[: options.limit]:
            cached(name, part, target, options.fresh)
    if "memory" in options.parts:
        measure_all_memory()
    if "slices" in options.parts:
        subprocess.run([sys.executable, str(HERE / "slice_steps.py")], check=True)
    if options.limit is None:
        write_report(CACHE, HERE, targets, machine())


if __name__ == "__main__":
    main()
