"""Our map beside Grad-CAM, occlusion and chance on one network."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from napari_weakseg.case import Case
from napari_weakseg.method import Weights
from napari_weakseg.methods import get_method, new_recipe
from napari_weakseg.methods.explainable_heatmap import NETWORKS
from napari_weakseg.methods.explainable_heatmap.comparison import EXPLAINERS, MEASURES, grad_cam, judged, own_map, randomised
from napari_weakseg.methods.explainable_heatmap.networks import build_network
from napari_weakseg.prompts import ImageLabel
from napari_weakseg.volume import Volume


def network_of(network: str = "gp_unet", **changes):
    torch.manual_seed(0)
    small = {"width": 4, "depth": 3, "blocks": 1, "normalisation": "batch", "pooling": "max", "upsampling": "bilinear"}
    recipe = new_recipe("explainable_heatmap", **{"network": network, **small, **changes})
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
    assert all(tuple(row) == tuple(MEASURES) for row in found.measures.values())
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


def disc(seed: int, *, lesion: bool = True) -> Case:
    """A grey disc in air; with a bright blob in slices 1 and 2 where it has a lesion."""
    rng = np.random.default_rng(seed)
    i, j = np.mgrid[:32, :32]
    image = np.repeat((100.0 * ((i - 16) ** 2 + (j - 16) ** 2 < 13**2))[..., None], 4, axis=2) + rng.normal(0, 4, (32, 32, 4))
    mask = np.zeros(image.shape, dtype=np.uint8)
    if lesion:
        a, b = rng.integers(11, 21, 2)
        mask[..., 1:3] = ((i - a) ** 2 + (j - b) ** 2 < 10)[..., None]
    label = ImageLabel(("normal", "lesion"), tuple(int(mask[..., k].max()) for k in range(4)))
    volume = Volume((image + 90 * mask).astype(np.float32))
    return Case(f"case {seed}", {"flair": volume}, image_label=label, reference=Volume(mask))


def sure_of_lesions(dimensions: str) -> Weights:
    """An untrained network that says lesion whatever it sees."""
    changes = {"width": 2, "depth": 2, "working_size": 32, "device": "cpu", "context": 0, "dimensions": dimensions}
    recipe = new_recipe("explainable_heatmap", **changes)
    net = build_network(recipe, inputs=1, classes=2)
    net.head.classify.bias.data = torch.tensor([-9.0, 9.0])
    tensors = {name: value.numpy() for name, value in net.state_dict().items()}
    meta = {"channels": ("flair",), "classes": ("normal", "lesion"), "slice_axis": 2, "by_slice": True, "spacing": (1, 1, 1)}
    return Weights("explainable_heatmap", recipe, (), tensors, {**meta, "inputs": 1, "mirror": None})


@pytest.mark.parametrize("dimensions", ["2D", "3D"])
def test_cases_are_judged_by_what_is_predicted_rightly(dimensions):
    cases, seen = [disc(20), disc(21, lesion=False)], []
    judge, weights = get_method("explainable_heatmap").faithfulness, sure_of_lesions(dimensions)
    report = judge(cases, weights, per_case=5, steps=3, on_case=lambda *of: seen.append(of))
    json.dumps(report, allow_nan=False)
    assert seen == [(1, 2), (2, 2)]
    assert tuple(report) == EXPLAINERS
    assert all(tuple(row) == (*MEASURES, "images") for row in report.values())
    assert report["heatmap"]["images"] == (2 if dimensions == "2D" else 1)  # slices 1 and 2 show it
    assert 0 < report["chance"]["energy"] < 0.3
    nothing = judge(cases[1:], weights)["heatmap"]
    assert nothing["images"] == 0
    assert nothing["deletion"] is None
