"""What is to be known of a trained run before it is used: read from its own folder, without paths, without patients' names."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ..methods import get_method

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ..method import Weights

MOST_BYTES = 20_000_000
MOST_FIGURES = 4


def card_of(folder: Path, weights: Weights) -> str:
    """The card as lines of a name and what is known; cases and patients are counted, never named.

    Parameters
    ----------
    folder : Path
        The run folder; what it lacks is left out.
    weights : Weights
        What was read from it.
    """
    recipe, facts = weights.recipe, _json(folder / "cohort.json")
    network = str(getattr(recipe, "network", "")).replace("_", " ")
    lines = [
        ("Method", ", ".join(part for part in (get_method(weights.method).card.title, network) if part)),
        ("Learnt from", _learnt_from(facts, weights)),
        ("Marks", _marks(facts, weights)),
        ("Gives", ", ".join([structure.name for structure in weights.structures])),
        ("Held out", _held_out(facts)),
        ("Settings", f"preset {recipe.preset}, seed {recipe.seed}"),
        ("Trained", _when(folder, weights.meta)),
        ("While training", _last_figures(folder)),
        ("Scored", _scored(_json(folder / "evaluation" / "evaluation.json"))),
        ("Weights", _hash(folder)),
    ]
    return "\n".join(f"{name}: {words}" for name, words in lines if words)


def figures_of(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """The figures of a run so far, as its curves show them: a number from 1, and name to value."""
    try:
        path = folder / "metrics.csv"
        if path.stat().st_size > MOST_BYTES:
            return []
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        named = [{k: float(v) for k, v in row.items() if k not in ("stage", "step") and v} for row in rows]
    except (OSError, ValueError, TypeError):
        return []
    return list(enumerate(named, start=1))


def _json(path: Path) -> dict[str, Any]:
    """What a file of the run says; empty where there is none that can be read."""
    try:
        if path.stat().st_size > MOST_BYTES:
            return {}
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return _named(data)


def _named(value: Any) -> dict[str, Any]:
    """A value of a file that should be an object; empty where it is something else."""
    return value if isinstance(value, dict) else {}


def _listed(value: Any) -> list[Any]:
    """A value of a file that should be a list; empty where it is something else."""
    return value if isinstance(value, list) else []


def _parts(facts: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    parts = _named(facts.get("parts"))
    return {name: [case for case in _listed(cases) if isinstance(case, dict)] for name, cases in parts.items()}


def _counted(cases: list[dict[str, Any]]) -> str:
    patients = len({str(case.get("patient", number)) for number, case in enumerate(cases)})
    return f"{len(cases)} cases of {patients} patients"


def _learnt_from(facts: Mapping[str, Any], weights: Weights) -> str:
    cases = _parts(facts).get("training", [])
    channels = ", ".join(str(name) for name in _listed(facts.get("channels")) or weights.meta.get("channels", ()))
    counted = _counted(cases) if cases else f"{weights.meta['cases']} cases" if weights.meta.get("cases") else ""
    name = f"cohort {facts['name']}" if facts.get("name") else ""
    return ", ".join(part for part in (name, counted, f"channels {channels}" if channels else "") if part)


def _marks(facts: Mapping[str, Any], weights: Weights) -> str:
    """What supervised the training."""
    if facts.get("supervision", "marks") == "masks":
        return "full masks, for comparison"
    kinds = [kind.replace("_", " ") for kind in get_method(weights.method).card.prompts]
    classes = " / ".join(str(name) for name in _listed(facts.get("image_classes")))
    return ", ".join(f"{kind} {classes}" if kind == "image label" and classes else kind for kind in kinds)


def _held_out(facts: Mapping[str, Any]) -> str:
    parts, split = _parts(facts), _named(facts.get("split"))
    cases = parts.get("testing", [])
    if not cases:
        return "nothing, so no figure of it is fair"
    fold = f", fold {split['fold']} of {split['folds']} by patient" if split.get("fold") else ""
    return f"{_counted(cases)}{fold}"


def _when(folder: Path, meta: Mapping[str, Any]) -> str:
    """From the log's own dates: when it ended, else when it began and that it did not."""
    try:
        lines = (folder / "log.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    ended = next((line[:10] for line in reversed(lines) if " done: " in line), "")
    begun = lines[0][:10] if lines else ""
    parts = [ended or (f"begun {begun}, not to its end" if begun else "")]
    seconds = meta.get("seconds")
    if isinstance(seconds, int | float):
        parts.append(f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min")
    parts.append(str(meta.get("device", "")))
    return ", ".join(part for part in parts if part)


def _last_figures(folder: Path) -> str:
    rows = figures_of(folder)
    last: dict[str, float] = {}
    for _, scores in rows:
        last |= scores
    return ", ".join(f"{name} {value:.3g}" for name, value in list(last.items())[:MOST_FIGURES])


def _scored(report: Mapping[str, Any]) -> str:
    """What ``weakseg evaluate`` found, where it was run on this run."""
    if not report:
        return "not yet; weakseg evaluate RUN COHORT.json does it"
    counted = [row for row in _listed(report.get("cases")) if isinstance(row, dict) and not row.get("learnt_from")]
    where = f" of cohort {report['cohort']}" if report.get("cohort") else ""
    parts = [f"{report.get('part', '')}, {len(counted)} cases{where}".removeprefix(", ")]
    classified = _named(report.get("classification"))
    unit = "slice" if classified.get("slices") else "volume"
    figures = _named(classified.get(f"{unit}s"))
    for key, word in (("f1", "F1"), ("auroc", "AUROC")):
        for name, value in list(zip(_listed(classified.get("classes")), _listed(figures.get(key)), strict=False))[1:]:
            parts += [f"{word} {name} {value:.3f} per {unit}"] if isinstance(value, int | float) else []
    for name, summary in _named(report.get("summary")).items():
        spread = _named(_named(summary).get("dice"))
        if isinstance(spread.get("median"), int | float) and np.isfinite(spread["median"]):
            parts.append(f"median Dice {name} {spread['median']:.3f}")
    return "; ".join(parts)


def _hash(folder: Path) -> str:
    said = _json(folder / "weights.json")
    sha256 = str(_named(said.get("file")).get("sha256", ""))[:12]
    version = str(_named(said.get("software")).get("napari-weakseg", ""))
    known = (f"SHA-256 {sha256}…" if sha256 else "", f"napari-weakseg {version}" if version else "")
    return ", ".join(part for part in known if part)
