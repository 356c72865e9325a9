"""Commands on many cases: `cohort`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError
from .options import BAD_INPUT, DONE, check_targets

if TYPE_CHECKING:
    import argparse

    from ..case import Cohort
    from ..console import Screen
    from .options import Command


def add_commands(command: Command) -> None:
    """Add the commands on many cases."""
    cohort = command("cohort", _cohort, "make a first cohort file of a folder, or check one: every file it names is read")
    cohort.add_argument("source", type=Path, metavar="FOLDER|COHORT.json", help="what to make one of, or which to check")
    cohort.add_argument("-o", "--output", type=Path, metavar="COHORT.json", help="default: cohort.json in FOLDER")
    cohort.add_argument("--class-column", metavar="NAME", help="column of a label table that holds the classes")
    cohort.add_argument(
        "--scribble-codes",
        metavar="background=B,unlabelled=U",
        help="what the values of scribbles mean, which no file says, for example background=0,unlabelled=4",
    )
    cohort.add_argument(
        "--to-nnunet",
        type=Path,
        metavar="DatasetXXX_Name",
        help="write a cohort file that has no faults as an nnU-Net dataset with its ignore label into this new folder",
    )


def _cohort(options: argparse.Namespace, screen: Screen) -> int:
    from ..io.cohort import check_cohort, read_cohort
    from ..io.nnunet import check_target
    from ..method import Step

    stated = (options.output, options.class_column, options.scribble_codes)
    if not options.source.is_dir() and any(option is not None for option in stated):
        raise DataError(f"{options.source.name} is checked, not made; the options go with a folder.")
    if options.to_nnunet is not None:
        if options.source.is_dir():
            raise DataError(f"{options.source.name} is a folder; make a cohort file of it first, then write that as a dataset.")
        check_target(read_cohort(options.source), options.to_nnunet)
    path = _made(options, screen) if options.source.is_dir() else options.source
    with screen.progress() as show:
        faults = check_cohort(path, on_case=lambda number, total: show(Step("check", number, total, progress=number / total)))
    for fault in faults:
        screen.result(fault)
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        screen.error(f"{path.name} has {count}; correct the files or the entries, then: weakseg cohort {path.name}")
        return BAD_INPUT
    cohort = read_cohort(path)
    for note in cohort.notes:
        screen.note(note)
    sizes = ((part, len(getattr(cohort, part))) for part in ("training", "validation", "testing"))
    screen.result(f"{path.name}: {', '.join(f'{size} {part}' for part, size in sizes if size)}, every file can be used")
    if options.to_nnunet is not None:
        _as_dataset(cohort, options.to_nnunet, screen)
    return DONE


def _as_dataset(cohort: Cohort, folder: Path, screen: Screen) -> None:
    from ..io.nnunet import write_nnunet
    from ..method import Step

    with screen.progress() as show:
        notes = write_nnunet(cohort, folder, on_case=lambda n, total: show(Step("write", n, total, progress=n / total)))
    for note in notes:
        screen.note(note)
    screen.result(f"{folder.name}: an nnU-Net dataset, what is not marked is its ignore label")


def _made(options: argparse.Namespace, screen: Screen) -> Path:
    from ..io.cohort import guess_cohort, write_cohort
    from ..io.scribble_codes import ScribbleCodes
    from ..io.scribbles import parse_codes

    path: Path = options.output or options.source / "cohort.json"
    if path.exists():
        raise DataError(f"{path.name} is there already and may hold marks; name another with --output, or check that one.")
    check_targets([], json=path)
    codes = None if options.scribble_codes is None else ScribbleCodes(*parse_codes(options.scribble_codes)).to_json()
    data, notes = guess_cohort(options.source, output=path, class_column=options.class_column, codes=codes)
    write_cohort(data, path)
    for note in notes:
        screen.note(note)
    screen.err.print(f"{path.name} was written; now every file that it names is read.")
    return path
