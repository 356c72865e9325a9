"""A label per volume: the two passes give the gradient of the whole volume at once."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch.nn import functional

from napari_weakseg.methods import new_recipe
from napari_weakseg.methods.explainable_heatmap.bags import bag_loss
from napari_weakseg.methods.explainable_heatmap.explaining import with_neighbours
from napari_weakseg.methods.explainable_heatmap.networks import build_network


def gradients(network):
    return {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}


@pytest.fixture(autouse=True)
def _full_precision(monkeypatch):
    from napari_weakseg.training import inference

    monkeypatch.setattr(inference, "has_fast_bfloat16", lambda device: False)


@pytest.mark.parametrize("pooling", ["max", "top", "log-sum-exp"])
@pytest.mark.parametrize(("dimensions", "window"), [("2D", 3), ("3D", 4), ("3D", 100)])
def test_two_passes_give_the_gradient_of_one(pooling, dimensions, window):
    torch.manual_seed(0)
    recipe = new_recipe("explainable_heatmap", dimensions=dimensions, width=3, depth=2, pooling=pooling, dropout=0.0)
    flat = dimensions == "2D"
    net = build_network(recipe, inputs=3 if flat else 1, classes=3, spacing=None if flat else (1, 1, 1))
    images, truth, weights = torch.randn(1, 22, 9, 8), torch.tensor([1]), torch.tensor([0.5, 2.0, 1.0])
    whole = deepcopy(net).eval()
    seen = with_neighbours(images, 1 if flat else 0)
    features = whole.features(seen.transpose(0, 1)).transpose(0, 1)[None] if flat else whole.features(seen[None])
    logits = whole.head(features)
    loss = functional.cross_entropy(logits, truth) * weights[1]
    (loss / 4).backward()
    found, given = bag_loss(net, images, truth, weights, context=1 if flat else 0, scale=4, window=window)
    assert found == pytest.approx(float(loss.detach()), rel=1e-5)
    assert torch.allclose(given, logits[0], atol=1e-5)
    mine, theirs = gradients(net), gradients(whole)
    assert mine.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert torch.allclose(mine[name], gradient, atol=1e-5 * max(1.0, float(gradient.abs().max()))), name


def test_norm_layers_learn_their_statistics():
    torch.manual_seed(0)
    net = build_network(new_recipe("explainable_heatmap", width=3, depth=2), inputs=1, classes=2)
    before = net.down[0][1].running_mean.clone()
    bag_loss(net, 5 + torch.randn(1, 6, 8, 8), torch.tensor([0]), torch.ones(2))
    assert net.training
    assert not torch.equal(net.down[0][1].running_mean, before)
