"""`weakseg`: the same work as the viewer's, without a window.

Exit codes: 0 done; 2 bad input or a question that an option answers; 1 it failed; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Ask, CohortFaults, DataError, RecipeError, WeaksegError
from . import cohorts, runs, volumes
from .options import BAD_INPUT, DONE, FAILED, STOPPED, Parser, check_targets

if TYPE_CHECKING:
    import argparse
    import types
    from collections.abc import Callable, Sequence

    from ..console import Screen

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
    from ..console import Screen

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
    except CohortFaults as error:
        for fault in error.faults:
            screen.error(fault)
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


def _methods(options: argparse.Namespace, screen: Screen) -> None:
    from ..methods import get_method, list_methods

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


def _sample_data(options: argparse.Namespace, screen: Screen) -> None:
    from ..demo import copy_samples

    for path in copy_samples(options.folder):
        screen.result(str(path))


def _train_first_mask(options: argparse.Namespace, screen: Screen) -> int:
    if options.steps < 1 or options.batch < 2 or options.seed < 0:
        raise RecipeError("--steps starts at 1, --batch at 2 and --seed at 0; give whole numbers from there on.")
    if options.folder.is_file():
        raise DataError(f"{options.folder.name} is a file; name a folder for checkpoints and log.")
    check_targets([], weights=options.export)
    from ..method import Step
    from ..training.first_mask import FirstMaskTraining, export_first_mask, train_first_mask

    settings = FirstMaskTraining(steps=options.steps, batch=options.batch, seed=options.seed)
    try:
        with screen.progress() as show:
            for state in train_first_mask(options.folder, settings):
                words = f"loss {state.loss:.3f}, Dice {state.dice:.3f}, step"
                show(Step(words, state.step, settings.steps, progress=state.step / settings.steps))
        if int(os.environ.get("RANK", "0")):  # one of several processes: the first one writes
            return DONE
        path = export_first_mask(options.folder, options.export or options.folder / "first_mask.safetensors")
    except KeyboardInterrupt:
        screen.error("stopped; the same command continues at the last checkpoint.")
        return STOPPED
    screen.result(f"{path.name}: {settings.steps} steps of {settings.batch} made-up cubes, seed {settings.seed}")
    return DONE


def _demo(options: argparse.Namespace, screen: Screen) -> None:
    from ..demo import run_demo

    run_demo(screen, options.folder, window=options.window, max_seconds=options.max_seconds)


def _parser() -> argparse.ArgumentParser:
    from .. import __version__

    parser = Parser(prog="weakseg", description=f"3D masks of MRI and CT from very light marks. {NOTICE}")
    parser.add_argument("--version", action="version", version=f"weakseg {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace, Screen], int | None], words: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=words, description=words)
        added.set_defaults(command=run)
        return added

    volumes.add_commands(command)
    cohorts.add_commands(command)
    runs.add_commands(command)

    methods = command("methods", _methods, "list the methods, or the settings of one")
    methods.add_argument("name", nargs="?", metavar="METHOD")

    samples = command("sample-data", _sample_data, "copy the project's own volumes, masks and marks into a folder")
    samples.add_argument("folder", type=Path, metavar="FOLDER")

    demo = command("demo", _demo, "points in, masks and pictures out, on the project's own volumes")
    demo.add_argument("--folder", type=Path, default=Path("demo_output"), help="default: %(default)s")
    demo.add_argument("--no-window", dest="window", action="store_false", help="do not open napari on the result")
    demo.add_argument("--max-seconds", type=float, default=45.0, metavar="S", help="longest training per volume (default: 45)")

    train = command("train-first-mask", _train_first_mask, "train the first-mask network on made-up volumes, or go on training")
    train.add_argument("folder", type=Path, metavar="FOLDER", help="checkpoints and log; what it holds is continued")
    train.add_argument("--steps", type=int, default=1800, metavar="N", help="steps in all (default: %(default)s)")
    train.add_argument("--batch", type=int, default=4, metavar="N", help="volumes per step (default: %(default)s)")
    train.add_argument("--seed", type=int, default=0, help="decides weights, volumes and marks (default: %(default)s)")
    train.add_argument("--export", type=Path, metavar="WEIGHTS.safetensors", help="default: first_mask.safetensors in FOLDER")
    return parser
