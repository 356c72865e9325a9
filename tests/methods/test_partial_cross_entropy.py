"""The baseline: its loss by hand, a training in seconds, full supervision as its ceiling."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_weakseg.api import expected_memory
from napari_weakseg.arrays.metrics import dice
from napari_weakseg.case import Case
from napari_weakseg.methods import new_recipe
from napari_weakseg.methods.partial_cross_entropy import fit, predict
from napari_weakseg.prompts import Scribbles, Structure
from napari_weakseg.training import slice_inference
from napari_weakseg.training.partial_losses import (
    IGNORE,
    balanced_error,
    partial_cross_entropy_loss,
    weighted_partial_cross_entropy_loss,
)
from napari_weakseg.training.slice_fit import hang_together
from napari_weakseg.training.slice_material import with_outside
from napari_weakseg.training.stacks import Stack
from napari_weakseg.volume import Volume
from toy_cohort import toy_case

COHORT = {"first_weight": 0, "first_share": 0, "field": 2.5}
TINY = {"filters": 6, "size": 32, "batch": 4, "device": "cpu", "max_seconds": 1e6, "preview_seconds": 0, "learning_rate": 5e-3}
TINY |= COHORT


def trained(cases, *, validation=(), **changes):
    steps = []
    recipe = new_recipe("partial_cross_entropy", **{**TINY, **changes})
    generator = fit(cases, recipe, validation=validation)
    while True:
        try:
            steps.append(next(generator))
        except StopIteration as finished:
            return steps, finished.value


def two_voxels():
    """Three marked voxels of two classes and one that is not: p of the right class is 1/2, 1/2 and 1/4."""
    logits = torch.tensor([[[0.0, 0.0, math.log(3.0), 9.0]], [[0.0, 0.0, 0.0, 0.0]]]).transpose(0, 1)
    return logits[:, :, None], torch.tensor([[[0, 0, 1, IGNORE]]])


def test_partial_cross_entropy_by_hand():
    logits, labels = two_voxels()
    loss = partial_cross_entropy_loss(logits, labels)
    assert loss.item() == pytest.approx((2 * math.log(2) + math.log(4)) / 3)


def test_balanced_cross_entropy_by_hand():
    """n = 3, n_0 = 2, n_1 = 1: (1/3) (3/2 (ln 2 + ln 2) + 3 ln 4) = ln 2 + ln 4."""
    logits, labels = two_voxels()
    assert weighted_partial_cross_entropy_loss(logits, labels).item() == pytest.approx(math.log(2) + math.log(4))
    nothing = torch.full_like(labels, IGNORE)
    logits.requires_grad_(True)
    loss = weighted_partial_cross_entropy_loss(logits, nothing)
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_error_on_held_out_strokes_by_hand():
    sums, counts = balanced_error(*two_voxels())
    torch.testing.assert_close(sums, torch.tensor([1.0, 0.75]))
    assert counts.tolist() == [2, 1]


def test_full_supervision_is_learnt_in_seconds():
    cases = [toy_case(n) for n in range(4)]
    steps, weights = trained(cases, supervision="masks", steps=60, stop_after=(60,))
    assert steps[0].preview is not None
    unseen = toy_case(20, strokes=False)
    result = predict(unseen, weights)
    for value in (1, 2):
        assert dice(result.labels == value, unseen.reference.array == value) > 0.85
    assert not [name for name in result.maps if name.startswith("attention")]


def test_the_same_seed_gives_the_same_mask():
    cases = [toy_case(0)]
    masks = [predict(cases[0], trained(cases, steps=3)[1]).mask.sha256 for _ in range(2)]
    assert masks[0] == masks[1]


def test_weights_are_chosen_by_strokes_of_the_validation_cases_and_their_masks_are_never_read():
    validation = toy_case(9)
    blind = type(validation)(validation.id, validation.channels, scribbles=validation.scribbles)
    steps, weights = trained([toy_case(0)], validation=[blind], steps=6)
    errors = [step.scores["held-out strokes"] for step in steps if step.scores]
    assert weights.meta["held_out_error"] == pytest.approx(min(errors), rel=1e-6)


def test_held_out_strokes_choose_the_weights_where_there_is_no_validation_case():
    steps, weights = trained([toy_case(n) for n in range(3)], hold_out=0.3, steps=4)
    assert "held-out strokes" in steps[-1].scores
    assert 0 <= weights.meta["held_out_error"] <= 1


def test_a_cohort_larger_than_memory_learns_the_same(tmp_path, monkeypatch):
    cases = [toy_case(n) for n in range(3)]
    how = {"hold_out": 0.3, "steps": 3}
    _, wanted = trained(cases, **how)
    monkeypatch.setattr("napari_weakseg.training.slice_material.default_memory", lambda: 25_000)  # one case takes 24 kB
    monkeypatch.setattr("napari_weakseg.training.cache.default_folder", lambda: tmp_path / "prepared")
    steps, weights = trained(cases, **how)
    assert all(np.array_equal(wanted.tensors[name], value) for name, value in weights.tensors.items())
    assert "of memory; beyond that they are kept on disk" in steps[1].note
    assert len(list((tmp_path / "prepared").iterdir())) == 2


@pytest.mark.parametrize(("dimensions", "words"), [("2D", "of 1 instead of 4 slices"), ("3D", "of 16 x 16 x 16 instead of")])
def test_memory_that_runs_out_while_predicting_is_noted(monkeypatch, dimensions, words):
    case = toy_case(0)
    thin = Volume(case.volume.array, np.eye(4)) if dimensions == "3D" else case.volume
    case = Case("toy", {"image": thin}, scribbles=case.scribbles)
    _, weights = trained([case], steps=1, dimensions=dimensions, batch=4)
    wanted = predict(Case("new", {"image": thin}), weights)
    real = slice_inference._outputs

    def short_of_memory(segmentor, images):
        if (len(images) > 1 and dimensions == "2D") or (max(images.shape[2:]) > 16 and dimensions == "3D"):
            raise torch.OutOfMemoryError("no room")
        return real(segmentor, images)

    monkeypatch.setattr(slice_inference, "_outputs", short_of_memory)
    result = predict(Case("new", {"image": thin}), weights)
    assert any(words in note for note in result.notes)
    if dimensions == "2D":
        assert (result.labels == wanted.labels).mean() > 0.99


@pytest.mark.parametrize(
    ("method", "slices", "changes", "measured"),
    [
        ("partial_cross_entropy", 30, {}, 553),
        ("partial_cross_entropy", 30, {"batch": 16}, 756),
        ("partial_cross_entropy", 120, {}, 762),
        ("partial_cross_entropy", 30, {"size": 256}, 842),
        ("partial_cross_entropy", 30, {"max_seconds": 0.0}, 455),
        ("adversarial_gating", 30, {}, 761),
        ("adversarial_gating", 30, {"batch": 12}, 949),
    ],
)
def test_the_expected_memory_is_what_was_measured(method, slices, changes, measured):
    """Growth of a fresh process's peak in MB, made-up volumes of 256 x 256 voxels, one structure."""
    volume = Volume(np.zeros((256, 256, slices), np.float32))
    case = Case("big", {"image": volume}, scribbles=Scribbles(np.zeros(volume.shape, np.uint8), (Structure("lesion", 1),)))
    recipe = new_recipe(method, **{"filters": 16, "size": 112, "batch": 4, **changes})
    assert expected_memory(case, method=method, recipe=recipe) == pytest.approx(measured * 1e6, rel=0.2)


