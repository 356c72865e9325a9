"""Contact sheet of generated volumes, one row per kind of target: ``python benchmarks/generator_sheet.py OUT.png``."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

from napari_weakseg.arrays.marks import GRID, marked_cube
from napari_weakseg.synthesis.scenes import random_case
from napari_weakseg.synthesis.shapes import KINDS
from napari_weakseg.synthesis.user import shaky_points

COLUMNS = 9


def main(path: Path) -> None:
    """Draw the largest slice of each target along i, j, k in turn, as the network sees it, with its outline."""
    figure, rows = plt.subplots(len(KINDS), COLUMNS, figsize=(COLUMNS * 1.2, len(KINDS) * 1.2), layout="constrained")
    for row, kind in zip(rows, KINDS, strict=True):
        for column, axes in enumerate(row):
            case = random_case((5, column), kind)
            points = shaky_points(np.random.default_rng(column), case.mask)
            cube = marked_cube(case.image, case.spacing, points=points)
            mask = cube.frame.to_cube(case.mask)
            axis = column % 3
            others = tuple(n for n in range(3) if n != axis)
            number = int((mask > 0.5).sum(axis=others).argmax())
            axes.imshow(np.take(cube.channels[0], number, axis).T, cmap="gray", vmin=-1, vmax=1, extent=(0, GRID, GRID, 0))
            axes.contour(np.arange(GRID) + 0.5, np.arange(GRID) + 0.5, np.take(mask, number, axis).T, [0.5], colors="#D55E00")
            axes.set(xticks=[], yticks=[])
        row[0].set_ylabel(kind, fontsize=9)
    figure.savefig(path, dpi=50)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
