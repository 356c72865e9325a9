"""Commands on training runs: `train` and `predict`."""

from __future__ import annotations

import signal
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from threading import Event, current_thread, main_thread
from typing import TYPE_CHECKING, Any

from ..errors import DataError, WeaksegError
from ..methods import DEFAULT
from ..recipe import PRESETS
from .options import DONE, FAILED, STOPPED, add_questions, answers, made_folder, recipe_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from ..case import Case, Cohort
    from ..console import Screen
    from ..method import Weights
    from .options import Command

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
    made_folder(options.output)
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