def test_strokes_and_full_masks_may_be_mixed():
    """A full mask is a stroke over every voxel."""
    import dataclasses

    case = toy_case(1)
    full = np.where(case.reference.array == 0, 255, case.reference.array).astype(np.uint8)
    both = [toy_case(0), dataclasses.replace(case, scribbles=dataclasses.replace(case.scribbles, labels=full))]
    steps, _ = trained(both, steps=2)
    assert np.isfinite(steps[-1].scores["cross-entropy"])


def test_a_structure_without_a_stroke_is_said():
    import dataclasses

    case = toy_case(0)
    labels = np.where(case.scribbles.labels == 2, 0, case.scribbles.labels)
    poor = dataclasses.replace(case, scribbles=dataclasses.replace(case.scribbles, labels=labels))
    _, weights = trained([poor], steps=1)
    assert any("no stroke marks core" in note for note in weights.meta["notes"])


def test_a_closed_background_stroke_teaches_as_many_voxels_outside_as_it_has():
    labels = np.full((1, 40, 40), IGNORE, dtype=np.int8)
    labels[0, 10, 10:31] = labels[0, 30, 10:31] = labels[0, 10:31, 10] = labels[0, 10:31, 30] = 0
    labels[0, 20, 20:24] = 1
    more = with_outside(labels, seed=0)
    assert (more == 0).sum() == 2 * (labels == 0).sum()
    assert (more[labels != IGNORE] == labels[labels != IGNORE]).all()
    assert (more[0, 11:30, 11:30] == labels[0, 11:30, 11:30]).all()
    assert (with_outside(labels, seed=0) == more).all()


