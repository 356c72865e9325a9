"""The files of an evaluation: ``evaluation.json``, tables, and nothing of an earlier one."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from .atomic import write_atomically
from .names import csv_cell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FIGURES = ("dice", "hd95", "hd95_or_diagonal", "assd", "volume", "reference_volume", "volume_difference")
"""Of a structure of a case."""


def write_report(report: Mapping[str, Any], folder: Path) -> tuple[Path, ...]:
    """Write ``evaluation.json``, ``evaluation.csv`` (a row per case and structure), and for classes ``classes.csv``.

    What an earlier evaluation left in the folder is replaced or removed, its picture too.
    """
    for name in ("classes.csv", "evaluation.png"):
        (folder / name).unlink(missing_ok=True)
    data = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    written = [write_atomically(folder / "evaluation.json", f"{data}\n".encode())]
    named = (*FIGURES, *(("heatmap_dice",) if _has_heatmaps(report) else ()))
    rows: list[tuple[Any, ...]] = [("case", "structure", *named, "unit", "learnt from", "error")]
    for row in report["cases"]:
        for name, scores in row["structures"].items():
            figures = ["" if scores.get(figure) is None else repr(scores[figure]) for figure in named]
            error = csv_cell(row["error"] or "")
            rows.append((csv_cell(row["id"]), csv_cell(name), *figures, row["unit"], row["learnt_from"], error))
    written.append(_written(rows, folder / "evaluation.csv"))
    classified = [row for row in report["cases"] if row["classes"]]
    if classified:
        names = list(classified[0]["classes"]["probability"])
        rows = [("case", "class", *(f"probability {csv_cell(name)}" for name in names), "of the right class", "learnt from")]
        for row in classified:
            found = row["classes"]
            figures = [repr(found["probability"][name]) for name in names]
            sure = repr(found["of the right class"])
            rows.append((csv_cell(row["id"]), csv_cell(found["class"]), *figures, sure, row["learnt_from"]))
        written.append(_written(rows, folder / "classes.csv"))
    return tuple(written)


def _has_heatmaps(report: Mapping[str, Any]) -> bool:
    return any("heatmap_dice" in scores for row in report["cases"] for scores in row["structures"].values())


def _written(rows: Sequence[tuple[Any, ...]], path: Path) -> Path:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return write_atomically(path, text.getvalue().encode())
