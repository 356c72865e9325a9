"""Cohort files of real sets: found by `guess_cohort`, and nothing wrong with them."""

from __future__ import annotations

import numpy as np
import pytest

from napari_weakseg.io.cohort import check_cohort, guess_cohort, read_cohort, write_cohort
from napari_weakseg.io.nnunet import write_nnunet

pytestmark = pytest.mark.realdata
CARDIAC_CODES = {"background": 0, "unlabelled": 4}


@pytest.mark.parametrize(
    ("name", "codes", "cases", "channels"),
    [
        ("lgg", None, 37, ["flair"]),
        ("mscmr", CARDIAC_CODES, 6, ["image"]),
        ("prostatex", {"background": 0, "unlabelled": 255}, 1, ["image"]),
        ("brainlesion", None, 1, ["flair", "t1ce"]),
        ("pyradiomics", None, 2, ["image"]),
        ("sts_mr", None, 10, ["t1"]),
        ("ms_flair", None, 2, ["flair"]),
    ],
)
def test_a_set_becomes_a_cohort(real_data, tmp_path, name, codes, cases, channels):
    path = tmp_path / "cohort.json"
    data, _ = guess_cohort(real_data / name, output=path, codes=codes)
    write_cohort(data, path)
    assert check_cohort(path) == ()
    cohort = read_cohort(path)
    assert len(cohort.training) == cases and list(cohort.channels) == channels


@pytest.mark.parametrize(("name", "unlabelled"), [("mscmr", 4), ("prostatex", 255)])
def test_what_strokes_mean_is_asked_for_and_not_guessed(real_data, tmp_path, name, unlabelled):
    path = tmp_path / "cohort.json"
    data, _ = guess_cohort(real_data / name, output=path)
    write_cohort(data, path)
    (fault,) = check_cohort(path)
    assert "not stated and not our own" in fault
    assert fault.endswith(f"state scribble_codes (background 0 and unlabelled {unlabelled}?).")


def test_hearts_of_two_orientations_go_to_nnu_net_and_come_back(real_data, tmp_path):
    """Strokes, images and places as they were, and the same place in the program that nnU-Net reads with."""
    import SimpleITK as sitk

    data, _ = guess_cohort(real_data / "mscmr", output=tmp_path / "cohort.json", codes=CARDIAC_CODES)
    for part, key in (("testing", "label"), ("training", "scribble")):
        data[part] = [case for case in data["training"] if key in case][:2]
    write_cohort(data, tmp_path / "cohort.json")
    before = read_cohort(tmp_path / "cohort.json")
    folder = tmp_path / "Dataset501_LGE"
    write_nnunet(before, folder)
    again, _ = guess_cohort(folder)
    write_cohort(again, folder / "cohort.json")
    assert check_cohort(folder / "cohort.json") == ()
    after = read_cohort(folder / "cohort.json")
    for one, other in zip(before.training, after.training, strict=True):
        assert one.volume.sha256 == other.volume.sha256  # voxels, type and affine
        np.testing.assert_array_equal(one.scribbles.labels, other.scribbles.labels)
        read = [
            sitk.ReadImage(folder / name / f"{one.id}{end}.nii.gz") for name, end in (("imagesTr", "_0000"), ("labelsTr", ""))
        ]
        for what in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(read[0], what)() == getattr(read[1], what)()
    for one, other in zip(before.with_references().testing, after.with_references().testing, strict=True):
        np.testing.assert_array_equal(one.reference.array, other.reference.array)


def test_lgg_has_a_label_for_every_slice_and_folds_of_equal_share(real_data, tmp_path):
    path = tmp_path / "cohort.json"
    data, _ = guess_cohort(real_data / "lgg", output=path)
    write_cohort(data, path)
    cohort = read_cohort(path)
    assert sum(sum(label.label) for label in cohort.training.image_labels) == 459
    assert sum(len(label.label) for label in cohort.training.image_labels) == 1265
    folds = cohort.folds(3)
    assert sorted(len(fold.testing) for fold in folds) == [12, 12, 13]
    shares = [
        sum(sum(label.label) for label in fold.testing.image_labels)
        / sum(len(label.label) for label in fold.testing.image_labels)
        for fold in folds
    ]
    assert max(shares) - min(shares) < 0.06


def test_both_phases_of_a_heart_stay_in_one_fold(real_data, tmp_path):
    data, notes = guess_cohort(real_data / "acdc", output=tmp_path / "cohort.json", codes=CARDIAC_CODES, class_column="group")
    write_cohort(data, tmp_path / "cohort.json")
    cohort = read_cohort(tmp_path / "cohort.json")
    assert len(cohort.training) == 110 and len(set(cohort.training.patients)) == 55
    assert any("55 patients" in note for note in notes)
    for fold in cohort.folds(5):
        assert not set(fold.training.patients) & set(fold.testing.patients)
        assert len(set(fold.testing.patients)) == 11
