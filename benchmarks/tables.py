"""What the reports share: measured values, tables, medians with intervals, and blocks of a page that are filled in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

Values = dict[str, Any]


class Measured:
    """Part -> target -> value: what the cache holds, over what ``results.json`` kept of earlier runs.

    Parameters
    ----------
    cache : Path
        Folder with one folder per part.
    record : Path
        ``results.json``.
    """

    def __init__(self, cache: Path, record: Path) -> None:
        self._record = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
        self.parts: dict[str, Values] = {part: dict(values) for part, values in self._record.get("parts", {}).items()}
        for folder in sorted(path for path in cache.glob("*") if path.is_dir()):
            entries = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
            found = {entry["target"]: entry["value"] for entry in entries if entry["value"] is not None}
            self.parts[folder.name] = {**self.parts.get(folder.name, {}), **found}
        memory = cache / "memory.json"
        self.memory: dict[str, float] = json.loads(memory.read_text()) if memory.exists() else self._record.get("memory_mb", {})

    def part(self, name: str) -> Values:
        """Target to value; empty where nothing was measured."""
        return self.parts.get(name, {})

    def by_method(self, ours: dict[str, str], peers: str) -> dict[str, Values]:
        """Method to target to figures: those of the part `peers`, and ours (name of the method -> part)."""
        methods: dict[str, Values] = {}
        for target, value in self.part(peers).items():
            for name, figures in value.items():
                methods.setdefault(name, {})[target] = figures
        return methods | {name: self.part(part) for name, part in ours.items() if self.part(part)}

    def write(self, record: Path, machine: dict[str, Any]) -> None:
        """Write everything, one line per target."""
        lines = [f' "machine": {json.dumps(machine)}', f' "memory_mb": {json.dumps(_rounded(self.memory))}']
        parts = []
        for part, values in sorted(self.parts.items()):
            rows = ",\n".join(f"   {json.dumps(name)}: {json.dumps(_rounded(value))}" for name, value in sorted(values.items()))
            parts.append(f"  {json.dumps(part)}: {{\n{rows}\n  }}")
        lines.append(' "parts": {\n' + ",\n".join(parts) + "\n }")
        record.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    """Floats with five digits behind the point: enough for every table."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def quartiles(values: list[float]) -> str:
    """Median [quartiles]."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:.3f} [{low:.2f}, {high:.2f}]"


def of_set(names: list[str], wanted: str) -> list[str]:
    """The targets of one set."""
    return [name for name in names if name.split("/")[0] == wanted]


def median(values: Values, names: list[str], key: str = "dice") -> float:
    """Median of one figure over targets."""
    return float(np.median([values[name][key] for name in names]))


def gain(ours: Values, other: Values, names: list[str] | None = None) -> tuple[np.ndarray, list[str]]:
    """Paired differences of Dice and their targets."""
    both = sorted(set(ours) & set(other) & set(names if names is not None else ours))
    return np.array([ours[name]["dice"] - other[name]["dice"] for name in both]), both


def interval(differences: np.ndarray, names: list[str]) -> tuple[float, float]:
    """95 % bootstrap interval of the median; patients are drawn, with all their targets."""
    patients: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        patients.setdefault(name.split("/")[1], []).append(number)
    groups = [differences[indices] for indices in patients.values()]
    rng = np.random.default_rng(0)
    medians = []
    for _ in range(2000):
        drawn = np.concatenate([groups[group] for group in rng.integers(len(groups), size=len(groups))])
        medians.append(np.median(drawn))
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(low), float(high)


def dice_table(methods: dict[str, Values], sets: list[str]) -> str:
    """Median Dice [quartiles] per set and method, then all, then the CPU seconds; ours to the right, best medians last."""
    every = sorted({name for values in methods.values() for name in values})
    order = sorted(methods, key=lambda m: (m.endswith("(ours)"), median(methods[m], list(methods[m]))))
    rows = []
    for wanted in sets:
        names = of_set(every, wanted)
        row = [f"{wanted} ({len(names)})"]
        for method in order:
            values = [methods[method][t]["dice"] for t in names if t in methods[method]]
            part = f" ({len(values)})" if len(values) < len(names) else ""
            row.append(quartiles(values) + part if values else "-")
        rows.append(row)
    everything = ["**all**"] + ["**" + quartiles([v["dice"] for v in methods[m].values()]) + "**" for m in order]
    seconds = ["CPU s, median (largest)"]
    for method in order:
        cpu = [v["cpu"] for v in methods[method].values()]
        seconds.append(f"{np.median(cpu):.2f} ({max(cpu):.1f})")
    return table(["set (cases)", *order], [*rows, everything, seconds])


def paired_table(methods: dict[str, Values], ours: list[str], last: tuple[str, ...] = ()) -> str:
    """Ours against each other method, case by case; a method in `last` is never the other one."""
    rows = []
    for name in [m for m in ours if m in methods]:
        for other in (m for m in methods if m != name and m not in last):
            differences, both = gain(methods[name], methods[other])
            if len(both):
                low, high = interval(differences, both)
                better = f"{int((differences > 0).sum())}"
                rows.append(
                    [name, other, str(len(both)), f"{np.median(differences):+.3f}", f"{low:+.3f} to {high:+.3f}", better]
                )
    return table(["ours", "against", "cases", "median gain", "95 % interval", "better on"], rows)


def best_peer(methods: dict[str, Values], names: list[str]) -> str:
    """The stock method with the highest median over these targets."""
    peers = [name for name in methods if not name.endswith("(ours)")]
    return max(peers, key=lambda peer: median(methods[peer], names))


def pooled(values: Values, which: str) -> dict[str, list[float]]:
    """One reliability curve of all targets, each with the same weight."""
    shares = np.array([np.array(v[which]["voxels"], dtype=float) / max(sum(v[which]["voxels"]), 1) for v in values.values()])
    total = np.maximum(shares.sum(axis=0), 1e-12)
    out = {key: np.array([v[which][key] for v in values.values()]) for key in ("said", "was")}
    curve = {key: ((shares * array).sum(axis=0) / total).tolist() for key, array in out.items()}
    return {"voxels": (shares.sum(axis=0) / len(shares)).tolist(), **curve}


def fill(path: Path, name: str, text: str) -> None:
    """Put `text` between the page's two comments of that name."""
    page = path.read_text(encoding="utf-8")
    begin, end = page.index(f"<!-- {name}: begin"), page.index(f"<!-- {name}: end -->")
    start = page.index("-->", begin) + len("-->")
    path.write_text(page[:start] + "\n" + text + "\n" + page[end:], encoding="utf-8")
