"""Cohort files spoilt at random: refused in a sentence, never an error of another kind."""

from __future__ import annotations

import copy
import json
import random

import pytest

from cohorts import make_cohort
from napari_weakseg.errors import WeaksegError
from napari_weakseg.io.cohort import check_cohort, read_cohort
from napari_weakseg.io.cohort_file import parse_cohort

ODD = [
    None,
    True,
    0,
    -1,
    2.5,
    10**30,
    "",
    "x",
    "../..",
    "/",
    "a\0b",
    "labels.csv",
    [],
    [[]],
    {},
    {"a": 1},
    [None],
    ["x", 1],
    "é" * 300,
]


def _places(node, path=()):
    yield path
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from _places(value, (*path, key))


def _spoil(data, rng):
    """One node replaced, taken away or doubled."""
    path = rng.choice([path for path in _places(data) if path])
    node = data
    for key in path[:-1]:
        node = node[key]
    what = rng.choice(["replace", "remove", "double"])
    if what == "replace":
        node[path[-1]] = copy.deepcopy(rng.choice(ODD))
    elif what == "remove":
        del node[path[-1]]
    elif isinstance(node, list):
        node.append(copy.deepcopy(node[path[-1]]))
    else:
        node[str(path[-1]) + "x"] = node[path[-1]]


@pytest.mark.parametrize("seed", range(5))
def test_spoilt_cohort_files_are_refused_in_a_sentence(tmp_path, seed):
    data = make_cohort(tmp_path, cases=2)
    (tmp_path / "labels.csv").write_text("case,class\ncase_0,lesion\n")
    rng = random.Random(seed)
    for _ in range(300):
        spoilt = copy.deepcopy(data)
        for _ in range(rng.choice([1, 1, 2, 4])):
            _spoil(spoilt, rng)
        _, faults = parse_cohort(spoilt, tmp_path / "cohort.json")
        assert all(isinstance(fault, str) and len(fault.split()) < 50 for fault in faults)


def test_spoilt_cohort_files_are_checked_to_their_end(tmp_path):
    data = make_cohort(tmp_path, cases=2)
    rng = random.Random(7)
    for _ in range(40):
        spoilt = copy.deepcopy(data)
        _spoil(spoilt, rng)
        (tmp_path / "cohort.json").write_text(json.dumps(spoilt))
        faults = check_cohort(tmp_path / "cohort.json")
        assert all("\n" not in fault for fault in faults)
        if not faults:
            cohort = read_cohort(tmp_path / "cohort.json", references=True)
            assert [case.id for case in cohort.training]


def test_a_damaged_file_is_told_with_its_case(tmp_path):
    make_cohort(tmp_path, cases=1)
    path = tmp_path / "case_0" / "flair.nii.gz"
    path.write_bytes(path.read_bytes()[:-12])
    cohort = read_cohort(tmp_path / "cohort.json")
    with pytest.raises(WeaksegError, match=r"^case_0: flair.nii.gz") as refused:
        cohort.training[0]
    assert str(tmp_path) not in str(refused.value)
    assert len(check_cohort(tmp_path / "cohort.json")) == 1
