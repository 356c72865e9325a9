"""`weakseg`: the same work as the viewer's, without a window.

Exit codes: 0 done; 2 bad input or a question that an option answers; 1 it failed; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .errors import Ask, DataError, PromptError, RecipeError, WeaksegError
from .recipe import PRESETS

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Mapping, Sequence

    from .console import Screen
    from .method import Preview, Result, Step
    from .recipe import Recipe
    from .volume import Volume

DONE, FAILED, BAD_INPUT, STOPPED = 0, 1, 2, 130
NOTICE = "Research use only; not a medical device."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default those of the process.

    Returns
    -------
    int
        The exit code.
    """
    from .console import Screen

    options = _parser().parse_args(arguments)
    screen = Screen()
    if arguments is None:
        sys.excepthook = _say_in_one_line
    try:
        return int(options.command(options, screen) or DONE)
    except Ask as question:
        few = question.choices if len(question.choices) <= 6 else (f"{question.choices[0]}..{question.choices[-1]}",)
        answers = f" {{{','.join(few)}}}" if question.choices else ""
        screen.error(f"{question} Answer with --{question.argument.replace('_', '-')}{answers}.")
        return BAD_INPUT
    except WeaksegError as error:
        screen.error(str(error))
        return BAD_INPUT
    except MemoryError:
        screen.error("the memory of this computer is not enough for this volume; crop or resample it first.")
        return FAILED
    except BrokenPipeError:  # whoever read the output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        screen.error("stopped; nothing was written.")
        return STOPPED


