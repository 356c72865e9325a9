"""One volume, an expert's strokes: first mask and refined mask against stock methods with the same strokes, on acdc.

    python benchmarks/scribbles_one_volume.py tune      # the peers, on training patients
    python benchmarks/scribbles_one_volume.py first     # first masks and peers, both phases of the 12 testing patients
    python benchmarks/scribbles_one_volume.py refine    # refined masks, one phase of each, alternately
    python benchmarks/scribbles_one_volume.py write     # results_scribbles_one_volume.json

What was measured is kept in ``benchmarks/cache``: a call that was killed goes on where it was. Reference masks are read for
scoring, and for tuning the peers, to their advantage. A peer draws each structure by itself, the strokes on others being
background to it. Slices are thick, so that each peer may work on the whole volume or slice by slice; which, was tuned like its
setting.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from acdc_cohort import STRUCTURES, cases_of, split
from cases import DATA
from ours import cleaned
from strokes import STROKE_PEERS, crop_of, expert_strokes, tuned_stroke_settings

import napari_weakseg as ws
from napari_weakseg.api import steps
from napari_weakseg.arrays.metrics import dice, hd95
from napari_weakseg.case import Case
from napari_weakseg.io.scribbles import in_our_codes
from napari_weakseg.prompts import Scribbles, Structure
from napari_weakseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_weakseg.method import TrainingState

    Mask = NDArray[np.bool_]

HERE = Path(__file__).resolve().parent
CACHE = HERE / "cache" / "scribbles_one_volume"
OUTPUT = HERE / "results_scribbles_one_volume.json"
NAMES = ("watershed", "random walker", "graph cut", "geodesic distance", "random forest")
WAYS = ("whole", "slices")
TUNED_ON = 4
"""Training patients, evenly chosen, on which the peers are tuned."""
SECONDS = 60.0
"""CPU seconds of one thread that a refinement gets."""
REFINED = ("adversarial_gating",)
"""Methods that refine; without unpaired masks the first is PyAG. As many steps as the preset has fit in that time."""


def read(folder: Path) -> tuple[Volume, NDArray[np.uint8], Scribbles]:
    """Image, reference and strokes of a case."""
    image = nib.load(folder / "image.nii.gz")
    volume = Volume(np.asanyarray(image.dataobj), image.affine, name=folder.name)
    reference = np.asanyarray(nib.load(folder / "mask.nii.gz").dataobj).astype(np.uint8)
    drawn = np.asanyarray(nib.load(folder / "scribble.nii.gz").dataobj)
    labels = in_our_codes(drawn, (0, 4), folder.name)
    return volume, reference, Scribbles(labels, tuple(Structure(name, value) for name, value in STRUCTURES.items()))


def scores(mask: Mask, reference: Mask, spacing: Any) -> dict[str, float | None]:
    """Dice and HD95 in mm; HD95 is None where the mask is empty, and both where the reference is."""
    if not reference.any():
        return {"dice": None, "hd95": None}
    return {"dice": dice(mask, reference), "hd95": hd95(mask, reference, spacing) if mask.any() else None}


def of_labels(labels: NDArray[Any], reference: NDArray[Any], spacing: Any) -> dict[str, dict[str, float | None]]:
    """Scores of each structure."""
    return {name: scores(labels == value, reference == value, spacing) for name, value in STRUCTURES.items()}


def peer_masks(volume: Volume, folder: Path, name: str, way: str) -> Iterator[tuple[str, Mask]]:
    """A peer's mask of each structure, on the whole grid."""
    drawn = np.asanyarray(nib.load(folder / "scribble.nii.gz").dataobj)
    for structure, value in STRUCTURES.items():
        settings = tuned_stroke_settings(name, sparse=False)
        problem, foreground, background = crop_of(volume, expert_strokes(drawn, (value,), 4), settings.pop("crop"))
        everything = (slice(None),) * 3
        parts = [everything] if way == "whole" else [(*everything[:2], slice(k, k + 1)) for k in range(foreground.shape[2])]
        mask = foreground.copy()
        for part in parts:
            seeds = foreground[part], background[part]
            if seeds[0].any() and seeds[1].any():
                peer = STROKE_PEERS[name]
                mask[part] = peer.run(problem.image[part], problem.spacing, *seeds, problem.points, **peer.fixed, **settings)
        full = np.zeros(volume.shape, dtype=bool)
        full[problem.index] = cleaned(mask, foreground, foreground, background)
        yield structure, full


def kept(name: str) -> dict[str, Any]:
    """What was measured so far."""
    path = CACHE / f"{name}.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def keep(name: str, data: dict[str, Any]) -> None:
    """Keep it; a kill while writing leaves what was there."""
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / "new").write_text(json.dumps(data))
    (CACHE / "new").replace(CACHE / f"{name}.json")


def measure_peer(folder: Path, name: str, way: str) -> dict[str, Any]:
    """Scores of a peer, and its CPU seconds for all structures."""
    volume, reference, _ = read(folder)
    began = time.process_time()
    masks = dict(peer_masks(volume, folder, name, way))
    seconds = time.process_time() - began
    found = {s: scores(masks[s], reference == value, volume.spacing) for s, value in STRUCTURES.items()}
    return {"structures": found, "cpu_seconds": seconds}


