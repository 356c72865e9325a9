"""`evaluate_mask`, `evaluate_cohort`: masks and classes against the truth; all cases count."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import metrics
from .arrays.classification import class_scores
from .errors import DataError, GeometryError, WeaksegError
from .held_out import image_hashes
from .io.evaluation import FIGURES
from .method import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from .case import Case
    from .matching import ToScore
    from .prompts import ImageLabel
    from .volume import Volume

HEATMAP_MASK = "heatmap mask"
"""Name among a result's maps of the mask that the thresholds on its heatmaps give alone, before refinement."""

RESAMPLES = 2000
"""Draws of the bootstrap over cases."""


def evaluate_mask(mask: Result | Volume, reference: Volume) -> dict[str, Any]:
    """See `napari_weakseg.api.evaluate`."""
    made = mask.mask if isinstance(mask, Result) else mask
    names = {structure.value: structure.name for structure in mask.structures} if isinstance(mask, Result) else {}
    if not made.same_grid(reference):
        raise GeometryError(f"{made.name} and {reference.name} lie on different grids; resample one of them first.")
    values = sorted({int(v) for volume in (made, reference) for v in np.unique(volume.array) if v != 0} | set(names))
    shown = {value: names.get(value, f"label {value}") for value in values}
    twice = {name for name in shown.values() if list(shown.values()).count(name) > 1}
    structures = {
        f"{name} ({value})" if name in twice else name: structure_scores(made, reference, value)
        for value, name in shown.items()
    }
    known = reference.spacing_known
    return {"unit": reference.unit, "volume_unit": "ml" if known else "voxels", "structures": structures}


def structure_scores(made: Volume, reference: Volume, value: int) -> dict[str, Any]:
    """Figures of one structure; undefined ones are None.

    Parameters
    ----------
    made, reference : Volume
        Labels on one grid.
    value : int
        The structure's number in both.

    Returns
    -------
    dict
        ``value`` and `FIGURES`. Lengths in mm and volumes in ml, or both in voxels where the spacing is unknown. With an
        empty reference all scores are None, and ``volume`` is what was marked falsely.
    """
    a, b = made.array == value, reference.array == value
    unit = reference.voxel_volume / 1000 if reference.spacing_known else 1.0
    volume, wanted = float(a.sum()) * unit, float(b.sum()) * unit
    figures: dict[str, Any] = {"value": value, "dice": None, "hd95": None, "hd95_or_diagonal": None, "assd": None}
    if b.any():
        raw = metrics.compare(a, b, reference.spacing)
        figures |= {name: figure if math.isfinite(figure) else None for name, figure in raw.items()}
        figures["hd95_or_diagonal"] = figures["hd95"] if figures["hd95"] is not None else _diagonal(reference)
    return {**figures, "volume": volume, "reference_volume": wanted, "volume_difference": volume - wanted}


