"""Tune the stroke peers over a small grid each: ``python benchmarks/tune_strokes.py full`` and ``... sparse``.

Best = highest median Dice over the development cases listed in ``tuned_peers.json``, one setting for all sets, and the
crop is part of it. As for the points, reference masks are used, to the peers' advantage.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from typing import Any

import numpy as np
from peers import TUNED
from strokes import CROPS, STROKE_PEERS, crop_of, list_stroke_targets, run_stroke_peer

PER_SET = 2
LARGEST = 250_000
"""Targets with a larger crop are left out: the slow peers need minutes for all settings of one."""
GRIDS: dict[str, dict[str, tuple[float, ...]]] = {
    "watershed": {"sigma": (0.3, 0.7)},
    "random walker": {"beta": (2000.0, 8000.0)},
    "graph cut": {"edge": (1.0, 3.0)},
    "geodesic distance": {"balance": (0.99, 1.0)},
    "random forest": {"depth": (4, 8)},
    "random walker + prior": {"gamma": (0.02, 0.1)},
}
"""Each with both of `CROPS`, so four settings; near those that were best from six points."""


def settings_of(name: str) -> list[dict[str, Any]]:
    """Every setting of a peer's grid."""
    grid = GRIDS[name]
    return [dict(zip(["crop", *grid], values, strict=True)) for values in itertools.product(CROPS, *grid.values())]


def main(kind: str) -> None:
    """All settings on all chosen cases; the best goes into the file after every case."""
    scores: dict[str, dict[str, list[float]]] = {name: {json.dumps(s): [] for s in settings_of(name)} for name in STROKE_PEERS}
    used: list[str] = []
    for target in list_stroke_targets(sparse=kind == "sparse", per_set=PER_SET):
        volume, reference = target.read()
        strokes = target.strokes(reference, volume.spacing)
        crops = {crop: crop_of(volume, strokes, crop) for crop in CROPS}
        if max(problem.image.size for problem, _, _ in crops.values()) > LARGEST:
            continue
        for name in STROKE_PEERS:
            for setting in settings_of(name):
                values = dict(setting)
                problem, foreground, background = crops[values.pop("crop")]
                mask = run_stroke_peer(name, problem, foreground, background, values)
                both = 2 * float((mask & reference[problem.index]).sum())
                scores[name][json.dumps(setting)].append(both / float(mask.sum() + reference.sum()))
        used.append(target.name)
        print(f"{target.name}: {time.process_time():.0f} s CPU in all", flush=True)
        write(kind, scores, used)


def write(kind: str, scores: dict[str, dict[str, list[float]]], used: list[str]) -> None:
    """The best setting of each peer and its whole grid, beside those for the points."""
    peers = {}
    for name, found in scores.items():
        grid = [{**json.loads(setting), "median_dice": round(float(np.median(v)), 4)} for setting, v in found.items()]
        grid.sort(key=lambda row: -row["median_dice"])
        best = {key: value for key, value in grid[0].items() if key != "median_dice"}
        peers[name] = {"library": STROKE_PEERS[name].library, "best": best, "grid": grid}
    tuned = json.loads(TUNED.read_text(encoding="utf-8"))
    tuned[f"{kind} strokes"] = {"cpu_seconds": round(time.process_time()), "cases": used, "peers": peers}
    TUNED.write_text(json.dumps(tuned, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
