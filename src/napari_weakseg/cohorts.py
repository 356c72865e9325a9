"""`training_steps`: a method's fit over a cohort, with its split and its run folder around it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast, overload

from .arrays.pairing import ALL_EMPTY, Drawn, own_mask, paired_note, values_in
from .case import PARTS, Case, Cohort, Fold, fingerprint, known, pick
from .errors import CohortFaults, DataError, PromptError, RecipeError, WeaksegError
from .held_out import LEARNT
from .io.cases import MasksOnDisk
from .io.runs import Run
from .method import Method, Result, Step, Weights
from .methods import DEFAULT, get_method, list_methods

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Generator, Iterator, Mapping

    from .prompts import Structure
    from .recipe import Recipe
    from .volume import Volume

SLOTS = {"extreme_points": "points", "scribbles": "scribbles", "image_label": "image_label"}
"""Kind of mark on a method's card to the field of a `Case`."""


class LearntCases(Sequence[Case]):
    """Cases as a method may see them: with their reference masks for full supervision, and else without.

    Parameters
    ----------
    cases : sequence of Case
        Lazy ones stay lazy.
    supervision : {"marks", "masks"}
        What is learnt from.
    """

    def __init__(self, cases: Sequence[Case], supervision: str) -> None:
        full = supervision == "masks"
        self.cases = cases.with_references() if full and hasattr(cases, "with_references") else cases
        self.supervision = supervision

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.cases)

    @overload
    def __getitem__(self, index: int) -> Case: ...
    @overload
    def __getitem__(self, index: slice) -> LearntCases: ...
    def __getitem__(self, index: int | slice) -> Case | LearntCases:
        """One case, or some."""
        if isinstance(index, slice):
            return self.pick(range(*index.indices(len(self))))
        case = self.cases[index]
        return case if self.supervision == "masks" or case.reference is None else replace(case, reference=None)

    def pick(self, indices: Iterable[int]) -> LearntCases:
        """Some of the cases, in the order of `indices`."""
        return LearntCases(pick(self.cases, indices), self.supervision)

    def fingerprint(self, index: int) -> str:
        """What tells a case from every other, see `napari_weakseg.case.fingerprint`."""
        return fingerprint(self.cases, index)

    @property
    def ids(self) -> tuple[str, ...]:
        """The id of every case."""
        return known(self.cases, "id")

    @property
    def patients(self) -> tuple[str, ...]:
        """The patient of every case."""
        return known(self.cases, "patient")

    @property
    def image_labels(self) -> tuple[Any, ...]:
        """The image-level label of every case, or None."""
        return known(self.cases, "image_label")


