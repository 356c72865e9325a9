"""What a folder's masks, strokes and points are of: the structures of a first cohort file."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from ..errors import WeaksegError
from .nifti import read_mask
from .scribble_codes import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from .cohort_layout import FoundCase, Layout

MOST_BYTES = 5_000_000
"""A larger ``dataset.json`` is not read."""

_NUMBER = re.compile(r"[0-9]{1,9}")

FILES_READ = 25
"""So many masks and stroke files are opened to see which values they hold."""


def dataset_of(layout: Layout) -> dict[str, Any]:
    """What ``dataset.json`` says; empty where there is none."""
    try:
        if layout.dataset is None or layout.dataset.stat().st_size > MOST_BYTES:
            return {}
        data = json.loads(layout.dataset.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def structures_of(
    cases: list[FoundCase], layout: Layout, codes: Mapping[str, Any] | None, notes: list[str]
) -> list[dict[str, Any]]:
    """Structures by value, named where a file names them; of strokes only where it is known what their values mean."""
    if layout.codes is not None:  # a dataset that states what its strokes' values mean names its structures too
        meant = {layout.codes["background"], layout.codes["unlabelled"]}
        named = {value: name for value, name in _dataset_labels(layout).items() if value not in meant}
        notes.append(f"dataset.json names the structures {few(f'{value} = {name}' for value, name in sorted(named.items()))}.")
        return [{"name": named[value], "value": value, **layout.looks.get(named[value], {})} for value in sorted(named)]
    masks = [case.masks[0] for case in cases if len(case.masks) == 1] + layout.unpaired_masks
    values = set(values_of(masks)) - {0}
    names = _dataset_labels(layout)
    strokes = [path for case in cases for path in case.scribbles] if codes is not None else []
    source = "the masks"
    if codes is not None and not masks and strokes:
        values, source = set(values_of(strokes)) - {codes["background"], codes["unlabelled"]}, "the strokes"
    elif not masks:
        names = _names_in_points(cases)
        values, source = set(names), "the points"
    if not values:
        return []
    found = [{"name": names.get(value, f"structure {value}"), "value": value} for value in sorted(values)]
    listed = few([f"{structure['value']} = {structure['name']}" for structure in found])
    part = f" (the first {FILES_READ} were opened)" if len(masks or strokes) > FILES_READ else ""
    unnamed = "" if set(names) >= values else "; their names stand in no file, correct them under structures"
    notes.append(f"{source} hold the structures {listed}{part}{unnamed}.")
    return found


def _dataset_labels(layout: Layout) -> dict[int, str]:
    labels = dataset_of(layout).get("labels")
    names: dict[int, str] = {}
    for one, other in labels.items() if isinstance(labels, dict) else ():
        name, value = (
            (other, one) if _NUMBER.fullmatch(str(one)) else (one, other)
        )  # decathlon writes value: name, nnU-Net v2 name: value
        if _NUMBER.fullmatch(str(value)) and isinstance(name, str):
            names[int(value)] = name
    return names


def _names_in_points(cases: list[FoundCase]) -> dict[int, str]:
    """Structures as our own points files name them."""
    names: dict[int, str] = {}
    for case in cases:
        for path in case.points[:1]:
            try:
                data = json.loads(path.read_bytes()) if path.suffix == ".json" and path.stat().st_size < 5_000_000 else None
            except (OSError, ValueError, RecursionError):
                data = None
            entries = data.get("structures") if isinstance(data, dict) else None
            for number, entry in enumerate(entries if isinstance(entries, list) else [{"name": "lesion"}], start=1):
                if isinstance(entry, dict) and isinstance(entry.get("value", number), int):
                    names.setdefault(entry.get("value", number), str(entry.get("name", f"structure {number}")))
    return names


def values_of(paths: list[Path]) -> dict[int, int]:
    """How many voxels hold each value, in the first `FILES_READ` of the files."""
    values: Counter[int] = Counter()
    for path in paths[:FILES_READ]:
        try:
            values.update(counted(read_mask(path).array))
        except WeaksegError:
            continue  # a damaged mask is for `check_cohort` to report, with all the others
    return dict(values)


def few(names: Iterable[Any], limit: int = 6) -> str:
    """The first names of a list, and how many more there are."""
    listed = [str(name) for name in names]
    return ", ".join(listed[:limit]) + (f" and {len(listed) - limit} more" if len(listed) > limit else "")
