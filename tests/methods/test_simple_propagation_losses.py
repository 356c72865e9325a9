"""SimPLe's equations on tensors small enough to work out by hand, and its traps."""

from __future__ import annotations

import math

import pytest
import torch

from napari_weakseg.methods.simple_propagation.contrast import contrastive_loss, draw_voxels
from napari_weakseg.methods.simple_propagation.propagation import propagated
from napari_weakseg.training.partial_losses import IGNORE, partial_cross_entropy_loss


def softplus(x):
    return math.log1p(math.exp(-abs(x))) + max(x, 0.0)


def test_contrastive_loss_by_hand():
    # cos of the positive pair 0; of the mixed pairs 1 and 0: -log s(0) = ln 2, -log(1 - s(10)) = softplus(10), ln 2
    positive = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    negative = torch.tensor([[3.0, 0.0]])
    expected = (math.log(2) + softplus(10.0) + math.log(2)) / 3
    assert contrastive_loss(positive, negative).item() == pytest.approx(expected, rel=1e-5)


def test_mixed_pairs_cost_what_the_paper_says():
    at_right_angles = contrastive_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    alike = contrastive_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
    assert at_right_angles.item() == pytest.approx(0.6931, abs=1e-3)
    assert alike.item() == pytest.approx(10.0, abs=1e-3)


def test_pairs_take_their_targets_from_labels_whatever_the_counts():
    # 40 positives and 100 negatives that are each other's opposite: with the authors' fixed blocks this is far from 0
    positive = torch.tensor([[1.0, 0.0]]).repeat(40, 1)
    negative = -positive[:1].repeat(100, 1)
    assert contrastive_loss(positive, negative).item() < 1e-3


def test_no_pairs_cost_nothing_and_keep_the_weights_finite():
    features = torch.zeros((0, 4), requires_grad=True)
    loss = contrastive_loss(features, torch.zeros((0, 4)))
    loss.backward()
    assert loss.item() == 0


def test_contrast_reaches_the_features():
    positive = torch.randn(5, 4, requires_grad=True)
    contrastive_loss(positive, torch.randn(5, 4)).backward()
    assert positive.grad is not None
    assert positive.grad.abs().sum() > 0


def test_partial_cross_entropy_by_hand():
    logits = torch.tensor([[[[[0.0, 2.0, 5.0]]], [[[0.0, 0.0, -3.0]]]]])  # (1, 2, 1, 1, 3)
    labels = torch.tensor([[[[0, 1, IGNORE]]]])
    expected = (math.log(2) + math.log(1 + math.exp(2.0))) / 2
    assert partial_cross_entropy_loss(logits, labels).item() == pytest.approx(expected, rel=1e-5)


def test_partial_cross_entropy_without_labels_is_zero_and_not_nan():
    logits = torch.randn(1, 2, 2, 2, 2, requires_grad=True)
    loss = partial_cross_entropy_loss(logits, torch.full((1, 2, 2, 2), IGNORE))
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().sum() == 0


def test_votes_by_hand():
    # similarity above 0.9 to both drawn voxels is needed for agreement above 0.5 of 2... (2/2 passes, 1/2 does not)
    drawn = torch.tensor([[1.0, 0.0], [1.0, 0.1]])
    candidates = torch.tensor([[2.0, 0.1], [0.0, 1.0], [-1.0, 0.0]])
    assert propagated(candidates, drawn, similarity=0.9, agreement=0.5).tolist() == [True, False, False]


def test_agreement_is_a_share_so_that_few_drawn_voxels_can_reach_it():
    drawn = torch.ones(5, 3)  # the published count of 96 could never be reached with 5
    assert propagated(torch.ones(4, 3), drawn).all()


def test_agreement_has_to_be_exceeded():
    drawn = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    one_of_two = torch.tensor([[1.0, 0.0]])
    assert not propagated(one_of_two, drawn, similarity=0.5, agreement=0.5).any()


def test_nothing_drawn_or_nothing_free_votes_for_nothing():
    assert propagated(torch.ones(3, 2), torch.ones(0, 2)).tolist() == [False] * 3
    assert propagated(torch.ones(0, 2), torch.ones(3, 2)).shape == (0,)


def test_drawn_voxels_carry_the_label_and_never_padding():
    labels = torch.tensor([[1, 0, IGNORE], [1, IGNORE, 0]])
    drawn = draw_voxels(labels, 1, 100, torch.Generator().manual_seed(0))
    assert sorted(drawn.tolist()) == [0, 3]
    assert len(draw_voxels(labels, 0, 1, torch.Generator().manual_seed(0))) == 1
    assert len(draw_voxels(labels, 7, 5, torch.Generator().manual_seed(0))) == 0
