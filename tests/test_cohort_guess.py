"""A first cohort file from a folder: what the names say, and nothing that they do not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cohorts import SIX, image, mask, save, scribble
from napari_weakseg.errors import DataError, PromptError
from napari_weakseg.io.cohort import check_cohort, guess_cohort, write_cohort


def guess(folder, **options):
    data, notes = guess_cohort(folder, **options)
    assert all(note.endswith((".", "}.")) and str(folder) not in note for note in notes)
    return data, "\n".join(notes)


def faults_of(data, path):
    write_cohort(data, path)
    return check_cohort(path)


def test_a_folder_for_each_case(tmp_path):
    for number in range(3):
        folder = tmp_path / f"sub-{number}"
        save(folder / "image_flair.nii.gz", image(number))
        save(folder / "mask.nii.gz", mask())
        save(folder / "scribbles.nii.gz", scribble())
        (folder / "points.json").write_text(json.dumps({"space": "voxel", "points": SIX}))
        save(folder / "mask_heatmap.nii.gz", image(50 + number))
        save(tmp_path / "cohort_results" / f"sub-{number}_mask.nii.gz", mask(5))
    save(tmp_path / "sub-0" / "image_t1ce.nii.gz", image(9))
    data, notes = guess(tmp_path)
    assert [case["id"] for case in data["training"]] == ["sub-0", "sub-1", "sub-2"]
    assert data["training"][0] == {
        "id": "sub-0",
        "image": "sub-0/image_flair.nii.gz",
        "points": "sub-0/points.json",
        "scribble": "sub-0/scribbles.nii.gz",
        "label": "sub-0/mask.nii.gz",
    }
    assert data["channels"] == ["flair"]
    assert data["structures"] == [{"name": "structure 1", "value": 1}]
    assert "folder" not in data
    for words in ("3 cases were found", "'t1ce' is in 1 of 3", "3 files with names of results", "names stand in no file"):
        assert words in notes
    (fault,) = faults_of(data, tmp_path / "cohort.json")
    assert "state scribble_codes" in fault


def test_what_scribble_values_mean_is_left_to_the_user(tmp_path):
    save(tmp_path / "a" / "image.nii.gz", image(0))
    save(tmp_path / "a" / "scribble.nii.gz", scribble())
    save(tmp_path / "a" / "mask.nii.gz", mask())
    data, notes = guess(tmp_path)
    assert data["scribble_codes"] is None
    assert "hold 0 (3 voxels), 1 (2), 4 (205)" in notes and "stands in no file" in notes
    data, notes = guess(tmp_path, codes={"background": 0, "unlabelled": 4})
    assert "stands in no file: state" not in notes
    assert faults_of(data, tmp_path / "cohort.json") == ()


def test_all_cases_in_one_folder(tmp_path):
    for name in ("brain_1", "brain_2"):
        save(tmp_path / f"{name}_t1.nii.gz", image(len(name) + int(name[-1])))
        save(tmp_path / f"{name}_flair.nii.gz", image(20 + int(name[-1])))
        save(tmp_path / f"{name}_mask.nii.gz", mask(2))
    data, _ = guess(tmp_path)
    assert data["channels"] == ["flair", "t1"]
    assert data["training"][1]["image"] == ["brain_2_flair.nii.gz", "brain_2_t1.nii.gz"]
    assert data["training"][1]["label"] == "brain_2_mask.nii.gz"
    assert faults_of(data, tmp_path / "cohort.json") == ()


def test_the_package_s_own_samples(tmp_path):
    from napari_weakseg.demo import copy_samples

    copy_samples(tmp_path)
    data, _ = guess(tmp_path, codes={"background": 255, "unlabelled": 0})
    cases = {case["id"]: case for case in data["training"]}
    for name in ("abdomen_ct", "brain_mri"):
        assert {"points", "scribble", "label"} <= set(cases[name])


def test_nnu_net_s_layout(tmp_path):
    for number in (1, 2):
        for channel in (0, 1):
            save(tmp_path / "imagesTr" / f"hip_{number:03}_{channel:04}.nii.gz", image(10 * number + channel))
        save(tmp_path / "labelsTr" / f"hip_{number:03}.nii.gz", mask())
    for channel in (0, 1):
        save(tmp_path / "imagesTs" / f"hip_003_{channel:04}.nii.gz", image(40 + channel))
    names = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "anterior": 1}}
    (tmp_path / "dataset.json").write_text(json.dumps(names))
    data, _ = guess(tmp_path)
    assert data["channels"] == ["T1", "T2"]
    assert data["structures"] == [{"name": "anterior", "value": 1}]
    assert [case["id"] for case in data["training"]] == ["hip_001", "hip_002"]
    assert data["training"][0]["label"] == "labelsTr/hip_001.nii.gz"
    assert [case["id"] for case in data["testing"]] == ["hip_003"]
    assert faults_of(data, tmp_path / "cohort.json") == ()


@pytest.mark.parametrize("form", ["{case}/anat/{case}_{kind}", "{case}/{case}_{kind}", "{case}/{kind}/{kind}", "{case}_{kind}"])
def test_two_sequences_of_each_case(tmp_path, form):
    for number, case in enumerate(("sub-01", "sub-02")):
        for place, kind in enumerate(("T1w", "FLAIR")):
            save(tmp_path / f"{form.format(case=case, kind=kind)}.nii.gz", image(10 * number + place))
    data, _ = guess(tmp_path)
    assert [case["id"] for case in data["training"]] == ["sub-01", "sub-02"]
    assert data["channels"] == ["FLAIR", "T1w"]
    assert faults_of(data, tmp_path / "cohort.json") == ()


def test_images_and_masks_in_folders_of_their_own(tmp_path):
    for number in range(2):
        save(tmp_path / "images" / f"knee{number}" / "scan.nii.gz", image(number))
        save(tmp_path / "masks" / f"knee{number}" / "tumour.nii.gz", mask())
    data, _ = guess(tmp_path)
    assert [case["label"] for case in data["training"]] == ["masks/knee0/tumour.nii.gz", "masks/knee1/tumour.nii.gz"]
    assert data["training"][0]["image"] == "images/knee0/scan.nii.gz"


def test_numbered_images_are_cases_not_channels(tmp_path):
    for number in range(3):
        save(tmp_path / f"scan_{number:04}.nii.gz", image(number))
    data, _ = guess(tmp_path)
    assert len(data["training"]) == 3
    for number in range(3):
        save(tmp_path / "more" / f"knee{number}.nii.gz", image(20 + number))
    data, _ = guess(tmp_path)
    assert {"knee0", "knee1", "knee2", "scan_0000"} <= {case["id"] for case in data["training"]}


def test_parts_and_unpaired_masks_from_folder_names(tmp_path):
    save(tmp_path / "train" / "a" / "image.nii.gz", image(0))
    save(tmp_path / "val" / "a" / "image.nii.gz", image(1))
    save(tmp_path / "test" / "b" / "image.nii.gz", image(2))
    save(tmp_path / "unpaired_masks" / "x.nii.gz", mask())
    save(tmp_path / "unpaired_masks" / "y_mask.nii.gz", mask())
    (tmp_path / "unpaired_masks" / "._x.nii.gz").write_bytes(b"what macOS leaves on other file systems")
    save(tmp_path / "train" / "nobody" / "mask.nii.gz", mask())
    data, notes = guess(tmp_path)
    assert [[case["id"] for case in data[part]] for part in ("training", "validation", "testing")] == [
        ["a"],
        ["validation_a"],
        ["b"],
    ]
    assert len(data["unpaired_masks"]) == 3
    assert "3 masks belong to no image" in notes and "set aside" not in notes
    assert faults_of(data, tmp_path / "cohort.json") == ()


def _images(folder, names):
    for number, name in enumerate(names):
        save(folder / name / "image.nii.gz", image(number))


def test_labels_for_each_slice_from_a_table(tmp_path):
    _images(tmp_path, ["a", "b"])
    rows = [f"{case},{n},{int(n > 2)},{n * 11}" for case in "ab" for n in (4, 3, 2, 1, 0)]
    (tmp_path / "slices.csv").write_text("\n".join(["case,slice_index,tumour_present,tumour_pixels", *rows, "c,1,1,5"]))
    data, notes = guess(tmp_path)
    assert data["image_classes"] == ["no tumour", "tumour"]
    assert [case["image_label"] for case in data["training"]] == [[0, 0, 0, 1, 1]] * 2
    assert "one per slice" in notes and "third axis" in notes
    assert faults_of(data, tmp_path / "cohort.json") == ()


def test_labels_for_each_volume_and_patients_from_a_table(tmp_path):
    _images(tmp_path, ["a1", "a2", "b"])
    table = "case;patient;group;phase;size\na1.nii.gz;a;DCM;ED;1.5\na2;a;NOR;ES;2.5\nb;b;NOR;ED;3.5\n"
    (tmp_path / "labels.csv").write_text(table)
    data, notes = guess(tmp_path)
    assert data["image_classes"] == []
    assert "may hold classes in group, phase" in notes
    assert [case["patient"] for case in data["training"]] == ["a", "a", "b"]
    data, _ = guess(tmp_path, class_column="Group")
    assert data["image_classes"] == ["NOR", "DCM"]  # the first is what is without a finding
    assert [case["image_label"] for case in data["training"]] == ["DCM", "NOR", "NOR"]
    assert faults_of(data, tmp_path / "cohort.json") == ()
    with pytest.raises(PromptError, match="'age'"):
        guess_cohort(tmp_path, class_column="age")


def test_folders_named_as_classes_label_their_images(tmp_path):
    for kind in ("tumour", "normal"):
        for number in range(3):
            save(tmp_path / kind / f"{number}.nii.gz", image(number))
    data, notes = guess(tmp_path)
    assert data["channels"] == ["image"]
    assert data["image_classes"] == ["normal", "tumour"]
    assert {case["id"]: case["image_label"] for case in data["training"]} == {
        f"{kind}_{number}": kind for kind in ("normal", "tumour") for number in range(3)
    }
    assert "are the names of the folders" in notes and "'normal' is taken for what is without a finding" in notes


def test_folders_that_may_be_classes_are_asked_for(tmp_path):
    for place in ("site_a", "site_b"):
        for number in range(3):
            save(tmp_path / place / f"scan{place[-1]}{number}.nii.gz", image(number))
    data, notes = guess(tmp_path)
    assert len(data["training"]) == 6 and data["image_classes"] == []
    assert "if these are classes" in notes


def test_a_table_of_participants_with_tabs_is_read(tmp_path):
    for number in range(4):
        save(tmp_path / f"sub-0{number}.nii.gz", image(number))
    lines = ["participant_id\tdiagnosis", *(f"sub-0{number}\t{'control' if number % 2 else 'glioma'}" for number in range(4))]
    (tmp_path / "participants.tsv").write_text("\n".join(lines))
    data, _ = guess(tmp_path)
    assert data["image_classes"] == ["control", "glioma"]
    assert [case["image_label"] for case in data["training"]] == ["glioma", "control"] * 2


def test_a_table_of_one_class_is_left_out(tmp_path):
    _images(tmp_path, ["a", "b"])
    for text in ("id,class\na,ill\nb,ill\n", "id,class\na,\nb,\n"):
        (tmp_path / "labels.csv").write_text(text)
        data, notes = guess(tmp_path)
        assert data["image_classes"] == [] and "fewer than two classes" in notes


def test_cases_with_gaps_in_the_table_stay_unmarked(tmp_path):
    _images(tmp_path, ["a", "b"])
    rows = ["a,0,normal", "a,2,cyst", *(f"b,{n},normal" for n in range(5))]
    (tmp_path / "labels.csv").write_text("\n".join(["id,slice,class", *rows]))
    data, notes = guess(tmp_path)
    assert "image_label" not in data["training"][0] and len(data["training"][1]["image_label"]) == 5
    assert "1 case has gaps" in notes
    assert data["image_classes"] == ["normal", "cyst"] and "'normal' is taken for what is without a finding" in notes


def test_patients_from_names(tmp_path):
    _images(tmp_path, ["patient001_frame01", "patient001_frame12", "patient002_frame01", "patient002_frame07"])
    data, notes = guess(tmp_path)
    assert [case["patient"] for case in data["training"]] == ["patient001"] * 2 + ["patient002"] * 2
    assert "2 patients were taken from their names" in notes


@pytest.mark.parametrize(
    "names", [["hippocampus_001", "hippocampus_004"], ["BraTS2021_00001", "BraTS2021_00002"], ["case_1", "case_2"]]
)
def test_numbers_of_a_set_are_no_patients(tmp_path, names):
    _images(tmp_path, names)
    assert all("patient" not in case for case in guess(tmp_path)[0]["training"])


def test_images_of_several_names_are_one_channel(tmp_path):
    save(tmp_path / "a" / "image_ct.nii.gz", image(0))
    save(tmp_path / "b" / "image_t1.nii.gz", image(1))
    data, notes = guess(tmp_path)
    assert data["channels"] == ["image"] and len(data["training"]) == 2
    assert "under several names (ct, t1)" in notes


def test_two_masks_of_a_case_are_not_chosen_from(tmp_path):
    save(tmp_path / "a" / "image.nii.gz", image(0))
    for name in ("mask_1", "mask_2"):
        save(tmp_path / "a" / f"{name}.nii.gz", mask())
    data, notes = guess(tmp_path)
    assert "label" not in data["training"][0]
    assert "a has 2 files that may be its label (mask_1.nii.gz, mask_2.nii.gz): name one." in notes


def test_structures_of_points_files_where_there_are_no_masks(tmp_path):
    save(tmp_path / "a.nii.gz", image(0))
    full = {"space": "voxel", "structures": [{"name": "liver", "value": 3, "objects": [SIX]}]}
    (tmp_path / "a_points.json").write_text(json.dumps(full))
    data, _ = guess(tmp_path)
    assert data["structures"] == [{"name": "liver", "value": 3}]
    assert faults_of(data, tmp_path / "cohort.json") == ()


def test_a_cohort_file_elsewhere_names_the_folder_of_the_images(tmp_path):
    _images(tmp_path / "images", ["a", "b"])
    (tmp_path / "notes").mkdir()
    data, _ = guess(tmp_path / "images", output=tmp_path / "notes" / "mine.json")
    assert data["folder"] == "../images"
    assert data["training"][0]["image"] == "../images/a/image.nii.gz"
    assert faults_of(data, tmp_path / "notes" / "mine.json") == ()


def test_damaged_masks_are_left_to_the_check(tmp_path):
    save(tmp_path / "a" / "image.nii.gz", image(0))
    (tmp_path / "a" / "mask.nii.gz").write_bytes(b"\x1f\x8b nothing")
    data, _ = guess(tmp_path)
    assert data["structures"] == []
    faults = faults_of(data, tmp_path / "cohort.json")
    assert any("mask.nii.gz" in fault for fault in faults)


def test_folders_without_images(tmp_path):
    (tmp_path / "letters.txt").write_text("")
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(DataError, match="holds no image"):
        guess_cohort(tmp_path)
    with pytest.raises(DataError, match="no folder"):
        guess_cohort(tmp_path / "none")
