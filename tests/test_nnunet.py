"""A cohort as an nnU-Net dataset and back: by nnU-Net's rules, which are stated here once more, and without losing a stroke."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from cohorts import AFFINE, SHAPE, image, mask, other_mask, save, scribble
from napari_weakseg.case import Cohort
from napari_weakseg.cli import main
from napari_weakseg.errors import DataError
from napari_weakseg.io.cohort import check_cohort, guess_cohort, read_cohort, write_cohort
from napari_weakseg.io.nifti import read_mask, read_volume
from napari_weakseg.io.nnunet import write_nnunet

TURN = np.array([[0.8, -0.6, 0], [0.48, 0.64, -0.6], [0.36, 0.48, 0.8]])
OBLIQUE = np.block([[TURN @ np.diag([0.8, 0.9, 2.5]), np.array([[-30], [12.5], [7]])], [np.array([[0, 0, 0, 1.0]])]])
STRUCTURES = [{"name": "lesion", "value": 1, "colour": "#112233"}, {"name": "oedema", "value": 2}]


def strokes(number):
    """Two structures and background in ACDC's codes, other ones for every number."""
    array = np.full(SHAPE, 4, np.uint8)
    array[1 + number % 3, 2:5, 1], array[4, 3, 1:4], array[0, :, number % 5] = 1, 2, 0
    return array


@pytest.fixture
def desk(tmp_path):
    """Two channels, every part, two cases of one patient, a full mask and an unmarked image among strokes; and its content."""
    types = (np.float32, np.int16, np.float64)
    entries = []
    for number in range(6):
        affine = OBLIQUE if number % 2 else AFFINE
        for place, channel in enumerate(("flair", "t1ce")):
            save(tmp_path / "in" / f"{channel}_{number}.nii.gz", image(10 * number + place).astype(types[number % 3]), affine)
        save(tmp_path / "in" / f"mask_{number}.nii.gz", mask() + other_mask(), affine)
        save(tmp_path / "in" / f"scribble_{number}.nii.gz", strokes(number), affine)
        entry = {"id": f"case_{number}", "image": [f"{channel}_{number}.nii.gz" for channel in ("flair", "t1ce")]}
        entries.append(entry | {"label": f"mask_{number}.nii.gz"})
    for number in (0, 1, 4):
        entries[number]["scribble"] = f"scribble_{number}.nii.gz"
    entries[0]["patient"] = entries[1]["patient"] = "p0"
    entries[2]["marks"] = "mask"
    data = {
        "name": "brains",
        "channels": ["flair", "t1ce"],
        "structures": STRUCTURES,
        "slice_axis": 1,
        "scribble_codes": {"background": 0, "unlabelled": 4},
        "training": entries[:4],
        "validation": entries[4:5],
        "testing": entries[5:],
    }
    write_cohort(data, tmp_path / "in" / "cohort.json")
    assert check_cohort(tmp_path / "in" / "cohort.json") == ()
    return tmp_path, data


def exported(desk, name="Dataset501_Brains"):
    """The dataset's folder, and what was said."""
    notes = write_nnunet(read_cohort(desk[0] / "in" / "cohort.json"), desk[0] / name)
    return desk[0] / name, notes


def check_by_nnu_net_s_rules(folder):
    """What nnU-Net 2 asks of a dataset before it trains on it (its integrity check and its label manager), in our words."""
    assert re.fullmatch(r"Dataset\d{3}_.+", folder.name)
    dataset = json.loads((folder / "dataset.json").read_text())
    assert {"channel_names", "labels", "numTraining", "file_ending"} <= set(dataset)
    ending, channels, labels = dataset["file_ending"], dataset["channel_names"], dataset["labels"]
    assert list(channels) == [str(number) for number in range(len(channels))]
    assert labels["background"] == 0 and all(isinstance(value, int) for value in labels.values())  # no regions
    values = sorted(labels.values())
    assert values == list(range(len(labels)))  # consecutive from 0, each once
    assert labels["ignore"] == values[-1]  # the highest
    for images, segmentations, needed in (("imagesTr", "labelsTr", True), ("imagesTs", "labelsTs", False)):
        names = [path.name for path in (folder / images).glob("*")] if (folder / images).exists() else []
        assert all(re.fullmatch(r".+_\d{4}" + re.escape(ending), name) for name in names)
        cases = {name[: -len(ending) - 5] for name in names}
        assert len({case.casefold() for case in cases}) == len(cases)
        if needed:
            assert len(cases) == dataset["numTraining"]
            assert {path.name for path in (folder / segmentations).glob("*")} == {f"{case}{ending}" for case in cases}
        for case in cases:
            assert {name for name in names if name[: -len(ending) - 5] == case} == {
                f"{case}_{number:04}{ending}" for number in range(len(channels))
            }
            read = [read_volume(folder / images / f"{case}_{number:04}{ending}") for number in range(len(channels))]
            if (folder / segmentations / f"{case}{ending}").exists():
                read.append(read_mask(folder / segmentations / f"{case}{ending}"))
                found = set(np.unique(read[-1].array).tolist())
                assert found <= set(values) and (needed or labels["ignore"] not in found)
            for volume in read:
                assert np.isfinite(volume.array).all()
                assert volume.shape == read[0].shape
                np.testing.assert_array_equal(volume.affine, read[0].affine)
    return dataset


