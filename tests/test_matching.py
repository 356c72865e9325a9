"""Cohorts that call things otherwise than the run does, or count them in another order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import napari_weakseg as ws
from balls import a_cohort
from napari_weakseg.errors import DataError
from napari_weakseg.prompts import ImageLabel, Structure

pytestmark = pytest.mark.usefixtures("learning")


@pytest.fixture
def run(tmp_path):
    """What learnt from `a_cohort`."""
    ws.train(a_cohort(), method="learning", run=tmp_path / "run")
    return tmp_path / "run"


def changed(cohort, change, **more):
    """The cohort with other testing cases."""
    return replace(cohort, testing=tuple(change(case) for case in cohort.testing), **more)


def figures(report):
    """What of a report does not depend on names or time."""
    return {key: report[key] for key in ("summary", "slices", "worst", "part")}


def test_classes_are_matched_by_name_whatever_their_order(run):
    def turned(case):
        values = tuple(1 - value for value in case.image_label.label)
        return replace(case, image_label=ImageLabel(("lesion", "normal"), values))

    plain = ws.evaluate(run, a_cohort())
    report = ws.evaluate(run, changed(a_cohort(), turned, image_classes=("lesion", "normal")))
    assert report["classification"] == plain["classification"]
    assert figures(report) == figures(plain)
    assert report["classification"]["slices"]["auroc"][1] > 0.9
    assert report["cases"] == plain["cases"]


def test_a_class_that_the_run_does_not_know_is_refused(run):
    def renamed(case):
        return replace(case, image_label=ImageLabel(("normal", "tumour"), case.image_label.label))

    with pytest.raises(DataError, match=r"does not know the image class 'tumour'.*normal, lesion") as refused:
        ws.evaluate(run, changed(a_cohort(), renamed, image_classes=("normal", "tumour")))
    assert len(str(refused.value).split()) <= 30


def test_another_slice_axis_is_refused(run):
    def sideways(case):
        return replace(case, image_label=ImageLabel(("normal", "lesion"), (1,) * 14, slice_axis=1))

    with pytest.raises(DataError, match="along axis 1, but this run learnt along axis 2") as refused:
        ws.evaluate(run, changed(a_cohort(), sideways, slice_axis=1))
    assert len(str(refused.value).split()) <= 30


def with_value(value):
    def change(case):
        return replace(case, reference=case.reference.with_array(case.reference.array * np.uint8(value)))

    return change


def test_a_structure_is_matched_by_name_whatever_its_value(run):
    plain = ws.evaluate(run, a_cohort())
    structures = (Structure("core", 1), Structure("lesion", 2))
    report = ws.evaluate(run, changed(a_cohort(), with_value(2), structures=structures))
    assert figures(report) == figures(plain)
    assert report["notes"][-1] == "core: in the cohort or in the run alone, so not scored."
    assert plain["notes"] == report["notes"][:-1]


def test_all_that_is_masked_is_scored_as_the_one_structure_of_the_run(run):
    structures = (Structure("core", 1), Structure("tumour", 2))
    report = ws.evaluate(run, changed(a_cohort(), with_value(2), structures=structures))
    assert figures(report) == figures(ws.evaluate(run, a_cohort()))
    assert "(core, tumour) is scored as 'lesion'" in report["notes"][-1]


def test_structures_that_cannot_be_matched_are_refused():
    known = ws.train(a_cohort(), method="learning")
    several = replace(known, structures=(Structure("ring", 1), Structure("core", 2)))
    with pytest.raises(DataError, match=r"\(lesion\) are none of this run's \(ring, core\)"):
        ws.evaluate(several, a_cohort())
    report = ws.evaluate(several, replace(a_cohort(), structures=(Structure("core", 1),)))
    assert list(report["summary"]) == ["core"]
    assert report["summary"]["core"]["dice"]["mean"] == 0  # the method draws value 1, which is the ring here


def test_another_sequence_is_noted_and_a_lacking_one_refused(run):
    def renamed(name):
        return lambda case: replace(case, channels={name: case.volume})

    learnt = replace(ws.train(a_cohort(), method="learning"), meta={})
    flair = replace(learnt, meta={"channels": ["flair"]})
    report = ws.evaluate(flair, changed(a_cohort(), renamed("t1"), channels=("t1",)))
    assert report["notes"][-1] == "this run learnt from 'flair', but the images of cohort 'balls' are called 't1'."
    assert len(ws.evaluate(flair, changed(a_cohort(), renamed("flair"), channels=("flair",)))["notes"]) == 1
    with pytest.raises(DataError, match="lacks the channel 'flair'"):
        ws.evaluate(replace(learnt, meta={"channels": ["t1", "flair"]}), changed(a_cohort(), renamed("t1"), channels=("t1",)))


def test_a_cohort_without_masks_and_labels_is_refused(run):
    def bare(case):
        return replace(case, reference=None, image_label=None)

    with pytest.raises(DataError, match="no testing case of cohort 'balls' has a reference mask"):
        ws.evaluate(run, changed(a_cohort(), bare))
    some = a_cohort()
    some = replace(some, testing=(bare(some.testing[0]), *some.testing[1:]))
    assert "1 cases have neither" in ws.evaluate(run, some)["notes"][0]


def test_a_report_says_what_was_scored_on_what_and_when(run):
    report = ws.evaluate(run, a_cohort())
    assert report["cohort"] == "balls"
    assert report["weights"] in (run / "weights.json").read_text()
    assert len(report["weights"]) == 64
    assert report["date"][:2] == "20"
