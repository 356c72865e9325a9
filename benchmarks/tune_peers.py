"""Tune every peer over a small grid of its main parameter and both seed recipes; write ``tuned_peers.json``.

Best = highest mean Dice over the development cases that are listed in the file, the same setting for all sets. Reference
masks are used for this on purpose, and to the peers' advantage: nothing of our own is tuned here.

    python benchmarks/tune_peers.py --per-set 3 --minutes 18
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import time
from typing import Any

import numpy as np
from cases import list_targets
from peers import PEERS, TUNED, available, geodesic_engine, run_peer
from seeds import RECIPES, Problem

LARGEST_SHARE = 1
"""Of crops above a million voxels only so many per set: the slow peers need minutes for each."""


def settings_of(name: str) -> list[dict[str, Any]]:
    """Every setting of a peer's grid."""
    peer = PEERS[name]
    names = ["seeds", *peer.grid]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(peer.recipes, *peer.grid.values())]


def dice(mask: np.ndarray, reference: np.ndarray, total: int) -> float:
    """2 |A and B| / (|A| + |B|); `total` counts the whole reference, parts outside the crop included."""
    return 2 * float((mask & reference).sum()) / float(mask.sum() + total)


def main() -> None:
    """Run all settings on all chosen cases, case by case, until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-set", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=18.0, help="CPU minutes; cases that are left out are counted")
    options = parser.parse_args()
    names = [name for name in PEERS if available(name) and "multigrid" not in name]
    scores: dict[str, dict[str, list[float]]] = {name: {json.dumps(s): [] for s in settings_of(name)} for name in names}
    targets = list(list_targets(per_set=options.per_set))
    rounds = itertools.zip_longest(*[[t for t in targets if t.set == s] for s in dict.fromkeys(t.set for t in targets)])
    used: list[str] = []
    left_out: list[str] = []
    large: dict[str, int] = {}
    for target in (t for row in rounds for t in row if t is not None):  # one of each set, then the next of each
        volume, reference = target.read()
        problem = Problem.of(volume.array, target.points(reference), volume.spacing)
        if problem.image.size > 1e6:
            large[target.set] = large.get(target.set, 0) + 1
        if large.get(target.set, 0) > LARGEST_SHARE or time.process_time() > 60 * options.minutes:
            left_out.append(target.name)
            continue
        inside, total = reference[problem.index], int(reference.sum())
        seeds = {recipe: problem.seeds(recipe) for recipe in RECIPES}
        for name in names:
            for setting in settings_of(name):
                mask = run_peer(name, problem, setting, seeds=seeds[setting["seeds"]])
                scores[name][json.dumps(setting)].append(dice(mask, inside, total))
        used.append(target.name)
        write(scores, used, left_out)  # so that a run that is cut short still leaves a whole file
        print(f"{target.name}: {problem.image.size} voxels, {time.process_time():.0f} s CPU in all", flush=True)
    for name, entry in write(scores, used, left_out)["peers"].items():
        print(f"{name}: {entry['grid'][0]}")


def write(scores: dict[str, dict[str, list[float]]], used: list[str], left_out: list[str]) -> dict[str, Any]:
    """The best setting of each peer and its whole grid, with what they were chosen on."""
    peers = {}
    for name, found in scores.items():
        grid = [{**json.loads(setting), "mean_dice": round(float(np.mean(values)), 4)} for setting, values in found.items()]
        grid.sort(key=lambda row: -row["mean_dice"])
        best = {key: value for key, value in grid[0].items() if key != "mean_dice"}
        peers[name] = {"library": PEERS[name].library, "best": best, "grid": grid}
    kept = json.loads(TUNED.read_text(encoding="utf-8")) if TUNED.exists() else {}
    result = {
        **kept,  # what was tuned for strokes
        "date": datetime.date.today().isoformat(),
        "cpu_seconds": round(time.process_time()),
        "geodesic_engine": geodesic_engine(),
        "cases": used,
        "left_out": left_out,
        "peers": peers,
    }
    TUNED.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


if __name__ == "__main__":
    main()
