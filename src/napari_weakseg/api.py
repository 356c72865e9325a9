"""The work behind every button as functions: `segment`, `train`, `predict`, `evaluate`, `replay`."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from .arrays.pairing import check_unpaired, own_mask
from .case import Case, Cohort, Fold
from .cohorts import seen_by, training_steps
from .errors import DataError, GeometryError, PromptError, RecipeError
from .evaluation import evaluate_cohort, evaluate_mask
from .io.nifti import export_notes
from .io.records import SCHEMA_VERSION, read_record
from .io.runs import Run, read_weights
from .io.weights import caveats, check_trained
from .matching import cases_to_score
from .method import Preview, Result, Step, Weights
from .methods import DEFAULT, get_method, list_methods
from .prompts import BACKGROUND_STROKE, ExtremePoints, ImageLabel, Scribbles, Structure, free_name
from .record import hash_of_prompts, new_record, recorded_masks
from .volume import Volume

if TYPE_CHECKING:
    import os

    from .method import Card, Checkpoints
    from .recipe import Recipe

Prompts = ExtremePoints | Scribbles | ImageLabel
T = TypeVar("T")
BYTES_PER_RESULT_VOXEL = 4
_SLOT = {ExtremePoints: "points", Scribbles: "scribbles", ImageLabel: "image_label"}
_KIND = {"points": "extreme_points", "scribbles": "scribbles"}


def segment(
    volume: Volume | Case,
    prompts: Prompts | Sequence[Prompts] | None = None,
    *,
    method: str = DEFAULT,
    recipe: Recipe | None = None,
    weights: Weights | None = None,
    on_step: Callable[[Step], object] | None = None,
    reference: Volume | None = None,
    previous: Volume | Result | None = None,
    unpaired_masks: Sequence[Volume] = (),
) -> Result:
    """Make a mask of one volume from the marks on it.

    Parameters
    ----------
    volume : Volume or Case
        The image; a case brings its own marks.
    prompts : ExtremePoints, Scribbles, ImageLabel, or several of them, optional
        The marks; points placed on another grid are moved through RAS mm.
    method : str
        Name in the register; see `list_methods`.
    recipe : Recipe, optional
        The method's settings; default its ``laptop`` preset. ``max_seconds=0`` gives the first mask alone.
    weights : Weights, optional
        What an earlier fit has learnt: then nothing is fitted, and no marks are needed.
    on_step : callable, optional
        Gets every `Step`; the first has the first mask as its preview. What it raises ends the run.
    reference : Volume, optional
        Full mask for scoring; no method learns from it.
    previous : Volume or Result, optional
        An earlier mask of this image, which the strokes correct.
    unpaired_masks : sequence of Volume, optional
        Complete masks of other patients, of the same structures: for methods that learn shapes from them.

    Returns
    -------
    Result
        Mask, scores and the record from which `replay` makes the same mask.

    Raises
    ------
    PromptError, RecipeError, GeometryError, DataError
        Marks, settings or an image that cannot be used; nothing was computed.
    """
    case = _case_of(volume, prompts, reference, previous)
    return _drained(steps(case, method=method, recipe=recipe, weights=weights, unpaired_masks=unpaired_masks), on_step)


def _drained(running: Generator[Step, None, T], on_step: Callable[[Step], object] | None) -> T:
    """What a generator of steps returns at its end; whatever `on_step` raises closes it."""
    with closing(running):
        while True:
            try:
                step = next(running)
            except StopIteration as finished:
                return cast("T", finished.value)
            if on_step is not None:
                on_step(step)


def steps(
    case: Case,
    *,
    method: str = DEFAULT,
    recipe: Recipe | None = None,
    weights: Weights | None = None,
    checkpoints: Checkpoints | None = None,
    unpaired_masks: Sequence[Volume] = (),
) -> Generator[Step, None, Result]:
    """Like `segment`, step by step: yields each `Step` of the fit and returns the `Result`.

    Whoever drives it may stop after any step; then nothing is returned, and the last preview is the last good mask. With
    `checkpoints` the fit leaves its state there as it goes, and goes on from their latest one; the record then says that it
    cannot be replayed.
    """
    room = get_method(method if weights is None else weights.method)
    recipe = recipe or room.recipe_class.from_preset("laptop")
    if unpaired_masks and not room.card.learns_masks:
        raise RecipeError(f"{room.card.name} learns nothing from unpaired masks; leave them out, or choose adversarial_gating.")
    if weights is not None:
        check_trained(weights)
    case = _checked(_taken(case, room.card, fits=weights is None), room.card.prompts, needs_marks=weights is None)
    if unpaired_masks and weights is None:
        _check_masks(unpaired_masks, case)
    _check_memory(case, room.card.name, recipe if weights is None else weights.recipe, weights)
    began = time.monotonic()
    durations: dict[str, float] = {}
    known = () if weights is None else (*caveats(weights), *weights.meta.get("notes", ()))
    notes = [
        *dict.fromkeys((*case.volume.notes, *known)),
        *(note for marks in (case.points, case.scribbles) if marks is not None for note in marks.notes),
    ]
    fitted = weights is None and (checkpoints is None or checkpoints.latest() is None)
    if weights is None:
        kept: dict[str, Any] = {} if checkpoints is None else {"checkpoints": checkpoints}
        kept |= {"unpaired_masks": unpaired_masks} if unpaired_masks else {}
        fit = room.fit([case], recipe, None, **kept)
        with closing(fit):
            while True:
                try:
                    step = next(fit)
                except StopIteration as finished:
                    weights = cast("Weights", finished.value)
                    break
                durations.setdefault("first_mask", time.monotonic() - began)
                if step.note and step.note not in notes:
                    notes.append(step.note)
                yield step if step.preview is None else replace(step, preview=_seen(step.preview, case.volume))
        durations["fit"] = time.monotonic() - began
    result = _labels_of_seen(room.predict(case, weights), case.volume)
    durations["total"] = time.monotonic() - began
    notes += [note for note in (*result.notes, *export_notes(result)) if note not in notes]
    record = new_record(
        case, weights, result.mask, notes=notes, durations=durations, fitted=fitted, unpaired_masks=unpaired_masks
    )
    return replace(result, record=record, notes=tuple(notes))


def expected_memory(case: Case, *, method: str = DEFAULT, recipe: Recipe | None = None, weights: Weights | None = None) -> int:
    """About how many bytes a run takes beside the open image; instant, from sizes and boxes alone.

    4 bytes per voxel of the volume for the mask and for each structure's map, and what the method says that it needs
    itself (its optional ``working_memory(case, recipe, weights=None)``).

    Parameters
    ----------
    case : Case
        The image with its marks.
    method : str
        Name in the register.
    recipe : Recipe, optional
        Its settings; default the ``laptop`` preset.
    weights : Weights, optional
        What was learnt before: then it is of a prediction.
    """
    room = get_method(method)
    working_memory = getattr(room, "working_memory", None)
    settings = recipe or room.recipe_class.from_preset("laptop")
    own = 0 if working_memory is None else int(working_memory(case, settings, weights))
    structures = case.structures if weights is None else weights.structures
    return own + BYTES_PER_RESULT_VOXEL * case.volume.array.size * (1 + len(structures))


def in_words(memory: int) -> str:
    """Bytes as ``"830 MB"`` or ``"3.1 GB"``."""
    return f"{memory / 1e9:.1f} GB" if memory >= 999_500_000 else f"{max(memory / 1e6, 1):.0f} MB"


def _check_memory(case: Case, method: str, recipe: Recipe, weights: Weights | None) -> None:
    """Refuse with the numbers what would drive the computer out of memory."""
    import psutil

    needed = expected_memory(case, method=method, recipe=recipe, weights=weights)
    free = int(psutil.virtual_memory().available)
    if needed > free:
        raise DataError(
            f"this run needs about {in_words(needed)} of memory and {in_words(free)} are free; "
            "close other programs or crop the image."
        )


def replay(
    record: Mapping[str, Any] | str | os.PathLike[str],
    volume: Volume,
    *,
    previous: Volume | None = None,
    unpaired_masks: Sequence[Volume] = (),
) -> Result:
    """Make the mask of a record again.

    The record's recipe is the one that was carried out, so no clock decides: on the same computer with the same
    packages the mask is the same bit for bit. Where it is not, a note of the result says so.

    Parameters
    ----------
    record : dict or path
        What `segment` put into ``result.record``, or the file it was written to.
    volume : Volume
        The same image: its hash is checked.
    previous : Volume, optional
        The earlier mask that was corrected, where the record says that there was one; its hash is checked.
    unpaired_masks : sequence of Volume, optional
        The masks of other patients that were learnt from, in any order, where the record names some; hashes are checked.

    Raises
    ------
    DataError
        Another image, a record of a newer version, or one that does not hold what is needed.
    """
    data = record if isinstance(record, Mapping) else read_record(record)
    try:
        newer = int(data["schema_version"]) > SCHEMA_VERSION
        expected, marks = str(data["image"]["sha256"]), data["prompts"].get("voxel")
        wanted, method, settings = str(data["output"]["sha256"]), str(data["method"]), dict(data["recipe"])
        fitted, hash_of_marks = bool(data["training"]["fitted"]), str(data["prompts"]["sha256"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"the record lacks what a replay needs ({error}); take one that segment wrote.") from error
    if newer:
        raise DataError("the record was made by a newer version; update napari-weakseg to replay it.")
    if not fitted:
        raise DataError("the record was made with weights from elsewhere; a replay needs a run that was fitted here.")
    if volume.sha256 != expected:
        raise DataError(f"{volume.name} is not the image of this record (its hash differs); give the same file.")
    points = None if marks is None else ExtremePoints.from_json(marks, volume, partial=True)
    strokes = data["prompts"].get("scribbles")
    scribbles = None if strokes is None else Scribbles.from_json(strokes)
    if hash_of_prompts(points, scribbles) != hash_of_marks:
        raise DataError("the marks in the record do not match their hash; the record was changed.")
    _check_previous(data["prompts"].get("previous"), previous)
    masks = recorded_masks(data.get("unpaired_masks") or (), unpaired_masks)
    recipe = get_method(method).recipe_class.from_json(settings)
    if recipe.device == "auto" and str(data["training"].get("device", "")).lower().startswith("cpu"):
        recipe = recipe.changed(device="cpu")  # a GPU that is here now was not there then
    given = [prompts for prompts in (points, scribbles) if prompts is not None]
    result = segment(volume, given, method=method, recipe=recipe, previous=previous, unpaired_masks=masks)
    if result.mask.sha256 == wanted:
        return result
    note = "the mask differs from the recorded one; other packages, threads or processor than at the time of recording."
    return replace(result, notes=(*result.notes, note))


def evaluate(
    mask: Result | Volume | Weights | str | os.PathLike[str],
    reference: Volume | Cohort,
    *,
    part: str | None = None,
    on_case: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Compare a mask with a reference structure by structure, or what was learnt with a cohort.

    Parameters
    ----------
    mask : Result or Volume; Weights or path
        What was made, with labels on the reference's grid; or weights, a file of them, or a run folder.
    reference : Volume; Cohort
        The reference mask; or cases with reference masks, which are read here, or image-level labels.
    part : {"testing", "validation", "training", "new"}, optional
        Which cases of a cohort count; default those that a run held out, else those that it does not know.
    on_case : callable, optional
        Gets the number of the case that was scored, from 1, and of all.

    Returns
    -------
    dict
        ``unit`` of lengths (``"mm"``, or ``"voxels"`` where the spacing is unknown), ``volume_unit`` (``"ml"`` or
        ``"voxels"``) and, per structure, ``value``, ``dice``, ``hd95``, ``hd95_or_diagonal`` (the volume's diagonal
        where a side is empty), ``assd``, ``volume``, ``reference_volume``, ``volume_difference``. Undefined figures are
        None: with an empty reference all scores are, and ``volume`` is what was marked falsely. For a cohort see
        `napari_weakseg.evaluation.evaluate_cohort`.

    Raises
    ------
    GeometryError
        The two do not lie on one grid.
    DataError
        Nothing of the cohort can be compared with what was learnt, or its names are none that the run knows.
    """
    if isinstance(reference, Cohort):
        return _evaluate_cohort(mask, reference, part, on_case)
    if not isinstance(mask, Result | Volume):
        raise DataError("what was learnt is scored on a cohort; read one with read_cohort.")
    return evaluate_mask(mask, reference)


