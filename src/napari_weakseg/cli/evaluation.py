"""`evaluate` where it is given a run: what was learnt against a cohort."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .options import DONE, made_folder

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from pathlib import Path

    from ..console import Screen
    from ..matching import ToScore
    from ..method import Weights

MOST_ROWS = 40
"""Rows of cases that are printed; all are written."""


def evaluate_run(options: argparse.Namespace, screen: Screen) -> int:
    """Score a run on a cohort: table, JSON, CSV and a picture."""
    from ..api import predict
    from ..cohorts import seen_by
    from ..evaluation import evaluate_cohort, telling_cases
    from ..io.atomic import check_writable
    from ..io.evaluation import write_report
    from ..method import Step
    from ..overview import write_comparison

    if options.faithfulness:
        return _faithfulness(options, screen)
    folder = _folder_of(options)
    check_writable(folder / "evaluation.json")
    weights, chosen = _to_score(options, screen)
    with screen.progress() as show:
        report = evaluate_cohort(
            lambda case: predict(weights, seen_by(case, weights)),
            chosen,
            on_case=lambda number, total: show(Step("score", number, total, progress=number / total)),
        )
    write_report(report, folder)
    rows = []
    for word, name in telling_cases(report).items():
        if name not in report["failed"]:
            case = chosen.cases[chosen.cases.ids.index(name)]
            rows.append((f"{word}: {name}", case.volume, predict(weights, seen_by(case, weights)), case.reference))
    if rows:
        write_comparison(folder / "evaluation.png", rows)
    if options.json:
        screen.document(json.dumps(report, indent=1, allow_nan=False))
    else:
        _print_report(screen, report)
        screen.result(f"{report['part']}: {len(report['cases'])} cases scored; table, figures and picture in {folder.name}")
    return DONE


def _folder_of(options: argparse.Namespace) -> Path:
    """Where an evaluation is written; made where it is not there."""
    run: Path = options.mask
    return made_folder(options.output or (run if run.is_dir() else run.parent) / "evaluation")


def _to_score(options: argparse.Namespace, screen: Screen) -> tuple[Weights, ToScore]:
    """What was learnt, and the cases that it is scored on; what is to be known of them is said."""
    from ..io.cohort import read_cohort
    from ..io.runs import Run, read_weights
    from ..io.weights import caveats, check_trained
    from ..matching import cases_to_score

    run = options.mask
    weights = read_weights(run)
    check_trained(weights)
    facts = Run(run).cohort() if run.is_dir() else None
    chosen = cases_to_score(weights, facts, read_cohort(options.reference), options.part)
    for note in (*caveats(weights), *chosen.notes):
        screen.note(note)
    return weights, chosen


def _faithfulness(options: argparse.Namespace, screen: Screen) -> int:
    """Whether a classifier's maps explain its decisions: the method's own measures, beside other explanations."""
    from ..io.atomic import check_writable, write_atomically
    from ..method import Step
    from ..methods import get_method

    weights, chosen = _to_score(options, screen)
    measure = getattr(get_method(weights.method), "faithfulness", None)
    if measure is None:
        raise DataError(f"{weights.method} does not explain decisions; --faithfulness is for classifiers with heatmaps.")
    folder = _folder_of(options)
    check_writable(folder / "faithfulness.json")
    with screen.progress() as show:
        measures: Mapping[str, Mapping[str, float | None]] = measure(
            chosen.cases, weights, on_case=lambda number, total: show(Step("explain", number, total, progress=number / total))
        )
    data = json.dumps({"part": chosen.part, "explanations": measures}, indent=1, allow_nan=False)
    write_atomically(folder / "faithfulness.json", f"{data}\n".encode())
    if options.json:
        screen.document(data)
    else:
        names = list(dict.fromkeys(name for figures in measures.values() for name in figures))
        rows = [(explainer, *(_number(figures.get(name)) for name in names)) for explainer, figures in measures.items()]
        screen.table(("explanation", *names), rows)
    return DONE


def _print_report(screen: Screen, report: Mapping[str, Any]) -> None:
    def spread(part: Mapping[str, Any] | None, digits: int = 2) -> str:
        if part is None:
            return "-"
        low, high = part["quartiles"]
        return f"{part['median']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

    def mean(part: Mapping[str, Any] | None) -> str:
        return "-" if part is None else f"{part['mean']:.3f} ± {part['sd']:.3f}"

    unit = next((row["unit"] for row in report["cases"] if row["unit"]), "mm")
    size = "ml" if unit == "mm" else "voxels"
    _print_cases(screen, report, unit, size)
    alone = any(part["heatmap_dice"] for part in report["summary"].values())
    columns = (
        "structure",
        "cases",
        "Dice, median [quartiles]",
        "Dice, mean ± SD",
        *(("heatmap alone",) if alone else ()),
        f"HD95 ({unit})",
        f"difference ({size})",
        "empty",
    )
    rows = []
    for name, part in report["summary"].items():
        if part["cases"]:
            figures = (spread(part["hd95"]), spread(part["volume_difference"]), str(part["empty"]))
            dice = (spread(part["dice"], 3), mean(part["dice"]), *((mean(part["heatmap_dice"]),) if alone else ()))
            rows.append((name, str(part["cases"]), *dice, *figures))
    if rows:
        screen.table(columns, rows)
    classes = report["classification"]
    for level in ("slices", "volumes"):
        if classes is not None and level in classes:
            part = classes[level]
            words = [
                f"{name}: F1 {_number(f1)}, AUROC {_number(area)}, {count}"
                for name, f1, area, count in zip(classes["classes"], part["f1"], part["auroc"], part["count"], strict=True)
            ]
            screen.result(f"{level}: {'; '.join(words)}; balanced accuracy {_number(part['balanced_accuracy'])}")
    slices = report["slices"]
    if slices is not None and slices["dice"] is not None:
        quiet = "-" if slices["normal_without_mask"] is None else f"{slices['normal_without_mask']:.1%}"
        plain = "" if slices["heatmap_dice"] is None else f" (heatmap alone {slices['heatmap_dice']['median']:.3f})"
        overlap = f"{slices['dice']['median']:.3f}{plain}"
        screen.result(f"slices: median Dice {overlap}; {quiet} of {slices['normal']} normal ones without a mask")
    if report["worst"]:
        screen.result(f"worst: {', '.join(report['worst'])}")
    for name in report["failed"]:
        screen.note(f"{name} could not be read or predicted; it scores 0 and counts as wrong.")
    for name in report["learnt_from"]:
        screen.note(f"{name} is an image that this run learnt from; it does not count.")


def _print_cases(screen: Screen, report: Mapping[str, Any], unit: str, size: str) -> None:
    """A row per case and structure, or per case and class where there are no masks; of many cases the first ones."""
    rows: list[tuple[str, ...]] = [
        (row["id"], name, _number(of["dice"]), _number(of["hd95"]), _number(of["volume"]), _number(of["volume_difference"]))
        for row in report["cases"]
        for name, of in row["structures"].items()
    ]
    columns: tuple[str, ...] = ("case", "structure", "Dice", f"HD95 ({unit})", f"volume ({size})", f"difference ({size})")
    if not rows:
        found = [(row["id"], row["classes"]) for row in report["cases"] if row["classes"]]
        rows = [(name, classes["class"], _number(classes["of the right class"])) for name, classes in found]
        columns = ("case", "class", "probability of the right class")
    if rows:
        screen.table(columns, rows[:MOST_ROWS])
    if len(rows) > MOST_ROWS:
        screen.note(f"{len(rows) - MOST_ROWS} more rows are in the CSV file.")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
