"""The main job on the project's own volumes: points in, masks and pictures out, and how good and how fast they are."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from .errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from .case import Case
    from .console import Screen
    from .method import Preview, Result, Step


DEMO_RECIPE: dict[str, Any] = {"working_size": 0, "epochs": 24.0, "pooling": "max"}
"""What the classifier of the sample cohort is trained with: its images are small, and so is the network's task.

Pooling by the maximum, as published: one place per feature map decides, so few that all of them can be seen."""


def run_demo(screen: Screen, folder: Path, *, window: bool = True, max_seconds: float = 45.0) -> list[Path]:
    """Segment every sample and write masks, records and pictures.

    Parameters
    ----------
    screen : Screen
        Where progress and the table go.
    folder : Path
        Output folder; made if it is not there.
    window : bool
        Open napari on the first result where a display is there.
    max_seconds : float
        Longest training per volume.

    Returns
    -------
    list of Path
        The masks.
    """
    from .samples import list_samples, read_sample

    _make_folder(folder)
    began = time.monotonic()
    _start_up()
    screen.err.print(f"libraries loaded and loops compiled in {time.monotonic() - began:.1f} s")
    rows: list[tuple[str, ...]] = []
    masks: list[Path] = []
    for name in list_samples():
        case = read_sample(name)
        result, first = _segment(screen, case, max_seconds)
        masks += _write(folder, case, result, first)
        rows += _rows(case, result, first)
    screen.table(("volume", "structure", "Dice first", "Dice refined", "s first", "s refined"), rows)
    if max_seconds > 0:
        _classify(screen, folder, max_seconds)
    else:
        screen.err.print("no classifier without time to learn: give --max-seconds more than 0")
    screen.result(f"masks, records and pictures are in {folder}{os.sep}")
    screen.err.print(f"done after {time.monotonic() - began:.0f} s")
    if window:
        _open_window(screen, masks)
    return masks


def _classify(screen: Screen, folder: Path, max_seconds: float) -> None:
    """From a table of labels to masks: train a classifier on the sample cohort, and draw what it decides from."""
    from .api import predict, train
    from .io.cohort import read_cohort
    from .io.predictions import write_prediction
    from .methods import new_recipe
    from .overview import write_heatmap_overview
    from .samples import COHORT, cohort_files

    _copied({folder / COHORT / source.name: source.read_bytes() for source in cohort_files()})
    cohort = read_cohort(folder / COHORT / "cohort.json", references=True)
    recipe = new_recipe("explainable_heatmap", **DEMO_RECIPE, max_seconds=max_seconds)
    screen.err.print(f"{COHORT}: {len(cohort.training)} heads to learn from, a label per slice and nothing drawn")
    with screen.progress() as show:
        weights = train(cohort, recipe, on_step=show)
    rows: list[tuple[str, ...]] = []
    for case in cohort.testing:
        result = predict(weights, case)
        write_prediction(result, folder / f"{COHORT}_results", case.id)
        picture = folder / f"{COHORT}_results" / f"{case.id}.png"
        chance = result.scores["probability lesion"]
        write_heatmap_overview(
            picture, case.volume, result, "lesion", reference=case.reference, title=f"{case.id}: lesion {chance:.2f}"
        )
        rows.append(_heatmap_row(case, result))
    screen.table(("volume", "lesion", "slices right", "Dice heatmap", "Dice refined"), rows)


def _heatmap_row(case: Case, result: Result) -> tuple[str, ...]:
    """How good the classes of the slices and the masks of one case are; no mask is right where there is no lesion."""
    import numpy as np

    from .arrays.metrics import dice

    assert case.reference is not None
    wanted = case.reference.array == 1
    guessed = result.tables["slice probabilities"].argmax(axis=1) == 1
    right = int((guessed == wanted.any(axis=(0, 1))).sum())
    drawn = [np.asarray(result.maps["heatmap mask"]) == 1, result.labels == 1]
    scores = [f"{dice(mask, wanted):.3f}" if wanted.any() else f"{int(mask.sum())} voxels" for mask in drawn]
    return (case.id, f"{result.scores['probability lesion']:.2f}", f"{right} of {len(guessed)}", *scores)


def copy_samples(folder: Path) -> list[Path]:
    """Copy the samples' files into `folder`, the cohort into a folder of its own; no other file of that name is replaced.

    Raises
    ------
    DataError
        A file of that name and other content is there, or the folder cannot be written.
    """
    from .samples import COHORT, HEART, OTHERS, cohort_files, list_samples, sample_path, unpaired_hearts

    sources = [sample_path(name, part) for name in list_samples() for part in ("image", "mask", "points", "scribbles")]
    sources += [sample_path(HEART, part) for part in ("image", "mask", "scribbles")]
    contents = {folder / source.name: source.read_bytes() for source in sources}
    contents |= {folder / OTHERS / source.name: source.read_bytes() for source in unpaired_hearts()}
    contents |= {folder / COHORT / source.name: source.read_bytes() for source in cohort_files()}
    return _copied(contents)


def _copied(contents: dict[Path, bytes]) -> list[Path]:
    """Write files; none over another one of that name."""
    from .io.atomic import write_atomically

    for target, content in contents.items():
        if target.exists() and target.read_bytes() != content:
            raise DataError(f"{target.name} is there already with other content; choose another folder.")
    for folder in {target.parent for target in contents}:
        _make_folder(folder)
    return [write_atomically(target, content) for target, content in contents.items()]


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"the folder {folder.name} cannot be made; check its name and the rights.") from error


def _start_up() -> None:
    """Pay once, before the seconds are counted, what the first use of libraries and compiled loops costs."""
    import numpy as np

    from .api import segment
    from .methods import new_recipe
    from .prompts import ExtremePoints
    from .volume import Volume

    block = np.zeros((24, 24, 24), dtype=np.float32)
    block[6:18, 6:18, 6:18] = 1
    volume = Volume(block)
    six = [[6, 12, 12], [17, 12, 12], [12, 6, 12], [12, 17, 12], [12, 12, 6], [12, 12, 17]]
    segment(volume, ExtremePoints.from_points(six, volume), recipe=new_recipe(max_seconds=0))


def _segment(screen: Screen, case: Case, max_seconds: float) -> tuple[Result, Preview]:
    from .api import segment
    from .methods import new_recipe

    recipe = new_recipe(max_seconds=max_seconds)
    previews: list[Preview] = []
    screen.err.print(f"{case.id}: {' x '.join(map(str, case.volume.shape))} voxels, {len(case.points or ())} x 6 points")
    with screen.progress() as show:

        def on_step(step: Step) -> None:
            show(step)
            if step.preview is not None and not previews:
                previews.append(step.preview)

        result = segment(case, recipe=recipe, on_step=on_step)
    for note in result.notes:
        screen.note(f"{case.id}: {note}")
    return result, previews[0]


def _write(folder: Path, case: Case, result: Result, first: Preview) -> list[Path]:
    from dataclasses import replace

    from .io.nifti import write_mask
    from .io.records import write_record
    from .overview import write_overview

    early = replace(result, mask=result.mask.with_array(first.labels()))
    paths = [folder / f"{case.id}_first_mask.nii.gz", folder / f"{case.id}_mask.nii.gz"]
    write_mask(early, paths[0])
    write_mask(result, paths[1])
    write_record(result.record, folder / f"{case.id}_record.json")
    drawn = {"first mask": first.labels()}
    picture = folder / f"{case.id}.png"
    write_overview(picture, case.volume, result, points=case.points, earlier=drawn, reference=case.reference)
    return [paths[1]]


def _rows(case: Case, result: Result, first: Preview) -> list[tuple[str, ...]]:
    from .arrays.metrics import dice

    if case.reference is None:
        return []
    early, wanted, seconds = first.labels(), case.reference.array, result.record["durations"]
    rows = []
    for structure in result.structures:
        truth = wanted == structure.value
        scores = (dice(labels == structure.value, truth) for labels in (early, result.labels))
        times = (seconds["first_mask"], seconds["total"])
        rows.append((case.id, structure.name, *(f"{score:.3f}" for score in scores), *(f"{part:.1f}" for part in times)))
    return rows


def _open_window(screen: Screen, masks: list[Path]) -> None:
    """Open napari on the first result in a process of its own, where it can be seen by somebody."""
    if os.environ.get("CI") or (
        sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    ):
        screen.result("no display here: open the masks in napari, or in any NIfTI viewer")
        return
    from .samples import list_samples, sample_path

    image = sample_path(list_samples()[0])
    command = [sys.executable, "-m", "napari", "--plugin", "napari-weakseg", str(image), str(masks[0])]
    screen.result("opening napari on the result; close its window to end")
    subprocess.run(command, check=False)  # noqa: S603 - our own arguments
