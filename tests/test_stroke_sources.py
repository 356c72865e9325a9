"""Strokes in a cohort file: codes that are stated and never guessed, several people's strokes, full masks among them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cohorts import AFFINE, SHAPE, image, make_cohort, mask, other_mask, save, scribble
from napari_weakseg.errors import CohortFaults, PromptError
from napari_weakseg.io.cohort import check_cohort, guess_cohort, read_cohort, update_case
from napari_weakseg.io.scribble_codes import ScribbleCodes, in_words, question
from napari_weakseg.prompts import Structure

LESION, OEDEMA = Structure("lesion", 1), Structure("oedema", 2)


@pytest.fixture
def desk(tmp_path):
    """A folder with a cohort of two cases of one patient, and the content of its file; strokes in ACDC's codes."""
    return tmp_path, make_cohort(tmp_path, cases=2)


def rewrite(folder, data):
    (folder / "cohort.json").write_text(json.dumps(data))
    return folder / "cohort.json"


def faults_of(folder, data):
    """What is wrong, wherever it is noticed."""
    path = rewrite(folder, data)
    try:
        read_cohort(path)
    except CohortFaults as error:
        assert set(error.faults) <= set(check_cohort(path))
        return error.faults
    return check_cohort(path)


def ours(theirs, background, unlabelled):
    """Strokes in other codes as strokes in ours."""
    return np.where(theirs == unlabelled, 0, np.where(theirs == background, 255, theirs))


# -- codes --------------------------------------------------------------------------------------------------------------


def test_a_case_may_have_codes_of_its_own(desk):
    folder, data = desk
    theirs = np.where(scribble() == 4, 255, scribble())  # as Prostatex has them: 255 is unlabelled
    save(folder / "case_1" / "scribble.nii.gz", theirs)
    data["training"][1]["scribble_codes"] = {"background": 0, "unlabelled": 255}
    cases = read_cohort(rewrite(folder, data)).training
    assert check_cohort(folder / "cohort.json") == ()
    for case in cases:
        np.testing.assert_array_equal(case.scribbles.labels, ours(scribble(), 0, 4))


def test_structures_may_have_other_values_in_the_files(desk):
    folder, data = desk
    data["structures"] = [{"name": "lesion", "value": 1}, {"name": "oedema", "value": 2}]
    theirs = np.where(scribble() == 1, 7, scribble())
    theirs[4, 3, 1:3] = 1
    save(folder / "case_0" / "scribble.nii.gz", theirs)
    stated = {"background": 0, "unlabelled": 4, "structures": {"lesion": 7, "oedema": 1}}
    data["training"][0]["scribble_codes"] = stated
    labels = read_cohort(rewrite(folder, data)).training[0].scribbles.labels
    np.testing.assert_array_equal(labels == 1, theirs == 7)
    np.testing.assert_array_equal(labels == 2, theirs == 1)
    stated["structures"].pop("oedema")
    with pytest.raises(PromptError, match="holds the value 1, which is no structure and no code"):
        read_cohort(rewrite(folder, data)).training[0]


def test_codes_that_are_not_stated_are_never_guessed(desk):
    """ACDC's, MSCMR's and Prostatex's strokes: refused with the counts; a coding is asked for, not chosen."""
    folder, data = desk
    data["scribble_codes"] = None
    with pytest.raises(PromptError) as refused:
        read_cohort(rewrite(folder, data)).training[0]
    assert str(refused.value) == (
        "case_0: scribble.nii.gz holds 0 (3 voxels), 1 (2), 4 (205), and its codes are not stated; state scribble_codes "
        "(background 0 and unlabelled 4?)."
    )
    (fault,) = check_cohort(folder / "cohort.json")  # one question for the whole cohort
    assert "case_0 and 1 more" in fault and "0 (6 voxels), 1 (4), 4 (410)" in fault
    for number in range(2):
        save(folder / f"case_{number}" / "scribble.nii.gz", np.where(scribble() == 4, 255, scribble()))
    (fault,) = check_cohort(folder / "cohort.json")
    assert "255 (410)" in fault and "unlabelled 255?" in fault


def test_our_own_codes_need_no_statement_and_it_is_noted(desk):
    folder, data = desk
    for number in range(2):
        save(folder / f"case_{number}" / "scribble.nii.gz", ours(scribble(), 0, 4))
    del data["scribble_codes"]
    cohort = read_cohort(rewrite(folder, data))
    assert check_cohort(folder / "cohort.json") == ()
    np.testing.assert_array_equal(cohort.training[0].scribbles.labels, ours(scribble(), 0, 4))
    assert any("not stated" in note and "255 background" in note for note in cohort.notes)
    data["scribble_codes"] = {"background": 255, "unlabelled": 0}
    assert not any("not stated" in note for note in read_cohort(rewrite(folder, data)).notes)