class Reader(torch.nn.Module):
    """Finds in an image just the classes that are written into it."""

    def forward(self, x):
        return 9 * torch.nn.functional.one_hot(x[:, 0].round().long(), 3).movedim(-1, 1).float(), ()


@pytest.mark.parametrize(("apart", "expected"), [(False, True), (True, False)])
def test_strokes_say_whether_the_structures_hang_together(apart, expected):
    classes = np.zeros((4, 32, 32), dtype=np.float32)
    classes[1:3, 4:9, 4:9] = 1
    classes[1:3, 16 if apart else 9 : 21, 4:9] = 2
    classes[1, 28, 28] = 1  # found by mistake, where nobody marked anything
    labels = np.full(classes.shape, IGNORE, dtype=np.int8)
    labels[1, 6, 5:8], labels[1, 18, 5:8], labels[1, 0, :] = 1, 2, 0
    material = SimpleNamespace(checked=[], stacks=[Stack.of(classes[None], labels)], classes=3)
    recipe = new_recipe("partial_cross_entropy", **TINY)
    assert hang_together(Reader(), material, recipe, torch.device("cpu")) is expected
    material.stacks = [Stack.of(classes[None], np.full_like(labels, IGNORE))]
    assert not hang_together(Reader(), material, recipe, torch.device("cpu"))


def test_what_lies_apart_is_left_out_and_said_unless_a_stroke_is_on_it(monkeypatch):
    case = toy_case(0)
    _, weights = trained([case], steps=1, one_component="yes")
    found = np.zeros((3, *case.volume.shape), dtype=np.float32)
    found[0] = 0.2
    found[1, 2:9, 2:9, 2], found[2, 20:23, 20:23, 2] = 0.9, 0.9
    monkeypatch.setattr(slice_inference, "segmented", lambda *_: (found, np.zeros((0, *case.volume.shape), np.float32), ""))
    result = predict(replace(case, scribbles=None), weights)
    assert set(np.unique(result.labels)) == {0, 1}
    assert [note for note in result.notes if "9 voxels apart" in note]
    strokes = np.zeros(case.volume.shape, dtype=np.uint8)
    strokes[21, 21, 2] = 2
    marked = replace(case, scribbles=Scribbles(strokes, case.structures, case.volume.affine))
    assert (predict(marked, weights).labels == 2).sum() == 9
    _, kept = trained([case], steps=1, one_component="no")
    assert (predict(replace(case, scribbles=None), kept).labels == 2).sum() == 9
