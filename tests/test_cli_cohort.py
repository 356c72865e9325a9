"""`weakseg cohort` as a user types it."""

from __future__ import annotations

import json

import pytest

from cohorts import image, make_cohort, mask, save, scribble
from napari_weakseg.cli import main


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """The working directory, with a folder of two cases in it."""
    for number in range(2):
        save(tmp_path / "brains" / f"case_{number}" / "flair.nii.gz", image(number))
        save(tmp_path / "brains" / f"case_{number}" / "mask.nii.gz", mask())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_becomes_a_cohort_file_that_can_be_used(desk, capsys):
    assert main(["cohort", "brains"]) == 0
    out, err = capsys.readouterr()
    assert out == "cohort.json: 2 training, every file can be used\n"
    assert "note: 2 cases were found" in err and str(desk) not in err
    assert json.loads((desk / "brains" / "cohort.json").read_text())["channels"] == ["flair"]
    assert main(["cohort", "brains/cohort.json"]) == 0
    assert capsys.readouterr().out == out


def test_an_existing_cohort_file_is_never_overwritten(desk, capsys):
    (desk / "brains" / "cohort.json").write_text("marks of three weeks")
    assert main(["cohort", "brains"]) == 2
    assert "may hold marks" in capsys.readouterr().err
    assert (desk / "brains" / "cohort.json").read_text() == "marks of three weeks"
    assert main(["cohort", "brains", "--output", "mine.json"]) == 0
    assert json.loads((desk / "mine.json").read_text())["training"][0]["image"] == "brains/case_0/flair.nii.gz"


def test_what_the_user_has_to_state_is_said_and_can_be_stated(desk, capsys):
    save(desk / "brains" / "case_0" / "scribble.nii.gz", scribble())
    assert main(["cohort", "brains"]) == 2
    out, err = capsys.readouterr()
    values = "0 (3 voxels), 1 (2), 4 (205)"
    says = f"the codes of the strokes of case_0 are not stated and not our own: they hold {values}; state scribble_codes"
    assert out == f"{says} (background 0 and unlabelled 4?).\n"
    assert f"hold {values}" in err and "cohort.json has 1 fault" in err
    stated = ["--scribble-codes", "background=0,unlabelled=4"]
    assert main(["cohort", "brains", "-o", "second.json", *stated]) == 0
    assert json.loads((desk / "second.json").read_text())["scribble_codes"] == {"background": 0, "unlabelled": 4}


def test_a_column_of_classes_is_chosen(desk, capsys):
    (desk / "brains" / "labels.csv").write_text("case,group,side\ncase_0,healthy,left\ncase_1,ill,right\n")
    assert main(["cohort", "brains", "--class-column", "group"]) == 0
    assert json.loads((desk / "brains" / "cohort.json").read_text())["image_classes"] == ["healthy", "ill"]


def test_every_fault_is_one_line(tmp_path, capsys):
    data = make_cohort(tmp_path)
    for case in data["training"]:
        (tmp_path / case["label"]).write_bytes(b"")
    assert main(["cohort", str(tmp_path / "cohort.json")]) == 2
    out, err = capsys.readouterr()
    assert [line.split(":")[0] for line in out.splitlines()] == ["case_0", "case_1", "case_2", "case_3"]
    assert "cohort.json has 4 faults" in err and "Traceback" not in err and str(tmp_path) not in out + err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["none.json"], "does not exist"),
        (["empty"], "holds no image"),
        (["brains", "-o", "cohort.txt"], "let it end in .json"),
        (["brains", "-o", "nowhere/cohort.json"], "does not exist"),
        (["brains", "--class-column", "age"], "'age'"),
        (["made.json", "-o", "again.json"], "is checked, not made"),
        (["made.json", "--scribble-codes", "unlabelled=4"], "is checked, not made"),
    ],
)
def test_refusals_are_one_sentence(desk, capsys, words, says):
    (desk / "empty").mkdir()
    (desk / "made.json").write_text("{}")
    assert main(["cohort", *words]) == 2
    out, err = capsys.readouterr()
    if "none.json" not in words:
        assert out == ""
    assert says in out + err
    assert not {path.name for path in desk.glob("**/*.json")} - {"made.json"}


def test_a_wrong_file_says_all_that_is_wrong_with_it(tmp_path):
    data = make_cohort(tmp_path) | {"slice_axis": 7, "chanels": []}
    (tmp_path / "cohort.json").write_text(json.dumps(data))
    from napari_weakseg.errors import CohortFaults
    from napari_weakseg.io.cohort import read_cohort

    with pytest.raises(CohortFaults, match=r"cohort.json: .*\(1 more\)") as refused:
        read_cohort(tmp_path / "cohort.json")
    assert len(refused.value.faults) == 2