@pytest.mark.parametrize("spoil", [lambda a: a + (a == 1) * 8, lambda a: np.where(a == 0, 1, a), lambda a: a * 0 + 255])
def test_what_cannot_be_ours_is_not_read_as_ours(desk, spoil):
    """An unknown value; strokes where most voxels are marked."""
    folder, data = desk
    del data["scribble_codes"]
    for number in range(2):
        save(folder / f"case_{number}" / "scribble.nii.gz", spoil(ours(scribble(), 0, 4)).astype(np.uint8))
    (fault,) = faults_of(folder, data)
    assert "not stated and not our own" in fault


def test_a_code_that_covers_most_of_the_image_has_to_be_meant(desk):
    folder, data = desk
    whole = np.where(mask() == 1, 1, 0)
    whole[:, :, 4] = 4
    save(folder / "case_0" / "scribble.nii.gz", whole.astype(np.uint8))
    with pytest.raises(PromptError, match=r"marks \d+ % of the image; are two of scribble_codes swapped.*\"dense\": true"):
        read_cohort(rewrite(folder, data)).training[0]
    data["training"][0]["scribble_codes"] = {"background": 0, "unlabelled": 4, "dense": True}
    labels = read_cohort(rewrite(folder, data)).training[0].scribbles.labels
    np.testing.assert_array_equal(labels, ours(whole, 0, 4))


WRONG_CODES = {
    "no object": ([0, 4], "needs background and unlabelled"),
    "an unknown key": ({"background": 0, "unlabelled": 4, "lesion": 1}, "needs background and unlabelled"),
    "a text": ({"background": "0", "unlabelled": 4}, "whole numbers"),
    "true": ({"background": True, "unlabelled": 4}, "whole numbers"),
    "an unknown structure": ({"background": 0, "unlabelled": 4, "structures": {"cyst": 2}}, "no structure of the cohort"),
    "a value twice": ({"background": 0, "unlabelled": 4, "structures": {"lesion": 4}}, "twice"),
    "structures in a list": ({"background": 0, "unlabelled": 4, "structures": ["lesion"]}, "names values"),
    "dense by number": ({"background": 0, "unlabelled": 4, "dense": 1}, "true or false"),
}


@pytest.mark.parametrize(("codes", "words"), WRONG_CODES.values(), ids=WRONG_CODES.keys())
def test_codes_that_cannot_be_meant(desk, codes, words):
    folder, data = desk
    data["scribble_codes"] = codes
    assert any(words in fault for fault in faults_of(folder, data))


def test_codes_there_and_back():
    codes = ScribbleCodes(0, 4, (("lesion", 2), ("oedema", 9)), dense=True)
    assert ScribbleCodes.from_json(codes.to_json(), (LESION, OEDEMA)) == codes
    plain = ScribbleCodes(None, 255)
    assert ScribbleCodes.from_json(plain.to_json(), (LESION,)) == plain
    assert plain.to_json() == {"background": None, "unlabelled": 255}


def test_counts_in_words_and_the_question_that_they_raise():
    assert in_words({4: 5000, 0: 12}) == "0 (12 voxels), 4 (5,000)"
    assert in_words(dict.fromkeys(range(10), 1)).endswith("7 (1) and 2 more")
    assert question({0: 12, 1: 3, 4: 5000}) == " (background 0 and unlabelled 4?)"
    assert question({0: 5000, 255: 3, 1: 3}) == " (background 255 and unlabelled 0?)"
    assert question({0: 5000, 1: 3}) == " (background null and unlabelled 0?)"
    assert question({0: 50, 1: 50, 2: 50}) == ""


def test_a_folder_s_strokes_are_counted_and_their_codes_asked_for(tmp_path):
    for name in "ab":
        save(tmp_path / name / "image.nii.gz", image(ord(name)))
        save(tmp_path / name / "scribble.nii.gz", scribble())
    data, notes = guess_cohort(tmp_path)
    assert data["scribble_codes"] is None
    assert any("0 (6 voxels), 1 (4), 4 (410)" in note and "unlabelled 4?" in note for note in notes)
    data, notes = guess_cohort(tmp_path, codes={"background": 0, "unlabelled": 4})
    assert data["structures"] == [{"name": "structure 1", "value": 1}]  # there is no mask to take them from
    assert faults_of(tmp_path, data) == ()


