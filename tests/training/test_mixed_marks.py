"""Strokes of several people, full masks, unmarked images and unpaired masks of one cohort file, as far as the training."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from napari_weakseg.api import train
from napari_weakseg.arrays.pairing import Drawn
from napari_weakseg.case import Case, Cohort
from napari_weakseg.cohorts import training_steps
from napari_weakseg.errors import CohortFaults, DataError
from napari_weakseg.io import cases as cases_module
from napari_weakseg.io.cohort import check_cohort, read_cohort
from napari_weakseg.io.nifti_write import write_map, write_mask
from napari_weakseg.io.scribbles import write_scribbles
from napari_weakseg.methods import new_recipe
from napari_weakseg.prompts import Scribbles
from napari_weakseg.training.partial_losses import IGNORE
from napari_weakseg.training.slice_batches import SliceBatches
from napari_weakseg.training.slice_material import gather
from napari_weakseg.volume import Volume
from toy_cohort import STRUCTURES, toy_case, toy_masks

TINY = {"filters": 4, "size": 32, "batch": 2, "device": "cpu", "max_seconds": 1e6, "preview_seconds": 0}
OURS, ACDC = {"background": 255, "unlabelled": 0}, {"background": 0, "unlabelled": 4}


def recipe_of(method="adversarial_gating", **changes):
    more = {"discriminator_filters": 4} if method == "adversarial_gating" else {}
    return new_recipe(method, **{**TINY, **more, **changes})


@pytest.fixture
def folder(tmp_path):
    """A cohort on disk: strokes of two people in two codings, a full mask, an image without marks, masks of others."""
    cases = [toy_case(number) for number in range(4)]
    for number, case in enumerate(cases):
        write_map(case.volume, tmp_path / f"image_{number}.nii.gz")
        write_mask(case.reference, tmp_path / f"mask_{number}.nii.gz")
    whole = cases[0].scribbles.labels
    first, second = np.where(np.arange(32)[:, None, None] < 16, [whole, 0 * whole], [0 * whole, whole])
    write_scribbles(Scribbles(first, STRUCTURES), cases[0].volume, tmp_path / "anna.nii.gz")
    theirs = np.where(second == 0, 4, np.where(second == 255, 0, second))
    write_mask(cases[0].volume.with_array(theirs.astype(np.uint8)), tmp_path / "ben.nii.gz")
    for number, mask in enumerate(toy_masks(2)):
        write_mask(mask, tmp_path / f"other_{number}.nii.gz")
    entries = [{"id": f"case_{number}", "image": f"image_{number}.nii.gz"} for number in range(4)]
    entries[0] |= {"scribble": ["anna.nii.gz", "ben.nii.gz"], "scribble_codes": [OURS, ACDC]}
    entries[1] |= {"label": "mask_1.nii.gz", "marks": "mask"}
    data = {
        "name": "mixed",
        "structures": [{"name": structure.name, "value": structure.value} for structure in STRUCTURES],
        "training": entries[:3],
        "testing": [entries[3] | {"label": "mask_3.nii.gz"}],
        "unpaired_masks": [{"mask": "other_0.nii.gz", "patient": "case_2"}, "other_1.nii.gz"],
    }
    write(tmp_path, data)
    return tmp_path, data


def gathered(*arguments):
    """The material at the end of all steps of preparing it."""
    steps = gather(*arguments)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def write(folder, data):
    (folder / "cohort.json").write_text(json.dumps(data))
    return folder / "cohort.json"


def test_each_kind_of_marks_becomes_the_supervision_that_it_is(folder):
    cohort = read_cohort(folder[0] / "cohort.json")
    assert check_cohort(folder[0] / "cohort.json") == ()
    np.testing.assert_array_equal(cohort.training[0].scribbles.labels, toy_case(0).scribbles.labels)
    material = gathered(cohort.training, (), (), recipe_of())
    strokes, full, unmarked = (stack.labels for stack in material.stacks)
    assert 0.01 < (strokes != IGNORE).mean() < 0.3
    np.testing.assert_array_equal(full, np.moveaxis(toy_case(1).reference.array, 2, 0))
    assert (unmarked == IGNORE).all()
    batches = SliceBatches(material.stacks, material.masks, material.classes, recipe_of(), torch.device("cpu"))
    assert {n for n, _ in batches.marked} == {0, 1} and {n for n, _ in batches.any} == {0, 1, 2}  # the game sees them all
    assert any("1 of 3 cases have no strokes" in note for note in material.notes)


def test_no_weights_are_chosen_by_a_full_mask(folder):
    cohort = read_cohort(folder[0] / "cohort.json")
    material = gathered(cohort.training, (), (), recipe_of(hold_out=0.3))
    assert list(material.checked.places) == [0]
    assert (material.stacks[1].labels != IGNORE).all()


@pytest.mark.parametrize("method", ["adversarial_gating", "partial_cross_entropy"])
def test_a_mixed_cohort_file_is_learnt_from(folder, method):
    weights = train(read_cohort(folder[0] / "cohort.json"), recipe_of(method, steps=2), method=method)
    assert weights.meta["steps"] == (2,)
    assert any("1 of 3 cases have no strokes" in note for note in weights.meta["notes"])
    if method == "adversarial_gating":
        assert weights.meta["form"] == "MAAG"


def test_a_method_that_cannot_use_unmarked_images_says_how_many_it_leaves_out(folder):
    running = training_steps(read_cohort(folder[0] / "cohort.json"), method="simple_propagation")
    notes = [step.note for step, _ in zip(running, range(20), strict=False)]
    running.close()
    assert any("left out" in note for note in notes)


def test_a_mask_of_a_training_case_is_named_in_a_lazy_cohort_too_and_nothing_is_read_for_it_again(folder, monkeypatch):
    path, data = folder
    write_mask(toy_case(0).reference, path / "renamed.nii.gz")
    cohorts, read = [], []
    original = cases_module.read_mask
    for masks in (data["unpaired_masks"], [*data["unpaired_masks"], "renamed.nii.gz"]):
        cohorts.append(read_cohort(write(path, data | {"unpaired_masks": masks})))
    for cohort in cohorts:
        opened = []
        monkeypatch.setattr(
            cases_module, "read_mask", lambda path, opened=opened, **how: opened.append(path.name) or original(path, **how)
        )
        weights = train(cohort, recipe_of(steps=1), method="adversarial_gating")
        read.append(sorted(set(opened) - {"renamed.nii.gz"} | {f"{opened.count('anna.nii.gz')} times"}))
    assert read[0] == read[1]
    (note,) = [note for note in weights.meta["notes"] if "not unpaired" in note]
    assert "renamed fits the strokes of case_0" in note


@pytest.mark.parametrize("number", [0, 3])
def test_a_copy_of_the_mask_of_a_case_is_refused_before_anything_is_learnt(folder, number):
    """Of a case whose strokes are learnt from, and of one that is tested; of one without strokes it may be learnt from."""
    path, data = folder
    write_mask(toy_case(number).reference, path / "renamed.nii.gz")
    data["training"][0]["label"] = "mask_0.nii.gz"
    data["unpaired_masks"].append("renamed.nii.gz")
    (fault,) = check_cohort(write(path, data))
    with pytest.raises(CohortFaults) as refused:
        train(read_cohort(path / "cohort.json"), recipe_of(steps=1), method="adversarial_gating")
    assert refused.value.faults == (fault,)
    assert fault.endswith(f"renamed.nii.gz is the mask of case_{number}, so it is not unpaired; leave it out.")
    cases = tuple(toy_case(n, strokes=n != 2) for n in range(3))
    for owner, refuses in ((0, True), (2, False)):
        cohort = Cohort("here", structures=STRUCTURES, training=cases, unpaired_masks=(cases[owner].reference,))
        steps = training_steps(cohort, recipe_of(steps=1), method="adversarial_gating")
        if refuses:
            with pytest.raises(CohortFaults, match="unpaired mask mask is the mask of case_0"):
                list(steps)
        else:
            assert list(steps)


def test_masks_without_a_structure_are_refused_before_anything_is_learnt():
    empty = [mask.with_array(0 * mask.array) for mask in toy_masks(2)]
    strange = toy_masks(1)[0].with_array(np.full((32, 32, 4), 7, np.uint8), name="strange")
    for masks, words in ((empty, "no unpaired mask holds a structure"), ([strange], "strange holds the label 7")):
        cohort = Cohort("here", structures=STRUCTURES, training=(toy_case(0),), unpaired_masks=tuple(masks))
        seen = []
        with pytest.raises(CohortFaults, match=words):
            seen.extend(step.stage for step in training_steps(cohort, recipe_of(steps=1), method="adversarial_gating"))
        with pytest.raises(DataError, match=words):
            gathered([toy_case(0)], (), masks, recipe_of())


def test_masks_that_lack_structures_are_empty_or_of_another_view_are_noted():
    masks = toy_masks(4)
    assert not [note for note in gathered([toy_case(0)], (), masks, recipe_of()).notes if "mask" in note]
    rings = [mask.with_array(np.where(mask.array == 1, 1, 0).astype(np.uint8)) for mask in masks]
    (note,) = [note for note in gathered([toy_case(0)], (), rings, recipe_of()).notes if "mask" in note]
    assert note == "no unpaired mask holds core, and what none holds is taught to be never real; add masks that do."
    empty = masks[0].with_array(0 * masks[0].array)
    notes = gathered([toy_case(0)], (), [empty, *masks[1:]], recipe_of()).notes
    assert "1 unpaired mask is empty and left out." in notes
    assert "2 unpaired masks are empty and left out." in gathered([toy_case(0)], (), [empty, empty, *masks], recipe_of()).notes
    side = [Volume(np.moveaxis(mask.array, 2, 0), np.diag([5.0, 1.0, 1.0, 1.0]), "side") for mask in masks[:2]]
    (note,) = [note for note in gathered([toy_case(0)], (), [*side, *masks], recipe_of()).notes if "mask" in note]
    assert note.startswith("the slices of side and 1 more lie along another axis than the cases'")


def test_masks_of_patients_whom_a_fold_tests_are_left_out(folder):
    """The image of case_2 is not marked, so its patient's mask may be learnt from, but not where the patient is tested."""
    cohort = read_cohort(folder[0] / "cohort.json")
    told = []
    for number in (1, 2, 3):
        steps = training_steps(cohort, recipe_of(steps=1, form="auto"), method="adversarial_gating", fold=(number, 3))
        notes = " ".join(step.note for step in steps)
        tested = cohort.folds(3)[number - 1].testing.ids
        assert ("1 unpaired mask of a patient who is held out was left out." in notes) == ("case_2" in tested)
        told.append("held out" in notes)
    assert sorted(told) == [False, False, True]


def test_few_voxels_of_strokes_are_enough_to_recognise_a_mask_and_too_few_say_nothing():
    case = toy_case(0)
    drawn = Drawn.of(case)
    assert drawn.fits(case.reference)
    assert not drawn.fits(toy_case(5).reference)
    assert not any(drawn.fits(mask) for mask in toy_masks())
    moved = case.reference.array.copy()
    assert not drawn.fits(type(case.reference)(moved, np.diag([1.0, 1.0, 6.0, 1.0])))
    few = np.zeros(case.volume.shape, np.uint8)
    few[16, 16, :] = 1
    assert Drawn.of(Case("few", case.channels, scribbles=Scribbles(few, STRUCTURES))) is None
    assert Drawn.of(toy_case(0, strokes=False)) is None
    full = np.where(case.reference.array == 0, 255, case.reference.array)
    assert Drawn.of(Case("full", case.channels, scribbles=Scribbles(full, STRUCTURES))).fits(case.reference)