def test_a_dataset_keeps_nnu_net_s_rules(desk):
    folder, notes = exported(desk)
    dataset = check_by_nnu_net_s_rules(folder)
    assert dataset["labels"] == {"background": 0, "lesion": 1, "oedema": 2, "ignore": 3}
    assert dataset["numTraining"] == 4
    theirs = read_mask(folder / "labelsTr" / "case_0.nii.gz").array
    np.testing.assert_array_equal(theirs, np.where(strokes(0) == 4, 3, strokes(0)))
    assert 3 not in read_mask(folder / "labelsTr" / "case_2.nii.gz").array  # marked in full
    assert not list(folder.glob("*/case_3*"))
    assert any("1 cases without strokes were left out" in note for note in notes)
    assert all(str(desk[0]) not in note for note in notes)


def test_there_and_back_nothing_is_lost(desk):
    """Every stroke, channel, type, spacing and place; parts, patients, structures and full masks."""
    folder, _ = exported(desk)
    assert main(["cohort", str(folder)]) == 0
    before, after = read_cohort(desk[0] / "in" / "cohort.json"), read_cohort(folder / "cohort.json")
    assert (after.name, after.channels, after.slice_axis) == (before.name, before.channels, before.slice_axis)
    assert after.structures == before.structures
    assert after.training.ids == ("case_0", "case_1", "case_2")
    assert after.validation.ids == ("case_4",) and after.testing.ids == ("case_5",)
    assert after.training.patients == before.training.patients[:3]
    for part in ("training", "validation", "testing"):
        mine, theirs = (getattr(cohort.with_references(), part) for cohort in (before, after))
        for place in range(len(theirs)):
            one, other = mine[place], theirs[place]
            assert one.id == other.id
            for channel in before.channels:
                np.testing.assert_array_equal(one.channels[channel].array, other.channels[channel].array)
                assert one.channels[channel].array.dtype == other.channels[channel].array.dtype
                np.testing.assert_array_equal(one.channels[channel].affine, other.channels[channel].affine)
                assert one.channels[channel].spacing == other.channels[channel].spacing
            if part == "testing":
                assert other.scribbles is None
                np.testing.assert_array_equal(one.reference.array, other.reference.array)
            else:
                np.testing.assert_array_equal(one.scribbles.labels, other.scribbles.labels)


def test_folds_keep_patients_together_and_validation_apart(desk):
    folder, notes = exported(desk)
    (split,) = json.loads((folder / "splits_final.json").read_text())
    assert split == {"train": ["case_0", "case_1", "case_2"], "val": ["case_4"]}
    assert any("splits_final.json" in note for note in notes)
    path, data = desk
    data["validation"] = []
    write_cohort(data, path / "in" / "cohort.json")
    folder, _ = exported(desk, "Dataset502_Brains")
    splits = json.loads((folder / "splits_final.json").read_text())
    for split in splits:
        assert sorted(split["train"] + split["val"]) == ["case_0", "case_1", "case_2"]
        assert ("case_0" in split["val"]) == ("case_1" in split["val"])
    data["training"] = data["training"][1:3]
    write_cohort(data, path / "in" / "cohort.json")
    folder, _ = exported(desk, "Dataset503_Brains")
    assert not (folder / "splits_final.json").exists()  # nobody has two cases


