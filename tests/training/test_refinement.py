"""One volume: the first mask as weak labels beside few strokes, and as a part of the result."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_weakseg import api
from napari_weakseg.arrays.metrics import dice
from napari_weakseg.case import Case
from napari_weakseg.method import TrainingState
from napari_weakseg.methods import new_recipe
from napari_weakseg.training.partial_losses import soft_cross_entropy_loss
from napari_weakseg.training.slice_batches import SliceBatches
from napari_weakseg.training.slice_inference import first_maps, with_first_mask
from napari_weakseg.training.slice_material import gather
from toy_cohort import STRUCTURES, toy_case

SMALL = {"filters": 4, "size": 32, "batch": 2, "device": "cpu", "max_seconds": 1e6, "preview_seconds": 0}


def recipe_of(**changes):
    return new_recipe("partial_cross_entropy", **{**SMALL, **changes})


def returned(generator):
    while True:
        try:
            next(generator)
        except StopIteration as finished:
            return finished.value


def marks_of(case):
    """The case as a user has it: no reference."""
    return Case(case.id, case.channels, scribbles=case.scribbles)


def test_soft_cross_entropy_by_hand():
    """Two pixels, p = (1/2, 1/2) and (1/4, 3/4); targets (1, 0) and nothing: ln 2 over one known pixel."""
    logits = torch.log(torch.tensor([[[0.5, 0.25]], [[0.5, 0.75]]])).movedim(1, 0)
    targets = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]]).movedim(1, 0)
    assert soft_cross_entropy_loss(logits, targets).item() == pytest.approx(math.log(2))
    assert soft_cross_entropy_loss(logits, torch.zeros_like(targets)).item() == 0


def test_the_first_mask_lies_where_the_labels_lie_in_every_window():
    case = toy_case(0)
    recipe = recipe_of(rotation=80.0, scale=0.3)
    material = returned(gather([case], (), (), recipe))
    batches = SliceBatches(material.stacks, material.masks, material.classes, recipe, torch.device("cpu"))
    agreed, marked = 0, 0
    for step in range(6):
        batch = batches.draw(step)
        assert batch.first.shape == (2, 3, *batch.labels.shape[1:])
        known = (batch.labels >= 0) & (batch.first.sum(1) > 0.9)
        agreed += int((batch.first.argmax(1) == batch.labels)[known].sum())
        marked += int(known.sum())
    assert marked > 100
    assert agreed > 0.93 * marked


def test_a_cohort_learns_from_strokes_alone():
    recipe = type(recipe_of()).for_cohort("laptop")
    assert recipe.first_weight == recipe.first_share == 0
    paper = type(recipe).for_cohort("paper")
    assert paper.first_weight == paper.first_share == 0
    assert type(recipe).from_preset("paper").first_share > 0  # one volume: the papers have none, its strokes are too few
    material = returned(gather([toy_case(0)], (), (), recipe_of(first_weight=0.0)))
    assert material.stacks[0].first is None


def test_what_network_and_first_mask_agree_on_stays_by_hand():
    """Shares 1/2: p = (0.8, 0.1, 0.1) and q = (1, 0, 0) clipped at 0.001 give sqrt(0.8), sqrt(0.0001) twice, normalised."""
    case = toy_case(0)
    first = first_maps(case, STRUCTURES)
    place = tuple(np.argwhere(case.scribbles.labels == 255)[0])
    assert first[(slice(None), *place)].tolist() == [1, 0, 0]
    network = np.broadcast_to(np.array([0.8, 0.1, 0.1], np.float32)[:, None, None, None], first.shape)
    joined = with_first_mask(network, case, STRUCTURES, recipe_of(steps=10), 10)
    weights = np.sqrt([0.8, 0.1 * 0.001, 0.1 * 0.001])
    np.testing.assert_allclose(joined[(slice(None), *place)], weights / weights.sum(), rtol=1e-4)
    early = with_first_mask(network, case, STRUCTURES, recipe_of(steps=10), 1)  # the network counts for a tenth
    weights = [0.8**0.1, 0.1**0.1 * 0.001**0.9, 0.1**0.1 * 0.001**0.9]
    np.testing.assert_allclose(early[(slice(None), *place)], weights / np.sum(weights), rtol=1e-4)
    assert with_first_mask(network, case, STRUCTURES, recipe_of(first_share=0.0), 1) is network
    unmarked = Case("new", case.channels)
    assert with_first_mask(network, unmarked, STRUCTURES, recipe_of(), 1) is network


def test_the_first_mask_of_a_case_is_made_once():
    case = toy_case(1)
    assert first_maps(case, STRUCTURES) is first_maps(case, STRUCTURES)


@pytest.mark.parametrize("method", ["partial_cross_entropy", "adversarial_gating"])
def test_a_few_steps_leave_a_mask_as_good_as_the_first(method):
    whole = toy_case(3)
    case = marks_of(whole)
    first = api.segment(case, method=method, recipe=new_recipe(method, **{**SMALL, "max_seconds": 0}))
    refined = api.segment(case, method=method, recipe=new_recipe(method, **SMALL, stop_after=(4,)))
    for structure in STRUCTURES:
        scores = [dice(r.labels == structure.value, whole.reference.array == structure.value) for r in (first, refined)]
        assert scores[0] > 0.8
        assert scores[1] > scores[0] - 0.03


def test_the_same_refinement_is_made_by_a_replay():
    case = marks_of(toy_case(2))
    result = api.segment(case, method="partial_cross_entropy", recipe=recipe_of(steps=3))
    assert api.replay(result.record, case.volume).mask.sha256 == result.mask.sha256


class Memory:
    """Checkpoints in memory."""

    def __init__(self):
        self.state: TrainingState | None = None

    def latest(self):
        return self.state

    def due(self):
        return True

    def save(self, state):
        self.state = state


def test_a_new_stroke_is_learnt_from_the_weights_so_far():
    whole = toy_case(4)
    case, memory = marks_of(whole), Memory()
    recipe = recipe_of(steps=6)
    running = api.steps(case, method="partial_cross_entropy", recipe=recipe, checkpoints=memory)
    for step in running:
        if step.stage == "train" and step.index == 4:
            break
    running.close()
    before = memory.state
    assert before.meta["index"] >= 3
    more = case.scribbles.labels.copy()
    more[20:23, 5, 1] = 255
    again = Case(case.id, case.channels, scribbles=type(case.scribbles)(more, case.scribbles.structures))
    seen = []
    running = api.steps(again, method="partial_cross_entropy", recipe=recipe, checkpoints=memory)
    while True:
        try:
            seen.append(next(running))
        except StopIteration as finished:
            result = finished.value
            break
    assert next(step.index for step in seen if step.stage == "train") == before.meta["index"] + 1
    assert (result.labels[20:23, 5, 1] == 0).all()
    assert result.record["training"]["fitted"] is False
