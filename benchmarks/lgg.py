"""Explained masks from slice labels: three patient folds of 37 brain MRI (FLAIR), masks for scoring alone.

    python benchmarks/lgg.py ../shared/data [--network gp_unet] [--folds 1 2 3] [--keep FOLDER] [--set KNOB=VALUE]
    python benchmarks/lgg.py ../shared/data --score          (runs that are kept, and brains without a tumour)

Writes ``results_lgg.json`` beside itself: per network and fold the split's seed, recipe, device, times, slice-level F1 and
AUROC, slice-wise median Dice of the thresholded heatmap and of the refined mask, and on how many normal slices nothing is
drawn. Folds that are not asked for keep the figures of an earlier call.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import napari_weakseg as ws
from napari_weakseg.arrays.classification import class_scores
from napari_weakseg.arrays.metrics import dice
from napari_weakseg.cohorts import seen_by
from napari_weakseg.held_out import held_out
from napari_weakseg.io.cohort import read_cohort, write_cohort
from napari_weakseg.io.nifti import read_mask
from napari_weakseg.io.runs import Run, read_weights

SEED = 0
FOLDS = 3
METHOD = "explainable_heatmap"
HEATMAP_MASK = "heatmap mask"
OUTPUT = Path(__file__).parent / "results_lgg.json"
GOALS = {"f1": 0.93, "auroc": 0.97, "refined": 0.73, "heatmap": 0.67, "normal_without_mask": 0.9, "minutes": 20.0}


def make_cohort(data: Path, folder: Path) -> Path:
    """A cohort file whose images stay where they are: links, and one label per slice."""
    labels: dict[str, dict[int, int]] = {}
    with (data / "slice_labels.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            name, place, value = list(row.values())[:3]
            labels.setdefault(name, {})[int(place)] = int(value)
    entries = []
    for name in sorted(path.name for path in data.iterdir() if path.is_dir()):
        (folder / name).mkdir(exist_ok=True)
        for file_name in ("image_flair.nii.gz", "mask.nii.gz"):
            link = folder / name / file_name
            if not link.exists():
                link.symlink_to((data / name / file_name).resolve())
        of_case = [labels[name][place] for place in sorted(labels[name])]
        entry = {"id": name, "patient": name, "image": f"{name}/image_flair.nii.gz", "label": f"{name}/mask.nii.gz"}
        entries.append(entry | {"image_label": of_case})
    cohort = {
        "name": "lgg",
        "channels": ["flair"],
        "structures": [{"name": "abnormality", "value": 1}],
        "image_classes": ["normal", "abnormality"],
        "slice_axis": 2,
        "units": "unknown",  # the headers say 1 mm, which is not true
        "training": entries,
    }
    return write_cohort(cohort, folder / "cohort.json")


def train(path: Path, run: Path, network: str, fold: int, changes: dict[str, str]) -> dict[str, Any]:
    """Train on the other folds, without masks; returns what it cost."""
    cohort = read_cohort(path)
    recipe = ws.new_recipe(METHOD, network=network, seed=SEED, preview_seconds=0, **changes)
    began, cpu, last = time.monotonic(), time.process_time(), [0.0]

    def say(step: Any) -> None:
        if time.monotonic() - last[0] > 20:
            last[0] = time.monotonic()
            print(
                f"{network} {fold} {last[0] - began:6.0f} s {step.stage} {step.index}/{step.total} {dict(step.scores)}",
                flush=True,
            )

    weights = ws.train(
        cohort, recipe, run=run, fold=(fold, FOLDS), split_seed=SEED, resume=(run / "recipe.json").exists(), on_step=say
    )
    return {
        "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time() - cpu,
        "device": weights.meta["device"],
        "steps": list(weights.meta["steps"]),
        "notes": list(weights.meta["notes"]),
        "recipe": weights.recipe.to_json(),
    }


def score(path: Path, run: Path) -> dict[str, Any]:
    """Predict the held-out cases and hold them against labels and masks; all cases count."""
    cohort = read_cohort(path, references=True)
    weights = read_weights(run)
    cases = held_out(cohort, Run(run).cohort()).cases
    rows = []
    for case in cases:
        began = time.monotonic()
        result = ws.predict(weights, seen_by(case, weights))
        seconds = time.monotonic() - began
        truth = np.array(case.image_label.label)
        mask = case.reference.array != 0
        plain, refined = result.maps[HEATMAP_MASK] > 0, result.labels != 0
        abnormal = np.flatnonzero(mask.any(axis=(0, 1)))
        rows.append(
            {
                "id": case.id,
                "seconds": seconds,
                "probability": result.tables["slice probabilities"][:, 1].tolist(),
                "alone": (1 / (1 + np.exp(-np.diff(result.tables["slice logits"], axis=1)[:, 0]))).tolist(),
                "label": truth.tolist(),
                "dice_heatmap": [dice(plain[..., k], mask[..., k]) for k in abnormal],
                "dice_refined": [dice(refined[..., k], mask[..., k]) for k in abnormal],
                "dice_3d_heatmap": dice(plain, mask),
                "dice_3d_refined": dice(refined, mask),
                "normal": int((truth == 0).sum()),
                "quiet": int(((truth == 0) & ~refined.any(axis=(0, 1)) & ~plain.any(axis=(0, 1))).sum()),
            }
        )
    return {"cases": rows} | summary(rows)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures over all slices of some cases."""
    truth = np.concatenate([row["label"] for row in rows])
    found = {}
    for name in ("probability", "alone"):
        values = np.concatenate([row[name] for row in rows])
        found[name] = class_scores(np.column_stack([1 - values, values]), truth)
    every = {name: np.concatenate([row[f"dice_{name}"] for row in rows]) for name in ("heatmap", "refined")}
    return {
        "slices": len(truth),
        "abnormal": int(truth.sum()),
        "f1": found["probability"]["f1"][1],
        "auroc": found["probability"]["auroc"][1],
        "f1_slices_alone": found["alone"]["f1"][1],
        "auroc_slices_alone": found["alone"]["auroc"][1],
        "heatmap": float(np.median(every["heatmap"])),
        "refined": float(np.median(every["refined"])),
        "heatmap_quartiles": np.percentile(every["heatmap"], (25, 75)).tolist(),
        "refined_quartiles": np.percentile(every["refined"], (25, 75)).tolist(),
        "volume_dice_refined": float(np.median([row["dice_3d_refined"] for row in rows])),
        "volume_dice_heatmap": float(np.median([row["dice_3d_heatmap"] for row in rows])),
        "normal_without_mask": sum(row["quiet"] for row in rows) / sum(row["normal"] for row in rows),
        "seconds_per_prediction": float(np.median([row["seconds"] for row in rows])),
    }


