"""Our map beside Grad-CAM, occlusion and chance on one network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from napari_weakseg.methods import new_recipe
from napari_weakseg.methods.explainable_heatmap import NETWORKS
from napari_weakseg.methods.explainable_heatmap.comparison import EXPLAINERS, MEASURES, grad_cam, judged, own_map, randomised
from napari_weakseg.methods.explainable_heatmap.networks import build_network


def network_of(network: str = "gp_unet", **changes):
    torch.manual_seed(0)
    recipe = new_recipe(
        "explainable_heatmap", **{"network": network, "width": 4, "blocks": 1, "normalisation": "batch", **changes}
    )
    return build_network(recipe, inputs=1, classes=2).eval()


@pytest.fixture(scope="module")
def trained():
    """A GP-UNet that has learnt to see a bright spot, in a second or two."""
    net = network_of(width=8, dropout=0.0).train()
    rng = np.random.default_rng(0)
    optimiser = torch.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(40):
        images, labels = rng.normal(0, 0.3, (8, 1, 32, 32)), np.arange(8) % 2
        for number in np.flatnonzero(labels):
            i, j = rng.integers(4, 24, 2)
            images[number, 0, i : i + 5, j : j + 5] += 2
        loss = nn.functional.cross_entropy(net(torch.tensor(images, dtype=torch.float32)), torch.tensor(labels))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net.eval()


@pytest.fixture
def spot():
    image = torch.from_numpy(np.random.default_rng(9).normal(0, 0.3, (1, 32, 32)).astype(np.float32))
    image[0, 18:23, 6:11] += 2
    mask = np.zeros((32, 32), dtype=bool)
    mask[18:23, 6:11] = True
    return image, mask


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("dimensions", "size"), [("2D", (19, 30)), ("3D", (9, 16, 13))])
def test_grad_cam_has_the_image_s_size_and_leaves_the_network_alone(network, dimensions, size):
    net = network_of(network, dimensions=dimensions).requires_grad_(False)
    image = torch.rand(1, *size)
    before = own_map(net, image, 1)
    found = grad_cam(net, image, 1)
    assert found.shape == size
    assert (found >= 0).all()
    assert not any(module._forward_hooks or module._backward_hooks for module in net.modules())
    np.testing.assert_array_equal(own_map(net, image, 1), before)


def test_the_deepest_layer_is_the_coarsest():
    for name in NETWORKS:
        net, sizes = network_of(name), []
        dict(net.named_modules())[net.deepest].register_forward_hook(lambda *seen, sizes=sizes: sizes.append(seen[2].shape[2:]))
        net(torch.rand(1, 1, 32, 48))
        assert tuple(sizes[0]) == tuple(n // s for n, s in zip((32, 48), net.stride, strict=True))


def test_grad_cam_at_the_last_features_is_the_heatmap_without_bias_cut_at_zero():
    net = network_of(pooling="max")
    image = torch.rand(1, 16, 24)
    heatmap = own_map(net, image, 1) - net.head.classify.bias[1].item()
    found = grad_cam(net, image, 1, layer="up.0")
    np.testing.assert_allclose(found * 16 * 24, np.maximum(heatmap, 0), atol=1e-4)


def test_random_weights_change_the_map_and_not_the_network(trained, spot):
    image, _ = spot
    before = own_map(trained, image, 1)
    other = own_map(randomised(trained), image, 1)
    np.testing.assert_array_equal(own_map(trained, image, 1), before)
    assert not np.allclose(other, before)
    np.testing.assert_array_equal(own_map(randomised(trained), image, 1), other)


def test_a_trained_network_s_map_is_true_and_chance_is_not(trained, spot):
    image, mask = spot
    found = judged(trained, image, 1, mask=mask, steps=10)
    assert tuple(found.maps) == tuple(found.measures) == EXPLAINERS
    assert all(tuple(row) == MEASURES for row in found.measures.values())
    assert all(values.shape == mask.shape for values in found.maps.values())
    ours, chance = found.measures["heatmap"], found.measures["chance"]
    assert ours["deletion"] < chance["deletion"]
    assert ours["insertion"] > chance["insertion"]
    assert ours["pointing"] == 1
    assert ours["energy"] > 2 * chance["energy"]
    assert abs(chance["randomised: rank"]) < 0.2


def test_without_a_mask_the_other_measures_remain(trained, spot):
    image, mask = spot
    found = judged(trained, image, 1, inside=np.ones_like(mask), steps=4).measures["Grad-CAM"]
    assert np.isnan(found["pointing"])
    assert np.isnan(found["energy"])
    assert 0 <= found["deletion"] <= 1
