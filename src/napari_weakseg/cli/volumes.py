"""Commands on one volume: `segment`, `evaluate`, `simulate-points`, `simulate-scribbles`, `replay`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, PromptError
from ..recipe import PRESETS
from .evaluation import evaluate_run
from .options import DONE, add_questions, answers, check_targets, recipe_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from ..console import Screen
    from ..method import Preview, Result, Step
    from ..volume import Volume
    from .options import Command


def add_commands(command: Command) -> None:
    """Add the commands on one volume."""
    segment = command("segment", _segment, "make a mask of an image from its marks")
    segment.add_argument("image", type=Path, metavar="IMAGE.nii.gz")
    segment.add_argument(
        "--points", type=Path, metavar="POINTS.json", help="extreme points: ours, 3D Slicer's .mrk.json, napari's CSV"
    )
    segment.add_argument(
        "--scribbles", type=Path, metavar="STROKES.nii.gz", help="strokes: 0 not marked, 1 to 254 structures, 255 background"
    )
    segment.add_argument(
        "--scribble-codes",
        metavar="background=B,unlabelled=U",
        help="codes of strokes from elsewhere, for example background=0,unlabelled=4 (default: ours)",
    )
    segment.add_argument("--previous", type=Path, metavar="MASK.nii.gz", help="an earlier mask that the strokes correct")
    segment.add_argument(
        "--unpaired-masks", type=Path, metavar="FOLDER", help="complete masks of other patients (NIfTI), to learn shapes from"
    )
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
    add_questions(segment, "volume_index", "prefer", "units", "resample")

    evaluate = command("evaluate", _evaluate, "compare a mask with a reference, or a run with a cohort: Dice, HD95, volumes")
    evaluate.add_argument("mask", type=Path, metavar="MASK.nii.gz|RUN", help="a mask, or a run folder or its weights")
    evaluate.add_argument("reference", type=Path, metavar="REFERENCE.nii.gz|COHORT.json")
    evaluate.add_argument("--json", action="store_true", help="JSON in place of a table")
    runs = evaluate.add_argument_group("of a run on a cohort")
    runs.add_argument("--part", choices=("testing", "new", "validation", "training"), help="default: what the run held out")
    runs.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="for JSON, CSV and picture; default: evaluation in RUN"
    )
    runs.add_argument("--faithfulness", action="store_true", help="measure whether a classifier's maps explain its decisions")
    add_questions(evaluate, "prefer", "units", "resample")

    points = command(
        "simulate-points", _simulate_points, "the six extreme points of each label, as a careful user would click them"
    )
    points.add_argument("mask", type=Path, metavar="MASK.nii.gz")
    points.add_argument("-o", "--output", type=Path, required=True, metavar="POINTS.json")
    points.add_argument("--jitter", type=int, default=0, metavar="N", help="displace by up to N voxels (default: %(default)s)")
    points.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    add_questions(points, "prefer", "units")

    strokes = command(
        "simulate-scribbles", _simulate_scribbles, "strokes inside each label, along its border, and on the background"
    )
    strokes.add_argument("mask", type=Path, metavar="MASK.nii.gz")
    strokes.add_argument("-o", "--output", type=Path, required=True, metavar="STROKES.nii.gz")
    strokes.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    strokes.add_argument(
        "--every",
        type=int,
        default=1,
        metavar="N",
        help="strokes in every N-th slice that holds a label (default: %(default)s)",
    )
    strokes.add_argument("--axis", type=int, choices=(0, 1, 2), help="array axis of the slices (default: the thickest)")
    add_questions(strokes, "prefer", "units")

    replay = command("replay", _replay, "make the mask of a record again")
    replay.add_argument("record", type=Path, metavar="RECORD.json")
    replay.add_argument("image", type=Path, metavar="IMAGE.nii.gz")
    replay.add_argument("-o", "--output", type=Path, required=True, metavar="MASK.nii.gz")
    replay.add_argument("--previous", type=Path, metavar="MASK.nii.gz", help="the earlier mask, for a record of a correction")
    replay.add_argument("--unpaired-masks", type=Path, metavar="FOLDER", help="masks of other patients that the record names")
    add_questions(replay, "volume_index", "prefer", "units")


def _segment(options: argparse.Namespace, screen: Screen) -> None:
    from ..api import expected_memory, in_words, segment
    from ..case import Case
    from ..io.nifti import export_notes, read_mask, read_volume, write_mask
    from ..io.points import read_points
    from ..io.records import write_record
    from ..io.scribbles import OURS, parse_codes, read_scribbles
    from ..methods import get_method

    recipe = recipe_of(options)
    marks = get_method(options.method).card.prompts
    if options.scribble_codes is not None and options.scribbles is None:
        raise PromptError("--scribble-codes says what a file of strokes means; give the file with --scribbles.")
    if options.points is None and options.scribbles is None and "extreme_points" in marks:
        needed = "this method needs six extreme points per object; give them with --points POINTS.json"
        raise PromptError(f"{needed}, or strokes with --scribbles." if "scribbles" in marks else f"{needed}.")
    sources = [options.image, options.points, options.scribbles, options.previous, options.reference]
    check_targets(sources, mask=options.output, json=options.record, picture=options.overview)
    volume = read_volume(options.image, **answers(options, "volume_index", "prefer", "units"))
    reference = None
    if options.reference is not None:
        reference = read_mask(options.reference, like=volume, resample=options.resample, **answers(options, "prefer", "units"))
    points = None if options.points is None else read_points(options.points, volume, partial=options.scribbles is not None)
    strokes = None
    if options.scribbles is not None:
        named = () if points is None else points.structures
        codes = OURS if options.scribble_codes is None else parse_codes(options.scribble_codes)
        strokes = read_scribbles(
            options.scribbles, volume, structures=named, codes=codes, **answers(options, "prefer", "units")
        )
    earlier = None
    if options.previous is not None:
        earlier = read_mask(options.previous, **answers(options, "prefer", "units"))
    others = _unpaired_masks(options)
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

        result = segment(
            case, method=options.method, recipe=recipe, on_step=on_step, reference=reference, unpaired_masks=others
        )
    export = export_notes(result, options.output)
    for note in dict.fromkeys([*volume.notes, *(reference.notes if reference else ()), *result.notes, *export]):
        screen.note(note)
    if options.record is not None:  # first: a record that is refused leaves no mask behind
        write_record(result.record, options.record)
    write_mask(result, options.output)
    if options.overview is not None:
        from ..overview import write_overview

        masks = {"first mask": first[0].labels()} if first else {}
        write_overview(options.overview, volume, result, points=points, earlier=masks, reference=reference)
    _report(screen, result, options.output, reference)


def _unpaired_masks(options: argparse.Namespace) -> Sequence[Volume]:
    """The masks of a folder, by name; none where no folder is named."""
    from ..io.unpaired_masks import read_unpaired_masks

    folder = options.unpaired_masks
    return () if folder is None else read_unpaired_masks(folder, **answers(options, "prefer", "units"))


def _report(screen: Screen, result: Result, output: Path, reference: Volume | None) -> None:
    from ..api import evaluate

    mask = result.mask
    seconds = result.record["durations"]
    for structure in result.structures:
        voxels = int((mask.array == structure.value).sum())
        size = f"{voxels * mask.voxel_volume / 1000:.2f} ml" if mask.spacing_known else f"{voxels} voxels"
        screen.result(f"{output.name}: {structure.name} {size}")
    screen.err.print(f"first mask after {seconds.get('first_mask', 0):.1f} s, done after {seconds['total']:.1f} s")
    if reference is not None:
        _print_scores(screen, evaluate(result, reference))


def _evaluate(options: argparse.Namespace, screen: Screen) -> int:
    from ..api import evaluate
    from ..io.nifti import read_mask

    if options.reference.suffix == ".json":
        return evaluate_run(options, screen)
    if options.part or options.output or options.faithfulness:
        raise DataError("--part, --output and --faithfulness are for a run and a cohort; a mask is scored without them.")
    stated = answers(options, "prefer", "units")
    reference = read_mask(options.reference, **stated)
    mask = read_mask(options.mask, like=reference, resample=options.resample, **stated)
    for note in dict.fromkeys([*reference.notes, *mask.notes]):
        screen.note(note)
    report = evaluate(mask, reference)
    if not report["structures"]:
        screen.note("both masks are empty; there is nothing to compare.")
    if options.json:
        screen.document(json.dumps(report, indent=1, allow_nan=False))
    else:
        _print_scores(screen, report)
    return DONE


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


def _simulate_points(options: argparse.Namespace, screen: Screen) -> None:
    import numpy as np

    from ..arrays.extreme_points import simulate_points
    from ..io.nifti import read_mask
    from ..io.points import write_points
    from ..prompts import ExtremePoints, Structure

    if options.jitter < 0 or options.seed < 0:
        raise PromptError("--jitter and --seed are whole numbers from 0 on; give others.")
    check_targets([options.mask], json=options.output)
    mask = read_mask(options.mask, **answers(options, "prefer", "units"))
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


def _simulate_scribbles(options: argparse.Namespace, screen: Screen) -> None:
    import numpy as np

    from ..arrays.simulated_scribbles import simulate_scribbles
    from ..io.nifti import read_mask
    from ..io.scribbles import write_scribbles
    from ..prompts import Scribbles, Structure

    if options.seed < 0 or options.every < 1:
        raise PromptError("--seed starts at 0 and --every at 1; give whole numbers from there on.")
    check_targets([options.mask], mask=options.output)
    mask = read_mask(options.mask, **answers(options, "prefer", "units"))
    for note in mask.notes:
        screen.note(note)
    values = [int(value) for value in np.unique(mask.array) if value != 0]
    if not values or values[0] < 1 or values[-1] > 254:
        raise DataError(f"{options.mask.name} needs labels from 1 to 254 to draw on; give another mask.")
    axis = int(np.argmax(mask.spacing)) if options.axis is None else options.axis
    labels = simulate_scribbles(mask.array, axis=axis, every=options.every, seed=options.seed)
    structures = tuple(Structure("lesion" if values == [1] else f"label {value}", value) for value in values)
    write_scribbles(Scribbles(labels, structures), mask, options.output)
    share = 100 * float((labels != 0).mean())
    screen.result(f"{options.output.name}: {share:.2f} % of the voxels are marked, seed {options.seed}")


def _replay(options: argparse.Namespace, screen: Screen) -> None:
    from ..api import replay
    from ..io.nifti import read_mask, read_volume, write_mask
    from ..io.records import read_record

    check_targets([options.record, options.image, options.previous], mask=options.output)
    record = read_record(options.record)
    volume = read_volume(options.image, **answers(options, "volume_index", "prefer", "units"))
    earlier = None if options.previous is None else read_mask(options.previous, like=volume)
    result = replay(record, volume, previous=earlier, unpaired_masks=_unpaired_masks(options))
    for note in result.notes:
        screen.note(note)
    write_mask(result, options.output)
    same = result.mask.sha256 == record["output"]["sha256"]
    screen.result(f"{options.output.name}: {'the same mask as recorded' if same else 'NOT the recorded mask'}")