def tune(data: Path) -> None:
    """Whole or slice by slice, by the median Dice over the structures of some training patients."""
    patients = split(data)["training"]
    chosen = [patients[n] for n in np.linspace(0, len(patients) - 1, TUNED_ON).astype(int)]
    done = kept("tune")
    for folder in cases_of(data, chosen):
        for name in NAMES:
            for way in WAYS:
                key = f"{folder.name}/{name}/{way}"
                if key not in done:
                    done[key] = measure_peer(folder, name, way)
                    keep("tune", done)
        print("tuned on", folder.name, flush=True)


@lru_cache(maxsize=1)
def ways() -> dict[str, str]:
    """The better way of each peer."""
    done = kept("tune")

    def median(name: str, way: str) -> float:
        rows = [row["structures"].values() for key, row in done.items() if key.endswith(f"/{name}/{way}")]
        return float(np.median([one["dice"] for row in rows for one in row if one["dice"] is not None]))

    return {name: max(WAYS, key=lambda way, name=name: median(name, way)) for name in NAMES}


def first(data: Path) -> None:
    """First masks and peers."""
    done = kept("first")
    for folder in cases_of(data, split(data)["testing"]):
        row = done.setdefault(folder.name, {})
        if "first mask" not in row:
            volume, reference, strokes = read(folder)
            recipe = ws.new_recipe("adversarial_gating", max_seconds=0)
            clock = time.process_time(), time.perf_counter()
            result = ws.segment(volume, strokes, method="adversarial_gating", recipe=recipe)
            row["first mask"] = {
                "structures": of_labels(result.labels, reference, volume.spacing),
                "cpu_seconds": time.process_time() - clock[0],
                "wall_seconds": time.perf_counter() - clock[1],
            }
        for name in NAMES:
            if name not in row:
                row[name] = measure_peer(folder, name, ways()[name])
                keep("first", done)
        keep("first", done)
        print(
            folder.name,
            {name: [round(s["dice"] or 0, 3) for s in one["structures"].values()] for name, one in row.items()},
            flush=True,
        )


class Budget:
    """A `Checkpoints` that is due when the CPU seconds are used up."""

    def __init__(self, seconds: float) -> None:
        self.end = time.process_time() + seconds
        self.state: TrainingState | None = None

    def latest(self) -> None:
        """A refinement begins anew."""

    def due(self) -> bool:
        """Whether the time is used up."""
        return time.process_time() >= self.end

    def save(self, state: TrainingState) -> None:
        """Keep the state."""
        self.state = state


def refined(folder: Path, method: str) -> dict[str, Any]:
    """The mask after `SECONDS` CPU seconds of one thread, from the same strokes."""
    volume, reference, strokes = read(folder)
    budget = Budget(SECONDS)
    recipe = ws.new_recipe(method, max_seconds=1e6, preview_seconds=0)
    case = Case(folder.name, {"image": volume}, scribbles=strokes)
    running = steps(case, method=method, recipe=recipe, checkpoints=budget)
    for step in running:
        if step.stage == "train" and budget.due() and budget.state is not None and budget.state.meta["index"]:
            break
    running.close()
    assert budget.state is not None
    result = ws.segment(case, weights=budget.state.weights)
    alone = ws.segment(case, weights=without_first(budget.state.weights))
    return {
        "structures": of_labels(result.labels, reference, volume.spacing),
        "network alone": of_labels(alone.labels, reference, volume.spacing),
        "steps": budget.state.meta["index"],
    }


def without_first(weights: Any) -> Any:
    """The same weights, whose result is not joined with the first mask."""
    from dataclasses import replace

    return replace(weights, recipe=weights.recipe.changed(first_share=0.0))


def refine(data: Path, methods: list[str]) -> None:
    """One phase of each patient: end-diastole and end-systole in turn."""
    done = kept("refined")
    patients = split(data)["testing"]
    for method in methods:
        for number, patient in enumerate(patients):
            folder = cases_of(data, [patient])[number % 2]
            row = done.setdefault(folder.name, {})
            if method not in row:
                row[method] = refined(folder, method)
                keep("refined", done)
                print(method, folder.name, row[method], flush=True)


def write(data: Path) -> None:
    """All of it, with the setting."""
    import torch

    results = {
        "setting": {
            "data": "ACDC cine MRI; expert strokes of Valvano et al. on every slice; 12 testing patients",
            "testing": split(data)["testing"],
            "seed": 0,
            "threads": 1,
            "refined": f"at most {SECONDS:.0f} CPU seconds of one thread (the preset's 200 steps), without unpaired masks",
            "peers": {name: {**tuned_stroke_settings(name, sparse=False), "way": ways()[name]} for name in NAMES},
            "torch": torch.__version__,
            "cores": os.cpu_count(),
        },
        "first": kept("first"),
        "refined": kept("refined"),
    }
    OUTPUT.write_text(json.dumps(results, indent=1) + "\n")


def main() -> None:
    """One part, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="*", default=["tune", "first", "refine", "write"])
    parser.add_argument("--methods", nargs="*", default=list(REFINED))
    options = parser.parse_args()
    data = DATA / "acdc"
    for part in options.part:
        if part == "refine":
            refine(data, options.methods)
        else:
            {"tune": tune, "first": first, "write": write}[part](data)


if __name__ == "__main__":
    main()
