"""Cohort files spoilt at random: refused in a sentence, never an error of another kind."""

from __future__ import annotations

import copy
import json
import random

import pytest

from cohorts import image, make_cohort, mask, save
from napari_weakseg.errors import WeaksegError
from napari_weakseg.io.cohort import check_cohort, guess_cohort, read_cohort
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
    "²",
    "9" * 5000,
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
    data = make_cohort(tmp_path, cases=3)
    (tmp_path / "labels.csv").write_text("case,class\ncase_0,lesion\n")
    codes = {"background": 0, "unlabelled": 4, "structures": {"lesion": 1}, "dense": True}
    data["training"][0] |= {"scribble": ["case_0/scribble.nii.gz", "case_1/scribble.nii.gz"], "scribble_codes": [codes, None]}
    data["training"][1] |= {"scribble": None, "marks": "mask"}
    data["unpaired_masks"].append({"mask": "others/mask_01.nii.gz", "patient": "p9"})
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


def test_spoilt_datasets_of_nnu_net_are_understood_or_refused_in_a_sentence(tmp_path):
    save(tmp_path / "imagesTr" / "a_0000.nii.gz", image(0))
    save(tmp_path / "labelsTr" / "a.nii.gz", mask())
    kept = {
        "patients": {"a": "p1"},
        "validation": ["a"],
        "slice_axis": 1,
        "structures": [{"name": "lesion", "colour": "#112233"}],
    }
    data = {
        "channel_names": {"0": "T2"},
        "labels": {"background": 0, "lesion": 1, "rest": [1, 2], "ignore": 2},
        "numTraining": 1,
        "file_ending": ".nii.gz",
        "weakseg": kept,
    }
    rng = random.Random(3)
    for _ in range(150):
        spoilt = copy.deepcopy(data)
        _spoil(spoilt, rng)
        (tmp_path / "dataset.json").write_text(json.dumps(spoilt))
        try:
            found, _ = guess_cohort(tmp_path)
        except WeaksegError as refused:
            assert len(str(refused).split()) < 50
        else:
            parse_cohort(json.loads(json.dumps(found)), tmp_path / "cohort.json")


def test_a_damaged_file_is_told_with_its_case(tmp_path):
    make_cohort(tmp_path, cases=1)
    path = tmp_path / "case_0" / "flair.nii.gz"
    path.write_bytes(path.read_bytes()[:-12])
    cohort = read_cohort(tmp_path / "cohort.json")
    with pytest.raises(WeaksegError, match=r"^case_0: flair.nii.gz") as refused:
        cohort.training[0]
    assert str(tmp_path) not in str(refused.value)
    assert len(check_cohort(tmp_path / "cohort.json")) == 1
