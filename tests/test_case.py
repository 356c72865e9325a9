"""`Case`: channels on one grid, marks, and whose they are."""

from __future__ import annotations

import numpy as np
import pytest

from napari_weakseg.case import Case, Cohort
from napari_weakseg.errors import DataError, GeometryError
from napari_weakseg.prompts import LESION, ExtremePoints, ImageLabel, Scribbles
from napari_weakseg.volume import Volume

FLAIR = Volume(np.zeros((4, 5, 6)), name="flair")
SIX = [[0, 2, 2], [3, 2, 2], [2, 0, 2], [2, 4, 2], [2, 2, 0], [2, 2, 5]]


def test_first_channel_gives_the_grid():
    case = Case("case_01", {"flair": FLAIR, "t1": FLAIR.with_array(np.ones((4, 5, 6)))})
    assert case.volume is FLAIR
    assert case.patient == "case_01"
    assert Case("case_01", {"flair": FLAIR}, patient="p1").patient == "p1"


def test_channels_share_a_grid():
    moved = Volume(np.zeros((4, 5, 6)), np.diag([1, 1, 2, 1.0]))
    with pytest.raises(GeometryError, match="t1"):
        Case("case_01", {"flair": FLAIR, "t1": moved})
    with pytest.raises(DataError, match="no image"):
        Case("case_01", {})


def test_structures_are_those_of_the_marks():
    assert Case("a", {"flair": FLAIR}).structures == ()
    assert Case("a", {"flair": FLAIR}, points=ExtremePoints.from_points(SIX, FLAIR)).structures == (LESION,)
    assert Case("a", {"flair": FLAIR}, scribbles=Scribbles(np.zeros((4, 5, 6), np.uint8), (LESION,))).structures == (LESION,)


def _cases(labels, patients=None):
    volume = Volume(np.zeros((2, 2, 3)))
    return tuple(
        Case(f"c{n}", {"flair": volume}, patient="" if patients is None else patients[n], image_label=label)
        for n, label in enumerate(labels)
    )


def _ids(cases):
    return {case.id for case in cases}


def test_folds_keep_a_patient_on_one_side_and_use_every_case_once():
    patients = [f"p{n // 2}" for n in range(14)]
    cohort = Cohort(training=_cases([None] * 14, patients))
    folds = cohort.folds(3, seed=1)
    assert sorted(name for fold in folds for name in _ids(fold.testing)) == sorted(_ids(cohort.training))
    for fold in folds:
        assert not {case.patient for case in fold.training} & {case.patient for case in fold.testing}
        assert _ids(fold.training) | _ids(fold.testing) == _ids(cohort.training)
    assert sorted(len(fold.testing) for fold in folds) == [4, 4, 6]


def test_folds_are_the_same_for_a_seed_and_others_for_another():
    cohort = Cohort(training=_cases([None] * 12))
    once, again, other = (cohort.folds(3, seed=seed) for seed in (0, 0, 1))
    assert [_ids(fold.testing) for fold in once] == [_ids(fold.testing) for fold in again]
    assert [_ids(fold.testing) for fold in once] != [_ids(fold.testing) for fold in other]


def test_folds_hold_each_class_in_equal_parts():
    classes = ("normal", "lesion")
    volumes = _cases([ImageLabel(classes, int(n % 4 == 0)) for n in range(12)])
    for fold in Cohort(image_classes=classes, training=volumes).folds(3):
        assert sorted(case.image_label.label for case in fold.testing) == [0, 0, 0, 1]
    slices = _cases([ImageLabel(classes, (0, int(n < 4), int(n < 4))) for n in range(8)])
    for fold in Cohort(image_classes=classes, training=slices).folds(2):
        assert sum(sum(case.image_label.label) for case in fold.testing) == 4


def test_folds_that_cannot_be_made():
    cohort = Cohort(training=_cases([None] * 3))
    for count in (1, 4):
        with pytest.raises(DataError, match="3 patients"):
            cohort.folds(count)


def test_a_cohort_has_each_case_once_and_each_patient_in_one_part():
    one, two = _cases([None, None], ["p", "p"])
    with pytest.raises(DataError, match="patient p"):
        Cohort(training=(one,), testing=(two,))
    with pytest.raises(DataError, match="id c0"):
        Cohort(training=(one, one))
    with pytest.raises(DataError, match="slice axis"):
        Cohort(slice_axis=3)
