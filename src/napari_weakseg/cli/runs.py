"""Commands on training runs: `train`, `predict`, and `evaluate` where it is given a run."""

from __future__ import annotations

import json
import signal
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from threading import Event, current_thread, main_thread
from typing import TYPE_CHECKING, Any

from ..errors import DataError, WeaksegError
from ..methods import DEFAULT
from ..recipe import PRESETS
from .options import DONE, FAILED, STOPPED, add_questions, answers, recipe_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from ..case import Case, Cohort
    from ..console import Screen
    from ..matching import ToScore
    from ..method import Weights
    from .options import Command


MOST_ROWS = 40
"""Rows of cases that are printed; all are written."""

MOST_NAMED = 10
"""Images without a mask that the last line names."""


def add_commands(command: Command) -> None:
    """Add the commands on runs."""
    train = command("train", _train, "learn from the marks of a cohort, into a run folder")
    train.add_argument("cohort", type=Path, metavar="COHORT.json")
    train.add_argument("--method", help=f"see: weakseg methods (default: {DEFAULT}, or that of the run that is resumed)")
    train.add_argument(
        "--run", type=Path, required=True, metavar="RUN", help="folder for weights, checkpoints, figures and log"
    )
    train.add_argument("--preset", choices=PRESETS, help=f"default: {PRESETS[0]}, or that of the run that is resumed")
    train.add_argument("--resume", action="store_true", help="go on with what RUN holds")
    train.add_argument("--folds", type=int, metavar="N", help="split the training cases into N folds by patient")
    train.add_argument("--fold", type=int, metavar="K", help="learn from all folds but K (from 1), and test on K")
    train.add_argument("--split-seed", type=int, help="decides the folds (default: 0)")
    train.add_argument("--max-seconds", type=float, metavar="S", help="longest training")
    train.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), help="default: auto")
    train.add_argument("--seed", type=int, help="seed of every random draw (default: 0)")
    train.add_argument(
        "--set", action="append", default=[], metavar="KNOB=VALUE", help="any setting; see: weakseg methods METHOD"
    )

    predict = command("predict", _predict, "masks and maps of images from what a run has learnt")
    predict.add_argument("run", type=Path, metavar="RUN", help="a run folder, or weights.safetensors")
    predict.add_argument("images", type=Path, nargs="+", metavar="IMAGE.nii.gz", help="images, or one COHORT.json")
    predict.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    add_questions(predict, "volume_index", "prefer", "units")

    command("clear-prepared", _clear_prepared, "remove the prepared images that trainings keep in the cache folder")


def _clear_prepared(options: argparse.Namespace, screen: Screen) -> None:
    from ..training.cache import clear_prepared

    screen.result(f"prepared images: {clear_prepared() / 1e6:.1f} MB removed")


def _train(options: argparse.Namespace, screen: Screen) -> int:
    from ..cohorts import training_steps
    from ..io.cohort import read_cohort
    from ..io.runs import Run

    fold = None
    if (options.folds is None) != (options.fold is None):
        raise DataError("--folds and --fold go together; give how many there are, and which one is tested.")
    run = Run(options.run)
    begun = run.begun() if options.resume else None
    options.method = options.method or (DEFAULT if begun is None else begun[0])
    split = {} if begun is None else run.cohort().get("split") or {}
    if options.fold is None and split.get("fold"):
        options.fold, options.folds, options.split_seed = split["fold"], split["folds"], split["seed"]
    if options.fold is not None:
        fold = (options.fold, options.folds)
    recipe = recipe_of(options, for_cohort=True, begun=None if begun is None else begun[1])
    cohort = read_cohort(options.cohort)
    for note in cohort.notes:
        screen.note(note)
    every = training_steps(
        cohort,
        recipe,
        method=options.method,
        run=options.run,
        resume=options.resume,
        fold=fold,
        split_seed=options.split_seed or 0,
    )
    told: set[str] = set()
    try:
        with screen.progress() as show, closing(every) as running, _interrupted() as interrupted:
            while True:
                if interrupted.is_set():
                    raise KeyboardInterrupt
                try:
                    step = next(running)
                except StopIteration as finished:
                    weights: Weights = finished.value
                    break
                show(step)
                if step.note and step.note not in told:
                    told.add(step.note)
                    screen.note(step.note)
    except KeyboardInterrupt:
        screen.error("stopped; the same command with --resume goes on where it was.")
        return STOPPED
    for note in weights.meta.get("notes", ()):
        if note not in told:
            screen.note(note)
    screen.result(f"{options.run.name}: {weights.method} learnt from {_count(cohort, options)} of {options.cohort.name}")
    return DONE