def test_structures_with_gaps_are_numbered_without_and_it_is_said(desk):
    path, data = desk
    data["structures"] = [{"name": "lesion", "value": 7}, {"name": "oedema", "value": 200}]
    data["scribble_codes"]["structures"] = {"lesion": 1, "oedema": 2}
    for part in ("training", "testing"):
        data[part] = [{key: case[key] for key in case if key not in ("label", "marks")} for case in data[part]]
    write_cohort(data, path / "in" / "cohort.json")
    folder, notes = exported(desk)
    check_by_nnu_net_s_rules(folder)
    assert any("7 to 1, 200 to 2" in note for note in notes)
    theirs = read_mask(folder / "labelsTr" / "case_0.nii.gz").array
    np.testing.assert_array_equal(theirs, np.where(strokes(0) == 4, 3, strokes(0)))


def test_what_nnu_net_cannot_read_is_changed_and_said(desk):
    path, _ = desk
    holes = image(0)
    holes[0, 0, :2] = np.nan
    save(path / "in" / "flair_0.nii.gz", holes)
    moved = AFFINE.copy()
    moved[0, 3] = 0.05  # within the tolerance of one grid
    save(path / "in" / "t1ce_0.nii.gz", image(1), moved)
    folder, notes = exported(desk)
    check_by_nnu_net_s_rules(folder)
    assert read_volume(folder / "imagesTr" / "case_0_0000.nii.gz").array[0, 0, 0] == np.nanmin(holes)
    assert any("1 images hold voxels that are not finite" in note for note in notes)
    assert any("1 images lay up to 0.1 mm off" in note for note in notes)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("brains", {}, "DatasetXXX_Name"),
        ("Dataset1_Brains", {}, "DatasetXXX_Name"),
        ("Dataset501_", {}, "DatasetXXX_Name"),
        ("Dataset501_Full", {}, "not empty"),
        ("Dataset501_Brains", {"structures": [{"name": "ignore", "value": 1}, {"name": "oedema", "value": 2}]}, "rename it"),
        ("Dataset501_Brains", {"structures": [{"name": "background", "value": 1}, {"name": "b", "value": 2}]}, "rename it"),
        ("Dataset501_Brains", {"training": 3, "validation": 0}, "nothing to learn from"),
    ],
)
def test_what_cannot_become_a_dataset(desk, capsys, name, changes, words):
    path, data = desk
    (path / "Dataset501_Full").mkdir()
    (path / "Dataset501_Full" / "mine.txt").write_text("")
    for part in ("training", "validation"):
        if part in changes:
            data[part] = data[part][changes[part] :][: changes[part] // 3]
    write_cohort(data | {key: value for key, value in changes.items() if key == "structures"}, path / "in" / "cohort.json")
    assert main(["cohort", str(path / "in" / "cohort.json"), "--to-nnunet", str(path / name)]) == 2
    assert words in capsys.readouterr().err.replace("\n", " ")
    assert not (path / name / "dataset.json").exists()


def test_the_command_line_checks_before_it_writes(desk, capsys):
    path, data = desk
    command = ["cohort", str(path / "in" / "cohort.json"), "--to-nnunet", str(path / "Dataset501_Brains")]
    assert main(["cohort", str(path / "in"), *command[2:]]) == 2
    assert "is a folder" in capsys.readouterr().err
    data["scribble_codes"] = None
    write_cohort(data, path / "in" / "cohort.json")
    assert main(command) == 2
    assert not (path / "Dataset501_Brains").exists()
    data["scribble_codes"] = {"background": 0, "unlabelled": 4}
    write_cohort(data, path / "in" / "cohort.json")
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert "Dataset501_Brains: an nnU-Net dataset" in out and "left out" in err
    check_by_nnu_net_s_rules(path / "Dataset501_Brains")


def test_a_cohort_in_memory_becomes_a_dataset_too(desk, tmp_path):
    before = read_cohort(desk[0] / "in" / "cohort.json")
    cohort = Cohort("two", before.channels, before.structures, training=tuple(before.training[place] for place in (0, 2)))
    write_nnunet(cohort, tmp_path / "Dataset777_Two")
    assert check_by_nnu_net_s_rules(tmp_path / "Dataset777_Two")["numTraining"] == 2
    bad = replace(cohort, training=(replace(cohort.training[0], id="a/b"),))
    with pytest.raises(DataError, match="cannot name a file"):
        write_nnunet(bad, tmp_path / "Dataset778_Two")


# -- datasets of others -------------------------------------------------------------------------------------------------


def dataset(folder, *, ids=("a", "b_mask"), labels=None, **more):
    """A dataset as nnU-Net's own users write it."""
    for number, name in enumerate(ids):
        save(folder / "imagesTr" / f"{name}_0000.nii.gz", image(number))
        save(folder / "labelsTr" / f"{name}.nii.gz", np.where(scribble() == 4, 2, scribble()))
    names = {"background": 0, "lesion": 1, "ignore": 2} if labels is None else labels
    about = {"channel_names": {"0": "T2"}, "labels": names, "numTraining": len(ids), "file_ending": ".nii.gz", **more}
    (folder / "dataset.json").write_text(json.dumps(about))


def test_a_dataset_of_others_is_understood_by_its_own_rules(tmp_path):
    """Its ignore label says what is unlabelled; words in the ids mean nothing there."""
    dataset(tmp_path)
    data, notes = guess_cohort(tmp_path)
    assert data["scribble_codes"] == {"background": 0, "unlabelled": 2}
    assert [case["id"] for case in data["training"]] == ["a", "b_mask"]
    assert data["training"][1]["scribble"] == "labelsTr/b_mask.nii.gz" and "label" not in data["training"][1]
    assert any("ignore label" in note for note in notes)
    write_cohort(data, tmp_path / "cohort.json")
    assert check_cohort(tmp_path / "cohort.json") == ()
    labels = read_cohort(tmp_path / "cohort.json").training[0].scribbles.labels
    np.testing.assert_array_equal(labels == 255, scribble() == 0)
    np.testing.assert_array_equal(labels == 1, scribble() == 1)


def test_slices_that_are_marked_in_full_are_understood(tmp_path):
    dataset(tmp_path)
    part = mask()
    part[:, :, 4] = 2
    save(tmp_path / "labelsTr" / "a.nii.gz", part)
    save(tmp_path / "labelsTr" / "b_mask.nii.gz", mask())
    data, _ = guess_cohort(tmp_path)
    assert data["scribble_codes"]["dense"] is True
    assert data["training"][1] == {
        "id": "b_mask",
        "image": "imagesTr/b_mask_0000.nii.gz",
        "label": "labelsTr/b_mask.nii.gz",
        "marks": "mask",
    }
    write_cohort(data, tmp_path / "cohort.json")
    assert check_cohort(tmp_path / "cohort.json") == ()


def test_a_dataset_without_ignore_has_reference_masks(tmp_path):
    dataset(tmp_path, labels={"background": 0, "lesion": 1, "rest": 2})
    save(tmp_path / "labelsTr" / "nobody.nii.gz", mask())
    for name in ("imagesTr/._a_0000.nii.gz", "labelsTr/._a.nii.gz", "labelsTr/._nobody.nii.gz"):
        (tmp_path / name).write_bytes(b"what macOS leaves on other file systems")
    data, _ = guess_cohort(tmp_path)
    assert [case["id"] for case in data["training"]] == ["a", "b_mask"]
    assert "scribble_codes" not in data and "scribble" not in data["training"][0]
    assert data["training"][0]["label"] == "labelsTr/a.nii.gz"
    assert data["structures"] == [{"name": "lesion", "value": 1}, {"name": "rest", "value": 2}]
    assert data["unpaired_masks"] == ["labelsTr/nobody.nii.gz"]


def test_images_that_are_no_nifti_are_said(tmp_path):
    dataset(tmp_path, file_ending=".mha")
    with pytest.raises(DataError, match=r"end in \.mha; convert"):
        guess_cohort(tmp_path)


@pytest.mark.parametrize(
    "kept", [3, [], {"patients": 3, "validation": {}, "slice_axis": "x", "structures": [3]}, {"patients": {"a": []}}]
)
def test_what_another_program_wrote_under_our_key_does_no_harm(tmp_path, kept):
    dataset(tmp_path, weakseg=kept)
    data, _ = guess_cohort(tmp_path)
    assert len(data["training"]) == 2 and data["slice_axis"] == 2
