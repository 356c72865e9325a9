"""Tables of strokes on one volume, from ``results_scribbles_one_volume.json`` into two pages.

python benchmarks/report_one_volume.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from tables import fill, table

HERE = Path(__file__).parent
PAGES = [HERE.parent / "docs" / name for name in ("methods/adversarial_gating.md", "benchmarks.md")]
OUTPUT = "results_scribbles_one_volume.json"
FIRST, REFINED = "first mask", "refined (PyAG)"
OURS = {FIRST: "**first mask (ours)**", REFINED: "**refined, 60 s (ours)**"}
MARGIN = 0.05

Rows = dict[str, dict[str, Any]]


def methods(first: Rows, refined: Rows) -> dict[str, Rows]:
    """Method to case to figures; peers in order of their median Dice."""
    names = {name for row in first.values() for name in row}
    found = {name: {case: row[name] for case, row in first.items() if name in row} for name in names}
    ordered = dict(sorted(found.items(), key=lambda item: (item[0] == FIRST, np.median(figures(item[1], "dice")))))
    done = {case: row["adversarial_gating"] for case, row in refined.items() if "adversarial_gating" in row}
    return ordered | ({REFINED: done} if done else {})


def figures(rows: Rows, figure: str, structure: str | None = None) -> list[float]:
    """One figure over cases and structures; an empty mask counts as Dice 0 and has no HD95."""
    found = (s[figure] for row in rows.values() for name, s in row["structures"].items() if structure in (None, name))
    return [value for value in found if value is not None]


def summary(rows: dict[str, Rows], cases: set[str]) -> str:
    """Dice and HD95 of each method on the same cases."""
    lines = []
    for name, own in rows.items():
        kept = {case: row for case, row in own.items() if case in cases}
        if len(kept) < len(cases):
            continue
        structures = list(next(iter(kept.values()))["structures"])
        cells = [f"{np.median(figures(kept, 'dice', structure)):.3f}" for structure in structures]
        low, middle, high = np.percentile(figures(kept, "dice"), (25, 50, 75))
        seconds = [row["cpu_seconds"] for row in kept.values() if "cpu_seconds" in row]
        cost = f"{np.median(seconds):.2f} ({max(seconds):.2f})" if seconds else "at most 60"
        far = figures(kept, "hd95")
        lines.append(
            [
                OURS.get(name, name),
                *cells,
                f"**{middle:.3f}** [{low:.2f}, {high:.2f}]",
                f"{np.median(far):.1f} ({np.mean(far):.1f})",
                cost,
            ]
        )
    return table(["", *structures, "all: median Dice [quartiles]", "HD95, mm: median (mean)", "CPU s: median (largest)"], lines)


def paired(ours: Rows, other: Rows) -> tuple[float, int, int]:
    """Median gain over cases and structures, how often ours is better, and of how many."""
    gains = [
        row["structures"][name]["dice"] - other[case]["structures"][name]["dice"]
        for case, row in ours.items()
        if case in other
        for name in row["structures"]
        if row["structures"][name]["dice"] is not None
    ]
    return float(np.median(gains)), int(sum(gain > 0 for gain in gains)), len(gains)


def bars(rows: dict[str, Rows]) -> str:
    """What was asked for beside what was reached."""
    peers = [name for name in rows if name not in OURS]
    best = peers[-1]
    lines = []
    for ours, least in ((FIRST, 0.0), (REFINED, MARGIN)):
        for against in (best, FIRST) if ours == REFINED else (best,):
            if ours not in rows:
                continue
            gain, better, count = paired(rows[ours], rows[against])
            both = {case: rows[against][case] for case in rows[ours] if case in rows[against]}
            mine = float(np.median(figures(rows[ours], "dice")))
            theirs = float(np.median(figures(both, "dice")))
            wanted = f"at least {least:+.2f}" if against == best else "-"
            reached = ("yes" if mine - theirs >= least else "no") if against == best else "-"
            lines.append(
                [
                    OURS[ours].strip("*"),
                    OURS.get(against, against).strip("*"),
                    wanted,
                    f"{mine:.3f} against {theirs:.3f}, {mine - theirs:+.3f}",
                    f"{gain:+.3f}, better in {better} of {count}",
                    reached,
                ]
            )
    return table(["", "against", "asked", "median Dice over structures and volumes", "paired median", "met"], lines)


def one_volume() -> str:
    """The section."""
    results = json.loads((HERE / OUTPUT).read_text())
    setting, rows = results["setting"], methods(results["first"], results["refined"])
    peers = ", ".join(
        f"{name}: {'the whole volume' if one['way'] == 'whole' else 'slice by slice'}" for name, one in setting["peers"].items()
    )
    text = [
        f"`benchmarks/scribbles_one_volume.py`: {setting['data']}, both phases ({len(results['first'])} volumes), on which "
        "nothing was tuned. All methods have the same strokes. Peers draw each structure against the rest, with their tuned "
        f"settings, and work as was better on training patients ({peers}). One thread; the largest time of the first mask "
        "includes loading libraries.\n",
        summary(rows, set(results["first"])),
        "",
    ]
    if REFINED in rows:
        cases = set(rows[REFINED])
        text += [
            f"The {len(cases)} of these volumes (phases in turn) that were refined, {setting['refined']}:\n",
            summary(rows, cases),
            "",
        ]
    return "\n".join([*text, bars(rows)])


if __name__ == "__main__":
    for page in PAGES:
        fill(page, "one volume figures", one_volume())
