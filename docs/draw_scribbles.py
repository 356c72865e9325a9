"""Draw ``docs/images/scribbles_good.png`` and ``scribbles_bad.png``: strokes on the made-up heart and what follows from them.

``python docs/draw_scribbles.py [SECONDS]``: first mask, and the mask refined for so many seconds (default 60). The bad case
has the strokes of one slice alone, at the apex: what is far from it, or not marked there, is lost.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

from napari_weakseg.api import segment
from napari_weakseg.arrays.metrics import dice
from napari_weakseg.methods import new_recipe
from napari_weakseg.prompts import BACKGROUND_STROKE, Scribbles
from napari_weakseg.samples import HEART, read_sample

IMAGES = Path(__file__).parent / "images"
COLOURS = {1: "#e69f00", 2: "#56b4e9", 3: "#009e73", BACKGROUND_STROKE: "#ffffff"}


def main() -> None:
    """Write both pictures."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    case = read_sample(HEART)
    assert case.scribbles is not None
    assert case.reference is not None
    volume, drawn, reference = case.volume, case.scribbles, case.reference.array
    fewer = drawn.labels.copy()
    marked = np.flatnonzero(fewer.any(axis=(0, 1)))
    fewer[..., marked[1:]] = 0
    for name, scribbles in (("good", drawn), ("bad", Scribbles(fewer, drawn.structures))):
        masks = {}
        for title, limit in (("first mask", 0.0), ("refined", seconds)):
            recipe = new_recipe("adversarial_gating", max_seconds=limit, preview_seconds=0)
            masks[title] = segment(volume, scribbles, method="adversarial_gating", recipe=recipe).labels
        draw(
            IMAGES / f"scribbles_{name}.png", volume.array, scribbles, masks, reference, [marked[0], marked[0] + 2, marked[-1]]
        )


def draw(
    path: Path, image: np.ndarray, scribbles: Scribbles, masks: dict[str, np.ndarray], reference: np.ndarray, places: list[int]
) -> None:
    """One row per slice; columns: strokes, masks with the reference's outline."""
    figure, axes = plt.subplots(len(places), 1 + len(masks), figsize=(3 * (1 + len(masks)), 3.1 * len(places)))
    figure.patch.set_facecolor("black")
    for row, k in zip(axes, places, strict=True):
        for axis in row:
            axis.imshow(image[..., k].T, cmap="gray", origin="upper")
            axis.set_axis_off()
        for value, colour in COLOURS.items():
            shown = np.where(value == scribbles.labels[..., k].T, 1.0, np.nan)
            row[0].imshow(shown, cmap=mpl.colors.ListedColormap([colour]), interpolation="nearest")
        for axis, mask in zip(row[1:], masks.values(), strict=True):
            for value in (1, 2, 3):
                outline(axis, value == mask[..., k].T, COLOURS[value], 1.8)
                outline(axis, value == reference[..., k].T, "#cc79a7", 0.9)
        row[0].set_title(f"slice {k}", color="white", fontsize=10)
    axes[0][0].set_title(f"strokes, slice {places[0]}", color="white", fontsize=10)
    for axis, (title, mask) in zip(axes[0][1:], masks.items(), strict=True):
        score = np.mean([dice(mask == value, reference == value) for value in (1, 2, 3)])
        axis.set_title(f"{title}, mean Dice {score:.2f}", color="white", fontsize=10)
    handles = [plt.Line2D([], [], color=COLOURS[s.value], lw=2, label=s.name) for s in scribbles.structures]
    handles += [plt.Line2D([], [], color="#ffffff", lw=2, label="background stroke")]
    handles += [plt.Line2D([], [], color="#cc79a7", lw=1, label="reference")]
    figure.legend(handles=handles, loc="lower center", ncol=5, facecolor="black", labelcolor="white", fontsize=9)
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    figure.savefig(path, dpi=80, facecolor="black")
    plt.close(figure)


def outline(axis: plt.Axes, mask: np.ndarray, colour: str, width: float) -> None:
    """The outline of a mask, if it has one here."""
    if mask.any():
        axis.contour(mask.astype(float), [0.5], colors=colour, linewidths=width)


if __name__ == "__main__":
    main()
