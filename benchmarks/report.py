"""Tables from the measured cases: ``results.json`` for programs, ``docs/benchmarks.md`` for readers."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from cases import Target


def _read(cache: Path, part: str) -> dict[str, Any]:
    """Target name to measured value."""
    entries = [json.loads(path.read_text()) for path in sorted((cache / part).glob("*.json"))]
    return {entry["target"]: entry["value"] for entry in entries if entry["value"] is not None}


def _quartiles(values: list[float]) -> str:
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:.3f} [{low:.2f}, {high:.2f}]"


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _per_method(cache: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Method to target to its figures."""
    methods: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for target, value in _read(cache, "peers").items():
        for name, figures in value.items():
            methods[name][target] = figures
    for target, value in _read(cache, "first").items():
        methods["first mask (ours)"][target] = value
    for target, value in _read(cache, "refine").items():
        methods["refined (ours)"][target] = value
    return methods


def _interval(differences: np.ndarray) -> str:
    """95 % bootstrap interval of the median, over targets."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(differences, size=(2000, len(differences))), axis=1)
    return f"{np.percentile(medians, 2.5):+.3f} to {np.percentile(medians, 97.5):+.3f}"


def write_report(cache: Path, folder: Path, targets: list[Target], machine: dict[str, Any]) -> None:
    """Write both files from what the cache holds; parts that were not measured are left out."""
    methods = _per_method(cache)
    sets = list(dict.fromkeys(target.set for target in targets))
    of_set = {name: [t.name for t in targets if t.set == name] for name in sets}
    order = sorted(methods, key=lambda m: (m.endswith("(ours)"), float(np.median([v["dice"] for v in methods[m].values()]))))
    sections = [
        "# Benchmarks\n",
        "Made by `make bench`. Real volumes (not part of the project), largest face-connected component of each label, six "
        "simulated points with a jitter of one voxel, the same for every method; nothing left out. Peers have their tuned "
        "settings (`benchmarks/tuned_peers.json`), the same for all sets. CPU seconds of one thread; refining uses two. "
        "A number in round brackets behind a cell: so many cases of the set were measured; the short table of the README and "
        "the paired differences compare the same cases only.\n",
        f"Measured with {', '.join(f'{k} {v}' for k, v in machine.items())}; no GPU; the machine was shared.\n",
    ]
    rows = []
    for name in sets:
        row = [f"{name} ({len(of_set[name])})"]
        for method in order:
            values = [methods[method][t]["dice"] for t in of_set[name] if t in methods[method]]
            part = f" ({len(values)})" if len(values) < len(of_set[name]) else ""
            row.append(_quartiles(values) + part if values else "-")
        rows.append(row)
    everything = ["**all**"]
    seconds = ["CPU s, median (largest)"]
    for method in order:
        values = methods[method].values()
        everything.append("**" + _quartiles([v["dice"] for v in values]) + "**")
        cpu = [v["cpu"] for v in values]
        seconds.append(f"{np.median(cpu):.2f} ({max(cpu):.1f})")
    sections += ["## Dice per set: median [quartiles]\n", _table(["set (cases)", *order], [*rows, everything, seconds]), ""]
    sections += _paired(methods)
    sections += _walker(cache) + _first_times(cache) + _memory(cache)
    summary = _summary(methods, of_set)
    home = folder.parent
    _fill(home / "README.md", "benchmark table", summary)
    _fill(home / "docs" / "methods" / "simple_propagation.md", "measured figures", summary)
    (folder.parent / "docs" / "benchmarks.md").write_text("\n".join(sections) + "\n")
    record = {"machine": machine, "methods": methods, "walker": _read(cache, "walker")}
    if (cache / "memory.json").exists():
        record["memory_mb"] = json.loads((cache / "memory.json").read_text())
    (folder / "results.json").write_text(json.dumps(record, indent=1) + "\n")


def _summary(methods: dict[str, dict[str, dict[str, float]]], of_set: dict[str, list[str]]) -> str:
    """The short table: per set the best stock peer of that set, our first mask, our refined mask."""
    peers = [name for name in methods if not name.endswith("(ours)")]
    ours = [name for name in ("first mask (ours)", "refined (ours)") if name in methods]

    def median(method: str, names: list[str]) -> float:
        return float(np.median([methods[method][name]["dice"] for name in names]))

    rows = []
    groups = [(f"{name} ({len(names)})", names) for name, names in of_set.items()]
    groups.append(("**all**", [name for names in of_set.values() for name in names]))
    for label, every in groups:
        names = [name for name in every if all(name in methods[m] for m in (*peers, *ours))]
        if not names:
            continue
        best = max(peers, key=lambda peer, names=names: median(peer, names))
        values = [median(best, names), *(median(m, names) for m in ours)]
        shown = [f"{v:.2f}" if v < max(values) else f"**{v:.2f}**" for v in values]
        label = f"**all** ({len(names)})" if label == "**all**" else f"{label.rsplit(' (', 1)[0]} ({len(names)})"
        rows.append([label, f"{median('watershed', names):.2f}", f"{shown[0]} {best}", *shown[1:]])
    intro = "Median Dice of six simulated clicks (jitter one voxel) on real volumes; the best in bold, peers tuned.\n"
    return intro + "\n" + _table(["set (cases)", "watershed", "best stock peer of the set", *ours], rows)


def _fill(path: Path, name: str, text: str) -> None:
    """Put `text` between the page's two comments of that name."""
    page = path.read_text()
    begin, end = page.index(f"<!-- {name}: begin"), page.index(f"<!-- {name}: end -->")
    start = page.index("-->", begin) + len("-->")
    path.write_text(page[:start] + "\n" + text + "\n" + page[end:])


def _paired(methods: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Ours against each peer and against ourselves, case by case."""
    rows = []
    for ours in [m for m in ("first mask (ours)", "refined (ours)") if m in methods]:
        for other in methods:
            if other == ours or other == "refined (ours)":
                continue
            both = sorted(set(methods[ours]) & set(methods[other]))
            if not both:
                continue
            gain = np.array([methods[ours][t]["dice"] - methods[other][t]["dice"] for t in both])
            rows.append([ours, other, str(len(both)), f"{np.median(gain):+.3f}", _interval(gain), f"{int((gain > 0).sum())}"])
    header = ["ours", "against", "cases", "median gain", "95 % interval", "better on"]
    return ["## Paired differences of Dice\n", _table(header, rows), ""]


def _walker(cache: Path) -> list[str]:
    values = _read(cache, "walker")
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
    return ["## The random walker's solver\n", text, _table(header, rows), ""]


def _first_times(cache: Path) -> list[str]:
    values = _read(cache, "first")
    if not values:
        return []
    groups = [("up to 0.1", 0, 1e5), ("0.1 to 1", 1e5, 1e6), ("above 1", 1e6, 1e12)]
    rows = []
    for label, low, high in groups:
        walls = [v["wall"] for v in values.values() if low < v["box"] <= high]
        if walls:
            rows.append([label, str(len(walls)), f"{np.median(walls):.2f}", f"{max(walls):.2f}"])
    return ["## Clicks to first mask, wall seconds\n", _table(["box, million voxels", "cases", "median", "longest"], rows), ""]


def _memory(cache: Path) -> list[str]:
    path = cache / "memory.json"
    if not path.exists():
        return []
    rows = [[name, f"{value:.0f}"] for name, value in json.loads(path.read_text()).items()]
    return ["## Peak extra memory on the largest case, MB\n", _table(["method", "MB"], rows), ""]