def training_steps(
    cohort: Cohort,
    recipe: Recipe | None = None,
    *,
    method: str | None = None,
    run: str | os.PathLike[str] | None = None,
    resume: bool = False,
    fold: tuple[int, int] | Fold | None = None,
    split_seed: int = 0,
    weights: Weights | None = None,
) -> Generator[Step, None, Weights]:
    """Like `napari_weakseg.api.train`, step by step: yields each `Step` and returns the `Weights`.

    The first steps, of stage ``"check"``, read each case once: a file that cannot be used is found before anything is
    learnt. Whoever drives it may stop after any step; with `run`, the same call with ``resume=True`` goes on.
    """
    begun = Run(run).begun() if resume and run is not None else None
    method = (
        method
        or (begun[0] if begun is not None and recipe is None else None)
        or (weights.method if weights is not None else method_of(recipe))
    )
    room = get_method(method)
    recipe = recipe or (begun[1] if begun is not None and begun[0] == method else room.recipe_class.for_cohort())
    if not isinstance(recipe, room.recipe_class):
        raise RecipeError(f"these are not the settings of {method!r}; make them with new_recipe({method!r}).")
    supervision = str(getattr(recipe, "supervision", "marks"))
    takes = () if room.card.learns_unmarked or supervision == "masks" else room.card.prompts
    said: list[str] = []
    every, split = _split(cohort, fold, split_seed)
    parts = {part: _marked(cases, part, takes, said) if part in LEARNT else cases for part, cases in every.items()}
    if not len(parts["training"]):
        raise DataError(f"cohort {cohort.name!r} has no case to learn from; list some under 'training'.")
    if supervision == "masks" and room.card.prompts == ("image_label",) and cohort.image_classes:
        _check_values(cohort)
    learnt = {part: LearntCases(parts[part], supervision) for part in LEARNT}
    with ExitStack() as stack:
        kept = None if run is None else stack.enter_context(Run(run))
        if kept is not None:  # what the run refuses is found before hundreds of images are read
            kept.reserve()
            kept.check(recipe, method, split_facts(cohort, parts, {}), resume=resume)
        masks = _unpaired(cohort.unpaired_masks if room.card.learns_masks else (), every, said)
        sizes: dict[tuple[str, int], int] = {}
        read = {**learnt, "testing": LearntCases(parts["testing"], "masks")}
        hashes = yield from _checked(read, masks, takes, supervision, said, sizes)
        memory = _memory_note(room, recipe, learnt, sizes)
        yield Step("check", len(sizes), len(sizes), note=memory)
        if kept is not None:
            facts = split_facts(cohort, parts, hashes)
            kept.begin(recipe, method, {**facts, "supervision": supervision, "split": split}, resume=resume)
            kept.keep_notes((*cohort.notes, *said, memory, *kept.notes))
            for note in kept.notes:
                yield Step("check", 1, 1, note=note)
        more = {"unpaired_masks": masks} if room.card.learns_masks else {}
        fit = room.fit(learnt["training"], recipe, weights, validation=learnt["validation"], checkpoints=kept, **more)
        stack.enter_context(closing(fit))
        while True:
            try:
                step = next(fit)
            except StopIteration as end:
                done = cast("Weights", end.value)
                done = replace(done, meta={**done.meta, "notes": [*done.meta.get("notes", ()), *said]}) if said else done
                break
            if kept is not None:
                kept.log(step)
                _picture(kept, step, learnt["training"])
            yield step
        if kept is not None:
            kept.finish(done)
        return done


def _picture(run: Run, step: Step, cases: LearntCases) -> None:
    """Now and then, what is predicted on the case that the previews are of."""
    preview = step.preview
    if preview is None or preview.case not in cases.ids or (path := run.picture_of(step)) is None:
        return
    from .overview import write_comparison

    volume = cases[cases.ids.index(preview.case)].volume
    shown = Result(volume.with_array(preview.labels()), preview.structures)
    with suppress(DataError):  # a picture never ends a run
        write_comparison(path, [(f"{preview.case}, {step.stage} {step.index}", volume, shown, None)], width=6.0)


def seen_by(case: Case, weights: Weights) -> Case:
    """The case as prediction may see it: without reference and classes, and with marks only where the network reads them."""
    alone = replace(case, reference=None, image_label=None)
    return alone if getattr(weights.recipe, "marks", False) else replace(alone, points=None, scribbles=None)


def method_of(recipe: Recipe | None) -> str:
    """The name of the method that a recipe is of; the default method without one."""
    if recipe is None:
        return DEFAULT
    names = (card.name for card in list_methods())
    return next((name for name in names if type(recipe) is get_method(name).recipe_class), DEFAULT)


def split_facts(cohort: Cohort, parts: Mapping[str, Sequence[Case]], hashes: Mapping[str, Any]) -> dict[str, Any]:
    """What a run says of its cohort: no path, and patients by number alone.

    Parameters
    ----------
    cohort : Cohort
        Where the cases are from.
    parts : dict of str to sequence of Case
        By ``"training"``, ``"validation"``, ``"testing"``.
    hashes : dict
        Per part, case id to the hashes of its image, of the voxels alone, and where it is learnt from of its marks. Under
        ``"unpaired_masks"`` a list with one hash per mask.
    """
    numbers: dict[str, int] = {}
    listed: dict[str, list[dict[str, Any]]] = {}
    for part in PARTS:
        of_part = hashes.get(part, {})
        listed[part] = [
            {"id": case, "patient": numbers.setdefault(patient, len(numbers) + 1), **of_part.get(case, {})}
            for case, patient in zip(known(parts[part], "id"), known(parts[part], "patient"), strict=True)
        ]
    return {
        "name": cohort.name,
        "channels": list(cohort.channels),
        "structures": [{"name": s.name, "value": s.value} for s in cohort.structures],
        "image_classes": list(cohort.image_classes),
        "slice_axis": cohort.slice_axis,
        "parts": listed,
        "unpaired_masks": list(hashes.get("unpaired_masks", ())),
    }


