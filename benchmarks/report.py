"""Tables from the measured cases: ``results.json`` for programs, ``docs/benchmarks.md`` for readers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from report_marks import bars, calibration, corrections, degenerate, failures, jitter, steps, strokes
from tables import Measured, Values, best_peer, dice_table, fill, median, of_set, paired_table, table

if TYPE_CHECKING:
    from pathlib import Path

    from cases import Target

FIRST, CLASSICAL, REFINED = "first mask (ours)", "classical first mask (ours)", "refined (ours)"
PARTS = {CLASSICAL: "classical", FIRST: "first", REFINED: "refine"}


def write_report(cache: Path, folder: Path, targets: list[Target], machine: dict[str, Any]) -> None:
    """Write the record and the pages; parts that were never measured are left out."""
    measured = Measured(cache, folder / "results.json")
    measured.write(folder / "results.json", machine)
    methods = measured.by_method(PARTS, "peers")
    sets = list(dict.fromkeys(target.set for target in targets))
    sections = [
        "# Benchmarks\n",
        "Made by `make bench`. Real volumes (not part of the project), largest face-connected component of each label, the "
        "same marks for every method; nothing left out. Six points are simulated, each off by up to one voxel per axis; "
        "strokes and the correcting user are described where they are used. Peers have their tuned "
        "settings (`benchmarks/tuned_peers.json`), the same for all sets. CPU seconds of one thread; refining uses two. "
        "A number in round brackets behind a cell: so many cases of the set were measured; the short table of the README and "
        "the paired differences compare the same cases only. Intervals: 95 %, by drawing patients.\n",
        f"Last run with {', '.join(f'{k} {v}' for k, v in machine.items())}; no GPU; the machine was shared.\n",
        *bars(measured, methods, sets),
        "## Six points: Dice per set, median [quartiles]\n",
        dice_table(methods, sets),
        "",
        "The *first mask* is the default: a network that knows shapes, joined with the *classical first mask*, which knows "
        "none. *Refined*: SimPLe on this volume, from the first mask." + _earlier(measured) + "\n",
        "## Six points: paired differences of Dice\n",
        paired_table(methods, [FIRST, REFINED], last=(REFINED,)),
        "",
        *strokes(measured),
        *_one_volume(folder),
        *_slices(),
        *corrections(measured),
        *jitter(measured),
        *degenerate(measured),
        *calibration(measured),
        *failures(measured),
        *steps(measured),
        *_walker(measured.part("walker")),
        *_first_times(measured.part("first")),
        *_memory(measured.memory),
    ]
    home = folder.parent
    if measured.part("calibration") or measured.part("steps"):
        from pictures import draw_steps, reliability

        reliability(measured)
        draw_steps(measured)
    summary = _summary(methods, sets) + _earlier(measured)
    fill(home / "README.md", "benchmark table", summary)
    fill(home / "docs" / "methods" / "simple_propagation.md", "measured figures", summary)
    (home / "docs" / "benchmarks.md").write_text("\n".join(sections).rstrip() + "\n", encoding="utf-8")
    page = home / "docs" / "models" / "first_mask.md"
    fill(page, "measured figures", "\n".join([*bars(measured, methods, sets, "###"), summary]))


def _earlier(measured: Measured) -> str:
    """Says how many refinements started from another first mask than the one in the tables."""
    first, refined = measured.part("first"), measured.part("refine")
    other = [name for name in refined if name not in first or abs(refined[name]["first"] - first[name]["dice"]) > 1e-3]
    text = f"\n\n{len(other)} of {len(refined)} refinements were measured with an earlier first mask than the one shown."
    return text if other else ""


def _summary(methods: dict[str, Values], sets: list[str]) -> str:
    """The short table: per set the best stock peer of that set, our first masks, our refined mask; same cases in a row.

    A refined mask that was measured on fewer cases has no column: it is said how many there are, and what they gained.
    """
    few: Values = {}
    if REFINED in methods and FIRST in methods and len(methods[REFINED]) < len(methods[FIRST]):
        few = methods[REFINED]
        methods = {name: values for name, values in methods.items() if name != REFINED}
    ours = [name for name in PARTS if name in methods]
    same = sorted(set.intersection(*[set(values) for values in methods.values()]))
    rows = []
    for label, names in [*((f"{name} ({len(of_set(same, name))})", of_set(same, name)) for name in sets), ("**all**", same)]:
        if not names:
            continue
        best = best_peer(methods, names)
        values = [median(methods[m], names) for m in (best, *ours)]
        shown = [f"{v:.2f}" if v < max(values) else f"**{v:.2f}**" for v in values]
        label = f"**all** ({len(names)})" if label == "**all**" else label
        rows.append([label, f"{median(methods['watershed'], names):.2f}", f"{shown[0]} {best}", *shown[1:]])
    intro = "Median Dice of six simulated clicks (jitter one voxel) on real volumes; the best in bold, peers tuned.\n"
    text = intro + "\n" + table(["set (cases)", "watershed", "best stock peer of the set", *ours], rows)
    if few:
        gains = [few[name]["dice"] - methods[FIRST][name]["dice"] for name in few]
        text += f"\n\n*Refine* was measured on {len(few)} of these cases: median change {np.median(gains):+.3f}."
    return text


def _walker(values: Values) -> list[str]:
    if not values:
        return []
    rows = [
        [
            name,
            f"{v['voxels'] / 1e6:.2f}",
            f"{v['ours']['cpu']:.2f}",
            f"{v['scikit-image']['cpu']:.2f}",
            f"**{v['scikit-image']['cpu'] / v['ours']['cpu']:.1f}**",
            f"{v['ours']['dice']:.4f}",
            f"{v['scikit-image']['dice']:.4f}",
        ]
        for name, v in values.items()
    ]
    ratios = [v["scikit-image"]["cpu"] / v["ours"]["cpu"] for v in values.values()]
    text = (
        "Same equation, same seeds, tolerance 1e-3, crops of 0.3 million voxels and more. "
        f"Ratio: median {np.median(ratios):.1f}, least {min(ratios):.1f}.\n"
    )
    header = ["case", "million voxels", "ours, CPU s", "scikit-image cg_j, CPU s", "ratio", "Dice ours", "Dice scikit-image"]
    return ["## The random walker's solver\n", text, table(header, rows), ""]


def _first_times(values: Values) -> list[str]:
    groups = [("up to 0.1", 0, 1e5), ("0.1 to 1", 1e5, 1e6), ("above 1", 1e6, 1e12)]
    rows = []
    for label, low, high in groups:
        walls = [v["cpu"] for v in values.values() if low < v["box"] <= high]
        if walls:
            rows.append([label, str(len(walls)), f"{np.median(walls):.2f}", f"{max(walls):.2f}"])
    head = table(["box, million voxels", "cases", "median", "longest"], rows)
    return ["## Clicks to first mask, CPU seconds of one thread\n", head, ""] if rows else []


def _memory(values: dict[str, float]) -> list[str]:
    rows = [[name, f"{value:.0f}"] for name, value in values.items()]
    return ["## Peak extra memory on the largest case, MB\n", table(["method", "MB"], rows), ""] if rows else []


def _one_volume(folder: Path) -> list[str]:
    """An expert's strokes on one volume, measured by a script of its own."""
    from report_one_volume import OUTPUT, one_volume

    return ["## Strokes on one volume\n", one_volume(), ""] if (folder / OUTPUT).exists() else []


def _slices() -> list[str]:
    """Time and memory of a step of the stroke methods."""
    from report_scribbles import steps as slice_steps

    return ["## Stroke methods: time and memory of a step\n", slice_steps(), ""] if slice_steps() else []
