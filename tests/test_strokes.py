"""Strokes all the way: from the console and the command line, several structures, corrections, replay, missing torch."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import napari_weakseg as ws
from napari_weakseg.arrays.scribbles import LIKE_A_MASK, NO_BACKGROUND
from napari_weakseg.case import Case, Cohort
from napari_weakseg.cli import main
from napari_weakseg.errors import GeometryError, MissingPackageError, PromptError, WeaksegError
from napari_weakseg.io.nifti import read_mask, write_map, write_mask
from napari_weakseg.io.points import read_points
from napari_weakseg.io.scribbles import read_scribbles, write_scribbles
from napari_weakseg.method import Weights
from napari_weakseg.methods import simple_propagation
from napari_weakseg.prompts import ExtremePoints, Scribbles, Structure
from napari_weakseg.volume import Volume

SHAPE = (20, 22, 30)
ONE, TWO = Structure("one", 1), Structure("two", 2)


def ball(centre, radius=5.0):
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"), axis=-1)
    return ((grid - centre) ** 2).sum(-1) < radius**2


FIRST, SECOND = ball((10, 11, 8)), ball((10, 11, 20))


def scene():
    array = 100 * FIRST + 160 * SECOND + np.random.default_rng(0).normal(0, 4, SHAPE)
    return Volume(array.astype(np.float32), np.diag([-1.0, -1.0, 1.0, 1.0]), name="scan")


@pytest.fixture
def volume():
    return scene()


def strokes(*, first=True, second=False, background=True):
    labels = np.zeros(SHAPE, np.uint8)
    if first:
        labels[10, 8:14, 8] = 1
    if second:
        labels[10, 8:14, 20] = 2
    if background:
        labels[2:18, 2, 8] = labels[2:18, 19, 8] = labels[10, 4:18, 14] = 255
    return Scribbles(labels, (ONE, TWO) if second else (ONE,))


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def first_only(**changes):
    return ws.new_recipe("simple_propagation", max_seconds=0, **changes)


@pytest.mark.parametrize("kind", ["learned", "classical"])
def test_strokes_alone_make_a_mask_and_the_record_says_how(volume, kind):
    result = ws.segment(volume, strokes(), recipe=first_only(first_mask=kind))
    assert dice(result.labels == 1, FIRST) > 0.8
    made = result.record["training"]["first_mask"]
    assert made["kind"] == kind
    assert ("sha256" in made) == (kind == "learned")
    assert not result.notes
    again = ws.replay(json.loads(json.dumps(result.record)), volume)
    assert again.mask.sha256 == result.mask.sha256


def test_structures_compete_and_each_keeps_its_strokes(volume):
    marks = strokes(second=True)
    result = ws.segment(volume, marks, recipe=first_only())
    assert dice(result.labels == 1, FIRST) > 0.8
    assert dice(result.labels == 2, SECOND) > 0.8
    for value in (1, 2):
        assert (result.labels[marks.labels == value] == value).all()
    assert (result.labels[marks.labels == 255] == 0).all()


def test_three_points_and_a_stroke_are_enough_and_three_points_alone_are_not(volume):
    three = ExtremePoints.from_objects([(ONE, [[6, 11, 8], [14, 11, 8], [10, 7, 8]])], volume, partial=True)
    result = ws.segment(volume, [three, strokes()], recipe=first_only())
    assert dice(result.labels == 1, FIRST) > 0.8
    assert len(result.record["prompts"]["voxel"]["structures"][0]["objects"][0]) == 3
    assert ws.replay(result.record, volume).mask.sha256 == result.mask.sha256
    with pytest.raises(PromptError, match="still missing"):
        ws.segment(volume, three, recipe=first_only())


def test_a_correction_changes_its_structure_and_leaves_the_others(volume):
    earlier = np.where(FIRST, 1, np.where(SECOND, 2, 0)).astype(np.uint8)
    earlier[:, :, 10:13] = 0
    previous = volume.with_array(earlier, name="earlier")
    labels = np.zeros(SHAPE, np.uint8)
    labels[10, 9:14, 11] = 1
    result = ws.segment(volume, Scribbles(labels, (ONE,)), recipe=first_only(), previous=previous)
    assert dice(result.labels == 1, FIRST) > dice(earlier == 1, FIRST)
    assert ((result.labels == 2) == (earlier == 2)).all()
    assert [structure.name for structure in result.structures] == ["one", "label 2"]
    with pytest.raises(WeaksegError, match="earlier mask"):
        ws.replay(result.record, volume)
    again = ws.replay(result.record, volume, previous=previous)
    assert again.mask.sha256 == result.mask.sha256


def test_what_cannot_be_corrected_is_refused(volume):
    previous = volume.with_array(FIRST.astype(np.uint8), name="earlier")
    with pytest.raises(PromptError, match="points or scribbles"):
        ws.segment(volume, previous=previous, recipe=first_only())
    elsewhere = Volume(previous.array, np.diag([2.0, 2.0, 2.0, 1.0]), name="elsewhere")
    with pytest.raises(GeometryError, match="grid"):
        ws.segment(volume, strokes(), previous=elsewhere, recipe=first_only())
    with pytest.raises(PromptError, match="only background"):
        ws.segment(volume, strokes(first=False), recipe=first_only())


def test_the_published_pseudo_mask_takes_no_strokes(volume):
    with pytest.raises(PromptError, match="six points per object alone"):
        ws.segment(volume, strokes(), recipe=first_only(pseudo_mask="paths"))


@pytest.fixture
def no_torch(monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("napari_weakseg.networks.", "napari_weakseg.training."))]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("stages", "volume_stages"):  # a package keeps what it has imported as an attribute, too
        monkeypatch.delitem(sys.modules, f"{simple_propagation.__name__}.{name}", raising=False)
        monkeypatch.delattr(simple_propagation, name, raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)


def test_without_torch_the_first_mask_is_classical_with_a_note_and_refining_is_refused(volume, no_torch):
    result = ws.segment(volume, strokes(), recipe=first_only())
    assert result.record["training"]["first_mask"] == {"kind": "classical"}
    assert any("without a network" in note for note in result.notes)
    assert dice(result.labels == 1, FIRST) > 0.7
    seen = []
    with pytest.raises(MissingPackageError, match="PyTorch"):
        ws.segment(volume, strokes(), recipe=ws.new_recipe("simple_propagation"), on_step=seen.append)
    assert seen[0].preview is not None


@pytest.mark.slow
def test_refining_learns_from_strokes_too(volume):
    recipe = ws.new_recipe("simple_propagation", steps_train=2, steps_propagate=1, steps_retrain=1)
    result = ws.segment(volume, strokes(second=True), recipe=recipe)
    assert dice(result.labels == 1, FIRST) > 0.7
    assert dice(result.labels == 2, SECOND) > 0.7
    assert (result.labels[strokes(second=True).labels == 2] == 2).all()


# -- files ------------------------------------------------------------------------------------


def test_strokes_survive_the_disk(volume, tmp_path):
    marks = strokes(second=True)
    path = write_scribbles(marks, volume, tmp_path / "strokes.nii.gz")
    again = read_scribbles(path, volume, structures=(ONE, TWO))
    assert (again.labels == marks.labels).all()
    assert again.structures == (ONE, TWO)
    assert (Scribbles.from_json(marks.to_json()).labels == marks.labels).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: np.zeros_like(a), "no strokes"),
        (lambda a: np.where(a == 0, 4, a), "marks"),
        (lambda a: a.astype(np.int16) * 2, "holds the code"),
    ],
    ids=["empty", "another program's codes", "a code beyond 255"],
)
def test_a_file_that_does_not_fit_is_refused_in_a_sentence(volume, tmp_path, change, words):
    path = write_mask(volume.with_array(change(strokes().labels)), tmp_path / "strokes.nii.gz")
    with pytest.raises(PromptError, match=words) as caught:
        read_scribbles(path, volume)
    assert len(str(caught.value).split()) <= 30


def test_strokes_on_another_grid_or_of_fractions_are_refused(volume, tmp_path):
    other = Volume(strokes().labels, np.diag([2.0, 2.0, 2.0, 1.0]), name="other")
    path = write_mask(other, tmp_path / "strokes.nii.gz")
    with pytest.raises(GeometryError, match="drawn on the image itself; give those of this image") as caught:
        read_scribbles(path, volume)
    assert "resample" not in str(caught.value)
    path = write_map(volume.with_array(strokes().labels * np.float32(0.3)), tmp_path / "map.nii.gz")
    with pytest.raises(WeaksegError, match="whole"):
        read_scribbles(path, volume)


def test_two_structures_of_one_name_are_refused_and_a_name_that_is_taken_is_not_given_again(volume, tmp_path):
    same, labels = (Structure("a", 1), Structure("a", 2)), strokes(second=True).labels
    six = np.array([[5, 11, 8], [15, 11, 8], [10, 6, 8], [10, 16, 8], [10, 11, 3], [10, 11, 13]], float)
    for refused in (
        lambda: Scribbles(labels, same),
        lambda: ExtremePoints(np.stack([six, six]), np.array([1, 2]), same, volume.affine),
        lambda: Cohort("a", structures=same),
        lambda: Case(
            "a",
            {"image": volume},
            points=ExtremePoints.from_points(six, volume, structure=same[0]),
            scribbles=Scribbles(2 * (labels == 2).astype(np.uint8), same[1:]),
        ),
    ):
        with pytest.raises(PromptError, match="two structures are called 'a'; give each its own name"):
            refused()
    path = write_scribbles(Scribbles(labels, (ONE, TWO)), volume, tmp_path / "strokes.nii.gz")
    read = read_scribbles(path, volume, structures=(Structure("label 2", 1),))
    assert [structure.name for structure in read.structures] == ["label 2", "label 3"]


@pytest.mark.parametrize("method", ["adversarial_gating", "partial_cross_entropy"])
def test_marks_that_a_method_does_not_look_at_are_refused_and_never_recorded(volume, method):
    six = np.array([[5, 11, 8], [15, 11, 8], [10, 6, 8], [10, 16, 8], [10, 11, 3], [10, 11, 13]], float)
    points, earlier = ExtremePoints.from_points(six, volume, structure=ONE), volume.with_array(FIRST.astype(np.uint8))
    recipe = ws.new_recipe(method, max_seconds=0)
    others = "leave them out, or choose simple_propagation"
    with pytest.raises(PromptError, match=f"{method} takes scribbles and cannot use extreme points; {others}") as caught:
        ws.segment(volume, [points, strokes()], method=method, recipe=recipe)
    assert len(str(caught.value).split()) <= 30
    with pytest.raises(PromptError, match="cannot use an earlier mask; leave it out, or choose simple_propagation"):
        ws.segment(volume, strokes(), method=method, recipe=recipe, previous=earlier)
    with pytest.raises(PromptError, match="takes image label and cannot use scribbles"):
        ws.segment(volume, strokes(), method="explainable_heatmap")
    first = Weights(method, recipe, (ONE,), {}, {})
    case = Case("a", {"image": volume}, points=points, scribbles=strokes(), previous=earlier)
    made = ws.segment(case, weights=first).record["prompts"]
    assert set(made) == {"sha256", "scribbles"}


def test_a_full_mask_in_place_of_strokes_is_said_with_the_first_mask(volume):
    recipe = ws.new_recipe("partial_cross_entropy", max_seconds=0)
    notes = ws.segment(volume, Scribbles(FIRST.astype(np.uint8), (ONE,)), method="partial_cross_entropy", recipe=recipe).notes
    assert NO_BACKGROUND in notes and LIKE_A_MASK in notes
    notes = ws.segment(volume, strokes(), method="partial_cross_entropy", recipe=recipe).notes
    assert not {NO_BACKGROUND, LIKE_A_MASK} & set(notes)


def test_damaged_strokes_in_a_record_are_refused(volume):
    good = strokes().to_json()
    for change in ({"voxels": "!!"}, {"box": [10**6, 10**6, 10**6]}, {"start": [19, 0, 0]}, {"shape": "x"}):
        with pytest.raises(PromptError, match="damaged"):
            Scribbles.from_json({**good, **change})


def test_the_command_line_takes_strokes_few_points_and_an_earlier_mask(volume, tmp_path, capsys):
    image = write_map(volume, tmp_path / "scan.nii.gz")
    lines = write_scribbles(strokes(), volume, tmp_path / "strokes.nii.gz")
    (tmp_path / "three.json").write_text(json.dumps({"space": "voxel", "points": [[6, 11, 8], [14, 11, 8], [10, 7, 8]]}))
    mask, record = tmp_path / "mask.nii.gz", tmp_path / "record.json"
    base = ["segment", str(image), "--max-seconds", "0"]
    both = ["--scribbles", str(lines), "--points", str(tmp_path / "three.json")]
    assert main([*base, *both, "-o", str(mask), "--record", str(record), "--first-mask", "learned"]) == 0
    made = read_mask(mask)
    assert dice(made.array == 1, FIRST) > 0.8
    assert main(["replay", str(record), str(image), "-o", str(tmp_path / "again.nii.gz")]) == 0
    assert "the same mask as recorded" in capsys.readouterr().out
    corrected = tmp_path / "corrected.nii.gz"
    correct = [*base, "--scribbles", str(lines), "--previous", str(mask), "-o", str(corrected), "--record", str(record)]
    assert main(correct) == 0
    assert main(["replay", str(record), str(image), "-o", str(tmp_path / "again2.nii.gz")]) == 2
    assert "--previous" in capsys.readouterr().err
    assert main(["replay", str(record), str(image), "--previous", str(mask), "-o", str(tmp_path / "again2.nii.gz")]) == 0
    assert "the same mask as recorded" in capsys.readouterr().out
    assert main([*base, "--points", str(tmp_path / "three.json"), "-o", str(mask)]) == 2
    assert "still missing" in capsys.readouterr().err
    assert len(read_points(tmp_path / "three.json", volume, partial=True).placed[0]) == 3