def predict(learnt: Weights | str | os.PathLike[str], volume: Volume | Case) -> Result:
    """Segment a volume with what was learnt.

    Parameters
    ----------
    learnt : Weights or path
        What `train` returned, a run folder, or a file of weights.
    volume : Volume or Case
        The image; a case where the method needs several channels, or marks.

    Raises
    ------
    DataError, GeometryError, PromptError
        The image or the weights cannot be used.
    """
    return segment(volume, weights=learnt if isinstance(learnt, Weights) else read_weights(learnt))


def train(
    cohort: Cohort,
    recipe: Recipe | None = None,
    *,
    method: str | None = None,
    run: str | os.PathLike[str] | None = None,
    resume: bool = False,
    fold: tuple[int, int] | Fold | None = None,
    split_seed: int = 0,
    weights: Weights | None = None,
    on_step: Callable[[Step], object] | None = None,
) -> Weights:
    """Learn from the marks of a cohort's training cases.

    Reference masks are hidden from the method, unless its recipe says ``supervision="masks"``.

    Parameters
    ----------
    cohort : Cohort
        With marks on its training cases.
    recipe : Recipe, optional
        The method's settings; default its laptop preset for cohorts (`Recipe.for_cohort`).
    method : str
        Name in the register; default that of `recipe` or `weights`.
    run : path, optional
        Folder for checkpoints, figures, log and weights; without one nothing is kept on disk.
    resume : bool
        Goes on with the run in that folder.
    fold : (k, n) or Fold, optional
        Learns from all but fold k (from 1) of n folds by patient of the training cases.
    split_seed : int
        Decides the folds; the same for all folds of one experiment.
    weights : Weights, optional
        What to begin with.
    on_step : callable, optional
        Gets every `Step`. What it raises ends the training; the run can be resumed.

    Raises
    ------
    DataError, PromptError, RecipeError
        A case, mark, setting or folder that cannot be used: found before anything is learnt.
    """
    how: dict[str, Any] = {"method": method, "run": run, "resume": resume, "fold": fold, "split_seed": split_seed}
    return _drained(training_steps(cohort, recipe, weights=weights, **how), on_step)


