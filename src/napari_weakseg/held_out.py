"""Which cases of a cohort a fair score counts: what a run held out or never saw, told by image, not by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast, overload

from .case import PARTS, Case, Cohort, known
from .errors import DataError, WeaksegError

if TYPE_CHECKING:
    from .prompts import ImageLabel
    from .volume import Volume

LEARNT = ("training", "validation")
"""Parts whose images a training looks at."""


class HeldOut(NamedTuple):
    """Cases that a fair score counts.

    Parameters
    ----------
    part : str
        What they are of the run: ``"testing"``, ``"validation"``, ``"training"`` or ``"new"``.
    cases : ChosenCases
        Lazy where the cohort is.
    learnt : frozenset of str
        Hashes of images that were learnt from and are not of this part, see `image_hashes`.
    left_out : dict of str to int
        How many cases of the cohort are of which other part.
    """

    part: str
    cases: ChosenCases
    learnt: frozenset[str]
    left_out: Mapping[str, int]


def held_out(cohort: Cohort, facts: Mapping[str, Any] | None, part: str | None = None) -> HeldOut:
    """The cases of a cohort that a fair score counts.

    A case is the run's own where it has the id and the image of one of the run's; another image under that id is new. Where
    the run kept no hash of an image, the id decides, if the cohort holds all of the run's cases and no other image of one.

    Parameters
    ----------
    cohort : Cohort
        Cases whose id is one of the run's are read once.
    facts : dict or None
        What the run says of its own cohort (`Run.cohort`); None where nothing is known: then the cohort's own parts count.
    part : {"testing", "validation", "training", "new"}, optional
        Default ``"testing"`` where the run or the cohort has such a part, else ``"new"``: cases that the run does not know.

    Raises
    ------
    DataError
        The cohort has no such case.
    """
    places = [(name, place, case) for name in PARTS for place, case in enumerate(known(getattr(cohort, name), "id"))]
    if not places:
        raise DataError(f"cohort {cohort.name!r} lists no case to score; add some under 'testing'.")
    homes = [name for name, _, _ in places] if facts is None else _homes(cohort, places, facts["parts"])
    chosen = part or next(name for name in ("testing", "new", "validation", "training") if name in homes)
    if chosen not in homes:
        raise DataError(f"cohort {cohort.name!r} has no case in the part {chosen!r} of this run; choose another part.")
    cases = ChosenCases(cohort, [(name, place) for (name, place, _), home in zip(places, homes, strict=True) if home == chosen])
    learnt = [] if facts is None else [entry for name in LEARNT if name != chosen for entry in facts["parts"][name]]
    hashes = frozenset(value for entry in learnt for value in _hashes(entry))
    return HeldOut(chosen, cases, hashes, dict(Counter(home for home in homes if home != chosen)))


def image_hashes(case: Case) -> tuple[str, ...]:
    """What an image is told by: with its type and place, and by its voxels alone."""
    return (case.image_sha256, case.voxels_sha256)


def _homes(cohort: Cohort, places: Sequence[tuple[str, int, str]], parts: Mapping[str, Any]) -> list[str]:
    """Part of the run of each case, or ``"new"``."""
    entries = {entry["id"]: (name, entry) for name in PARTS for entry in parts[name]}
    same = {}
    for name, place, case in places:
        kept = _hashes(entries[case][1]) if case in entries else ()
        if kept:
            same[case] = _is_of(getattr(cohort, name), place, kept)
    by_id = all(same.values()) and entries.keys() <= {case for _, _, case in places}
    return [entries[case][0] if case in entries and same.get(case, by_id) else "new" for _, _, case in places]


def _hashes(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """What a run kept of an image; runs of earlier versions have no hash of the voxels alone."""
    return tuple(entry[name] for name in ("image", "voxels") if name in entry)


def _is_of(cases: Sequence[Case], place: int, hashes: Iterable[str]) -> bool:
    """Whether a case's image is the one with these hashes; one that cannot be read is taken at its word."""
    try:
        return not set(hashes).isdisjoint(image_hashes(cases[place]))
    except WeaksegError:
        return True


class ChosenCases(Sequence[Case]):
    """Some cases of a cohort, from any of its parts; lazy where these are."""

    def __init__(self, cohort: Cohort, places: Sequence[tuple[str, int]]) -> None:
        self.cohort, self.places = cohort, tuple(places)

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Case: ...
    @overload
    def __getitem__(self, index: slice) -> ChosenCases: ...
    def __getitem__(self, index: int | slice) -> Case | ChosenCases:
        """One case, or some."""
        if isinstance(index, slice):
            return ChosenCases(self.cohort, self.places[index])
        part, place = self.places[index]
        return cast("Case", getattr(self.cohort, part)[place])

    @property
    def ids(self) -> tuple[str, ...]:
        """The id of every case."""
        return self._known("id")

    @property
    def image_labels(self) -> tuple[ImageLabel | None, ...]:
        """The image-level label of every case, or None."""
        return self._known("image_label")

    @property
    def masked(self) -> tuple[bool, ...]:
        """Whether each case has a reference mask."""
        return tuple(masked(getattr(self.cohort, part))[place] for part, place in self.places)

    def reference(self, index: int) -> Volume | None:
        """The reference mask of one case; where that is lazy, its image is not read."""
        part, place = self.places[index]
        cases = getattr(self.cohort, part)
        alone = getattr(cases, "reference", None)
        found: Volume | None = cases[place].reference if alone is None else alone(place)
        return found

    def _known(self, name: str) -> tuple[Any, ...]:
        of_parts = {part: known(getattr(self.cohort, part), name) for part in {part for part, _ in self.places}}
        return tuple(of_parts[part][place] for part, place in self.places)


def masked(cases: Sequence[Case]) -> tuple[bool, ...]:
    """Whether each case has a reference mask, without reading one where that is lazy."""
    lazy = getattr(cases, "masked", None)
    return tuple(case.reference is not None for case in cases) if lazy is None else tuple(lazy)
