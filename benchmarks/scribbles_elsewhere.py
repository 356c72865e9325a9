"""Strokes outside of the heart (hippocampus), and between two heart studies (ACDC, MSCMR): the same four ways of learning.

    python benchmarks/scribbles_elsewhere.py ../shared/data --keep FOLDER [--sets hippocampus mscmr_to_acdc] [--only maag pce]
    python benchmarks/scribbles_elsewhere.py ../shared/data --keep FOLDER --acdc FOLDER_OF_ACDC_COHORT     (ACDC to MSCMR)

The runs stay in ``--keep``. Writes ``results_scribbles_elsewhere.json`` beside itself; what is not asked for keeps the figures
of an earlier call.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import acdc_cohort
import numpy as np
from acdc_cohort import CODES, ROWS, SEED, STRUCTURES, score, train

import napari_weakseg as ws
from napari_weakseg.arrays.simulated_scribbles import simulate_scribbles
from napari_weakseg.io.cohort import write_cohort
from napari_weakseg.io.nifti import read_mask
from napari_weakseg.io.scribbles import write_scribbles
from napari_weakseg.prompts import Scribbles, Structure

PARTS = {"anterior": 1, "posterior": 2}
SPLIT = {"strokes": 45, "validation": 10, "masks": 45, "testing": 30}
STEPS = {"hippocampus": 1000, "mscmr_to_acdc": 600}
OUTPUT = Path(__file__).parent / "results_scribbles_elsewhere.json"


def linked(source: Path, folder: Path) -> dict[str, str]:
    """A case whose files stay where they are, as an entry of a cohort file."""
    target = folder / source.name
    target.mkdir(parents=True, exist_ok=True)
    for file in source.glob("*.nii.gz"):
        if not (target / file.name).exists():
            (target / file.name).symlink_to(file.resolve())
    entry = {"id": source.name, "image": f"{source.name}/image.nii.gz"}
    return entry | ({"label": f"{source.name}/mask.nii.gz"} if (source / "mask.nii.gz").exists() else {})


def hippocampus(data: Path, folder: Path, *, masks: bool) -> Path:
    """Simulated strokes (interior and border, every slice) of 45 patients, masks of 45 others, 10 to choose by, 30 to test."""
    names = sorted(path.name for path in (data / "hippocampus").iterdir() if path.is_dir())
    order = [names[n] for n in np.random.default_rng(SEED).permutation(len(names))]
    parts, rest = {}, order
    for part, count in SPLIT.items():
        parts[part], rest = rest[:count], rest[count:]
    structures = tuple(Structure(name, value) for name, value in PARTS.items())

    def entry(name: str, *, strokes: bool) -> dict[str, str]:
        held = linked(data / "hippocampus" / name, folder)
        path = folder / name / "strokes.nii.gz"
        if strokes and not path.exists():
            volume, mask = (ws.read_volume(folder / name / "image.nii.gz"), read_mask(folder / name / "mask.nii.gz").array)
            drawn = simulate_scribbles(mask, seed=SEED + names.index(name))
            write_scribbles(Scribbles(drawn, structures), volume, path)
        return held | ({"scribble": f"{name}/strokes.nii.gz"} if strokes else {})

    for name in parts["masks"]:
        entry(name, strokes=False)
    cohort: dict[str, Any] = {
        "name": "hippocampus",
        "channels": ["t1"],
        "structures": [{"name": name, "value": value} for name, value in PARTS.items()],
        "slice_axis": 2,
        "training": [entry(name, strokes=True) for name in parts["strokes"]],
        "validation": [entry(name, strokes=True) for name in parts["validation"]],
        "testing": [entry(name, strokes=False) for name in parts["testing"]],
    }
    if masks:
        cohort["unpaired_masks"] = [f"{name}/mask.nii.gz" for name in parts["masks"]]
    return write_cohort(cohort, folder / ("cohort_with_masks.json" if masks else "cohort.json"))


def mscmr_to_acdc(data: Path, folder: Path, *, masks: bool) -> Path:
    """Strokes on 4 late-enhancement volumes, tested on the cine volumes of 12 patients; masks of 20 other cine patients."""
    patients = acdc_cohort.split(data / "acdc")
    trained = [path for path in sorted((data / "mscmr").iterdir()) if (path / "scribble.nii.gz").exists()]
    cohort: dict[str, Any] = {
        "name": "mscmr to acdc",
        "channels": ["mri"],
        "structures": [{"name": name, "value": value} for name, value in STRUCTURES.items()],
        "slice_axis": 2,
        "scribble_codes": CODES,
        "training": [linked(path, folder) | {"scribble": f"{path.name}/scribble.nii.gz"} for path in trained],
        "testing": [linked(path, folder) for path in acdc_cohort.cases_of(data / "acdc", patients["testing"])],
    }
    if masks:
        sources = acdc_cohort.cases_of(data / "acdc", patients["masks"])
        cohort["unpaired_masks"] = [f"{linked(path, folder)['id']}/mask.nii.gz" for path in sources]
    return write_cohort(cohort, folder / ("cohort_with_masks.json" if masks else "cohort.json"))


def acdc_to_mscmr(data: Path, folder: Path) -> Path:
    """The two late-enhancement volumes that have masks, for runs that learnt from cine strokes."""
    tested = [path for path in sorted((data / "mscmr").iterdir()) if (path / "mask.nii.gz").exists()]
    cohort = {
        "name": "mscmr",
        "channels": ["cine"],
        "structures": [{"name": name, "value": value} for name, value in STRUCTURES.items()],
        "slice_axis": 2,
        "testing": [linked(path, folder) for path in tested],
    }
    return write_cohort(cohort, folder / "cohort.json")


SETS = {"hippocampus": hippocampus, "mscmr_to_acdc": mscmr_to_acdc}


def main() -> None:
    """Train and score what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--keep", type=Path, required=True, help="folder for cohorts and runs")
    parser.add_argument("--sets", nargs="*", choices=tuple(SETS), default=[])
    parser.add_argument("--only", nargs="*", choices=tuple(ROWS), default=list(ROWS))
    parser.add_argument("--acdc", type=Path, help="runs of acdc_cohort.py, to be tested on MSCMR")
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    for kind in options.sets:
        folder = options.keep / kind
        for name in options.only:
            if name == "full" and kind == "mscmr_to_acdc":
                continue  # its training volumes have no full masks
            row = ROWS[name]
            path = SETS[kind](options.data, folder, masks=row.masks)
            cost = train(path, folder / f"run_{name}", row, options.minutes, {"steps": str(STEPS[kind])})
            keep(options.output, kind, name, {"training": cost} | score(path, folder / f"run_{name}"))
    if options.acdc:
        path = acdc_to_mscmr(options.data, options.keep / "acdc_to_mscmr")
        for name in options.only:
            keep(options.output, "acdc_to_mscmr", name, score(path, options.acdc / f"run_{name}", "new"))


def keep(output: Path, kind: str, name: str, figures: dict[str, Any]) -> None:
    """Write one row, beside those that are there."""
    import torch

    results = json.loads(output.read_text()) if output.exists() else {}
    results.setdefault(kind, {})[name] = figures
    results["setting"] = {
        "data": {
            "hippocampus": "Medical Segmentation Decathlon crops, strokes simulated in every slice; "
            + ", ".join(f"{count} for {part}" for part, count in SPLIT.items()),
            "mscmr_to_acdc": "strokes on 4 MSCMR late-enhancement volumes, tested on 12 ACDC patients (24 volumes)",
            "acdc_to_mscmr": "the runs of acdc_cohort.py on the 2 MSCMR volumes that have masks",
        },
        "seed": SEED,
        "preset": "laptop (cohort)",
        "steps": STEPS,
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    output.write_text(json.dumps(results, indent=1) + "\n")
    print(kind, name, json.dumps(figures["summary"]), flush=True)


if __name__ == "__main__":
    main()
