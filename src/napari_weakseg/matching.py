"""A cohort in the terms of what was learnt: structures, classes and channels are matched by name, never by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from .case import Case, Cohort, known
from .errors import DataError
from .held_out import ChosenCases, held_out, masked
from .io.weights import facts_of, to_bytes
from .methods import get_method
from .prompts import ImageLabel

if TYPE_CHECKING:
    from .method import Weights
    from .prompts import Structure
    from .volume import Volume

UNNAMED = "image"
"""What a channel is called where nobody named it."""

WHY = {
    "training": "the run learnt from",
    "validation": "the run saw while it learnt",
    "testing": "the run held out",
    "new": "the run does not know",
}
"""What cases of a part are to a run."""


class Terms(NamedTuple):
    """How a run says what a cohort says.

    Parameters
    ----------
    structures : tuple of Structure
        What is scored in masks, with the run's values.
    values : dict of int to int, or None
        A value of the cohort's masks to the run's; others become 0. None leaves masks as they are.
    classes : tuple of str
        The run's image classes in its order; empty leaves labels as they are.
    channels : tuple of str
        The run's channels in its order; empty leaves them as they are.
    """

    structures: tuple[Structure, ...]
    values: Mapping[int, int] | None
    classes: tuple[str, ...]
    channels: tuple[str, ...]


class ToScore(NamedTuple):
    """All that a scoring needs beside the prediction.

    Parameters
    ----------
    part : str
        What the cases are of the run.
    cases : MatchedCases
        With reference masks and labels in the run's terms; read one by one.
    structures : tuple of Structure
        What is scored in masks.
    learnt : frozenset of str
        Hashes of images that the training knew, see `napari_weakseg.held_out.HeldOut`.
    left_out : dict of str to int
        How many cases of the cohort are of other parts.
    cohort, weights : str
        Name of the cohort, and SHA-256 of the weights' tensors as they are stored.
    notes : tuple of str
        What the reader of the figures should know.
    """

    part: str
    cases: MatchedCases
    structures: tuple[Structure, ...]
    learnt: frozenset[str]
    left_out: Mapping[str, int]
    cohort: str
    weights: str
    notes: tuple[str, ...]


def cases_to_score(weights: Weights, facts: Mapping[str, Any] | None, cohort: Cohort, part: str | None = None) -> ToScore:
    """The cases of a cohort that weights are scored on, in the weights' own terms.

    Parameters
    ----------
    weights : Weights
        What was learnt.
    facts : dict or None
        What its run says of its own cohort (`Run.cohort`).
    cohort : Cohort
        Its reference masks are opened, whether it was read with them or not.
    part : {"testing", "validation", "training", "new"}, optional
        See `napari_weakseg.held_out.held_out`.

    Raises
    ------
    DataError
        No case has a mask or label, or the cohort's classes, structures, channels or slices are none that the run knows.
    """
    chosen = held_out(cohort.with_references(), facts, part)
    with_mask, labels = masked(chosen.cases), known(chosen.cases, "image_label")
    bare = sum(not mask and label is None for mask, label in zip(with_mask, labels, strict=True))
    if bare == len(chosen.cases):
        raise DataError(
            f"no {chosen.part} case of cohort {cohort.name!r} has a reference mask ('label') or 'image_label'; add what to "
            "score against."
        )
    notes = [f"{bare} cases have neither reference mask nor label; they cannot be scored."] if bare else []
    notes += [
        f"{count} cases that {WHY[other]} are left out; choose the part {other!r} to score them."
        for other, count in chosen.left_out.items()
    ]
    classes, axis = _classes_of(weights, facts)
    if classes:
        _check_classes(cohort, classes, axis, [label for label in labels if label is not None])
    structures, values = _structures(weights, cohort, any(with_mask), notes)
    terms = Terms(structures, values, classes, _channels(weights, facts, cohort, notes))
    sha256 = str(facts_of(to_bytes(weights.tensors), weights.tensors)["file"]["sha256"])
    cases = MatchedCases(chosen.cases, terms)
    return ToScore(chosen.part, cases, structures, chosen.learnt, chosen.left_out, cohort.name, sha256, tuple(notes))


class MatchedCases(Sequence[Case]):
    """Cases with the channels, class labels and mask values of a run; lazy where `cases` is."""

    def __init__(self, cases: ChosenCases, terms: Terms) -> None:
        self.cases, self.terms = cases, terms

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.cases)

    @overload
    def __getitem__(self, index: int) -> Case: ...
    @overload
    def __getitem__(self, index: slice) -> MatchedCases: ...
    def __getitem__(self, index: int | slice) -> Case | MatchedCases:
        """One case, or some."""
        if isinstance(index, slice):
            return MatchedCases(self.cases[index], self.terms)
        case, wanted = self.cases[index], self.terms.channels
        channels = {name: case.channels[name] for name in wanted} if set(wanted) <= set(case.channels) else case.channels
        label, reference = self._label(case.image_label), self._reference(case.reference)
        return replace(case, channels=channels or case.channels, image_label=label, reference=reference)

    @property
    def ids(self) -> tuple[str, ...]:
        """The id of every case."""
        return known(self.cases, "id")

    @property
    def image_labels(self) -> tuple[ImageLabel | None, ...]:
        """The image-level label of every case in the run's classes, or None."""
        return tuple(self._label(label) for label in known(self.cases, "image_label"))

    @property
    def masked(self) -> tuple[bool, ...]:
        """Whether each case has a reference mask."""
        return masked(self.cases)

    def reference(self, index: int) -> Volume | None:
        """The reference mask of one case with the run's values, also where its image cannot be read."""
        return self._reference(self.cases.reference(index))

    def _label(self, label: ImageLabel | None) -> ImageLabel | None:
        classes = self.terms.classes
        if label is None or not classes or label.classes == classes:
            return label
        place = {number: classes.index(name) for number, name in enumerate(label.classes) if name in classes}
        if isinstance(label.label, tuple | list):
            return ImageLabel(classes, tuple(place[int(value)] for value in label.label), label.slice_axis)
        return ImageLabel(classes, place[int(label.label)], label.slice_axis)

    def _reference(self, reference: Volume | None) -> Volume | None:
        values = self.terms.values
        if reference is None or values is None:
            return reference
        array = np.zeros(reference.shape, dtype=np.uint8)
        for theirs, ours in values.items():
            array[reference.array == theirs] = ours
        return reference.with_array(array)


