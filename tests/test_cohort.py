"""Cohorts on disk: read lazily through the gate, checked all at once, and marks written back as a whole."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

import napari_weakseg as ws
from cohorts import AFFINE, SIX, image, make_cohort, mask, other_mask, save, scribble
from napari_weakseg.errors import DataError, GeometryError, PromptError
from napari_weakseg.io import cases as cases_module
from napari_weakseg.io.cohort import CasesOnDisk, check_cohort, read_cohort, stamp_of, update_case, write_cohort
from napari_weakseg.io.cohort_file import parse_cohort
from napari_weakseg.prompts import ExtremePoints, ImageLabel
from napari_weakseg.volume import Volume


@pytest.fixture
def desk(tmp_path):
    """A folder with a cohort of four cases of two patients, and the content of its file."""
    return tmp_path, make_cohort(tmp_path)


def rewrite(folder, data):
    (folder / "cohort.json").write_text(json.dumps(data))
    return folder / "cohort.json"


def test_a_case_comes_with_its_channels_and_marks(tmp_path):
    make_cohort(tmp_path, channels=("flair", "t1ce"))
    cohort = ws.read_cohort(tmp_path / "cohort.json")
    assert (cohort.name, cohort.channels, cohort.image_classes) == ("brains", ("flair", "t1ce"), ("normal", "lesion"))
    case = cohort.training[1]
    np.testing.assert_array_equal(case.channels["t1ce"].array, image(11))
    np.testing.assert_array_equal(case.volume.affine, AFFINE)
    np.testing.assert_array_equal(case.points.points[0], SIX)
    assert case.image_label == ImageLabel(("normal", "lesion"), (0, 0, 1, 1, 0), 2)
    assert (case.id, case.patient) == ("case_1", "p0")
    np.testing.assert_array_equal(cohort.unpaired_masks[0].array, other_mask())


def test_scribble_codes_are_translated_to_ours(desk):
    labels = read_cohort(desk[0] / "cohort.json").training[0].scribbles.labels
    np.testing.assert_array_equal(labels == 255, scribble() == 0)
    np.testing.assert_array_equal(labels == 1, scribble() == 1)
    np.testing.assert_array_equal(labels == 0, scribble() == 4)


def test_swapped_scribble_codes_are_noticed(desk):
    folder, data = desk
    data["scribble_codes"] = {"background": 4, "unlabelled": 0}
    with pytest.raises(PromptError, match=r"case_0.*swapped"):
        read_cohort(rewrite(folder, data)).training[0]


def test_reference_masks_are_opened_only_when_asked_for(desk, monkeypatch):
    folder, _ = desk
    opened = []
    original = cases_module.read_mask
    monkeypatch.setattr(cases_module, "read_mask", lambda path, **how: opened.append(path.name) or original(path, **how))
    cohort = read_cohort(folder / "cohort.json")
    assert cohort.training[0].reference is None
    assert opened == ["scribble.nii.gz"]
    np.testing.assert_array_equal(cohort.with_references().training[0].reference.array, mask())
    np.testing.assert_array_equal(read_cohort(folder / "cohort.json", references=True).training[0].reference.array, mask())
    assert cohort.training[0].reference is None


def test_what_is_known_without_reading_an_image(desk):
    folder, _ = desk
    for path in folder.glob("*/flair.nii.gz"):
        path.unlink()
    cases = read_cohort(folder / "cohort.json").training
    assert isinstance(cases, CasesOnDisk)
    assert cases.ids == ("case_0", "case_1", "case_2", "case_3")
    assert cases.patients == ("p0", "p0", "p1", "p1")
    assert cases.states == ("marked",) * 4
    assert cases.image_labels[0].label == (0, 0, 1, 1, 0)
    assert cases[1:3].ids == cases.pick([1, 2]).ids == ("case_1", "case_2")
    fold = read_cohort(folder / "cohort.json").folds(2)[0]
    assert isinstance(fold.training, CasesOnDisk) and len(fold.testing) == 2
    with pytest.raises(DataError, match=r"case_3.*flair.nii.gz does not exist"):
        cases[-1]


def test_the_fingerprint_follows_content_and_marks_not_names(desk):
    folder, data = desk
    before = read_cohort(folder / "cohort.json").training.fingerprint(0)
    os.rename(folder / "case_0" / "flair.nii.gz", folder / "case_0" / "other.nii.gz")
    data["training"][0]["image"] = "case_0/other.nii.gz"
    data["name"] = "others"
    assert read_cohort(rewrite(folder, data)).training.fingerprint(0) == before
    assert read_cohort(folder / "cohort.json", references=True).training.fingerprint(0) != before
    data["training"][0]["image_label"] = [0, 1, 1, 1, 0]
    assert read_cohort(rewrite(folder, data)).training.fingerprint(0) != before


@pytest.mark.parametrize("label", ["lesion", 1])
def test_a_label_of_the_whole_volume(desk, label):
    folder, data = desk
    data["training"][0]["image_label"] = label
    assert read_cohort(rewrite(folder, data)).training[0].image_label.label == 1


TABLES = {
    "names": "case;slice;class\n" + "".join(f"case_0;{n};{'lesion' if n == 3 else 'normal'}\n" for n in (4, 3, 2, 1, 0)),
    "the only column of classes": "case,slice_index,tumour,pixels\n"
    + "".join(f"case_0,{n},{int(n == 3)},{7 * n}\n" for n in range(5)),
    "one case's own": "slice,label\n" + "".join(f"{n},{int(n == 3)}\n" for n in range(5)),
}


@pytest.mark.parametrize("text", TABLES.values(), ids=TABLES.keys())
def test_labels_from_a_table(desk, text):
    folder, data = desk
    (folder / "labels.csv").write_text(text)
    data["training"][0]["image_label"] = "labels.csv"
    assert read_cohort(rewrite(folder, data)).training.image_labels[0].label == (0, 0, 0, 1, 0)


BAD_TABLES = {
    "case,slice,class\ncase_0,0,normal\ncase_0,2,lesion\n": "each once",
    "case,slice,class\ncase_0,1,normal\ncase_0,2,lesion\n": "from 0",
    "case,slice,class\ncase_0,zero,normal\n": "no whole number",
    "case,slice,class\ncase_0,0,tumour\n": "'tumour' is no class",
    "case,slice,class\ncase_9,0,normal\n": "no row for this case",
    "case,slice,a,b\ncase_0,0,0,1\n": "all hold classes",
    "case,slice,a\ncase_0,0,7\n": "no column holds classes",
    "case,class\ncase_0,normal\ncase_0,lesion\n": "2 rows",
    "case,class\ncase_0\n": "1 cells",
    "case,case\ncase_0,1\n": "same name",
    "": "no table",
    "\x00\xff\n": "no table",
}


@pytest.mark.parametrize(("text", "words"), BAD_TABLES.items(), ids=BAD_TABLES.values())
def test_tables_that_cannot_be_meant(desk, text, words):
    folder, data = desk
    (folder / "labels.csv").write_bytes(text.encode("latin-1"))
    for case in data["training"][:2]:
        case["image_label"] = "labels.csv"
    path = rewrite(folder, data)
    with pytest.raises(DataError, match=words):
        read_cohort(path)
    assert sum("labels.csv" in fault for fault in check_cohort(path)) <= 2


def test_points_take_the_cohort_s_structures(desk):
    folder, data = desk
    data["structures"] = [{"name": "oedema", "value": 1}, {"name": "lesion", "value": 7, "colour": "#112233"}]
    data["training"][0]["scribble"] = data["training"][0]["label"] = None
    points = read_cohort(rewrite(folder, data)).training[0].points
    assert [s.name for s in points.structures] == ["oedema", "lesion"]
    assert points.values.tolist() == [7]  # by name
    data["structures"] = [{"name": "oedema", "value": 1}]
    points = read_cohort(rewrite(folder, data)).training[0].points
    assert points.values.tolist() == [1]
    assert "taken for 'oedema'" in points.notes[-1]
    data["structures"] = [{"name": "oedema", "value": 2}]
    with pytest.raises(PromptError, match="no structure of the cohort"):
        read_cohort(rewrite(folder, data)).training[0]


def test_the_documentation_s_examples_are_read(tmp_path):
    text = (Path(__file__).parents[1] / "docs" / "cohorts.md").read_text(encoding="utf-8")
    whole, *cases = (json.loads(block) for block in re.findall(r"^```json\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    assert parse_cohort(whole, tmp_path / "cohort.json")[1] == ()
    (tmp_path / "slice_labels.csv").write_text(re.search(r"^case,slice,class\n.*?(?=^```)", text, re.DOTALL | re.MULTILINE)[0])
    for case in cases:
        file, faults = parse_cohort({**whole, "training": [case]}, tmp_path / "cohort.json")
        assert faults == () and file.entries[0].state == "marked", case
    for codes in re.findall(r"^\|.*\| `(\{.*\})` \|$", text, re.MULTILINE):
        assert parse_cohort({**whole, "scribble_codes": json.loads(codes)}, tmp_path / "cohort.json")[1] == ()


# -- check --------------------------------------------------------------------------------------------------------------


def test_a_good_cohort_has_no_faults(desk):
    seen = []
    assert check_cohort(desk[0] / "cohort.json", on_case=lambda *count: seen.append(count)) == ()
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_all_faults_are_listed_at_once(desk):
    folder, data = desk
    one, two, three, four = data["training"]
    (folder / one["image"]).unlink()
    save(folder / two["label"], mask()[:, :, :4])
    two["image_label"] = [0, 1]
    save(folder / three["scribble"], scribble(), AFFINE @ np.diag([1, 1, 1.5, 1]))
    save(folder / three["label"], mask(9))
    (folder / three["points"]).write_text(json.dumps({"space": "voxel", "points": SIX[:4]}))
    four["image_label"] = ["normal"] * 4 + ["cyst"]
    four["colour"] = "red"
    data["testing"] = [{"id": "case_9", "patient": "p1", "image": four["image"]}]
    data["unpaired_masks"] += ["../outside.nii.gz", "others/none.nii.gz"]
    faults = check_cohort(rewrite(folder, data))
    for words in (
        "case_0: flair.nii.gz does not exist",
        "case_1: mask.nii.gz has the shape",
        "case_1: there are 2 labels for 5 slices",
        "case_2: scribble.nii.gz lies up to",
        "case_2: mask.nii.gz holds the value 9",
        "case_2: points.json: object 1 (lesion) has 4 of six points",
        "case_3: slice 4: 'cyst' is no class",
        "case_3 has the unknown key 'colour'",
        "patient p1 is in training and in testing (case_9)",
        "case_3 and case_9 are the same image",
        "unpaired mask 2: outside.nii.gz lies outside",
        "unpaired mask others/none.nii.gz",
    ):
        assert sum(fault.startswith(words) for fault in faults) == 1, (words, faults)
    assert len(faults) == 12
    assert all(len(fault.split()) <= 40 and fault.endswith((".", ")")) for fault in faults)
    assert not any(str(folder) in fault for fault in faults)


def test_channels_on_different_grids(tmp_path):
    data = make_cohort(tmp_path, channels=("flair", "t1ce"))
    save(tmp_path / data["training"][0]["image"][1], image(77), np.diag([1, 1, 2.5, 1]))
    (fault,) = check_cohort(tmp_path / "cohort.json")
    assert "t1ce of case case_0 lies on another grid" in fault
    with pytest.raises(GeometryError, match="another grid"):
        read_cohort(tmp_path / "cohort.json").training[0]
    save(tmp_path / data["training"][0]["image"][1], image(0))
    (fault,) = check_cohort(tmp_path / "cohort.json")
    assert fault == "case_0 (flair) and case_0 (t1ce) are the same image; leave one out."


def change(key, value):
    return lambda data: data.update({key: value})


def change_case(key, value):
    return lambda data: data["training"][0].update({key: value})


WRONG = {
    "an unknown key": (change("chanels", ["flair"]), "unknown key 'chanels'"),
    "channels not a list": (change("channels", "flair"), "channels is no list"),
    "a channel twice": (change("channels", ["a", "a"]), "twice"),
    "too few images": (change("channels", ["a", "b"]), "case_0 has 1 images for 2 channels"),
    "one class": (change("image_classes", ["lesion"]), "one class"),
    "the class without a finding last": (change("image_classes", ["lesion", "normal"]), "put 'normal' first"),
    "labels without classes": (change("image_classes", []), "needs image_classes"),
    "a slice axis of the patient": (change("slice_axis", 3), "slice_axis is 3"),
    "a slice axis that is true": (change("slice_axis", True), "slice_axis is True"),
    "structures without names": (change("structures", [{"value": 1}]), "structure 1 has no name"),
    "a structure of 255": (change("structures", [{"name": "a", "value": 255}]), "255"),
    "two structures of a value": (change("structures", [{"name": n, "value": 1} for n in "ab"]), "same value"),
    "no structures": (change("structures", []), "structures is empty"),
    "half of the scribble codes": (change("scribble_codes", {"background": 0}), "needs background and unlabelled"),
    "scribble codes that are equal": (change("scribble_codes", {"background": 0, "unlabelled": 0}), "two different"),
    "a code that is a structure": (change("scribble_codes", {"background": 1, "unlabelled": 0}), "structure 'lesion'"),
    "no cases": (change("training", []), "no cases"),
    "cases not in a list": (change("training", {"id": "a"}), "training is no list"),
    "a case that is a path": (change("training", ["a.nii"]), "case 1 of training is no object"),
    "no id": (change_case("id", None), "no id"),
    "an id with a slash": (change_case("id", "../a"), "no id"),
    "an id twice": (change_case("id", "CASE_1"), "two cases have the id"),
    "no image": (change_case("image", None), "0 images for 1"),
    "an image that is a number": (change_case("image", 7), "no path"),
    "an absolute path": (change_case("image", "/etc/image.nii.gz"), "absolute"),
    "an absolute path of Windows": (change_case("image", "C:\\a.nii"), "absolute"),
    "the home folder": (change_case("points", "~/points.json"), "absolute"),
    "a way out": (change_case("label", "case_0/../../mask.nii.gz"), "outside the folder"),
    "an empty label": (change_case("image_label", []), "empty list"),
    "a label that is true": (change_case("image_label", True), "True is no class"),
    "a label beyond the classes": (change_case("image_label", 2), "2 is no class"),
    "an unknown state": (change_case("state", "done"), "state of case_0"),
    "an absolute folder": (change("folder", "/"), "folder is no relative path"),
    "an unknown unit": (change("units", "cm"), "units is 'cm'"),
}


@pytest.mark.parametrize(("spoil", "words"), WRONG.values(), ids=WRONG.keys())
def test_entries_that_are_refused(desk, spoil, words):
    folder, data = desk
    spoil(data)
    path = rewrite(folder, data)
    with pytest.raises(DataError) as refused:
        read_cohort(path)
    faults = check_cohort(path)
    assert words in str(refused.value) or any(words in fault for fault in faults), faults
    assert str(folder) not in str(refused.value)


TEXTS = {
    "": "no JSON",
    "{": "line 1, column 2",
    "[]": "no cohort",
    '{"name": NaN}': "no JSON",
    '{"name": "a", "name": "b"}': "'name' twice",
    "\xff\xfe": "no JSON",
    "[" * 100_000: "no JSON",
}


@pytest.mark.parametrize(("text", "words"), TEXTS.items(), ids=range(len(TEXTS)))
def test_files_that_are_no_cohort(tmp_path, text, words):
    path = tmp_path / "cohort.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=words):
        read_cohort(path)
    assert len(check_cohort(path)) == 1


def test_a_missing_file_and_a_folder(tmp_path):
    for path, words in ((tmp_path / "none.json", "does not exist"), (tmp_path, "folder")):
        with pytest.raises(DataError, match=words):
            read_cohort(path)


def test_images_elsewhere_have_to_be_stated_and_are_noted(desk, tmp_path):
    folder, data = desk
    other = folder / "notes" / "cohort.json"
    other.parent.mkdir()
    for case in data["training"]:
        for key in ("image", "points", "scribble", "label"):
            case[key] = f"../{case[key]}"
    data["unpaired_masks"] = []
    other.write_text(json.dumps(data))
    assert all("outside the folder" in fault for fault in check_cohort(other))
    data["folder"] = ".."
    other.write_text(json.dumps(data))
    assert check_cohort(other) == ()
    (note,) = read_cohort(other).notes
    assert "outside the folder of the cohort file" in note and str(tmp_path) not in note


def test_a_question_that_a_file_leaves_open_names_the_entry_that_answers_it(desk):
    import nibabel as nib

    folder, data = desk
    path = folder / data["training"][0]["image"]
    stored = nib.load(path)
    moved = stored.affine.copy()
    moved[0, 3] = 40
    both = nib.Nifti1Image(stored.get_fdata(), stored.affine)
    both.set_sform(stored.affine, 1)
    both.set_qform(moved, 1)
    both.header.set_xyzt_units("mm")
    nib.save(both, path)
    (fault,) = check_cohort(folder / "cohort.json")
    assert fault.startswith("case_0: ") and "'prefer' in the cohort file" in fault
    data["prefer"] = "sform"
    assert check_cohort(rewrite(folder, data)) == ()


# -- writing back -------------------------------------------------------------------------------------------------------


def test_a_written_cohort_is_read_again(desk):
    folder, data = desk
    write_cohort(data, folder / "again.json")
    assert json.loads((folder / "again.json").read_text()) == data
    assert len((folder / "again.json").read_text().splitlines()) == 19  # a line for each case
    with pytest.raises(DataError, match="JSON cannot"):
        write_cohort({"name": object()}, folder / "again.json")
    assert json.loads((folder / "again.json").read_text()) == data


def test_marks_are_written_as_they_are_made(desk):
    folder, _ = desk
    path = folder / "cohort.json"
    volume = Volume(image(0), AFFINE)
    moved = np.array(SIX) - [[0, 1, 1]] * 6
    points = ExtremePoints.from_points(np.clip(moved, 0, None), volume)
    stamp = update_case(path, "case_0", points=points, state="reviewed", expected=stamp_of(path))
    stamp = update_case(path, "case_0", image_label=ImageLabel(("normal", "lesion"), (1, 1, 1, 1, 1)), expected=stamp)
    update_case(path, "case_1", image_label="lesion", scribble=None, expected=stamp)
    cases = read_cohort(path).training
    np.testing.assert_array_equal(cases[0].points.points, points.points)
    assert cases.states[:2] == ("reviewed", "marked")
    assert cases[0].image_label.label == (1, 1, 1, 1, 1)
    assert cases[1].image_label.label == 1
    assert cases[1].scribbles is None and cases[2].scribbles is not None
    assert check_cohort(path) == ()


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("case_9", {"state": "marked"}, "no case 'case_9'"),
        ("case_0", {"state": "done"}, "choose one of"),
        ("case_0", {"image": "a.nii.gz"}, "'image' of a case cannot be changed"),
        ("case_0", {"image_label": "cyst"}, "no class"),
        ("case_0", {"points": "../points.json"}, "outside"),
        ("case_0", {"points": {"points": float("nan")}}, "JSON cannot"),
    ],
)
def test_a_change_that_would_spoil_the_file_leaves_it_as_it_was(desk, name, changes, words):
    path = desk[0] / "cohort.json"
    before = path.read_bytes()
    with pytest.raises(DataError, match=words):
        update_case(path, name, **changes)
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in desk[0].iterdir() if entry.is_file()) == ["cohort.json"]


def test_a_change_by_somebody_else_is_noticed(desk, monkeypatch):
    path = desk[0] / "cohort.json"
    stamp = stamp_of(path)
    update_case(path, "case_1", state="reviewed")
    with pytest.raises(DataError, match="changed by another program"):
        update_case(path, "case_0", state="reviewed", expected=stamp)

    from napari_weakseg.io import cohort as module

    original = module.write_atomically

    def late(target, data, *, check):
        path.write_text(path.read_text() + "\n")  # between our reading and our replacing
        return original(target, data, check=check)

    monkeypatch.setattr(module, "write_atomically", late)
    with pytest.raises(DataError, match="changed by another program"):
        update_case(path, "case_0", state="reviewed")
    assert read_cohort(path).training.states[:2] == ("marked", "reviewed")
