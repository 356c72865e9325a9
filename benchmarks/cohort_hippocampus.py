"""SimPLe over a cohort: extreme points of 100 volumes, 30 to test without points, against full masks in the same budget.

    python benchmarks/cohort_hippocampus.py ../shared/data/hippocampus [--only marks|masks|pseudo] [--keep FOLDER]

Writes ``results_cohort_hippocampus.json`` beside itself: bars, split, seed, preset, machine, time. What one call leaves out
(``--only``) keeps the figures of an earlier one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

import napari_weakseg as ws
from napari_weakseg.arrays.extreme_points import simulate_points
from napari_weakseg.arrays.metrics import dice
from napari_weakseg.io.cohort import read_cohort, write_cohort
from napari_weakseg.io.nifti import read_mask

SEED = 0
TRAINING = 100
JITTER = 1
PARTS = {"anterior": 1, "posterior": 2}
OUTPUT = Path(__file__).parent / "results_cohort_hippocampus.json"


def make_cohort(data: Path, folder: Path, training: int = TRAINING, testing: int = 30) -> Path:
    """A cohort file whose images stay where they are: links, simulated points, split by seed."""
    ids = sorted(path.name for path in data.iterdir() if path.is_dir())
    order = np.random.default_rng(SEED).permutation(len(ids))
    entries = []
    for number in order[: training + testing]:
        name = ids[int(number)]
        mask = read_mask(data / name / "mask.nii.gz")
        rng = np.random.default_rng((SEED, int(number)))
        structures = [
            {"name": part, "value": value, "objects": [simulate_points(mask.array == value, jitter=JITTER, rng=rng).tolist()]}
            for part, value in PARTS.items()
        ]
        (folder / name).mkdir()
        for file in ("image.nii.gz", "mask.nii.gz"):
            (folder / name / file).symlink_to((data / name / file).resolve())
        points = {"space": "voxel", "structures": structures}
        (folder / name / "points.json").write_text(json.dumps(points))
        entry = {"id": name, "image": f"{name}/image.nii.gz", "label": f"{name}/mask.nii.gz"}
        entries.append(entry | {"points": f"{name}/points.json"})
    cohort = {
        "name": "hippocampus",
        "channels": ["t1"],
        "structures": [{"name": part, "value": value} for part, value in PARTS.items()],
        "training": entries[:training],
        "testing": entries[training:],
    }
    return write_cohort(cohort, folder / "cohort.json")


def figures(report: dict) -> dict:
    """What of an evaluation goes into the table."""
    mean = {name: part["dice"]["mean"] for name, part in report["summary"].items()}
    table = {name: {figure: part[figure] for figure in ("dice", "hd95")} for name, part in report["summary"].items()}
    return {"mean_dice": float(np.mean(list(mean.values()))), "parts": table, "worst": report["worst"]}


def learnt(path: Path, folder: Path, supervision: str, **changes: str) -> dict:
    """Train and score once."""
    cohort = read_cohort(path, references=True)
    recipe = ws.get_method("simple_propagation").recipe_class.for_cohort(
        "laptop", supervision=supervision, seed=SEED, device="cpu", **changes
    )
    began, cpu = time.monotonic(), time.process_time()
    last = [0.0]

    def say(step) -> None:
        if time.monotonic() - last[0] > 20:
            last[0] = time.monotonic()
            print(f"{supervision} {time.monotonic() - began:6.0f} s {step.stage} {step.index}/{step.total} {dict(step.scores)}")

    weights = ws.train(cohort, recipe, run=folder / supervision, on_step=say)
    trained, worked = time.monotonic() - began, time.process_time() - cpu
    report = ws.evaluate(folder / supervision, cohort)
    seconds = {"training_with_preparation": trained, "training_cpu": worked, "evaluation": time.monotonic() - began - trained}
    held = {"steps": list(weights.meta["steps"]), "seconds": seconds, "recipe": weights.recipe.to_json()}
    return figures(report) | held | {"device": weights.meta["device"]}


def pseudo(path: Path) -> dict:
    """The first masks themselves, from the points of each case: what the network is to beat."""
    cohort = read_cohort(path, references=True)
    recipe = ws.new_recipe("simple_propagation", max_seconds=0, device="cpu")
    scores: dict[str, dict[str, list[float]]] = {}
    for name, cases in (("training", cohort.training), ("testing", cohort.testing)):
        scores[name] = {part: [] for part in PARTS}
        for case in cases:
            labels = ws.segment(case, recipe=recipe).labels
            for part, value in PARTS.items():
                scores[name][part].append(dice(labels == value, case.reference.array == value))
    means = {name: {part: float(np.mean(values)) for part, values in of.items()} for name, of in scores.items()}
    return {name: {"mean_dice": float(np.mean(list(of.values()))), "parts": of} for name, of in means.items()}


def main() -> None:
    """Run what is asked for and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", action="append", choices=("marks", "masks", "pseudo"))
    parser.add_argument("--keep", type=Path, help="folder for cohort and runs; default a temporary one")
    parser.add_argument("--set", action="append", default=[], metavar="KNOB=VALUE")
    parser.add_argument("--training", type=int, default=TRAINING)
    parser.add_argument("--testing", type=int, default=30)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    changes = dict(text.split("=", 1) for text in options.set)
    results = json.loads(options.output.read_text()) if options.output.exists() else {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        path = folder / "cohort.json"
        if not path.exists():
            make_cohort(options.data, folder, options.training, options.testing)
        for kind in options.only or ("pseudo", "marks", "masks"):
            results[kind] = pseudo(path) if kind == "pseudo" else learnt(path, folder, kind, **changes)
            print(kind, json.dumps({name: results[kind].get(name) for name in ("mean_dice", "testing", "training", "seconds")}))
    import torch

    results["setting"] = {
        "data": "hippocampus, 130 MRI crops of the Medical Segmentation Decathlon; mean Dice over the two parts",
        "split": {"training": options.training, "testing": options.testing, "seed": SEED},
        "points": f"simulated, jitter {JITTER} voxel, seed {SEED}",
        "preset": "laptop (cohort)",
        "seed": SEED,
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    if {"marks", "masks", "pseudo"} <= set(results):
        marks, masks, alone = results["marks"]["mean_dice"], results["masks"]["mean_dice"], results["pseudo"]
        results["bars"] = {
            "share_of_full_supervision": marks / masks,
            "goal_of_share": 0.95,
            "above_pseudo_masks_of_testing": marks - alone["testing"]["mean_dice"],
            "above_pseudo_masks_of_training": marks - alone["training"]["mean_dice"],
        }
        print(json.dumps(results["bars"], indent=1))
    options.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