def _evaluate_cohort(
    learnt: Result | Volume | Weights | str | os.PathLike[str],
    cohort: Cohort,
    part: str | None,
    on_case: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    """Score weights, or those of a run, on the part of a cohort that they did not learn from."""
    if isinstance(learnt, Result | Volume):
        raise DataError("a mask is scored against one reference mask; on a cohort give weights or a run folder.")
    if isinstance(learnt, Weights):
        weights, facts = learnt, None
    else:
        weights = read_weights(learnt)
        facts = Run(learnt).cohort() if Path(learnt).is_dir() else None
    check_trained(weights)
    chosen = cases_to_score(weights, facts, cohort, part)
    return evaluate_cohort(lambda case: predict(weights, seen_by(case, weights)), chosen, on_case=on_case)


def _case_of(
    volume: Volume | Case,
    prompts: Prompts | Sequence[Prompts] | None,
    reference: Volume | None,
    previous: Volume | Result | None = None,
) -> Case:
    case = volume if isinstance(volume, Case) else Case("case", {"image": volume})
    several = () if prompts is None else (prompts,) if isinstance(prompts, Prompts) else prompts
    given: dict[str, Any] = {_SLOT[type(one)]: one for one in several}
    if reference is not None:
        given["reference"] = reference
    if previous is not None:
        given["previous"] = previous.mask if isinstance(previous, Result) else previous
    return replace(case, **given)


def _check_previous(recorded: Mapping[str, Any] | None, previous: Volume | None) -> None:
    """Refuse a replay of a correction without the mask that was corrected."""
    if recorded is None:
        return
    if previous is None:
        raise DataError("the record is of a correction; give the earlier mask as well (--previous MASK).")
    if previous.sha256 != recorded.get("sha256"):
        raise DataError(f"{previous.name} is not the mask that was corrected (its hash differs); give the same file.")


def _taken(case: Case, card: Card, *, fits: bool) -> Case:
    """The case without marks that the method would not look at, so that no record names them; a fit refuses them.

    A class is no mark on the image: cases of a cohort may bring one along.
    """
    unused = [kind for kind in ("points", "scribbles") if _KIND[kind] not in card.prompts]
    unused += [] if card.corrects else ["previous"]
    unused = [kind for kind in unused if getattr(case, kind) is not None]
    if unused and fits:
        kind = unused[0]
        takers = [c.name for c in list_methods() if (c.corrects if kind == "previous" else _KIND[kind] in c.prompts)]
        what, it = ("an earlier mask", "it") if kind == "previous" else (_KIND[kind].replace("_", " "), "them")
        own = " or ".join(card.prompts).replace("_", " ")
        others = f", or choose {' or '.join(takers)}" if takers else ""
        raise PromptError(f"{card.name} takes {own} and cannot use {what}; leave {it} out{others}.")
    left_out: dict[str, Any] = dict.fromkeys(unused)
    return replace(case, **left_out) if unused else case


def _checked(case: Case, takes: tuple[str, ...], *, needs_marks: bool) -> Case:
    """The case with marks that the method can use, on the case's grid; nothing is computed before this has passed."""
    given = {"extreme_points": case.points, "scribbles": case.scribbles, "image_label": case.image_label}
    if needs_marks and all(given.get(kind) is None for kind in takes):
        words = " or ".join(kind.replace("_", " ") for kind in takes)
        raise PromptError(f"this method needs {words}; place them first.")
    if not np.isfinite(case.volume.array).any():
        raise DataError(f"{case.volume.name} holds no finite value; choose another image.")
    if case.reference is not None and not case.volume.same_grid(case.reference):
        raise GeometryError(f"{case.reference.name} does not lie on the image's grid; resample it first.")
    if case.scribbles is not None and "scribbles" in takes:
        alone = case.points is None and case.previous is None
        case = replace(case, scribbles=case.scribbles.checked(case.volume, alone=alone))
    elif case.points is not None:
        case.points.complete(case.volume)
    if case.previous is not None:
        case = _with_previous(case)
    if case.image_label is not None and "image_label" in takes:
        case.image_label.checked(case.volume)
    if case.points is None:
        return case
    points = case.points
    if not np.allclose(points.affine, case.volume.affine, rtol=0, atol=1e-6):
        points = points.on(case.volume)
    return replace(case, points=_in_order(points.checked(case.volume)))


def _check_masks(masks: Sequence[Volume], case: Case) -> None:
    """Refuse masks of other patients that cannot be learnt from, before anything is computed."""
    check_unpaired(masks, case.structures)
    own = "" if case.reference is None else case.reference.voxels_sha256
    for mask in masks:
        if own and mask.voxels_sha256 == own:
            raise DataError(own_mask(mask.name, case.volume.name))


def _with_previous(case: Case) -> Case:
    """The case with an earlier mask that fits it, and names for all its labels."""
    previous, scribbles = case.previous, case.scribbles
    assert previous is not None
    if not case.volume.same_grid(previous):
        raise GeometryError(f"{previous.name} does not lie on the image's grid; resample it first.")
    values = np.unique(previous.array[previous.array != 0])
    if previous.array.dtype.kind not in "biu" or values.min(initial=0) < 0 or values.max(initial=0) >= BACKGROUND_STROKE:
        raise PromptError(
            f"{previous.name} is no mask that can be corrected; its labels have to be whole numbers from 0 to 254."
        )
    known = {structure.value for structure in case.structures}
    named, drawn = list(case.structures), () if scribbles is None else scribbles.structures
    for value in (int(value) for value in values if int(value) not in known):
        named.append(Structure(free_name(named, value, "label"), value))
        drawn = (*drawn, named[-1])
    if scribbles is None:
        scribbles = Scribbles(np.zeros(case.volume.shape, dtype=np.uint8), drawn)
    return replace(case, scribbles=replace(scribbles, structures=drawn))


def _seen(preview: Preview, volume: Volume) -> Preview:
    """The preview with probability 0 where the image holds no number."""
    part = volume.array[preview.window]
    if np.isfinite(part).all():
        return preview
    return replace(preview, probability=np.where(np.isfinite(part), preview.probability, np.float32(0)))


def _labels_of_seen(result: Result, volume: Volume) -> Result:
    """The result with label 0 where the image holds no number: nobody saw what is there."""
    blind = ~np.isfinite(volume.array) & (result.labels != 0)
    count = int(blind.sum())
    if not count:
        return result
    note = f"{count:,} voxels in the mask are not finite in the image; they got label 0."
    mask = replace(result.mask, array=np.where(blind, np.zeros((), result.labels.dtype), result.labels))
    return replace(result, mask=mask, notes=(*result.notes, note))


def _in_order(points: ExtremePoints) -> ExtremePoints:
    """Objects by structure, in the order in which a record lists them, so that a replay meets them in the same order."""
    place = {structure.value: number for number, structure in enumerate(points.structures)}
    order = np.argsort([place[int(value)] for value in points.values], kind="stable")
    structures: tuple[Structure, ...] = points.structures
    return ExtremePoints(points.points[order], points.values[order], structures, points.affine)