def _say_in_one_line(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
    """Say in one line what we did not foresee, with the place; WEAKSEG_DEBUG=1 shows the whole trace."""
    if os.environ.get("WEAKSEG_DEBUG"):
        sys.__excepthook__(kind, error, trace)
        return
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace is not None else ""
    sys.stderr.write(
        f"weakseg: internal error ({kind.__name__}{where}); please report it with the output of WEAKSEG_DEBUG=1.\n"
    )


# -- commands -----------------------------------------------------------------------------------------------------------


def _segment(options: argparse.Namespace, screen: Screen) -> None:
    from .api import expected_memory, in_words, segment
    from .case import Case
    from .io.nifti import export_notes, read_mask, read_volume, write_mask
    from .io.points import read_points
    from .io.records import write_record
    from .io.scribbles import read_scribbles
    from .methods import get_method

    recipe = _recipe(options)
    marks = get_method(options.method).card.prompts
    if options.points is None and options.scribbles is None and "extreme_points" in marks:
        needed = "this method needs six extreme points per object; give them with --points POINTS.json"
        raise PromptError(f"{needed}, or strokes with --scribbles." if "scribbles" in marks else f"{needed}.")
    sources = [options.image, options.points, options.scribbles, options.previous, options.reference]
    _check_targets(sources, mask=options.output, json=options.record, picture=options.overview)
    volume = read_volume(options.image, **_answers(options, "volume_index", "prefer", "units"))
    reference = None
    if options.reference is not None:
        reference = read_mask(options.reference, like=volume, resample=options.resample, **_answers(options, "prefer", "units"))
    points = None if options.points is None else read_points(options.points, volume, partial=options.scribbles is not None)
    strokes = None
    if options.scribbles is not None:
        named = () if points is None else points.structures
        strokes = read_scribbles(options.scribbles, volume, structures=named, **_answers(options, "prefer", "units"))
    earlier = None
    if options.previous is not None:
        earlier = read_mask(options.previous, like=volume, **_answers(options, "prefer", "units"))
    case = Case("case", {"image": volume}, points=points, scribbles=strokes, previous=earlier)
    memory = in_words(expected_memory(case, method=options.method, recipe=recipe))
    first: list[Preview] = []
    with screen.progress() as show:

        def on_step(step: Step) -> None:
            show(step)
            if step.preview is not None and not first:
                first.append(step.preview)
                if recipe.max_seconds:
                    screen.err.print(f"learning takes up to {recipe.max_seconds:.0f} s and about {memory} of memory")

        result = segment(case, method=options.method, recipe=recipe, on_step=on_step, reference=reference)
    export = export_notes(result, options.output)
    for note in dict.fromkeys([*volume.notes, *(reference.notes if reference else ()), *result.notes, *export]):
        screen.note(note)
    if options.record is not None:  # first: a record that is refused leaves no mask behind
        write_record(result.record, options.record)
    write_mask(result, options.output)
    if options.overview is not None:
        from .overview import write_overview

        masks = {"first mask": first[0].labels()} if first else {}
        write_overview(options.overview, volume, result, points=points, earlier=masks, reference=reference)
    _report(screen, result, options.output, reference)


def _report(screen: Screen, result: Result, output: Path, reference: Volume | None) -> None:
    from .api import evaluate

    mask = result.mask
    seconds = result.record["durations"]
    for structure in result.structures:
        voxels = int((mask.array == structure.value).sum())
        size = f"{voxels * mask.voxel_volume / 1000:.2f} ml" if mask.spacing_known else f"{voxels} voxels"
        screen.result(f"{output.name}: {structure.name} {size}")
    screen.err.print(f"first mask after {seconds.get('first_mask', 0):.1f} s, done after {seconds['total']:.1f} s")
    if reference is not None:
        _print_scores(screen, evaluate(result, reference))


def _evaluate(options: argparse.Namespace, screen: Screen) -> None:
    from .api import evaluate
    from .io.nifti import read_mask

    answers = _answers(options, "prefer", "units")
    reference = read_mask(options.reference, **answers)
    mask = read_mask(options.mask, like=reference, resample=options.resample, **answers)
    for note in dict.fromkeys([*reference.notes, *mask.notes]):
        screen.note(note)
    report = evaluate(mask, reference)
    if not report["structures"]:
        screen.note("both masks are empty; there is nothing to compare.")
    if options.json:
        screen.document(json.dumps(report, indent=1, allow_nan=False))
    else:
        _print_scores(screen, report)


def _print_scores(screen: Screen, report: Mapping[str, Any]) -> None:
    def figure(value: float | None, digits: int = 2) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    unit, size = report["unit"], report["volume_unit"]
    columns = (
        "structure",
        "Dice",
        f"HD95 ({unit})",
        f"ASSD ({unit})",
        f"volume ({size})",
        f"reference ({size})",
        f"difference ({size})",
    )
    rows = [
        (
            name,
            figure(scores["dice"], 3),
            figure(scores["hd95"]),
            figure(scores["assd"]),
            *(figure(scores[key]) for key in ("volume", "reference_volume", "volume_difference")),
        )
        for name, scores in report["structures"].items()
    ]
    screen.table(columns, rows)


def _methods(options: argparse.Namespace, screen: Screen) -> None:
    from .methods import get_method, list_methods

    if options.name is None:
        rows = [(c.name, c.title, ", ".join(c.prompts).replace("_", " "), c.dimensions, c.doi) for c in list_methods()]
        screen.table(("method", "title", "marks", "dimensions", "DOI"), rows)
        return
    import dataclasses

    room = get_method(options.name)
    rows = []
    for field in dataclasses.fields(room.recipe_class):
        if not field.metadata["hidden"]:
            values = [str(getattr(room.recipe_class.from_preset(preset), field.name)) for preset in room.recipe_class.PRESETS]
            unit = f" ({field.metadata['unit']})" if field.metadata["unit"] else ""
            rows.append((field.name, *values, field.metadata["source"], field.metadata["tooltip"] + unit))
    screen.table(("setting", *room.recipe_class.PRESETS, "source", "what it does"), rows)


def _simulate_points(options: argparse.Namespace, screen: Screen) -> None:
    import numpy as np

    from .arrays.extreme_points import simulate_points
    from .io.nifti import read_mask
    from .io.points import write_points
    from .prompts import ExtremePoints, Structure

    if options.jitter < 0 or options.seed < 0:
        raise PromptError("--jitter and --seed are whole numbers from 0 on; give others.")
    _check_targets([options.mask], json=options.output)
    mask = read_mask(options.mask, **_answers(options, "prefer", "units"))
    for note in mask.notes:
        screen.note(note)
    values = [int(value) for value in np.unique(mask.array) if value != 0]
    if not values:
        raise DataError(f"{options.mask.name} holds no object; give a mask with at least one label.")
    rng = np.random.default_rng(options.seed)
    six = np.stack([simulate_points(mask.array == value, jitter=options.jitter, rng=rng) for value in values])
    structures = tuple(Structure("lesion" if values == [1] else f"label {value}", value) for value in values)
    points = ExtremePoints(six.astype(np.float64), np.array(values), structures, mask.affine)
    write_points(points, options.output)
    screen.result(f"{options.output.name}: {len(points)} x 6 points, jitter {options.jitter}, seed {options.seed}")


def _replay(options: argparse.Namespace, screen: Screen) -> None:
    from .api import replay
    from .io.nifti import read_mask, read_volume, write_mask
    from .io.records import read_record

    _check_targets([options.record, options.image, options.previous], mask=options.output)
    record = read_record(options.record)
    volume = read_volume(options.image, **_answers(options, "volume_index", "prefer", "units"))
    earlier = None if options.previous is None else read_mask(options.previous, like=volume)
    result = replay(record, volume, previous=earlier)
    for note in result.notes:
        screen.note(note)
    write_mask(result, options.output)
    same = result.mask.sha256 == record["output"]["sha256"]
    screen.result(f"{options.output.name}: {'the same mask as recorded' if same else 'NOT the recorded mask'}")


def _sample_data(options: argparse.Namespace, screen: Screen) -> None:
    from .demo import copy_samples

    for path in copy_samples(options.folder):
        screen.result(str(path))


def _train_first_mask(options: argparse.Namespace, screen: Screen) -> int:
    if options.steps < 1 or options.batch < 2 or options.seed < 0:
        raise RecipeError("--steps starts at 1, --batch at 2 and --seed at 0; give whole numbers from there on.")
    if options.folder.is_file():
        raise DataError(f"{options.folder.name} is a file; name a folder for checkpoints and log.")
    _check_targets([], weights=options.export)
    from .method import Step
    from .training.first_mask import FirstMaskTraining, export_first_mask, train_first_mask

    settings = FirstMaskTraining(steps=options.steps, batch=options.batch, seed=options.seed)
    try:
        with screen.progress() as show:
            for state in train_first_mask(options.folder, settings):
                words = f"loss {state.loss:.3f}, Dice {state.dice:.3f}, step"
                show(Step(words, state.step, settings.steps, progress=state.step / settings.steps))
        path = export_first_mask(options.folder, options.export or options.folder / "first_mask.safetensors")
    except KeyboardInterrupt:
        screen.error("stopped; the same command continues at the last checkpoint.")
        return STOPPED
    screen.result(f"{path.name}: {settings.steps} steps of {settings.batch} made-up cubes, seed {settings.seed}")
    return DONE


def _demo(options: argparse.Namespace, screen: Screen) -> None:
    from .demo import run_demo

    run_demo(screen, options.folder, window=options.window, max_seconds=options.max_seconds)


# -- options ------------------------------------------------------------------------------------------------------------


def _recipe(options: argparse.Namespace) -> Recipe:
    from .methods import new_recipe

    changes: dict[str, Any] = {}
    for text in options.set:
        name, separator, value = text.partition("=")
        if not separator:
            raise RecipeError(f"--set {text} is not of the form knob=value; see weakseg methods {options.method}.")
        changes[name.strip().replace("-", "_")] = value.strip()
    for name in ("first_mask", "max_seconds", "device", "seed"):
        if getattr(options, name, None) is not None:
            changes[name] = getattr(options, name)
    return new_recipe(options.method, options.preset, **changes)


def _answers(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The answers to questions about a file that were given on the command line."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, as every other refusal."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: {message}; see {self.prog} --help\n")


_SUFFIXES = {"mask": (".nii.gz", ".nii"), "json": (".json",), "picture": (".png",), "weights": (".safetensors",)}


def _check_targets(sources: Sequence[Path | None], **targets: Path | None) -> None:
    """Find out before a long run what could not be written at its end; `targets` by kind of file, see `_SUFFIXES`."""
    from .io.atomic import check_writable

    written = {kind: path for kind, path in targets.items() if path is not None}
    for kind, path in written.items():
        if any(source is not None and path.resolve() == source.resolve() for source in sources):
            raise DataError(f"{path.name} is an input of this command; choose another name for the output.")
        if sum(other.resolve() == path.resolve() for other in written.values()) > 1:
            raise DataError(f"{path.name} is named for two outputs; choose different names.")
        if not path.name.endswith(_SUFFIXES[kind]):
            raise DataError(f"the name {path.name} does not fit what is written; let it end in {_SUFFIXES[kind][0]}.")
        check_writable(path)


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    parser = _Parser(prog="weakseg", description=f"3D masks of MRI and CT from very light marks. {NOTICE}")
    parser.add_argument("--version", action="version", version=f"weakseg {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace, Screen], int | None], words: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=words, description=words)
        added.set_defaults(command=run)
        return added

    segment = command("segment", _segment, "make a mask of an image from its marks")
    segment.add_argument("image", type=Path, metavar="IMAGE.nii.gz")
    segment.add_argument(
        "--points", type=Path, metavar="POINTS.json", help="extreme points: ours, 3D Slicer's .mrk.json, napari's CSV"
    )
    segment.add_argument(
        "--scribbles", type=Path, metavar="STROKES.nii.gz", help="strokes: 0 not marked, 1 to 254 structures, 255 background"
    )
    segment.add_argument("--previous", type=Path, metavar="MASK.nii.gz", help="an earlier mask that the strokes correct")
    segment.add_argument("-o", "--output", type=Path, required=True, metavar="MASK.nii.gz")
    segment.add_argument("--method", default="simple_propagation", help="see: weakseg methods (default: %(default)s)")
    segment.add_argument("--preset", choices=PRESETS, default=PRESETS[0], help="default: %(default)s")
    segment.add_argument(
        "--first-mask", choices=("learned", "classical"), help="by a network that knows shapes, or by image and marks alone"
    )
    segment.add_argument("--max-seconds", type=float, metavar="S", help="longest training; 0 gives the first mask alone")
    segment.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), help="default: auto")
    segment.add_argument("--seed", type=int, help="seed of every random draw (default: 0)")
    segment.add_argument(
        "--set", action="append", default=[], metavar="KNOB=VALUE", help="any setting; see: weakseg methods METHOD"
    )
    segment.add_argument("--record", type=Path, metavar="RECORD.json", help="write how the mask was made; replay repeats it")
    segment.add_argument("--overview", type=Path, metavar="PICTURE.png", help="draw three slices with points and masks")
    segment.add_argument("--reference", type=Path, metavar="REFERENCE.nii.gz", help="compare with it, and draw it")
    _add_questions(segment, "volume_index", "prefer", "units", "resample")

    evaluate = command("evaluate", _evaluate, "compare a mask with a reference: Dice, HD95, ASSD, volumes")
    evaluate.add_argument("mask", type=Path, metavar="MASK.nii.gz")
    evaluate.add_argument("reference", type=Path, metavar="REFERENCE.nii.gz")
    evaluate.add_argument("--json", action="store_true", help="JSON in place of a table")
    _add_questions(evaluate, "prefer", "units", "resample")

    methods = command("methods", _methods, "list the methods, or the settings of one")
    methods.add_argument("name", nargs="?", metavar="METHOD")

    points = command(
        "simulate-points", _simulate_points, "the six extreme points of each label, as a careful user would click them"
    )
    points.add_argument("mask", type=Path, metavar="MASK.nii.gz")
    points.add_argument("-o", "--output", type=Path, required=True, metavar="POINTS.json")
    points.add_argument("--jitter", type=int, default=0, metavar="N", help="displace by up to N voxels (default: %(default)s)")
    points.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    _add_questions(points, "prefer", "units")

    replay = command("replay", _replay, "make the mask of a record again")
    replay.add_argument("record", type=Path, metavar="RECORD.json")
    replay.add_argument("image", type=Path, metavar="IMAGE.nii.gz")
    replay.add_argument("-o", "--output", type=Path, required=True, metavar="MASK.nii.gz")
    replay.add_argument("--previous", type=Path, metavar="MASK.nii.gz", help="the earlier mask, for a record of a correction")
    _add_questions(replay, "volume_index", "prefer", "units")

    samples = command("sample-data", _sample_data, "copy the project's own volumes, masks and marks into a folder")
    samples.add_argument("folder", type=Path, metavar="FOLDER")

    demo = command("demo", _demo, "points in, masks and pictures out, on the project's own volumes")
    demo.add_argument("--folder", type=Path, default=Path("demo_output"), help="default: %(default)s")
    demo.add_argument("--no-window", dest="window", action="store_false", help="do not open napari on the result")
    demo.add_argument("--max-seconds", type=float, default=45.0, metavar="S", help="longest training per volume (default: 45)")

    train = command("train-first-mask", _train_first_mask, "train the first-mask network on made-up volumes, or go on training")
    train.add_argument("folder", type=Path, metavar="FOLDER", help="checkpoints and log; what it holds is continued")
    train.add_argument("--steps", type=int, default=2200, metavar="N", help="steps in all (default: %(default)s)")
    train.add_argument("--batch", type=int, default=4, metavar="N", help="volumes per step (default: %(default)s)")
    train.add_argument("--seed", type=int, default=0, help="decides weights, volumes and marks (default: %(default)s)")
    train.add_argument("--export", type=Path, metavar="WEIGHTS.safetensors", help="default: first_mask.safetensors in FOLDER")
    return parser


def _add_questions(parser: argparse.ArgumentParser, *names: str) -> None:
    """Options that answer what a file leaves open."""
    group = parser.add_argument_group("where a file leaves it open")
    if "volume_index" in names:
        group.add_argument("--volume-index", type=int, metavar="N", help="which volume of a 4D file, from 0")
    if "prefer" in names:
        group.add_argument("--prefer", choices=("sform", "qform"), help="which stored place counts where the two disagree")
    if "units" in names:
        group.add_argument("--units", choices=("mm", "m", "um"), help="unit of the header's lengths")
    if "resample" in names:
        group.add_argument("--resample", action="store_true", help="bring a mask of another grid onto this one (nearest voxel)")
