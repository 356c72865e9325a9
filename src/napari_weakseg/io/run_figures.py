"""The figures of a run: rows of stage, step and losses as a table and as curves."""

from __future__ import annotations

import csv
import io
from typing import Any

from .names import csv_cell

Rows = list[dict[str, Any]]
"""One per step: ``stage``, ``step``, and the figures of that step."""


def table_of(rows: Rows) -> bytes:
    """The rows as CSV, with every digit of every figure."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, names or ["stage", "step"], restval="", lineterminator="\n")
    table.writeheader()
    table.writerows({key: repr(v) if isinstance(v, float) else csv_cell(str(v)) for key, v in row.items()} for row in rows)
    return text.getvalue().encode()


def rows_of(text: str) -> Rows:
    """What `table_of` wrote.

    Raises
    ------
    ValueError, TypeError
        It is no such table.
    """
    return [
        {k: v if k == "stage" else int(v) if k == "step" else float(v) for k, v in row.items() if v}
        for row in csv.DictReader(io.StringIO(text))
    ]


def curves_of(rows: Rows) -> bytes | None:
    """A PNG with one panel per figure, over all steps of all stages; None where there is no figure."""
    names = [name for name in dict.fromkeys(key for row in rows for key in row) if name not in ("stage", "step")]
    if not names:
        return None
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 1.9 * len(names)), layout="constrained")
    panels = figure.subplots(len(names), sharex=True, squeeze=False)[:, 0]
    for panel, name in zip(panels, names, strict=True):
        for stage in dict.fromkeys(row["stage"] for row in rows):
            places = [place for place, row in enumerate(rows) if row["stage"] == stage and name in row]
            panel.plot(places, [rows[place][name] for place in places], linewidth=0.8, label=stage)
        panel.set_ylabel(name)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, loc="upper right")
    panels[-1].set_xlabel("step")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=130)
    return picture.getvalue()