def evaluate_cohort(
    predict: Callable[[Case], Result],
    chosen: ToScore,
    *,
    on_case: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Predict and score each case.

    Parameters
    ----------
    predict : callable
        A case with reference and labels to its result; it hides them from the method.
    chosen : ToScore
        The cases, read one after the other, and what is known of them.
    on_case : callable, optional
        Gets the number of the case that was scored, from 1, and of all.

    Returns
    -------
    dict
        ``cohort`` (its name), ``weights`` (SHA-256), ``date`` (UTC), ``part``, ``left_out`` (part to count), ``notes``,
        ``cases`` (``id``, ``error``, ``unit``, ``structures``, ``classes``, ``slices``), ``summary`` per structure,
        ``classification``, ``slices``, ``failed``, ``learnt_from`` (scored, but not in any summary), ``worst``; JSON values.
        A case that cannot be read or predicted has Dice 0, and its label counts as guessed wrongly. ``heatmap_dice`` stands
        beside each ``dice`` where the method also gives the mask of its thresholded heatmaps alone.

    Raises
    ------
    DataError
        Nothing could be compared.
    """
    structures, total = chosen.structures, len(chosen.cases)
    rows, judged = [], []
    for number in range(total):
        row, label, result = _scored(predict, chosen, number)
        rows.append(row)
        if label is not None and not row["learnt_from"]:
            judged.append((label, result))
        if on_case is not None:
            on_case(number + 1, total)
    if not any(row["structures"] or row["classes"] or row["error"] for row in rows):
        raise DataError(
            f"the run draws none of what cohort {chosen.cohort!r} has labels of, and it has no masks; nothing was scored."
        )
    counted = [row for row in rows if not row["learnt_from"]]
    return {
        "cohort": chosen.cohort,
        "weights": chosen.weights,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "part": chosen.part,
        "left_out": dict(chosen.left_out),
        "notes": list(chosen.notes),
        "cases": rows,
        "summary": {
            s.name: _summary([row["structures"][s.name] for row in counted if s.name in row["structures"]]) for s in structures
        },
        "classification": _classification(judged),
        "slices": _slices([row["slices"] for row in counted if row["slices"]]),
        "failed": [row["id"] for row in rows if row["error"]],
        "learnt_from": [row["id"] for row in rows if row["learnt_from"]],
        "worst": [row["id"] for row in _ranked(counted)[:3]],
    }


def _scored(
    predict: Callable[[Case], Result], chosen: ToScore, number: int
) -> tuple[dict[str, Any], ImageLabel | None, Result | None]:
    """Figures of a case, its label, and what was predicted; without the latter where it could not be."""
    cases, structures = chosen.cases, chosen.structures
    row: dict[str, Any] = {
        "id": cases.ids[number],
        "error": None,
        "unit": "",
        "structures": {},
        "slices": {},
        "classes": {},
        "learnt_from": False,
    }
    case = result = None
    try:
        case = cases[number]
        result = predict(case)
    except (WeaksegError, MemoryError) as error:
        row["error"] = str(error) or type(error).__name__
    if case is None:
        row |= _unread(chosen, number)
        return row, cases.image_labels[number], None
    row |= {"unit": case.volume.unit, "learnt_from": not chosen.learnt.isdisjoint(image_hashes(case))}
    reference = case.reference
    if reference is not None:
        made = reference.with_array(np.zeros(reference.shape, np.uint8)) if result is None else result.mask
        row["structures"] = {s.name: structure_scores(made, reference, s.value) for s in structures}
        row["slices"] = _slice_figures(made, reference, case)
        plain = None if result is None else result.maps.get(HEATMAP_MASK)
        if plain is not None:
            _add_heatmap(row, reference.with_array(np.asarray(plain)), reference, case)
    if result is not None and case.image_label is not None:
        row["classes"] = _class_figures(case.image_label, result)
    return row, case.image_label, result


def _add_heatmap(row: dict[str, Any], plain: Volume, reference: Volume, case: Case) -> None:
    """Dice of the mask before refinement, ``heatmap_dice`` beside every ``dice``."""
    for figures in row["structures"].values():
        there = reference.array == figures["value"]
        figures["heatmap_dice"] = metrics.dice(plain.array == figures["value"], there) if there.any() else None
    if row["slices"]:
        row["slices"]["heatmap_dice"] = _slice_figures(plain, reference, case)["dice"]


def _heatmap_dice(rows: Sequence[Mapping[str, Any]]) -> list[Any] | None:
    """``heatmap_dice`` of some rows, ``dice`` (which is 0) where nothing was predicted; None where no method has heatmaps."""
    return [row.get("heatmap_dice", row["dice"]) for row in rows] if any("heatmap_dice" in row for row in rows) else None


def _unread(chosen: ToScore, number: int) -> dict[str, Any]:
    """Figures of an empty mask for a case whose image cannot be read; Dice 0 alone where its reference cannot be either."""
    try:
        reference = chosen.cases.reference(number)
    except WeaksegError:
        lost = {s.name: {**dict.fromkeys(FIGURES), "value": s.value, "dice": 0.0} for s in chosen.structures}
        return {"structures": lost}
    if reference is None:
        return {}
    empty = reference.with_array(np.zeros(reference.shape, np.uint8))
    return {
        "unit": reference.unit,
        "structures": {s.name: structure_scores(empty, reference, s.value) for s in chosen.structures},
    }


def _diagonal(volume: Volume) -> float:
    return math.dist((0, 0, 0), [n * step for n, step in zip(volume.shape, volume.spacing, strict=True)])


def _slice_figures(made: Volume, reference: Volume, case: Case) -> dict[str, Any]:
    """Where labels are per slice: Dice of each slice with an object, and on how many normal slices nothing is drawn."""
    label = case.image_label
    if label is None or not isinstance(label.label, tuple):
        return {}
    masks = (np.moveaxis(volume.array != 0, label.slice_axis, 0) for volume in (made, reference))
    pairs = list(zip(*masks, label.label, strict=True))
    return {
        "dice": [metrics.dice(a, b) for a, b, _ in pairs if b.any()],
        "normal": sum(1 for *_, of in pairs if of == 0),
        "quiet": sum(1 for a, _, of in pairs if of == 0 and not a.any()),
    }


def _class_figures(label: ImageLabel, result: Result) -> dict[str, Any]:
    """The case's class, the probability of each, and how sure the classifier was of the right ones; empty for no classifier."""
    if any(f"probability {name}" not in result.scores for name in label.classes):
        return {}
    probability = {name: float(result.scores[f"probability {name}"]) for name in label.classes}
    of_volume = label.classes[_of_volume(label.label)]
    table = result.tables.get("slice probabilities")
    sure = probability[of_volume]
    if table is not None and isinstance(label.label, tuple):
        sure = float(np.mean(np.asarray(table)[np.arange(len(label.label)), np.array(label.label)]))
    return {"class": of_volume, "probability": probability, "of the right class": sure}


def _slices(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Slice-wise figures over all cases, for comparison with papers that score slices."""
    if not rows:
        return None
    dice = [value for row in rows for value in row["dice"]]
    plain = _heatmap_dice(rows)
    normal = sum(row["normal"] for row in rows)
    return {
        "dice": _spread(dice),
        "heatmap_dice": None if plain is None else _spread([value for values in plain for value in values]),
        "normal": normal,
        "normal_without_mask": sum(row["quiet"] for row in rows) / normal if normal else None,
    }


def _classification(judged: Sequence[tuple[ImageLabel, Result | None]]) -> dict[str, Any] | None:
    """Figures per slice and per volume; what was not predicted counts as wrong. None where nothing has probabilities."""
    slices: list[tuple[NDArray[Any], NDArray[Any]]] = []
    volumes: list[tuple[NDArray[Any], int]] = []
    classes: tuple[str, ...] = ()
    by_slice = False
    for label, result in judged:
        found = {} if result is None else _class_figures(label, result)
        if result is not None and not found:
            continue
        of, of_slices = _of_volume(label.label), np.atleast_1d(label.label)
        table = None if result is None else result.tables.get("slice probabilities")
        classes = label.classes if found else classes
        by_slice |= table is not None and isinstance(label.label, tuple)
        guess = np.array(list(found["probability"].values())) if found else _wrong(np.array([of]), len(label.classes))[0]
        volumes.append((guess, of))
        if isinstance(label.label, tuple) and (result is None or table is not None):
            slices.append((_wrong(of_slices, len(label.classes)) if table is None else table, of_slices))
    if not classes:
        return None
    probability = np.stack([given for given, _ in volumes])
    report = {"classes": list(classes), "volumes": _finite(class_scores(probability, np.array([of for _, of in volumes])))}
    if by_slice:
        joined = (np.concatenate(part) for part in zip(*slices, strict=True))
        report["slices"] = _finite(class_scores(*joined))
    return report


def _wrong(truth: NDArray[Any], classes: int) -> NDArray[np.float64]:
    """Probabilities, shape (N, classes), of a classifier that misses every finding and finds one where there is none."""
    return np.eye(classes)[np.where(truth == 0, 1, 0)]


def _of_volume(label: int | tuple[int, ...]) -> int:
    """The class of a volume whose slices are labelled: the most frequent one beside the first, which is the normal one."""
    if not isinstance(label, tuple):
        return int(label)
    found = [value for value in label if value != 0]
    return int(np.bincount(found).argmax()) if found else 0


def _finite(value: Any) -> Any:
    """JSON values: None for what is undefined."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Over the cases that have the structure; false volume where they have not."""
    there = [row for row in rows if row["dice"] is not None]
    absent = [row["volume"] for row in rows if row["dice"] is None]
    return {
        "cases": len(there),
        "dice": _spread([row["dice"] for row in there]),
        "heatmap_dice": _spread(_heatmap_dice(there) or []),
        "hd95": _spread([row["hd95"] for row in there if row["hd95"] is not None]),
        "hd95_or_diagonal": _spread([row["hd95_or_diagonal"] for row in there if row["hd95_or_diagonal"] is not None]),
        "volume_difference": _spread([row["volume_difference"] for row in there if row["volume_difference"] is not None]),
        "empty": sum(1 for row in there if row["volume"] == 0),
        "without": len(absent),
        "false_volume": float(np.mean(absent)) if absent else None,
    }


def _spread(values: Sequence[float]) -> dict[str, Any] | None:
    """Median, quartiles, mean, standard deviation and the 95 % bootstrap interval of the mean; None without a value."""
    if not values:
        return None
    array = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(0).choice(array, (RESAMPLES, len(array))).mean(axis=1)
    return {
        "median": float(np.median(array)),
        "quartiles": [float(q) for q in np.percentile(array, (25, 75))],
        "mean": float(array.mean()),
        "sd": float(array.std(ddof=1)) if len(array) > 1 else 0.0,
        "interval": [float(q) for q in np.percentile(draws, (2.5, 97.5))],
    }


def mean_dice(row: Mapping[str, Any]) -> float:
    """Mean Dice of a case over its structures; nan where the reference holds none."""
    dice = [scores["dice"] for scores in row["structures"].values() if scores["dice"] is not None]
    return float(np.mean(dice)) if dice else math.nan


def _ranked(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The worst case first: by Dice; where no case has one, by the probability of the right classes."""
    by_dice = sorted((row for row in rows if not math.isnan(mean_dice(row))), key=mean_dice)
    return by_dice or sorted((row for row in rows if row["classes"]), key=lambda row: row["classes"]["of the right class"])


def telling_cases(report: Mapping[str, Any]) -> dict[str, str]:
    """``worst``, ``median`` and ``best`` case of a report, by their ids; empty where nothing can be ranked."""
    ranked = _ranked([row for row in report["cases"] if not row["learnt_from"]])
    if not ranked:
        return {}
    return {"worst": ranked[0]["id"], "median": ranked[len(ranked) // 2]["id"], "best": ranked[-1]["id"]}