def _names(value: Any) -> tuple[str, ...]:
    """Names from a description; some methods keep a number there, which is none."""
    return tuple(str(name) for name in value) if isinstance(value, list | tuple) else ()


def _classes_of(weights: Weights, facts: Mapping[str, Any] | None) -> tuple[tuple[str, ...], int | None]:
    """Image classes that were learnt, in order, and the axis along which slices were counted; of a classifier only."""
    if "image_label" not in get_method(weights.method).card.prompts:
        return (), None
    said = {**(facts or {}), **weights.meta}
    classes = _names(weights.meta.get("classes")) or _names((facts or {}).get("image_classes"))
    axis = said.get("slice_axis")
    return classes, axis if isinstance(axis, int) else None


def _check_classes(cohort: Cohort, classes: Sequence[str], axis: int | None, labels: Sequence[ImageLabel]) -> None:
    """Refuse labels that mean nothing to the run."""
    for label in labels:
        for number in {int(value) for value in np.atleast_1d(label.label)}:
            if label.classes[number] not in classes:
                raise DataError(
                    f"this run does not know the image class {label.classes[number]!r} of cohort {cohort.name!r}; give it "
                    f"the names that were learnt ({', '.join(classes)})."
                )
    wrong = sorted(({label.slice_axis for label in labels} | {cohort.slice_axis}) - {axis})
    if axis is not None and wrong:
        raise DataError(
            f"cohort {cohort.name!r} counts slices along axis {wrong[0]}, but this run learnt along axis {axis}; turn its "
            "images, or correct 'slice_axis'."
        )


def _channels(weights: Weights, facts: Mapping[str, Any] | None, cohort: Cohort, notes: list[str]) -> tuple[str, ...]:
    """The run's channels, and a note where a single one has another name."""
    ours = _names(weights.meta.get("channels")) or _names((facts or {}).get("channels"))
    theirs = cohort.channels
    if not ours or set(ours) <= set(theirs) or UNNAMED in (*ours, *theirs):
        return ours
    if len(ours) > 1 or len(theirs) > 1:
        lacking = next(name for name in ours if name not in theirs)
        raise DataError(
            f"cohort {cohort.name!r} lacks the channel {lacking!r}; this run learnt from {', '.join(ours)}, so name its "
            "channels accordingly."
        )
    notes.append(f"this run learnt from {ours[0]!r}, but the images of cohort {cohort.name!r} are called {theirs[0]!r}.")
    return ours


def _structures(
    weights: Weights, cohort: Cohort, any_mask: bool, notes: list[str]
) -> tuple[tuple[Structure, ...], Mapping[int, int] | None]:
    """What is scored, and which of the run's values each of the cohort's has."""
    ours, theirs = weights.structures, cohort.structures
    if not ours or not theirs or not any_mask:
        return ours or theirs, None
    by_name = {structure.name: structure for structure in ours}
    both = [structure for structure in theirs if structure.name in by_name]
    if both:
        named = {structure.name for structure in both}
        unscored = [s.name for s in (*theirs, *ours) if s.name not in named]
        if unscored:
            notes.append(f"{', '.join(unscored)}: in the cohort or in the run alone, so not scored.")
        return tuple(s for s in ours if s.name in named), {s.value: by_name[s.name].value for s in both}
    words = ", ".join(structure.name for structure in theirs)
    if len(ours) > 1:
        raise DataError(
            f"the structures of cohort {cohort.name!r} ({words}) are none of this run's "
            f"({', '.join(by_name)}); give them the same names."
        )
    notes.append(f"everything in the reference masks ({words}) is scored as {ours[0].name!r}, which is all that the run draws.")
    return ours, {structure.value: ours[0].value for structure in theirs}
