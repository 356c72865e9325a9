"""Which cases of a cohort count: told by their images, whatever they are called."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import napari_weakseg as ws
from balls import a_case, a_cohort
from napari_weakseg.case import Cohort
from napari_weakseg.errors import DataError
from napari_weakseg.held_out import held_out
from napari_weakseg.io.runs import Run

pytestmark = pytest.mark.usefixtures("learning")


@pytest.fixture
def facts(tmp_path):
    """What a run on `a_cohort` says of its cohort."""
    ws.train(a_cohort(), method="learning", run=tmp_path / "run")
    return Run(tmp_path / "run").cohort()


def older(facts):
    """The same, as runs of earlier versions said it: no hash of what was not learnt from, none of the voxels alone."""
    parts = {
        part: [{k: v for k, v in entry.items() if k != "voxels" and (k != "image" or part != "testing")} for entry in entries]
        for part, entries in facts["parts"].items()
    }
    return {**facts, "parts": parts}


@pytest.mark.parametrize("known", [lambda facts: facts, older])
def test_the_runs_own_testing_part_counts_and_the_rest_is_left_out(facts, known):
    part, cases, _, left_out = held_out(a_cohort(), known(facts))
    assert part == "testing"
    assert cases.ids == ("u0", "u1", "u2")
    assert left_out == {"training": 6}


@pytest.mark.parametrize("known", [lambda facts: facts, older])
def test_other_images_under_the_same_ids_are_new(facts, known):
    other = Cohort(
        "balls",
        training=tuple(a_case(f"t{n}", 500 + n) for n in range(6)),
        testing=tuple(a_case(f"u{n}", 600 + n) for n in range(3)),
    )
    part, cases, _, left_out = held_out(other, known(facts))
    assert part == "new"
    assert len(cases) == 9
    assert left_out == {}


def test_cases_of_a_few_equal_ids_do_not_vanish(facts):
    mixed = Cohort("mixed", testing=(a_case("u1", 700), a_case("v0", 701), a_case("u2", 102, empty=True), a_case("t3", 3)))
    part, cases, _, left_out = held_out(mixed, facts)
    assert (part, cases.ids) == ("testing", ("u2",))
    assert left_out == {"new": 2, "training": 1}
    part, cases, learnt, _ = held_out(mixed, facts, "new")
    assert cases.ids == ("u1", "v0")
    assert mixed.testing[3].image_sha256 in learnt


def test_of_a_run_that_kept_no_hashes_of_its_tests_other_cohorts_are_new(facts):
    part, cases, _, left_out = held_out(Cohort("mixed", testing=(a_case("u1", 700), a_case("v0", 701))), older(facts))
    assert part == "new"
    assert cases.ids == ("u1", "v0")
    assert left_out == {}


def test_a_part_that_is_not_there_is_refused(facts):
    with pytest.raises(DataError, match="'validation'"):
        held_out(a_cohort(), facts, "validation")
    with pytest.raises(DataError, match="lists no case"):
        held_out(Cohort("none"), facts)


def test_a_training_image_saved_in_another_type_or_place_does_not_count(tmp_path):
    cohort = a_cohort()
    whole = [replace(c, channels={"image": c.volume.with_array(c.volume.array.astype(np.int16))}) for c in cohort.training]
    ws.train(replace(cohort, training=tuple(whole)), method="learning", run=tmp_path / "run")
    volume = whole[3].volume
    other_type = volume.with_array(volume.array.astype(np.float64))
    moved = replace(whole[4].volume, affine=np.diag([1.5, 1.0, 2.0, 1.0]))
    copies = (
        replace(a_case("again", 50), channels={"image": other_type}),
        replace(a_case("moved", 51), channels={"image": moved}, reference=None),
        a_case("v", 52),
    )
    report = ws.evaluate(tmp_path / "run", Cohort("other", structures=cohort.structures, testing=copies))
    assert report["part"] == "new"
    assert report["learnt_from"] == ["again", "moved"]


def test_what_was_left_out_is_in_the_report(tmp_path):
    ws.train(a_cohort(), method="learning", run=tmp_path / "run")
    report = ws.evaluate(tmp_path / "run", a_cohort())
    assert report["left_out"] == {"training": 6}
    assert report["notes"] == ["6 cases that the run learnt from are left out; choose the part 'training' to score them."]
