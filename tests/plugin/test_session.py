"""The panel's state and what follows from it, without Qt."""

from __future__ import annotations

import numpy as np
import pytest

from napari_weakseg.plugin.session import (
    Document,
    Job,
    ObjectKey,
    Session,
    box_size,
    directions_of,
    missing_of,
    open_objects,
    resolve,
)
from napari_weakseg.recipe import Recipe
from napari_weakseg.volume import Volume

VOLUME = Volume(np.zeros((40, 40, 20)), np.diag([1.0, 1.0, 3.0, 1.0]))
SIX = [[5, 20, 10], [35, 20, 10], [20, 8, 10], [20, 30, 10], [20, 20, 3], [20, 20, 17]]


def clicked(points=SIX, volume=VOLUME, document=None):
    document = Document() if document is None else document
    for point in points:
        document = document.place(point, volume.shape)
    return document


def test_a_further_structure_gets_a_name_of_its_own():
    document = Document().rename_structure(1, "structure 2").add_structure()
    assert [(s.name, s.value) for s in document.structures] == [("structure 2", 1), ("structure 3", 2)]


def test_any_order_of_clicks_fills_the_six_directions():
    for seed in range(6):
        order = np.random.default_rng(seed).permutation(6)
        document = clicked([SIX[n] for n in order])
        held = directions_of(document, VOLUME)
        assert {n: document.marks[row].voxel for n, row in held.items()} == {n: tuple(map(float, SIX[n])) for n in range(6)}
        assert missing_of(document, VOLUME) == ()


def test_what_is_missing_is_said_in_the_patients_words():
    problems = resolve(Session(clicked(SIX[:4]), VOLUME, recipe=Recipe()))
    assert problems[0].sentence == "still missing: bottom and top."


def test_an_extra_click_replaces_the_point_of_its_direction():
    document = clicked().place([39, 22, 11], VOLUME.shape)
    assert len(document.marks) == 6
    assert document.marks[directions_of(document, VOLUME)[1]].voxel == (39.0, 22.0, 11.0)
    assert document.marks[directions_of(document, VOLUME)[0]].voxel == (5.0, 20.0, 10.0)


def test_a_complete_object_resolves_to_a_job_with_its_own_copy_of_the_points():
    job = resolve(Session(clicked(), VOLUME, recipe=Recipe()), max_seconds=0.0)
    assert isinstance(job, Job)
    assert job.recipe.max_seconds == 0
    assert np.allclose(np.sort(job.case.points.points[0], axis=0), np.sort(SIX, axis=0))
    assert job.case.structures[0].name == "lesion"


def test_several_objects_and_structures_run_together_until_they_are_finished():
    document = clicked()
    document = clicked([[p[0], p[1], p[2] * 0.5] for p in SIX], document=document.add_object())
    document = clicked([[p[0] * 0.5, p[1], p[2]] for p in SIX], document=document.add_structure())
    document = clicked(SIX[:3], document=document.add_object())
    session = Session(document, VOLUME, recipe=Recipe())
    assert open_objects(session) == (ObjectKey(1, 1), ObjectKey(1, 2), ObjectKey(2, 1))
    job = resolve(session)
    assert job.case.points.values.tolist() == [1, 1, 2]
    finished = document.finish((ObjectKey(1, 1),))
    assert open_objects(Session(finished, VOLUME, recipe=Recipe())) == (ObjectKey(1, 2), ObjectKey(2, 1))
    touched = finished.choose(ObjectKey(1, 1)).place([38, 20, 10], VOLUME.shape)
    assert ObjectKey(1, 1) in open_objects(Session(touched, VOLUME, recipe=Recipe()))


def test_after_finishing_clicks_go_to_a_new_object():
    document = clicked().finish((ObjectKey(1, 1),))
    assert document.current == ObjectKey(1, 2)
    assert document.add_object().current == ObjectKey(1, 2)  # an empty one is taken, not a third begun


@pytest.mark.parametrize(
    ("session", "words"),
    [
        (Session(recipe=Recipe()), "open an image"),
        (Session(problem="slice has 2 axes."), "2 axes"),
        (Session(volume=VOLUME, recipe=Recipe()), "6 outermost"),
        (Session(clicked([[5, 5, 5]] * 6), VOLUME, recipe=Recipe()), "no box"),
        (Session(clicked(), VOLUME), "not installed"),
    ],
)
def test_problems_are_one_sentence(session, words):
    problems = resolve(session)
    assert len(problems) == 1
    assert words in problems[0].sentence
    assert len(problems[0].sentence.split()) <= 30


def test_a_single_slice_needs_four_points():
    flat = Volume(np.zeros((40, 40, 1)))
    document = clicked([[*p[:2], 0] for p in SIX[:4]], flat)
    assert missing_of(document, flat) == ()
    job = resolve(Session(document, flat, recipe=Recipe()))
    assert isinstance(job, Job)
    assert job.case.points.points.shape == (1, 6, 3)
    more = document.place([39, 21, 0], flat.shape)
    assert len(more.marks) == 4


def test_sizes_are_given_along_the_patients_axes_with_their_unit():
    assert box_size(clicked(), VOLUME) == "box 31 × 23 × 45 mm"
    turned = Volume(np.zeros((20, 40, 40)), np.array([[0, 0, 1, 0], [0, 1, 0, 0], [3.0, 0, 0, 0], [0, 0, 0, 1]]))
    assert turned.orientation == "SAR"
    assert box_size(clicked([p[::-1] for p in SIX], turned), turned) == "box 31 × 23 × 45 mm"
    unknown = Volume(np.zeros((40, 40, 20)), spacing_known=False)
    assert box_size(clicked(volume=unknown), unknown) == "box 31 × 23 × 15 voxels"


def test_documents_survive_json():
    document = clicked(SIX[:5], document=clicked().add_structure()).rename_structure(2, "liver").finish((ObjectKey(1, 1),))
    assert Document.from_json(document.to_json()) == document


def test_names_of_files_do_not_reach_the_case():
    job = resolve(Session(clicked(), Volume(VOLUME.array, VOLUME.affine, name="Doe^Jane"), channels=(VOLUME,), recipe=Recipe()))
    assert list(job.case.channels) == ["image", "channel 2"]
    assert "Doe" not in job.case.id