# -- several people's strokes -------------------------------------------------------------------------------------------


def test_strokes_of_several_people_are_joined_and_where_they_disagree_nothing_is_marked(desk):
    folder, data = desk
    first, second = ours(scribble(), 0, 4), np.zeros(SHAPE, np.uint8)
    second[2, 3, 1] = 255  # the first one has lesion there
    second[3, 3, 1] = 1
    second[0, 0, 0] = 255  # both agree
    save(folder / "case_0" / "second.nii.gz", second)
    case = data["training"][0]
    case["scribble"] = ["case_0/scribble.nii.gz", "case_0/second.nii.gz"]
    case["scribble_codes"] = [{"background": 0, "unlabelled": 4}, {"background": 255, "unlabelled": 0}]
    read = read_cohort(rewrite(folder, data)).training[0].scribbles
    wanted = first.copy()
    wanted[2, 3, 1], wanted[3, 3, 1] = 0, 1
    np.testing.assert_array_equal(read.labels, wanted)
    assert any("1 voxels are marked differently by different people" in note for note in read.notes)
    assert check_cohort(folder / "cohort.json") == ()


def test_a_cohort_s_codes_are_those_of_every_source_that_states_none(desk):
    folder, data = desk
    case = data["training"][0]
    case["scribble"] = [case["scribble"], "case_1/scribble.nii.gz"]
    labels = read_cohort(rewrite(folder, data)).training[0].scribbles.labels
    np.testing.assert_array_equal(labels, ours(scribble(), 0, 4))
    case["scribble_codes"] = [None, {"background": 0, "unlabelled": 4}]
    np.testing.assert_array_equal(read_cohort(rewrite(folder, data)).training[0].scribbles.labels, labels)


@pytest.mark.parametrize(
    ("scribbles", "codes", "words"),
    [
        ([], None, "0 files of scribbles"),
        (None, {"background": 0, "unlabelled": 4}, "0 files of scribbles"),
        (["case_0/scribble.nii.gz"], [None, None], "1 files of scribbles"),
        (["case_0/scribble.nii.gz", 3], None, "no path"),
        (["case_0/scribble.nii.gz", "case_0/none.nii.gz"], None, "none.nii.gz does not exist"),
        (["case_0/scribble.nii.gz", "../scribble.nii.gz"], None, "outside the folder"),
    ],
)
def test_sources_that_cannot_be_used(desk, scribbles, codes, words):
    folder, data = desk
    data["training"][0] |= {"scribble": scribbles, "scribble_codes": codes}
    assert any(words in fault for fault in faults_of(folder, data))


def test_a_folder_with_several_people_s_strokes(tmp_path):
    save(tmp_path / "a" / "image.nii.gz", image(0))
    for who in ("anna", "ben"):
        save(tmp_path / "a" / f"scribble_{who}.nii.gz", scribble())
    data, notes = guess_cohort(tmp_path, codes={"background": 0, "unlabelled": 4})
    assert data["training"][0]["scribble"] == ["a/scribble_anna.nii.gz", "a/scribble_ben.nii.gz"]
    assert any("1 case has several files of scribbles" in note and "joined" in note for note in notes)
    assert faults_of(tmp_path, data) == ()


def test_several_people_s_strokes_among_all_cases_in_one_folder(tmp_path):
    for number, case in enumerate(("brain_1", "brain_2")):
        save(tmp_path / f"{case}_flair.nii.gz", image(number))
        for who in ("anna", "ben"):
            save(tmp_path / f"{case}_scribble_{who}.nii.gz", scribble())
    save(tmp_path / "brain_3_scribble_anna.nii.gz", scribble())
    data, notes = guess_cohort(tmp_path, codes={"background": 0, "unlabelled": 4})
    assert [case["id"] for case in data["training"]] == ["brain_1", "brain_2"]
    assert data["training"][1]["scribble"] == ["brain_2_scribble_anna.nii.gz", "brain_2_scribble_ben.nii.gz"]
    assert any("1 file of strokes or points belongs to no image" in note and "brain_3" in note for note in notes)


