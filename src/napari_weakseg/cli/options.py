"""What several commands share: exit codes, options, and what is found out before a long run."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import DataError, RecipeError
from ..recipe import PRESETS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ..console import Screen
    from ..recipe import Recipe

    Command = Callable[[str, Callable[[argparse.Namespace, Screen], int | None], str], argparse.ArgumentParser]
    """Adds a command: its name, what it runs, and a line of help."""

DONE, FAILED, BAD_INPUT, STOPPED = 0, 1, 2, 130


def recipe_of(options: argparse.Namespace, *, for_cohort: bool = False, begun: Recipe | None = None) -> Recipe:
    """The recipe that ``--preset``, ``--set`` and the options of their own ask for; else that of the run that was `begun`."""
    from ..methods import get_method

    changes: dict[str, Any] = {}
    for text in options.set:
        name, separator, value = text.partition("=")
        if not separator:
            raise RecipeError(f"--set {text} is not of the form knob=value; see weakseg methods {options.method}.")
        changes[name.strip().replace("-", "_")] = value.strip()
    for name in ("first_mask", "max_seconds", "device", "seed"):
        if getattr(options, name, None) is not None:
            changes[name] = getattr(options, name)
    recipes = get_method(options.method).recipe_class
    if isinstance(begun, recipes) and options.preset in (None, begun.preset):
        return begun.changed(**changes)
    return (recipes.for_cohort if for_cohort else recipes.from_preset)(options.preset or PRESETS[0], **changes)


def answers(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The answers to questions about a file that were given on the command line."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, as every other refusal."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: {message}; see {self.prog} --help\n")


SUFFIXES = {"mask": (".nii.gz", ".nii"), "json": (".json",), "picture": (".png",), "weights": (".safetensors",)}


def check_targets(sources: Sequence[Path | None], **targets: Path | None) -> None:
    """Find out before a long run what could not be written at its end; `targets` by kind of file, see `SUFFIXES`."""
    from ..io.atomic import check_writable

    written = {kind: path for kind, path in targets.items() if path is not None}
    for kind, path in written.items():
        if any(source is not None and path.resolve() == source.resolve() for source in sources):
            raise DataError(f"{path.name} is an input of this command; choose another name for the output.")
        if sum(other.resolve() == path.resolve() for other in written.values()) > 1:
            raise DataError(f"{path.name} is named for two outputs; choose different names.")
        if not path.name.endswith(SUFFIXES[kind]):
            raise DataError(f"the name {path.name} does not fit what is written; let it end in {SUFFIXES[kind][0]}.")
        check_writable(path)


def add_questions(parser: argparse.ArgumentParser, *names: str) -> None:
    """Options that answer what a file leaves open."""
    group = parser.add_argument_group("where a file leaves it open")
    if "volume_index" in names:
        group.add_argument("--volume-index", type=int, metavar="N", help="which volume of a 4D file, from 0")
    if "prefer" in names:
        group.add_argument("--prefer", choices=("sform", "qform"), help="which stored place counts where the two disagree")
    if "units" in names:
        group.add_argument("--units", choices=("mm", "m", "um", "unknown"), help="unit of the header's lengths")
    if "resample" in names:
        group.add_argument("--resample", action="store_true", help="bring a mask of another grid onto this one (nearest voxel)")


def made_folder(folder: Path) -> Path:
    """The folder, made where it is not there."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder.name} is a file; name a folder for the output.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"the folder {folder.name} cannot be made; choose another place or change its rights.") from error
    return folder