def _split(cohort: Cohort, fold: tuple[int, int] | Fold | None, seed: int) -> tuple[dict[str, Sequence[Case]], dict[str, Any]]:
    """The cases of each part, and how they were chosen."""
    if fold is None:
        parts = {part: cast("Sequence[Case]", getattr(cohort, part)) for part in PARTS}
        return parts, {"fold": None, "folds": None, "seed": None}
    how: dict[str, Any] = {"fold": None, "folds": None, "seed": None}
    if not isinstance(fold, Fold):
        number, count = fold
        if not 1 <= number <= count:
            raise DataError(f"there is no fold {number} of {count}; count them from 1.")
        how = {"fold": number, "folds": count, "seed": seed}
        fold = cohort.folds(count, seed)[number - 1]
    return {"training": fold.training, "validation": cohort.validation, "testing": fold.testing}, how


def _unpaired(masks: Sequence[Volume], parts: Mapping[str, Sequence[Case]], said: list[str]) -> Sequence[Volume]:
    """The masks without those of patients whom this run holds out, where it is known whose they are."""
    if not isinstance(masks, MasksOnDisk):
        return masks
    tested = {patient for part in ("validation", "testing") for patient in known(parts[part], "patient")}
    kept = [place for place, patient in enumerate(masks.patients) if patient not in tested]
    if len(kept) == len(masks):
        return masks
    count = len(masks) - len(kept)
    which = "1 unpaired mask of a patient who is" if count == 1 else f"{count} unpaired masks of patients who are"
    said.append(f"{which} held out {'was' if count == 1 else 'were'} left out.")
    return masks.pick(kept)


def _checked(
    parts: Mapping[str, LearntCases],
    masks: Sequence[Volume],
    takes: tuple[str, ...],
    supervision: str,
    said: list[str],
    sizes: dict[tuple[str, int], int],
) -> Generator[Step, None, dict[str, Any]]:
    """Read every case and mask once; returns their hashes as `split_facts` takes them, and adds to the notes `said`.

    The voxels of what is learnt from go into `sizes`, by part and place.

    Of what is only to be scored later, no marks are asked.

    Raises
    ------
    CohortFaults
        After the last one, with all that was found.
    """
    total, done = sum(map(len, parts.values())) + len(masks), 0
    hashes: dict[str, Any] = {part: {} for part in parts} | {"unpaired_masks": []}
    seen: dict[str, tuple[str, str]] = {}
    faults: list[str] = []
    drawn: list[Drawn | None] = []
    structures: dict[int, Structure] = {}
    unmarked: set[str] = set()
    for part, cases in parts.items():
        for place in range(len(cases)):
            try:
                case = cases[place]
                kept = {"image": case.image_sha256, "voxels": case.voxels_sha256}
                if part in LEARNT:
                    _check_marks(case, takes, supervision)
                    sizes[part, place] = case.volume.array.size
                    drawn.append(Drawn.of(case) if masks else None)
                    structures |= {structure.value: structure for structure in case.structures}
                    unmarked |= {case.id} if part == "training" and case.scribbles is None and supervision == "marks" else set()
                    kept["marks"] = case.marks_sha256
                hashes[part][case.id] = kept
                twin, home = seen.setdefault(case.voxels_sha256, (case.id, part))
                if twin != case.id:
                    where = f", in {home} and in {part}" if home != part else ""
                    raise DataError(f"cases {twin} and {case.id} hold the same image{where}; leave one out.")
            except WeaksegError as error:
                faults.append(str(error))
            done += 1
            yield Step("check", done, total, progress=0.0)
    own: dict[str, str] = {}
    if masks:
        for whose in parts.values():
            for case_id, content in _own_masks(whose.cases, unmarked):
                own.setdefault(content, case_id)
                yield Step("check", done, total, progress=0.0)
    held: set[int] = set()
    before = len(faults)
    for place, name in enumerate(known(masks, "name")):
        try:
            mask = masks[place]
            hashes["unpaired_masks"].append(mask.sha256)
            held |= values_in(mask, tuple(structures.values())) if structures else {0}
            if (owner := own.get(mask.voxels_sha256)) is not None:
                raise DataError(own_mask(name, owner))
            said += filter(None, (paired_note(mask, drawn),))
        except WeaksegError as error:
            faults.append(str(error))
        done += 1
        yield Step("check", done, total, progress=0.0)
    if masks and not held and len(faults) == before:
        faults.append(ALL_EMPTY)
    for note in said:
        yield Step("check", total, total, note=note)
    if faults:
        raise CohortFaults(faults)
    return hashes


