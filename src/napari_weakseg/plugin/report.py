"""The panel's sentences and figures, each with its unit."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import numpy as np

from ..api import expected_memory, in_words
from ..arrays.doubt import HIGH, overall_doubt
from .explanation import MOST_POINTS
from .proposals import FIRST, REFINED, Proposal, SliceDoubt
from .session import directions_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..recipe import Recipe
    from ..volume import Volume
    from .cohort_jobs import News
    from .heatmap_desk import HeatmapDesk
    from .image_desk import ImageDesk
    from .mask_runs import Progress, Run
    from .refinement import News as RefiningNews
    from .scribble_session import ScribbleJob
    from .session import Document, Job, Session


def image_line(session: Session) -> str:
    """Spacing and size of the image."""
    volume = session.volume
    return session.problem[:1].upper() + session.problem[1:] if volume is None else size_line(volume)


def size_line(volume: Volume) -> str:
    """Spacing and size of a volume."""
    steps = " × ".join(f"{step:.3g}" for step in volume.spacing)
    size = " × ".join(str(n) for n in volume.shape)
    return f"{steps} mm, {size}" if volume.spacing_known else f"spacing unknown, {size} voxels"


def note_lines(notes: Sequence[str]) -> str:
    """What is odd but usable, a line each."""
    return "\n".join(f"Note: {note}" for note in notes)


def notes_on(volume: Volume) -> tuple[str, ...]:
    """What is odd about an image but usable, and what its place means in napari."""
    axes = np.sort(np.abs(volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)), axis=0)[-1]
    if volume.orientation_known and float(axes.min()) < np.cos(np.radians(1)):
        tilted = "the scan is oblique: slices are shown as they were scanned, so napari's positions are not the scanner's"
        return (*volume.notes, tilted)
    return volume.notes


def positions(document: Document, volume: Volume) -> dict[int, str]:
    """Where the current object's points lie, by direction: in the scanner's RAS mm, never in napari's own coordinates."""
    if not volume.spacing_known:
        return {}
    world = {number: volume.to_world(document.marks[row].voxel) for number, row in directions_of(document, volume).items()}
    return {number: " at " + ", ".join(f"{length:.1f}" for length in place) + " mm (RAS)" for number, place in world.items()}


def amount(voxels: int, volume: Volume) -> str:
    """A number of voxels as ml where the spacing is known."""
    if not volume.spacing_known:
        return f"{voxels} voxels"
    millilitres = voxels * volume.voxel_volume / 1000
    return f"{millilitres:.3g} ml" if millilitres < 100 else f"{millilitres:.0f} ml"


def mask_line(standing: Sequence[Proposal], bench: ImageDesk) -> str:
    """What is shown and waits for Accept."""
    if bench.layers is None or not standing:
        return ""
    volume, agreement = bench.layers.volume, _with_first(bench)
    lines = []
    for stage, word in ((FIRST, "First mask"), (REFINED, "Refined")):
        of_stage = [proposal.labels for proposal in standing if proposal.stage == stage]
        sizes = {s.name: sum(int((labels == s.value).sum()) for labels in of_stage) for s in bench.document.structures}
        shown = [f"{name} {amount(size, volume)}" for name, size in sizes.items() if size]
        if of_stage:
            lines.append(f"{word}: {', '.join(shown) or 'nothing found'}")
    return "\n".join(lines) + (f" · Dice with the first {agreement:.2f}" if agreement is not None else "")


def doubt_line(proposal: Proposal | None) -> str:
    """How sure the shown mask is of itself."""
    if proposal is None or proposal.probability is None:
        return ""
    doubt = overall_doubt(proposal.probability, proposal.labels > 0)
    words = f"Doubt {100 * doubt:.0f} %"
    if doubt > HIGH:
        return f"{words}: the image says little here. Look where it is doubtful, and draw a stroke or move a point."
    return words


def doubt_words(doubt: SliceDoubt) -> str:
    """Whose doubt the columns show."""
    if doubt.by == "discriminator":
        return "How much less a slice's shape is believed than others, by the network that knows real masks; click to go there"
    return "How unsure the mask is of itself, slice by slice; click to go there"


def _with_first(bench: ImageDesk) -> float | None:
    """Dice of the refined mask with the first masks of the same objects."""
    refined = [proposal for proposal in bench.proposals if proposal.stage == REFINED]
    first = [proposal for proposal in bench.proposals if proposal.stage == FIRST]
    if len(refined) != 1 or {k for p in first for k in p.objects} != set(refined[0].objects):
        return None
    common = sum(_overlap(refined[0], proposal) for proposal in first)
    total = int(np.count_nonzero(refined[0].labels)) + sum(int(np.count_nonzero(p.labels)) for p in first)
    return 2 * common / total if total else None


