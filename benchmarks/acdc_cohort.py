"""Strokes of 15 patients, masks of 20 others: MAAG, PyAG, partial cross-entropy and full supervision on cardiac MRI.

    python benchmarks/acdc_cohort.py ../shared/data --keep FOLDER [--only maag pyag pce full] [--minutes 45] [--set KNOB=VALUE]

The runs stay in ``--keep``: a call that was killed goes on where it was, and rows that are not asked for keep the figures of an
earlier call. Writes ``results_acdc_cohort.json`` beside itself: 3D Dice and HD95 per structure and phase, the split, seed,
preset, machine and time. Masks are read for scoring, as unpaired masks, and by the row ``full`` alone.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import platform
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import napari_weakseg as ws
from napari_weakseg.io.cohort import read_cohort, write_cohort
from napari_weakseg.io.runs import read_weights

SEED = 0
VALIDATION, TESTING, STROKES = 8, 12, 15
STRUCTURES = {"RV": 1, "MYO": 2, "LV": 3}
CODES = {"background": 0, "unlabelled": 4}
OUTPUT = Path(__file__).parent / "results_acdc_cohort.json"


@dataclass(frozen=True)
class Row:
    """One way to learn; all see the images of the same patients."""

    method: str
    changes: dict[str, str]
    masks: bool = False


ROWS = {
    "pce": Row("partial_cross_entropy", {}),
    "pyag": Row("adversarial_gating", {"form": "PyAG"}),
    "maag": Row("adversarial_gating", {"form": "MAAG"}, masks=True),
    "full": Row("partial_cross_entropy", {"supervision": "masks"}),
}


def split(data: Path) -> dict[str, list[str]]:
    """Patients of each part, groups balanced, both phases together; seed 0.

    Parameters
    ----------
    data : Path
        Folder of the set, with ``labels.csv``.

    Returns
    -------
    dict
        ``"strokes"`` (15) and ``"masks"`` (20), together ``"training"`` (35), ``"validation"`` (8), ``"testing"`` (12).
    """
    with (data / "labels.csv").open(newline="") as file:
        group_of = {row["patient"]: row["group"] for row in csv.DictReader(file)}
    order = np.random.default_rng(SEED).permutation(sorted(group_of))
    rest = sorted((str(patient) for patient in order), key=group_of.__getitem__)  # stable: shuffled within each group
    parts = {}
    for part, count in (("testing", TESTING), ("validation", VALIDATION), ("strokes", STROKES)):
        places = {int((n + 0.5) * len(rest) / count) for n in range(count)}
        parts[part] = sorted(rest[n] for n in places)
        rest = [patient for n, patient in enumerate(rest) if n not in places]
    return parts | {"masks": sorted(rest), "training": sorted(parts["strokes"] + rest)}


def phases(data: Path) -> dict[str, str]:
    """``"ED"`` or ``"ES"`` of each case."""
    with (data / "labels.csv").open(newline="") as file:
        return {row["case"]: row["phase"] for row in csv.DictReader(file)}


def cases_of(data: Path, patients: list[str]) -> list[Path]:
    """Folders of both phases of the patients."""
    return [folder for patient in patients for folder in sorted(data.glob(f"{patient}_*"))]


def same_images(data: Path, parts: dict[str, list[str]]) -> list[list[str]]:
    """Patients that share an image: one examination under two numbers must not lie in two parts."""
    import nibabel

    owners: dict[str, set[str]] = {}
    for patient in (patient for part in ("training", "validation", "testing") for patient in parts[part]):
        for folder in cases_of(data, [patient]):
            voxels = np.asarray(nibabel.load(folder / "image.nii.gz").dataobj)
            owners.setdefault(hashlib.sha256(voxels.tobytes()).hexdigest(), set()).add(patient)
    return [sorted(patients) for patients in owners.values() if len(patients) > 1]


def make_cohort(data: Path, folder: Path, parts: dict[str, list[str]], *, masks: bool) -> Path:
    """A cohort file whose images stay where they are: links."""
    folder.mkdir(parents=True, exist_ok=True)

    def entry(source: Path, *, strokes: bool) -> dict[str, str]:
        target = folder / source.name
        target.mkdir(exist_ok=True)
        for name in ("image.nii.gz", "mask.nii.gz", "scribble.nii.gz"):
            if (source / name).exists() and not (target / name).exists():
                (target / name).symlink_to((source / name).resolve())
        held = {"id": source.name, "patient": source.name.split("_")[0], "image": f"{source.name}/image.nii.gz"}
        held["label"] = f"{source.name}/mask.nii.gz"
        return held | ({"scribble": f"{source.name}/scribble.nii.gz"} if strokes else {})

    def entries(part: str, *, strokes: bool) -> list[dict[str, str]]:
        return [entry(source, strokes=strokes) for source in cases_of(data, parts[part])]

    for source in cases_of(data, parts["masks"]):
        entry(source, strokes=False)
    cohort = {
        "name": "acdc",
        "channels": ["cine"],
        "structures": [{"name": name, "value": value} for name, value in STRUCTURES.items()],
        "slice_axis": 2,
        "scribble_codes": CODES,
        "training": entries("strokes", strokes=True),
        "validation": entries("validation", strokes=True),
        "testing": entries("testing", strokes=False),
    }
    if masks:
        cohort["unpaired_masks"] = [f"{source.name}/mask.nii.gz" for source in cases_of(data, parts["masks"])]
    return write_cohort(cohort, folder / ("cohort_with_masks.json" if masks else "cohort.json"))


def train(path: Path, run: Path, row: Row, minutes: float, changes: dict[str, str]) -> dict[str, Any]:
    """Train one row; returns what it cost."""
    cohort = read_cohort(path, references=row.changes.get("supervision") == "masks")
    recipe = ws.get_method(row.method).recipe_class.for_cohort(
        "laptop", seed=SEED, preview_seconds=0, max_seconds=60 * minutes, **row.changes, **changes
    )
    began, cpu, last = time.monotonic(), time.process_time(), [0.0]

    def say(step: Any) -> None:
        if time.monotonic() - last[0] > 30 or "held-out strokes" in step.scores:
            last[0] = time.monotonic()
            scores = {name: round(value, 3) for name, value in step.scores.items()}
            print(f"{run.name} {last[0] - began:6.0f} s {step.stage} {step.index}/{step.total} {scores}", flush=True)

    weights = ws.train(cohort, recipe, run=run, resume=(run / "recipe.json").exists(), on_step=say)
    return {
        "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time() - cpu,
        "device": weights.meta["device"],
        "steps": list(weights.meta["steps"]),
        "notes": list(weights.meta["notes"]),
        "recipe": weights.recipe.to_json(),
    }


def score(path: Path, run: Path, part: str = "testing") -> dict[str, Any]:
    """Dice and HD95 of every testing case, and their means with what lies apart from the structures left in."""
    began, cohort = time.monotonic(), read_cohort(path, references=True)
    report = ws.evaluate(run, cohort, part=part)
    seconds = time.monotonic() - began
    weights = read_weights(run)
    everything = ws.evaluate(replace(weights, meta={**weights.meta, "one_component": False}), cohort)
    structures = [
        scores for case in everything["cases"] for scores in case["structures"].values() if scores["dice"] is not None
    ]
    return {
        "cases": report["cases"],
        "summary": report["summary"],
        "evaluation_seconds": seconds,
        "one_component": bool(weights.meta["one_component"]),
        "with_what_lies_apart": {
            name: float(np.mean([scores[name] for scores in structures])) for name in ("dice", "hd95_or_diagonal")
        },
    }


def main() -> None:
    """Train and score what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--keep", type=Path, required=True, help="folder for cohort and runs")
    parser.add_argument("--only", nargs="*", choices=tuple(ROWS), default=list(ROWS))
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--set", action="append", default=[], metavar="KNOB=VALUE")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    changes = dict(text.split("=", 1) for text in options.set)
    data = options.data / "acdc"
    parts = split(data)
    paths = {masks: make_cohort(data, options.keep, parts, masks=masks) for masks in (False, True)}
    for name in options.only:
        row = ROWS[name]
        run = options.keep / f"run_{name}"
        cost = train(paths[row.masks], run, row, options.minutes, changes)
        scored = score(paths[False], run)
        results = json.loads(options.output.read_text()) if options.output.exists() else {}
        results.setdefault("rows", {})[name] = {"training": cost} | scored
        results["setting"] = setting(data, parts, options.minutes)
        options.output.write_text(json.dumps(results, indent=1) + "\n")
        print(name, json.dumps(scored["summary"]), flush=True)


def setting(data: Path, parts: dict[str, list[str]], minutes: float) -> dict[str, Any]:
    """What the figures were measured with."""
    import torch

    return {
        "data": "ACDC cine MRI, end-diastole and end-systole, expert strokes of Valvano et al.",
        "split": parts,
        "phases": phases(data),
        "patients_that_share_an_image": same_images(data, parts),
        "seed": SEED,
        "preset": "laptop (cohort)",
        "minutes": minutes,
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    main()