def _own_masks(cases: Sequence[Case], unmarked: Collection[str]) -> Iterator[tuple[str, str]]:
    """Id and content of the masks that an unpaired one must not be the same as: all but those of cases without strokes."""
    alone = getattr(cases, "reference", None)
    for place, case_id in enumerate(known(cases, "id")):
        with suppress(WeaksegError):  # what cannot be read is for `check_cohort` to report: nothing learns from it
            mask = None if case_id in unmarked else cases[place].reference if alone is None else alone(place)
            if mask is not None and mask.array.any():
                yield case_id, mask.voxels_sha256


def _check_values(cohort: Cohort) -> None:
    """Refuse full masks for a classifier where their values are not the numbers of its classes.

    Raises
    ------
    DataError
        Names the first structure whose value is no class, or another one than its name says.
    """
    classes = cohort.image_classes
    for structure in cohort.structures:
        known_as = classes.index(structure.name) if structure.name in classes else None
        single = len(classes) == 2 and known_as is None  # the one finding, whatever it is called
        if structure.value >= len(classes) or (structure.value != known_as and not single):
            numbered = ", ".join(f"{number} {name}" for number, name in enumerate(classes))
            raise DataError(
                f"full masks teach classes by value: structure {structure.name!r} has {structure.value}, but the image classes "
                f"of cohort {cohort.name!r} are {numbered}; give both the same numbers."
            )


def _marked(cases: Sequence[Case], part: str, takes: tuple[str, ...], said: list[str]) -> Sequence[Case]:
    """The cases that have a mark of a kind that is learnt from; all of them where none has, for `_check_marks` to refuse."""
    held = getattr(cases, "entries", cases)  # what the cohort file says of lazy ones: no image is read
    if not takes or not isinstance(held, tuple | list):
        return cases
    fields = {SLOTS[kind] for kind in takes} | ({"scribble"} if "scribbles" in takes else set())
    chosen = [place for place, of in enumerate(held) if any(getattr(of, name, None) is not None for name in fields)]
    if len(chosen) == len(held) or (part == "training" and not chosen):
        return cases
    words = " or ".join(kind.replace("_", " ") for kind in takes)
    left = "1 case" if len(held) - len(chosen) == 1 else f"{len(held) - len(chosen)} cases"
    said.append(f"{left} of the part {part!r} without {words} left out.")
    return pick(cases, chosen)


def _memory_note(
    room: Method, recipe: Recipe, cases: Mapping[str, Sequence[Case]], sizes: Mapping[tuple[str, int], int]
) -> str:
    """About what a training takes of memory, from its largest case."""
    from .training.cache import expected_note

    part, place = max(sizes, key=lambda key: sizes[key])
    largest = cases[part][place]
    working = getattr(room, "working_memory", None)
    own = 0 if working is None else int(working(largest, recipe, None))
    return expected_note(sum(sizes.values()), len(largest.channels), own + 4 * sizes[part, place] * len(largest.channels))


def _check_marks(case: Case, takes: tuple[str, ...], supervision: str) -> None:
    if supervision == "masks":
        if case.reference is None:
            raise PromptError(f"{case.id} has no reference mask ('label'); full supervision needs one for every case.")
    elif takes and all(getattr(case, SLOTS[kind]) is None for kind in takes):
        words = " or ".join(kind.replace("_", " ") for kind in takes)
        raise PromptError(f"{case.id} has no {words}, which this method learns from; mark it or take it out.")