def _overlap(a: Proposal, b: Proposal) -> int:
    start = np.maximum(a.start, b.start)
    stop = np.minimum(np.add(a.start, a.labels.shape), np.add(b.start, b.labels.shape))
    if (stop <= start).any():
        return 0
    in_a = a.labels[tuple(slice(s - o, e - o) for s, e, o in zip(start, stop, a.start, strict=True))]
    in_b = b.labels[tuple(slice(s - o, e - o) for s, e, o in zip(start, stop, b.start, strict=True))]
    return int(((in_a == in_b) & (in_a > 0)).sum())


def progress_line(run: Run | None, progress: Progress | None, elapsed: float) -> str:
    """Stage, step, time left and device."""
    if run is None:
        return ""
    if run.cancelled:
        return "stopping…"
    if run.stage == FIRST:
        return "first mask…"
    if progress is None:
        return "starting…"
    parts = [f"{progress.stage} {progress.index}/{progress.total}" if progress.total > 1 else progress.stage]
    if progress.seconds_left is not None:
        parts.append(f"{progress.seconds_left:.0f} s left")
    else:
        parts.append(f"{elapsed:.0f} s")
    parts.append(device_words(run.job.recipe.device))
    return " · ".join(part for part in parts if part)


def news_line(news: News | RefiningNews | None) -> str:
    """Stage, step and time left of what runs."""
    if news is None:
        return "starting…"
    parts = [f"{news.stage} {news.index}/{news.total}" if news.total > 1 else news.stage]
    if news.seconds_left is not None:
        parts.append(f"{news.seconds_left:.0f} s left" if news.seconds_left < 120 else f"{news.seconds_left / 60:.0f} min left")
    return " · ".join(parts)


def expected_line(recipe: Recipe, job: Job | ScribbleJob) -> str:
    """What a run will take, before it starts: time, memory and device."""
    memory = in_words(expected_memory(job.case, method=job.method, recipe=recipe))
    parts = [f"refining takes up to {recipe.max_seconds:.0f} s", f"about {memory}", device_words(recipe.device)]
    return " · ".join(part for part in parts if part)


def device_words(device: str) -> str:
    """Where networks run, for example ``CPU, 2 threads``; empty until torch was loaded, which takes seconds."""
    devices = sys.modules.get("napari_weakseg.training.devices")
    if not hasattr(devices, "describe_device"):
        return "" if device == "auto" else device.upper()
    return str(devices.describe_device(devices.pick_device(device)[0]))  # type: ignore[union-attr]


def decision_line(desk: HeatmapDesk) -> str:
    """How the places that decided add up to the score."""
    explanation = desk.explanation
    if explanation is None:
        return ""
    index = desk.slice_shown()
    by_slice = explanation.judged_by_slice
    if by_slice and index is None:
        return "The score is made slice by slice: look at the plane that was classified to see how."
    decision = desk.decision()
    if decision is None:
        return "This run does not say which places decided."
    per_slice = explanation.slices_of(desk.chosen) if by_slice else None
    shown = explanation.probability(desk.chosen) if per_slice is None else float(per_slice[index or 0])
    where = f"slice {index} of the file" if by_slice else "this volume"
    words = (
        f"{desk.chosen} in {where}: {len(decision.contributions)} places add {decision.contributions.sum():+.3f} "
        f"to {decision.bias:+.3f}: score {decision.score:+.3f}, probability {shown:.2f}"
    )
    every = desk.decision(here=False)
    if every is not None and len(every.contributions) > MOST_POINTS:
        words += f"; drawn are the {MOST_POINTS} heaviest of {len(every.contributions)} in the volume"
    return f"{words}."


def measures(bench: ImageDesk) -> str:
    """Sizes of the saved and the shown masks, per structure."""
    if bench.layers is None:
        return ""
    volume, mask = bench.layers.volume, bench.layers.mask_voxels()
    lines = []
    for structure in bench.document.structures:
        inside = 0 if mask is None else int((mask == structure.value).sum())
        slices = 0 if mask is None else int((mask == structure.value).any(axis=(0, 1)).sum())
        lines.append(f"{structure.name}: {amount(inside, volume)} accepted, {slices} slices")
        shown = sum(int((p.labels == structure.value).sum()) for p in bench.standing())
        if shown:
            lines.append(f"{structure.name}: {amount(shown, volume)} shown")
    if bench.last_saved is not None and mask is not None:
        total = int((bench.last_saved > 0).sum()) + int((mask > 0).sum())
        same = int(((bench.last_saved == mask) & (mask > 0)).sum())
        lines.append(f"Dice with the last save {2 * same / total if total else 1:.3f}")
    return "\n".join(lines)


def record_text(standing: Sequence[Proposal], bench: ImageDesk) -> str:
    """How the shown mask was made, as it will be saved."""
    records = [dict(proposal.record) for proposal in standing if proposal.record]
    if not records:
        records = [dict(p.record) for edit in bench.history.past if edit.patch is not None for p in edit.accepted if p.record]
    if not records:
        return "no run has ended yet"
    text = json.dumps(records[-1], indent=1, default=str)
    return text if len(text) < 4000 else text[:4000] + " …"
