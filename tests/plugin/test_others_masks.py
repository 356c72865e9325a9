"""Masks of other patients: what fits the table is used, and what does not is said."""

from __future__ import annotations

import numpy as np
import pytest

from napari_weakseg.io.nifti import write_mask
from napari_weakseg.plugin.others_masks import OthersMasks
from napari_weakseg.prompts import Structure
from napari_weakseg.volume import Volume

RV, LV, LESION = Structure("RV", 1), Structure("LV", 2), Structure("lesion", 3)


@pytest.fixture
def read(tmp_path):
    """Masks with these values, as a folder that was read."""

    def read(*values):
        folder = tmp_path / "hearts"
        folder.mkdir()
        for number, held in enumerate(values):
            array = np.zeros((4, 4, 4), dtype=np.uint8)
            array.reshape(-1)[: len(held)] = held
            write_mask(Volume(array, np.eye(4), "mask"), folder / f"{number}.nii.gz")
        return OthersMasks.read(str(folder))

    return read


def test_masks_that_fit_are_used_and_nothing_is_wrong_with_them(read):
    others = read((1, 2), (2,), (1, 2))
    assert others.usable((RV, LV)) == others.masks
    assert others.faults((RV, LV)) == []
    assert others.line((RV, LV)) == "3 masks of other patients, from hearts: they say which shapes are real."


def test_values_without_a_structure_and_structures_in_no_mask_are_said_in_a_sentence_each(read):
    others = read((1, 2), (1, 5, 7), (1, 7))
    assert others.usable((RV, LV, LESION)) == others.masks[:1]
    values, structures = others.faults((RV, LV, LESION))
    assert values.startswith("No structure has the values 5, 7: masks that hold one of them (2 of 3) are not used")
    assert structures.startswith("No mask holds the value 3 (lesion)")
    for fault in (values, structures):
        assert fault.count(". ") == 0
        assert len(fault.split()) <= 30
    assert "from hearts, 1 used: they say which shapes are real. No structure has" in others.line((RV, LV, LESION))


def test_what_fits_follows_the_table(read):
    others = read((1, 2))
    assert others.usable((RV,)) == ()
    assert "1 mask of other patients, from hearts, 0 used: the gates learn from the prediction itself." in others.line((RV,))
    assert others.usable((RV, LV)) == others.masks
    assert others.line((RV, LV)).startswith("1 mask of other patients, from hearts: they")


def test_a_structure_that_only_unused_masks_hold_is_in_no_mask(read):
    others = read((1,), (1, 2, 9))
    assert any("No mask holds the value 2 (LV)" in fault for fault in others.faults((RV, LV)))


def test_an_empty_mask_is_not_used(read):
    others = read((), (1,))
    assert others.usable((RV,)) == others.masks[1:]
    assert others.faults((RV,)) == []


def test_many_values_make_a_short_sentence(read):
    (fault, _) = read(tuple(range(10, 50))).faults((RV,))
    assert "values 10, 11, 12, 13, 14 and 35 more" in fault
    assert OthersMasks().line((RV,)).startswith("No masks of other patients were given")
    assert OthersMasks().faults((RV,)) == []