@contextmanager
def _interrupted() -> Iterator[Event]:
    """Set by Ctrl-C, for a stop between two steps, where what was learnt is whole; the second one ends a step too."""
    asked = Event()
    if current_thread() is not main_thread():
        yield asked
        return

    def ask(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        asked.set()

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def _count(cohort: Cohort, options: argparse.Namespace) -> str:
    count = len(cohort.training)
    return f"fold {options.fold} of {options.folds} ({count} cases)" if options.fold else f"{count} cases"


def _predict(options: argparse.Namespace, screen: Screen) -> int:
    from ..api import predict
    from ..cohorts import seen_by
    from ..io.atomic import check_writable
    from ..io.predictions import write_prediction
    from ..io.runs import read_weights
    from ..io.weights import caveats, check_trained
    from ..method import Step

    weights = read_weights(options.run)
    check_trained(weights)
    cases = list(_named(options, weights))
    _made(options.output)
    names = [name for name, _ in cases]
    for name in names:
        if names.count(name) > 1:
            raise DataError(
                f"two images are called {name!r}, so their masks would be one file; rename one or predict it apart."
            )
    inputs = {image.resolve() for image in options.images}
    check_writable(options.output / f"{names[0]}_mask.nii.gz")
    failed: list[str] = []
    told = {*caveats(weights), *weights.meta.get("notes", ())}
    for note in sorted(told):
        screen.note(note)
    with screen.progress() as show:
        for number, (name, read) in enumerate(cases, start=1):
            mask = options.output / f"{name}_mask.nii.gz"
            if mask.resolve() in inputs:
                raise DataError(f"{mask.name} is an input of this command; choose another folder for the masks.")
            try:
                result = predict(weights, seen_by(read(), weights))
                write_prediction(result, options.output, name)
            except WeaksegError as error:
                failed.append(name)
                screen.error(f"{name}: {str(error).removeprefix(f'{name}: ')}")
                continue
            for note in result.notes:
                if note not in told:
                    screen.note(f"{name}: {note}")
            show(Step("predict", number, len(cases), progress=number / len(cases)))
            screen.result(mask.name)
    if failed:
        screen.error(f"{len(failed)} of {len(cases)} images got no mask: {_listed(failed)}; see above.")
    return FAILED if failed else DONE


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")


def _made(folder: Path) -> Path:
    """The folder, made where it is not there."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder.name} is a file; name a folder for the output.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"the folder {folder.name} cannot be made; choose another place or change its rights.") from error
    return folder


def _named(options: argparse.Namespace, weights: Weights) -> Iterator[tuple[str, Any]]:
    """Name of each image and what reads it; nothing is read yet."""
    from ..case import Case, known
    from ..io.cases import CasesOnDisk
    from ..io.cohort import read_cohort
    from ..io.names import without_suffix
    from ..io.nifti import read_volume
    from ..io.runs import Run

    channels = Run(options.run).cohort()["channels"] if options.run.is_dir() else ["image"]
    stated = answers(options, "volume_index", "prefer", "units")
    for path in options.images:
        if path.suffix == ".json":
            cohort = read_cohort(path)
            for part in (cohort.training, cohort.validation, cohort.testing):
                reads_marks = bool(getattr(weights.recipe, "marks", False))
                read_case = part.image_of if isinstance(part, CasesOnDisk) and not reads_marks else part.__getitem__
                for place, name in enumerate(known(part, "id")):
                    yield name, partial(read_case, place)
        elif len(channels) > 1:
            raise DataError(
                f"this run reads {len(channels)} channels ({', '.join(channels)}); list the images in a cohort.json."
            )
        else:

            def read(path: Path = path) -> Case:
                return Case(without_suffix(path), {channels[0]: read_volume(path, **stated)})

            yield without_suffix(path), read


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
    return _made(options.output or (run if run.is_dir() else run.parent) / "evaluation")


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
    columns = (
        "structure",
        "cases",
        "Dice, median [quartiles]",
        "Dice, mean ± SD",
        f"HD95 ({unit})",
        f"difference ({size})",
        "empty",
    )
    rows = []
    for name, part in report["summary"].items():
        if part["cases"]:
            figures = (spread(part["hd95"]), spread(part["volume_difference"]), str(part["empty"]))
            rows.append((name, str(part["cases"]), spread(part["dice"], 3), mean(part["dice"]), *figures))
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
        screen.result(
            f"slices: median Dice {slices['dice']['median']:.3f}; {quiet} of {slices['normal']} normal ones without a mask"
        )
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