def brains_without_tumour(data: Path, run: Path) -> list[dict[str, Any]]:
    """What a classifier that never saw such a brain does on brains without a tumour."""
    weights = read_weights(run)
    rows = []
    for name in ("ms_flair", "brain_notumour"):
        for folder in sorted(path for path in (data / name).iterdir() if path.is_dir()):
            image = next(path for path in sorted(folder.glob("image*.nii.gz")) if "t1ce" not in path.name)
            volume = axial(ws.read_volume(image))
            result = ws.predict(weights, volume)
            shown = result.tables["slice probabilities"][:, 1] > 0.5
            drawn, heatmap = result.labels != 0, result.maps["heatmap abnormality"]
            row = {
                "set": name,
                "id": folder.name,
                "shape": list(volume.shape),
                "slices_called_abnormal": float(shown.mean()),
                "probability": result.scores["probability abnormality"],
                "share_of_voxels_drawn": float(drawn.mean()),
            }
            mask = folder / "mask.nii.gz"
            if mask.exists():
                lesions = axial(read_mask(mask)).array != 0
                row["dice_with_ms_lesions"] = dice(drawn, lesions)
                row["heatmap_inside_lesions"] = float(heatmap[lesions].mean())
            rows.append(row | {"heatmap_mean": float(heatmap.mean()), "heatmap_peak": float(heatmap.max())})
    return rows


def axial(volume: ws.Volume) -> ws.Volume:
    """The same volume with its slices from foot to head along the last axis, as the tumour set has them."""
    from nibabel.orientations import aff2axcodes, apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

    if aff2axcodes(volume.affine)[2] in "SI":
        return volume
    turn = ornt_transform(io_orientation(volume.affine), axcodes2ornt(("L", "A", "S")))
    affine = volume.affine @ inv_ornt_aff(turn, volume.shape)
    return replace(volume, array=apply_orientation(volume.array, turn), affine=affine, header=None)


def main() -> None:
    """Train what is asked for, or score what is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--network", default="gp_unet")
    parser.add_argument("--folds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--keep", type=Path, help="folder for cohort and runs; default a temporary one")
    parser.add_argument("--set", action="append", default=[], metavar="KNOB=VALUE")
    parser.add_argument("--score", action="store_true", help="train nothing: score the runs in --keep")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    changes = dict(text.split("=", 1) for text in options.set)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        path = make_cohort(options.data / "lgg", folder)
        for fold in [] if options.score else options.folds:
            run = folder / f"{options.network}_{fold}"
            cost = train(path, run, options.network, fold, changes)
            (folder / f"{run.name}.json").write_text(json.dumps(cost, indent=1) + "\n")
        if options.score or not options.keep:
            write_results(options.data, path, folder, options.output)


def write_results(data: Path, path: Path, folder: Path, output: Path) -> None:
    """Score every run of the folder."""
    import torch

    results = json.loads(output.read_text()) if output.exists() else {}
    networks: dict[str, Any] = results.setdefault("networks", {})
    for cost in sorted(folder.glob("*_[0-9].json")):
        network, fold = cost.stem.rsplit("_", 1)
        scored = score(path, folder / cost.stem)
        held = networks.setdefault(network, {"folds": {}})
        held["folds"][fold] = {"training": json.loads(cost.read_text())} | scored
        print(network, fold, json.dumps({k: v for k, v in scored.items() if k != "cases"}), flush=True)
    for held in networks.values():
        rows = [row for fold in held["folds"].values() for row in fold["cases"]]
        held["all"] = summary(rows) | {"folds": sorted(held["folds"]), "cases": len(rows)}
        held["all"]["minutes"] = max(fold["training"]["seconds"] for fold in held["folds"].values()) / 60
    first = folder / "gp_unet_1"
    if first.exists():
        results["without_tumour"] = {"weights": first.name, "brains": brains_without_tumour(data, first)}
    results["setting"] = {
        "data": "TCGA-LGG FLAIR (Buda et al.), 37 patients, 1,265 slices; class per slice; masks for scoring alone",
        "split": {"folds": FOLDS, "by": "patient", "seed": SEED},
        "seed": SEED,
        "preset": "laptop",
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "dice": "per slice, median over abnormal slices of all held-out cases; a slice that is missed counts 0",
    }
    results["goals"] = GOALS
    output.write_text(json.dumps(rounded(results), indent=1) + "\n")


def rounded(value: Any) -> Any:
    """Figures to four digits behind the point."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
