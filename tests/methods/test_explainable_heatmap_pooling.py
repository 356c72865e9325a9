"""The head: logits, heatmap, and the places that a decision is made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_weakseg.methods.explainable_heatmap.pooling import PooledHead, Pooling, TiledPooling, decision_points

KINDS = ("max", "top", "log-sum-exp")


def features_of(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def head_of(kind: str, channels: int = 6, classes: int = 3, **options: float) -> PooledHead:
    torch.manual_seed(1)
    head = PooledHead(channels, classes, Pooling(kind, **options))
    torch.nn.init.normal_(head.classify.bias)
    return head


def test_the_head_by_hand():
    """Two channels on four pixels: their maxima lie at different places, so the logit is not the heatmap's peak."""
    features = torch.tensor([[[[1.0, 5.0], [2.0, 0.0]], [[3.0, -1.0], [0.0, 4.0]]]])
    head = PooledHead(2, 2)
    head.classify.weight.data = torch.tensor([[1.0, 2.0], [-1.0, 0.5]])
    head.classify.bias.data = torch.tensor([0.25, -0.5])
    assert head(features).tolist() == [[0.25 + 5 + 8, -0.5 - 5 + 2]]
    heatmap = head.heatmap(features)
    assert heatmap[0, 0].tolist() == [[0.25 + 7, 0.25 + 3], [0.25 + 2, 0.25 + 8]]
    assert heatmap[0, 0].max() < head(features)[0, 0]
    points = decision_points(features[0], head)
    assert points.places.tolist() == [[0, 1], [1, 1]]
    assert points.contributions.tolist() == [[5, 8], [-5, 2]]
    assert points.bias.tolist() == [0.25, -0.5]


def test_poolings_by_hand():
    features = torch.tensor([0.0, 1.0, 2.0, 5.0]).view(1, 1, 2, 2)
    assert Pooling("max")(features).item() == 5
    assert Pooling("top", share=0.5)(features).item() == 3.5
    assert Pooling("top", share=0.0)(features).item() == 5
    expected = np.log(np.mean(np.exp(2.0 * np.array([0.0, 1.0, 2.0, 5.0])))) / 2
    assert Pooling("log-sum-exp", sharpness=2.0)(features).item() == pytest.approx(expected, rel=1e-6)


def test_log_sum_exp_lies_between_mean_and_maximum():
    features = features_of(2, 3, 9, 8)
    soft = Pooling("log-sum-exp", sharpness=0.01)(features)
    hard = Pooling("log-sum-exp", sharpness=500.0)(features)
    assert torch.allclose(soft, features.flatten(2).mean(2), atol=0.02)
    assert torch.allclose(hard, features.flatten(2).amax(2), atol=0.02)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(6, 11, 7), (6, 5, 6, 4)])
def test_decision_points_add_up_to_the_logits(kind, shape):
    features, head = features_of(*shape), head_of(kind, share=0.1, sharpness=2.0)
    points = decision_points(features, head)
    logits = head(features[None])[0].detach().numpy()
    np.testing.assert_allclose(points.logits, logits, atol=1e-4)
    if kind != "log-sum-exp":
        assert (points.rest == 0).all()
        assert len(points.places) == 6 * head.pooling.count(features[0].numel())
    else:
        assert np.abs(points.rest).min() > 1e-3  # nothing finite adds up there, and it is said


@pytest.mark.parametrize("kind", KINDS)
def test_every_point_contributes_what_is_there(kind):
    features, head = features_of(6, 8, 9), head_of(kind, share=0.05)
    points = decision_points(features, head)
    assert points.places.dtype == np.int64
    share = head.pooling.shares(features[None])[0]
    pooled = head.pooling(features[None])[0]
    weight = head.classify.weight.detach()
    for number in (0, len(points.channels) - 1):
        c, (i, j) = int(points.channels[number]), points.places[number]
        value = features[c, i, j] / head.pooling.count(72) if kind != "log-sum-exp" else share[c, i, j] * pooled[c]
        np.testing.assert_allclose(points.contributions[:, number], (weight[:, c] * value).numpy(), rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_contribution_maps_add_up_for_every_pooling(kind):
    features, head = features_of(2, 6, 10, 6), head_of(kind, share=0.1)
    maps = head.contributions(features)
    assert maps.shape == (2, 3, 10, 6)
    total = maps.flatten(2).sum(2) + head.classify.bias
    assert torch.allclose(total, head(features), atol=1e-4)
    assert torch.allclose(head.pooling.shares(features).flatten(2).sum(2), torch.ones(2, 6), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_shares_are_the_gradient_of_the_pooled_value(kind):
    features = features_of(1, 2, 6, 5).requires_grad_()
    pooling = Pooling(kind, share=0.2, sharpness=3.0)
    pooling(features).sum().backward()
    assert torch.allclose(features.grad, pooling.shares(features), atol=1e-6)


def test_the_gradient_of_max_reaches_one_voxel_per_channel_even_among_equals():
    features = torch.zeros(1, 3, 4, 4, requires_grad=True)
    Pooling("max")(features).sum().backward()
    assert (features.grad != 0).sum() == 3


@pytest.mark.parametrize("kind", KINDS)
def test_tiles_pool_as_the_whole(kind):
    features, head = features_of(6, 9, 12, 7), head_of(kind, share=0.03)
    tiled = TiledPooling(head, (9, 12, 7))
    for i in (0, 5):
        for j in (0, 6):
            tiled.add(features[:, i : i + (5 if i == 0 else 4), j : j + 6], (i, j, 0))
    whole = head(features[None])[0]
    assert torch.allclose(tiled.logits(), whole, atol=1e-5)
    points = tiled.points()
    np.testing.assert_allclose(points.logits, whole.detach().numpy(), atol=1e-4)
    if kind == "max":
        assert (points.places == decision_points(features, head).places).all()


def test_points_of_a_slice_get_the_axis_back():
    features, head = features_of(6, 5, 4), head_of("max")
    points = decision_points(features, head)
    table = points.table(1, slice_axis=1, slice_index=7)
    assert table.shape == (6, 5)
    assert (table[:, 1] == 7).all()
    assert (table[:, [0, 2]] == points.places).all()
    assert table[:, 3].sum() + points.bias[1] == pytest.approx(head(features[None])[0, 1].item(), abs=1e-4)


def test_impossible_poolings_are_refused():
    for options in ({"kind": "average"}, {"share": 2.0}, {"sharpness": 0.0}):
        with pytest.raises(ValueError, match=r"pooling|share"):
            Pooling(**options)


def test_a_centred_head_gives_the_same_probabilities_and_maps_without_what_the_classes_share():
    features, head = features_of(2, 6, 8, 8), head_of("max")
    before, maps = head(features).softmax(1), head.heatmap(features)
    head.centre()
    assert torch.allclose(head(features).softmax(1), before, atol=1e-6)
    assert torch.allclose(head.heatmap(features), maps - maps.mean(1, keepdim=True), atol=1e-5)