def test_the_fingerprint_follows_every_source_and_its_codes(desk):
    folder, data = desk
    seen = set()
    for change in ({}, {"scribble": [data["training"][0]["scribble"]] * 2}, {"marks": "mask", "scribble": None}):
        seen.add(read_cohort(rewrite(folder, data | {"training": [data["training"][0] | change]})).training.fingerprint(0))
    save(folder / "case_0" / "mask.nii.gz", other_mask())
    seen.add(read_cohort(folder / "cohort.json").training.fingerprint(0))
    assert len(seen) == 4


# -- full masks among strokes -------------------------------------------------------------------------------------------


def test_a_case_whose_marks_are_its_mask_has_strokes_on_every_voxel(desk):
    folder, data = desk
    case = data["training"][0]
    case["marks"] = "mask"
    del case["scribble"]
    cohort = read_cohort(rewrite(folder, data))
    assert check_cohort(folder / "cohort.json") == ()
    read = cohort.training[0]
    np.testing.assert_array_equal(read.scribbles.labels, np.where(mask() == 0, 255, mask()))
    assert read.reference is None and cohort.training.states[0] == "marked"
    assert 0 in cohort.training[1].scribbles.labels


def test_masks_are_marks_only_where_that_is_said_and_possible(desk):
    folder, data = desk
    case = data["training"][0]
    case["marks"] = "mask"
    (fault,) = faults_of(folder, data)
    assert "no scribble beside it" in fault
    del case["scribble"]
    label = case.pop("label")
    assert "needs a label" in faults_of(folder, data)[0]
    case["label"], case["marks"] = label, "strokes"
    assert "marks of case_0" in faults_of(folder, data)[0]
    case["marks"] = "mask"
    data["training"], data["validation"] = data["training"][1:], [case | {"patient": "other"}]
    assert "masks choose nothing" in faults_of(folder, data)[0]


def test_marks_are_written_back(desk):
    folder, data = desk
    path = rewrite(folder, data)
    save(folder / "case_0" / "drawn.nii.gz", ours(scribble(), 0, 4))
    update_case(path, "case_0", scribble="case_0/drawn.nii.gz", scribble_codes={"background": 255, "unlabelled": 0})
    update_case(path, "case_1", scribble=None, marks="mask")
    cases = read_cohort(path).training
    np.testing.assert_array_equal(cases[0].scribbles.labels, ours(scribble(), 0, 4))
    assert (cases[1].scribbles.labels != 0).all()


# -- what must not be learnt from and tested ----------------------------------------------------------------------------


def test_an_unpaired_mask_is_of_nobody_whose_strokes_are_learnt_from(desk):
    folder, data = desk
    data["unpaired_masks"] = [{"mask": "others/mask_01.nii.gz", "patient": "p0"}]
    (fault,) = faults_of(folder, data)
    assert "is of patient p0, who has strokes (case_0)" in fault
    data["unpaired_masks"] = [{"mask": "others/mask_01.nii.gz", "patient": "somebody"}]
    assert faults_of(folder, data) == ()
    assert read_cohort(folder / "cohort.json").unpaired_masks.patients == ("somebody",)
    data["unpaired_masks"] = ["case_0/mask.nii.gz"]  # a case's own mask is of its patient
    assert "has strokes" in faults_of(folder, data)[0]
    for case in data["training"]:
        del case["scribble"]
    assert faults_of(folder, data) == ()  # its image alone is learnt from
    data["testing"], data["training"] = data["training"][:1], [data["training"][1] | {"patient": "other"}]
    assert "is in testing (case_0)" in faults_of(folder, data)[0]
    data["unpaired_masks"] = [{"mask": "others/mask_01.nii.gz", "whose": "p0"}]
    assert any("unknown key 'whose'" in fault for fault in faults_of(folder, data))


def test_a_copy_of_a_case_s_mask_is_not_unpaired(desk):
    folder, data = desk
    save(folder / "others" / "copy.nii.gz", mask().astype(np.float32))
    data["unpaired_masks"].append("others/copy.nii.gz")
    (fault,) = faults_of(folder, data)
    assert fault == "unpaired mask others/copy.nii.gz is the mask of case_0, so it is not unpaired; leave it out."


def test_one_examination_under_two_patients_in_two_parts_is_found(desk):
    """Whatever its type and its place: the voxels tell."""
    folder, data = desk
    save(folder / "again" / "other.nii.gz", image(0).astype(np.float64), AFFINE @ np.diag([-1, 1, 1, 1]))
    data["testing"] = [{"id": "again", "patient": "p99", "image": "again/other.nii.gz"}]
    (fault,) = faults_of(folder, data)
    assert fault == "case_0 and again are the same image, in training and in testing; leave one out."
