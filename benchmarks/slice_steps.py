"""Seconds and memory of a training step of the stroke methods, and seconds of a prediction, on made-up slices.

    python benchmarks/slice_steps.py

Each row in a fresh process, one thread. Writes ``results_slice_steps.json`` beside itself; needs no data.
"""

from __future__ import annotations

import os

if __name__ == "__main__":  # before NumPy and torch read them; a test that imports this keeps its own
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

OUTPUT = Path(__file__).parent / "results_slice_steps.json"
SHAPE, STEPS = (256, 256, 12), 6
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "partial cross-entropy": ("partial_cross_entropy", {}),
    "PyAG": ("adversarial_gating", {"form": "PyAG"}),
    "MAAG, strokes alone (warm-up)": ("adversarial_gating", {"form": "MAAG", "warm_up": 1.0}),
    "MAAG, the game": ("adversarial_gating", {"form": "MAAG", "warm_up": 0.0}),
}


def made_up() -> tuple[Any, Any]:
    """A case of noise with two discs, their strokes, and a mask of the same kind."""
    import napari_weakseg as ws
    from napari_weakseg.arrays.simulated_scribbles import simulate_scribbles
    from napari_weakseg.case import Case
    from napari_weakseg.prompts import Scribbles, Structure

    rng = np.random.default_rng(0)
    i, j = np.mgrid[: SHAPE[0], : SHAPE[1]]
    far = np.hypot(i - 128, j - 128)
    mask = np.repeat(np.select([far < 20, far < 30], [1, 2], 0).astype(np.uint8)[..., None], SHAPE[2], axis=2)
    image = (mask + rng.normal(0, 0.3, SHAPE)).astype(np.float32)
    affine = np.diag([1.5, 1.5, 8.0, 1.0])
    structures = (Structure("cavity", 1), Structure("wall", 2))
    case = Case("made up", {"image": ws.Volume(image, affine)}, scribbles=Scribbles(simulate_scribbles(mask), structures))
    return case, ws.Volume(mask, affine)


def measure(name: str, preset: str) -> dict[str, float]:
    """One row, in this process."""
    import resource

    import napari_weakseg as ws

    method, changes = ROWS[name]
    room = ws.get_method(method)
    case, mask = made_up()
    settings = {**changes, "seed": 0, "device": "cpu", "preview_seconds": 0, "steps": STEPS, "max_seconds": 1e6}
    recipe = room.recipe_class.for_cohort(preset, **settings)
    more = {"unpaired_masks": (mask,)} if changes.get("form") == "MAAG" else {}
    stamps = []
    fit = room.fit([case], recipe, None, **more)
    while True:
        try:
            step = next(fit)
        except StopIteration as end:
            weights = end.value
            break
        stamps += [(time.perf_counter(), time.process_time())] if step.stage == "train" else []
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform.startswith("linux") else 1024**2)
    began = time.process_time()
    ws.predict(weights, case.volume)
    cpu = np.diff([stamp[1] for stamp in stamps])[2:]
    return {
        "cpu_seconds_per_step": float(np.median(cpu)),
        "peak_mb": float(peak),
        "cpu_seconds_per_prediction": time.process_time() - began,
    }


def main() -> None:
    """All rows, or one of them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--row", choices=tuple(ROWS))
    parser.add_argument("--preset", default="laptop")
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(options.row, options.preset)))
        return
    import torch

    results: dict[str, Any] = {"rows": {}}
    for preset in ("laptop", "paper"):
        for name in ROWS:
            command = [sys.executable, __file__, "--row", name, "--preset", preset]
            text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            results["rows"].setdefault(preset, {})[name] = json.loads(text.splitlines()[-1])
            print(preset, name, text.splitlines()[-1], flush=True)
    results["setting"] = {
        "data": f"made-up volume of {' x '.join(map(str, SHAPE))} voxels, two structures, one thread, a fresh process per row",
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "torch": torch.__version__,
    }
    OUTPUT.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
