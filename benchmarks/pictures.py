"""Pictures of what was measured: reliability, Dice over training steps, and where the first mask fails.

    python benchmarks/pictures.py reliability
    python benchmarks/pictures.py steps RUN/00200.safetensors RUN/00400.safetensors ...   # weights or checkpoints
    python benchmarks/pictures.py failures              # of made-up volumes, for the documentation
    python benchmarks/pictures.py failures --real       # of real ones, into benchmarks/cache: never to be published

No picture of a real volume goes into the project: their owners did not allow it.
"""

from __future__ import annotations

import os

if __name__ == "__main__":  # before NumPy and torch read them; a test that imports this keeps its own
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from cases import list_targets
from matplotlib import pyplot as plt
from ours import learned, weights_digest
from tables import Measured, pooled

from napari_weakseg.arrays.marks import marked_cube
from napari_weakseg.arrays.metrics import dice
from napari_weakseg.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]
    Shown = tuple[str, Volume, Mask, Any]

HERE = Path(__file__).resolve().parent
CACHE = HERE / "cache"
IMAGES = HERE.parent / "docs" / "images"
TRUTH, OURS = "#009E73", "#D55E00"
COLUMNS, ROWS = 5, 3


def reliability(measured: Measured) -> None:
    """Share of the object against the probability, one line per target and one for all."""
    values = measured.part("calibration")
    if not values:
        return
    figure, panels = plt.subplots(1, 2, figsize=(7.2, 3.4), layout="constrained", sharey=True)
    for axes, (which, title) in zip(panels, (("shown", "first mask"), ("network", "network alone")), strict=True):
        axes.plot([0, 1], [0, 1], color="#888888", lw=1, ls="--")
        for value in values.values():
            voxels = np.array(value[which]["voxels"])
            full = voxels > 20
            axes.plot(
                np.array(value[which]["said"])[full], np.array(value[which]["was"])[full], color="#3b6ea5", lw=0.5, alpha=0.2
            )
        curve = pooled(values, which)
        axes.plot(curve["said"], curve["was"], "o-", color=OURS, ms=3)
        axes.set(xlabel="probability", title=title, xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("share of the object")
    figure.savefig(IMAGES / "first_mask_reliability.png", dpi=110, metadata={"Software": None})
    plt.close(figure)


def model_of(path: Path) -> Any:
    """A network from exported weights or from a checkpoint of a training, of which the running mean is taken."""
    from safetensors.torch import load_file

    from napari_weakseg.networks.first_mask import FirstMaskNet
    from napari_weakseg.networks.first_mask_model import FirstMaskModel

    tensors = load_file(path)
    mean = {name.removeprefix("average."): value for name, value in tensors.items() if name.startswith("average.")}
    weights = {name: value.float() for name, value in (mean or tensors).items()}
    net = FirstMaskNet(tuple(len(weights[f"down.{level}.second.weight"]) for level in range(4)))
    net.load_state_dict(weights)
    return FirstMaskModel(net)


def real_scores(weights: list[Path], per_set: int = 3) -> dict[str, dict[str, float]]:
    """Dice of the network alone, without the classical mask and the walker, for several weights on the same real targets.

    Parameters
    ----------
    weights : list of Path
        Exported weights or checkpoints.
    per_set : int
        Targets of each set.

    Returns
    -------
    dict
        Name of the file -> target -> Dice.
    """
    models = {path.stem: model_of(path) for path in weights}
    scores: dict[str, dict[str, float]] = {name: {} for name in models}
    for target in list_targets(per_set=per_set):
        volume, reference = target.read()
        i, j, k = volume.spacing
        cube = marked_cube(volume.array, (i, j, k), points=target.points(reference))
        part = reference[cube.frame.window]
        for name, model in models.items():
            mask = model.probability(cube) > 0.5
            both = 2 * float((mask & part).sum())
            scores[name][target.name] = both / float(mask.sum() + reference.sum())
        print(target.name, flush=True)
    return scores


def steps(weights: list[Path], per_set: int = 3) -> None:
    """Median and mean Dice on real targets over the steps of a training; the step is the number in the file's name."""
    (CACHE / "steps").mkdir(parents=True, exist_ok=True)
    for name, scores in real_scores(weights, per_set).items():
        values = np.array(list(scores.values()))
        step = int(re.findall(r"\d+", name)[-1])
        worst = float(np.sort(values)[: max(1, round(len(values) / 10))].mean())
        value = {"step": step, "median": float(np.median(values)), "mean": float(values.mean()), "worst tenth": worst}
        entry = {"target": f"steps/{step:06d}", "set": "steps", "value": {**value, "targets": len(values)}}
        (CACHE / "steps" / f"{step:06d}.json").write_text(json.dumps(entry))
    draw_steps(Measured(CACHE, HERE / "results.json"))


def draw_steps(measured: Measured) -> None:
    """The curve of `steps`."""
    rows = sorted(measured.part("steps").values(), key=lambda row: row["step"])
    if not rows:
        return
    figure, axes = plt.subplots(figsize=(5.2, 2.8), layout="constrained")
    for key, colour in (("median", "#3b6ea5"), ("mean", OURS), ("worst tenth", "#888888")):
        axes.plot([row["step"] for row in rows], [row[key] for row in rows], ".-", color=colour, label=key)
    axes.set(xlabel="training step", ylabel=f"Dice on {rows[-1]['targets']} real targets")
    axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(IMAGES / "first_mask_real_curve.png", dpi=110, metadata={"Software": None})
    plt.close(figure)


def made_up(count: int = 8) -> Iterator[Shown]:
    """Volumes of every kind that no training has seen, with shaky points."""
    from napari_weakseg.synthesis.scenes import random_case
    from napari_weakseg.synthesis.shapes import KINDS
    from napari_weakseg.synthesis.user import shaky_points

    for kind in KINDS:
        for number in range(count):
            case = random_case((9_000_017, number), kind)
            volume = Volume(np.asarray(case.image), np.diag([*case.spacing, 1.0]), name=kind)
            yield kind, volume, case.mask, shaky_points(np.random.default_rng(number), case.mask)


def real() -> Iterator[Shown]:
    """The real targets of the benchmarks."""
    for target in list_targets():
        volume, reference = target.read()
        yield target.name, volume, reference, target.points(reference)


def failures(cases: Iterator[Shown], path: Path) -> dict[str, list[float]]:
    """Draw the worst cases on the slice of the target's largest area: the truth green, ours red.

    Returns
    -------
    dict
        Kind -> Dice of its cases.
    """
    found: list[tuple[float, str, Any, Mask, Mask]] = []
    scores: dict[str, list[float]] = {}
    for name, volume, reference, points in cases:
        mask = learned(volume, points=points).mask
        score = dice(mask, reference)
        scores.setdefault(name, []).append(score)
        axis = int(np.argmax([reference.sum(axis=tuple(a for a in range(3) if a != n)).max() for n in range(3)]))
        number = int(reference.sum(axis=tuple(a for a in range(3) if a != axis)).argmax())
        picture, truth, ours = (np.take(array, number, axis) for array in (volume.array, reference, mask))
        found.append((score, name, picture, truth, ours))
    found.sort(key=lambda row: row[0])
    figure, grid = plt.subplots(ROWS, COLUMNS, figsize=(COLUMNS * 1.9, ROWS * 2.05), layout="constrained")
    for axes, (score, name, picture, truth, ours) in zip(grid.ravel(), found, strict=False):
        places = np.argwhere(truth | ours)
        low, high = np.maximum(places.min(axis=0) - 8, 0), places.max(axis=0) + 9
        part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        shown = np.clip(picture[part], *np.percentile(picture[part], (1, 99)))
        axes.imshow(shown.T, cmap="gray")
        for mask, colour in ((truth, TRUTH), (ours, OURS)):
            if mask[part].any() and not mask[part].all():
                axes.contour(mask[part].T, [0.5], colors=colour, linewidths=1.2)
        axes.set_title(f"{name.replace('/', chr(10))}: {score:.2f}", fontsize=8)
        axes.set(xticks=[], yticks=[])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80, metadata={"Software": None})
    plt.close(figure)
    return scores


def record_made_up(scores: dict[str, list[float]]) -> None:
    """Keep the median of each kind for the report."""
    (CACHE / "made-up").mkdir(parents=True, exist_ok=True)
    for kind, values in scores.items():
        value = {"median": float(np.median(values)), "worst": min(values), "cases": len(values)}
        entry = {"target": f"made-up/{kind}", "set": "made-up", "weights": weights_digest(), "value": value}
        (CACHE / "made-up" / f"{kind.replace(' ', '-')}.json").write_text(json.dumps(entry))


def main() -> None:
    """Draw what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", choices=("reliability", "steps", "failures"))
    parser.add_argument("weights", nargs="*", type=Path)
    parser.add_argument("--per-set", type=int, default=3, help="real targets of each set, for steps")
    parser.add_argument("--real", action="store_true", help="failures on real volumes, for your eyes only")
    options = parser.parse_args()
    if options.picture == "reliability":
        reliability(Measured(CACHE, HERE / "results.json"))
    elif options.picture == "steps":
        steps(options.weights, options.per_set)
    elif options.real:
        failures(real(), CACHE / "worst_real.png")
    else:
        record_made_up(failures(made_up(), IMAGES / "first_mask_failures.png"))


if __name__ == "__main__":
    main()
