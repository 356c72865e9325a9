"""Draw ``docs/images/house.svg``: the rooms of the package and who may import whom. Run it after the layout changes."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

ROWS = [  # y, height, boxes: (x, width, title, lines, colour)
    (
        7.55,
        1.15,
        [
            (
                0.2,
                4.6,
                "plugin/",
                "panels, layers, session, edits, workers,\nreaders, writers: napari and Qt live only here",
                "#F6D5B0",
            ),
            (
                5.2,
                4.6,
                "cli",
                "weakseg segment, evaluate, demo,\nsimulate-points, replay, methods, sample-data,\ntrain-first-mask",
                "#F6D5B0",
            ),
        ],
    ),
    (
        6.0,
        1.0,
        [(0.2, 9.6, "api.py", "segment, steps, evaluate, replay: drain the same generators that the panel uses", "#FBE9A9")],
    ),
    (
        4.3,
        1.15,
        [
            (
                0.2,
                6.9,
                "methods/",
                "one room per paper, found by its file name: card, recipe, fit, predict\n"
                "simple_propagation/: contrast, propagation, stages",
                "#BFE3CF",
            ),
            (7.4, 2.4, "io/", "NIfTI behind a gate,\npoints, records, atomic", "#C9DDF2"),
        ],
    ),
    (
        2.95,
        1.0,
        [
            (0.2, 2.5, "networks/", "U-Nets; weights that they\nstart from lie in models/", "#BFE3CF"),
            (3.2, 3.9, "training/", "partial losses, devices,\nfirst-mask network", "#BFE3CF"),
            (7.6, 1.7, "synthesis/", "volumes from\nrandom numbers", "#BFE3CF"),
        ],
    ),
    (
        1.45,
        1.15,
        [
            (
                0.2,
                6.9,
                "arrays/",
                "extreme points, object paths, tangent ellipsoid, intensity, first mask,\n"
                "pseudo-mask, random walker, marks, metrics: plain arrays in and out",
                "#DCD3EA",
            ),
        ],
    ),
    (0.1, 0.95, [(0.2, 9.6, "the words", "volume, prompts, case, recipe, method, errors: numpy only", "#E3E3E3")]),
]
ARROWS = [
    ((2.5, 7.55), (2.5, 7.0)), ((7.5, 7.55), (7.5, 7.0)),
    ((3.6, 6.0), (3.6, 5.45)), ((8.6, 6.0), (8.6, 5.45)),
    ((1.4, 4.3), (1.4, 3.95)), ((5.2, 4.3), (5.2, 3.95)), ((3.2, 3.45), (2.7, 3.45)), ((7.1, 3.45), (7.6, 3.45)),
    ((1.4, 2.95), (1.4, 2.6)), ((5.2, 2.95), (5.2, 2.6)), ((3.6, 1.45), (3.6, 1.05)), ((9.55, 4.3), (9.55, 1.05)),
]  # fmt: skip


def main() -> None:
    """Write the picture."""
    plt.rcParams["svg.hashsalt"] = "house"  # the same drawing gives the same file
    figure, axes = plt.subplots(figsize=(10, 8.8))
    for y, height, boxes in ROWS:
        for x, width, title, lines, colour in boxes:
            axes.add_patch(plt.Rectangle((x, y), width, height, facecolor=colour, edgecolor="#444444", linewidth=1))
            axes.text(x + 0.15, y + height - 0.28, title, fontsize=13, fontweight="bold", va="center")
            axes.text(x + 0.15, y + (height - 0.42) / 2, lines, fontsize=10, va="center")
    for start, stop in ARROWS:
        axes.annotate("", stop, start, arrowprops={"arrowstyle": "-|>", "color": "#444444"})
    axes.set(xlim=(0, 10), ylim=(0, 8.8))
    axes.set_axis_off()
    figure.subplots_adjust(0, 0, 1, 1)
    figure.savefig(Path(__file__).parent / "images" / "house.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
