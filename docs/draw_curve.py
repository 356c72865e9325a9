"""Draw ``docs/images/first_mask_curve.png`` from what the training of the first-mask network left beside its weights."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Write the picture."""
    record = json.loads((ROOT / "src" / "napari_weakseg" / "models" / "first_mask.json").read_text(encoding="utf-8"))
    steps, losses, scores, _ = zip(*record["curve"]["rows"], strict=True)
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.4), layout="constrained")
    left.plot(steps, losses, ".-", color="#3b6ea5")
    left.set(xlabel="step", ylabel="loss, mean of 100 steps", ylim=(0.4, 0.8))
    right.plot(steps, scores, ".-", color="#b5523b")
    right.set(xlabel="step", ylabel="Dice, made-up validation", ylim=(0.72, 0.8))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(ROOT / "docs" / "images" / "first_mask_curve.png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
