"""SimPLe on tiny volumes: every stage, both presets, several objects and structures, cancel, replay."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_weakseg.arrays.extreme_points import simulate_points
from napari_weakseg.arrays.first_mask import Window
from napari_weakseg.case import Case
from napari_weakseg.errors import PromptError
from napari_weakseg.methods import get_method, new_recipe
from napari_weakseg.prompts import ExtremePoints, Structure
from napari_weakseg.volume import Volume

QUICK = {"steps_train": 3, "steps_propagate": 2, "steps_retrain": 2, "preview_seconds": 0.0, "max_seconds": 1000.0}


def ball(shape, centre, radius):
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    return (((grid - np.array(centre)) / np.array(radius)) ** 2).sum(axis=-1) < 1


def two_lesions(spacing=(1.0, 1.0, 2.0)):
    """A volume with a lesion and a cyst, their masks, and points on both."""
    shape = (40, 36, 24)
    lesion, cyst = ball(shape, (12, 12, 8), (7, 6, 4)), ball(shape, (28, 24, 15), (6, 7, 5))
    image = 100 * lesion + 60 * cyst + 12 * np.random.default_rng(0).standard_normal(shape)
    volume = Volume(image.astype(np.float32), np.diag([*spacing, 1.0]))
    structures = (Structure("lesion", 1), Structure("cyst", 3))
    points = ExtremePoints(
        np.stack([simulate_points(lesion), simulate_points(cyst)]), np.array([1, 3]), structures, volume.affine
    )
    return Case("case", {"image": volume}, points=points), lesion, cyst


def drain(generator):
    steps = []
    try:
        while True:
            steps.append(next(generator))
    except StopIteration as stop:
        return steps, stop.value


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_the_first_mask_comes_first_and_alone_when_there_is_no_time():
    case, lesion, cyst = two_lesions()
    method = get_method("simple_propagation")
    steps, weights = drain(method.fit([case], new_recipe("simple_propagation", max_seconds=0)))
    assert [step.stage for step in steps] == ["first mask"]
    labels = steps[0].preview.labels()
    assert dice(labels == 1, lesion) > 0.8
    assert dice(labels == 3, cyst) > 0.8
    result = method.predict(case, weights)
    np.testing.assert_array_equal(result.labels, labels)
    assert result.labels.dtype == np.uint8


def test_all_three_stages_run_and_the_result_is_a_mask_of_both_structures():
    case, lesion, cyst = two_lesions()
    method = get_method("simple_propagation")
    recipe = new_recipe("simple_propagation", **QUICK)
    steps, weights = drain(method.fit([case], recipe))
    assert [step.stage for step in steps] == ["first mask"] + ["train"] * 3 + ["propagate"] * 2 + ["retrain"] * 2
    assert steps[0].progress == 0
    assert steps[-1].progress == pytest.approx(1)
    assert all(np.isfinite(list(step.scores.values())).all() for step in steps)
    assert weights.recipe.stop_after == (3, 2, 2)
    labels = method.predict(case, weights).labels
    assert set(np.unique(labels)) == {0, 1, 3}
    assert dice(labels == 1, lesion) > 0.5
    assert dice(labels == 3, cyst) > 0.5


def test_the_published_form_runs_on_patches_and_predicts_without_points():
    case, *_ = two_lesions()
    method = get_method("simple_propagation")
    recipe = new_recipe(
        "simple_propagation",
        "paper",
        **QUICK | {"patch": (16, 16, 16), "widths": (4, 8), "grid_spacing": (2.0, 1.2, 1.2), "rounds": 2},
    )
    _, weights = drain(method.fit([case], recipe))
    unmarked = Case("other", case.channels)
    result = method.predict(unmarked, weights)
    assert result.labels.shape == case.volume.shape
    assert set(np.unique(result.labels)) <= {0, 1, 3}


def test_a_replay_with_the_counts_of_steps_gives_the_same_mask():
    case, *_ = two_lesions()
    method = get_method("simple_propagation")
    recipe = new_recipe("simple_propagation", **QUICK | {"steps_train": 50, "max_seconds": 2.0})
    _, weights = drain(method.fit([case], recipe))
    first = method.predict(case, weights).labels
    _, again = drain(method.fit([case], weights.recipe))
    assert again.recipe.stop_after == weights.recipe.stop_after
    np.testing.assert_array_equal(method.predict(case, again).labels, first)


def test_it_can_be_closed_at_any_step():
    case, *_ = two_lesions()
    generator = get_method("simple_propagation").fit([case], new_recipe("simple_propagation", **QUICK))
    assert next(generator).preview is not None
    next(generator)
    generator.close()


def test_previews_come_while_it_learns():
    case, *_ = two_lesions()
    recipe = new_recipe("simple_propagation", **QUICK | {"preview_seconds": 1e-6})
    steps, _ = drain(get_method("simple_propagation").fit([case], recipe))
    assert all(step.preview is not None for step in steps)
    assert steps[-1].preview.labels().shape == case.volume.shape


def test_a_diverging_stage_is_undone_and_said(monkeypatch):
    from napari_weakseg.methods.simple_propagation import stages

    case, *_ = two_lesions()
    loss, calls = stages.Learner.loss, []

    def diverging(learner, stage):
        calls.append(stage)
        value, scores = loss(learner, stage)
        return (value * float("nan") if calls.count("train") == 2 and stage == "train" else value), scores

    monkeypatch.setattr(stages.Learner, "loss", diverging)
    method = get_method("simple_propagation")
    _, weights = drain(method.fit([case], new_recipe("simple_propagation", **QUICK)))
    assert all(np.isfinite(value).all() for value in weights.tensors.values())
    assert any("not finite in step 2" in note for note in method.predict(case, weights).notes)


def test_a_case_without_points_is_refused():
    case, *_ = two_lesions()
    with pytest.raises(PromptError, match="no extreme points"):
        drain(
            get_method("simple_propagation").fit([Case("case", case.channels)], new_recipe("simple_propagation", max_seconds=0))
        )


def test_the_network_of_the_paper_has_the_papers_size():
    from napari_weakseg.networks.unet import UNet

    network = UNet(1, 2)
    # papers.md counts 5,642,736 in the authors' network; ours differs by the biases' bookkeeping alone
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(5_642_736, rel=0.01)
    logits, features = network(torch.zeros(1, 1, 32, 32, 32))
    assert logits.shape == (1, 2, 32, 32, 32)
    assert features.shape == (1, 16, 32, 32, 32)


def test_memory_is_that_of_the_largest_window_and_of_what_learns():
    case, _, _ = two_lesions()
    room = get_method("simple_propagation")
    windows = [Window.around(six, case.volume.shape).shape for six in case.points.points]
    first = room.working_memory(case, new_recipe("simple_propagation", max_seconds=0, first_mask="classical"))
    learned = room.working_memory(case, new_recipe("simple_propagation", max_seconds=0))
    assert learned == first + 270 * 10**6
    assert first == 60 * max(int(np.prod(shape)) for shape in windows)
    laptop = room.working_memory(case, new_recipe("simple_propagation"))
    assert laptop == first + 700 * 10**6 + 2 * 8 * 10**6
    assert room.working_memory(case, new_recipe("simple_propagation", "paper")) > laptop + 4 * 10**9
