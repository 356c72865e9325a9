"""How long a user waits: from the sixth click, and from a stroke, to the mask; model loaded, through the console's own path.

Run as ``python benchmarks/latency.py [--threads 2] [--output latency.json]`` on a machine that does nothing else. Made-up
balls with a rough border; the volume is 1.5 times the object's box on each axis. Wall time to the first preview, the least
of several, and the processor's time beside it: where the two differ much the machine was busy.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

SIDES = (32, 64, 100, 144, 200)


def ball(side: int) -> tuple[Any, Any]:
    """A volume with a rough ball of that many voxels across, and the ball."""
    from napari_weakseg.volume import Volume

    shape = (round(1.5 * side),) * 3
    rng = np.random.default_rng(side)
    rough = ndimage.zoom(rng.normal(size=(7, 7, 7)), [n / 7 for n in shape], order=1)
    centre = [(n - 1) / 2 for n in shape]
    index = np.ogrid[tuple(slice(0, n) for n in shape)]
    radius = np.sqrt(sum((axis - middle) ** 2 for axis, middle in zip(index, centre, strict=True))) / (side / 2)
    inside = radius + 0.06 * rough < 0.93
    labels, _ = ndimage.label(inside)
    inside = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    image = (80 * inside + rng.normal(0, 25, shape)).astype(np.float32)
    return Volume(image, np.eye(4), name="ball"), inside


def least(work: Any, repeats: int) -> dict[str, float]:
    """Least wall and processor time of a few goes."""
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return {"wall": round(min(walls), 3), "cpu": round(min(cpus), 3)}


def measured(side: int, repeats: int) -> dict[str, Any]:
    """Clicks to mask, and stroke to mask, for one size."""
    from napari_weakseg.api import steps
    from napari_weakseg.arrays.extreme_points import simulate_points
    from napari_weakseg.case import Case
    from napari_weakseg.methods import new_recipe
    from napari_weakseg.prompts import LESION, ExtremePoints, Scribbles

    volume, inside = ball(side)
    points = ExtremePoints.from_points(simulate_points(inside), volume)
    recipe = new_recipe("simple_propagation", max_seconds=0)

    def first(**marks: Any) -> Any:
        running = steps(Case("case", {"image": volume}, points=points, **marks), recipe=recipe)
        preview = next(running).preview
        running.close()
        return preview

    mask = first().labels()
    middle = [n // 2 for n in volume.shape]
    codes = np.zeros(volume.shape, dtype=np.uint8)
    codes[middle[0], middle[1] : middle[1] + side // 4, middle[2] - 1 : middle[2] + 2] = 255
    strokes, earlier = Scribbles(codes, (LESION,)), volume.with_array(mask, name="earlier")
    box = int(np.prod(np.ptp(points.points[0], axis=0) + 1))
    return {
        "box_voxels": box,
        "clicks": least(first, repeats),
        "stroke": least(lambda: first(scribbles=strokes, previous=earlier), repeats),
    }


def main() -> None:
    """Print a table; write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sides", type=int, nargs="*", default=list(SIDES))
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    import torch

    from napari_weakseg.training.devices import warm_up

    torch.set_num_threads(options.threads)
    warm_up()
    rows = []
    print(f"{'box, voxels':>12} {'clicks: wall':>13} {'cpu':>6} {'stroke: wall':>13} {'cpu':>6}   seconds", flush=True)
    for side in options.sides:
        row = measured(side, options.repeats)
        rows.append(row)
        times = [row[kind][clock] for kind in ("clicks", "stroke") for clock in ("wall", "cpu")]
        print("{:>12,} {:>13.2f} {:>6.2f} {:>13.2f} {:>6.2f}".format(row["box_voxels"], *times), flush=True)
    if options.output is not None:
        options.output.write_text(json.dumps({"threads": options.threads, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
