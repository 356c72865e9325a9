"""The three networks: the published layers, any size, known reach, and none of the published code's traps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import resample
from torch import nn

from napari_weakseg.errors import RecipeError
from napari_weakseg.methods import new_recipe
from napari_weakseg.methods.explainable_heatmap import NETWORKS
from napari_weakseg.methods.explainable_heatmap.layers import (
    Grow,
    channel_dropout,
    depth_to_space,
    level_geometry,
    resize,
    sinc_resize,
    space_to_depth,
)
from napari_weakseg.methods.explainable_heatmap.networks import build_network
from napari_weakseg.methods.explainable_heatmap.pooling import TiledPooling, decision_points

PUBLISHED = {"gp_unet": 1_740_675, "gp_shuffleunet": 26_371_587, "gp_reconresnet": 17_272_918}


def small(network: str, *, inputs: int = 1, classes: int = 2, seed: int = 0, spacing=None, **changes):
    torch.manual_seed(seed)
    recipe = new_recipe(
        "explainable_heatmap", **{"network": network, "width": 4, "blocks": 2, "depth": None, "pooling": "max", **changes}
    )
    return build_network(recipe, inputs=inputs, classes=classes, spacing=spacing)


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def kinds(module: nn.Module) -> list[str]:
    """Layers in the order they were built, without their containers."""
    return [type(m).__name__ for m in module.modules() if not list(m.children())]


@pytest.mark.parametrize("network", NETWORKS)
def test_published_number_of_parameters(network):
    recipe = new_recipe("explainable_heatmap", "paper", network=network)
    with torch.device("meta"):
        net = build_network(recipe, inputs=4, classes=3)
    assert sum(p.numel() for p in net.parameters()) == PUBLISHED[network]


def test_published_layers_of_gp_unet():
    net = small("gp_unet", normalisation="published", upsampling="sinc")
    assert kinds(net.down[0]) == ["Conv2d", "ReLU", "Conv2d", "ReLU"]
    assert [type(p) for p in net.pool] == [nn.AvgPool2d] * 2
    assert isinstance(net.dropout, nn.Dropout2d)
    assert [m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d)] == [4, 4, 8, 8, 16, 16, 4, 8, 4, 4, 8, 8]
    assert not any("Norm" in kind for kind in kinds(net))


def test_published_layers_of_gp_shuffleunet():
    net = small("gp_shuffleunet", normalisation="published")
    assert len(net.steps) == 3
    assert kinds(net.shrink[0].after) == ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "ReLU"]
    assert sum("Norm" in kind for kind in kinds(net)) == 2 * 3
    assert net.widen[2].out_channels == 2 * net.widen[2].in_channels
    assert net.decode[0][0].in_channels == 5 * 4


def test_published_layers_of_gp_reconresnet():
    net = small("gp_reconresnet", normalisation="published", blocks=14)
    assert kinds(net.stem) == ["Conv2d", "InstanceNorm2d", "PReLU"]
    assert net.stem[0].kernel_size == (7, 7)
    assert net.stem[0].padding_mode == "reflect"
    block = ["Conv2d", "InstanceNorm2d", "PReLU", "Dropout2d", "Conv2d", "InstanceNorm2d"]
    assert kinds(net.middle) == 14 * block
    assert net.down[0][0].stride == (2, 2)
    assert not any(m.affine for m in net.modules() if isinstance(m, nn.InstanceNorm2d))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("dimensions", "size"), [("2D", (37, 50)), ("2D", (8, 9)), ("3D", (9, 13, 6))])
@pytest.mark.parametrize("normalisation", ["published", "batch"])
def test_any_size_channels_and_classes(network, dimensions, size, normalisation):
    net = small(network, inputs=2, classes=4, dimensions=dimensions, normalisation=normalisation, spacing=(1, 1, 3)[-3:])
    batch = images(2, 2, *size)
    net.train()
    assert net(batch).shape == (2, 4)
    net.eval()
    with torch.no_grad():
        logits, heatmap, features = net.explain(batch)
    assert logits.shape == (2, 4)
    assert heatmap.shape == (2, 4, *size)
    assert features.shape[2:] == size
    assert torch.isfinite(heatmap).all()
    np.testing.assert_allclose(decision_points(features[1], net.head).logits, logits[1].numpy(), atol=1e-4)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_sequence_of_upsamplings(network):
    for how in ("bilinear", "sinc", "transposed"):
        net = small(network, upsampling=how).eval()
        with torch.no_grad():
            assert net.explain(images(1, 1, 30, 22)).heatmap.shape == (1, 2, 30, 22)


@pytest.mark.parametrize("network", NETWORKS)
def test_logits_not_probabilities(network):
    """Several classes may score high or low together; nothing adds up to one, and no activation is hidden inside."""
    logits = small(network, classes=3).eval()(images(4, 1, 16, 16))
    assert not torch.allclose(logits.softmax(1), logits)
    assert not torch.allclose(logits.sum(1), torch.ones(4), atol=1e-3)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("normalisation", ["published", "batch"])
def test_untrained_logits_are_moderate(network, normalisation):
    """The published GP-ShuffleUNet starts with logits down to -39."""
    net = small(network, width=16, normalisation=normalisation, blocks=4, dropout=0.0).train()
    with torch.no_grad():
        assert net(images(4, 1, 32, 32)).abs().max() < 12


@pytest.mark.parametrize("dimensions", ["2D", "3D"])
def test_shuffled_maps_start_as_plain_repetition(dimensions):
    """ICNR holds after all initialisation is over: every block of voxels begins with one value."""
    net = small("gp_shuffleunet", dimensions=dimensions)
    for layer, step in zip(net.widen, net.steps, strict=True):
        shape = (1, layer.in_channels, *(6,) * len(step))
        with torch.no_grad():
            grown = depth_to_space(layer(images(*shape)), step)
        blocks = space_to_depth(grown, step).reshape(1, -1, int(np.prod(step)), *(6,) * len(step))
        assert torch.allclose(blocks, blocks[:, :, :1].expand_as(blocks), atol=1e-6)


@pytest.mark.parametrize("step", [(2, 2), (2, 2, 2), (1, 2, 2), (2, 1, 2)])
def test_shuffles_are_each_others_inverse(step):
    maps = images(2, 3, *(4, 6, 8)[: len(step)])
    packed = space_to_depth(maps, step)
    assert packed.shape[1] == 3 * int(np.prod(step))
    assert torch.equal(depth_to_space(packed, step), maps)
    if step == (2, 2):
        assert torch.equal(packed, nn.functional.pixel_unshuffle(maps, 2))


@pytest.mark.parametrize(("old", "new"), [((8, 6), (16, 12)), ((7, 5), (14, 10)), ((7, 8), (15, 16)), ((12, 9), (6, 5))])
def test_sinc_is_scipy_s_resample(old, new):
    maps = images(2, 3, *old)
    expected = resample(resample(maps.numpy(), new[0], axis=2), new[1], axis=3)
    np.testing.assert_allclose(sinc_resize(maps, new).numpy(), expected, atol=1e-5)


def test_sinc_in_three_dimensions():
    maps = images(1, 2, 4, 5, 6)
    expected = maps.numpy()
    for axis, size in enumerate((8, 5, 12), start=2):
        expected = resample(expected, size, axis=axis)
    np.testing.assert_allclose(sinc_resize(maps, (8, 5, 12)).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("how", ["bilinear", "sinc"])
def test_the_one_by_one_convolution_may_come_first(how):
    grow = Grow(4, 2, (2, 2), how)
    nn.init.normal_(grow.layer.bias)
    maps = images(1, 4, 5, 6)
    assert torch.allclose(grow(maps), grow.layer(resize(maps, (10, 12), how)), atol=1e-5)


def test_thick_slices_are_left_alone_until_the_rest_has_caught_up():
    kernels, steps = level_geometry((1.0, 1.0, 5.0), 4)
    assert kernels == ((3, 3, 1), (3, 3, 1), (3, 3, 3), (3, 3, 3))
    assert steps == ((2, 2, 1), (2, 2, 1), (2, 2, 2))
    assert level_geometry((1.0, 1.0, 2.0), 3) == (((3, 3, 3),) * 3, ((2, 2, 2),) * 2)  # twice is not more than twice
    assert level_geometry((4.0, 1.0, 1.0), 2)[0][0] == (1, 3, 3)
    net = small("gp_shuffleunet", dimensions="3D", depth=3, spacing=(1.0, 1.0, 5.0))
    assert net.stride == (4, 4, 1)
    assert net.widen[0].out_channels == 4 * 4


@pytest.mark.parametrize("network", NETWORKS)
def test_dropout_is_a_share_below_one_and_acts_in_training_alone(network):
    """``True`` would be a share of 1: residual blocks that add nothing in training and something in use."""
    for wrong in (True, 1.0, -0.1):
        with pytest.raises(ValueError, match="below 1"):
            channel_dropout(wrong, 2)
    with pytest.raises(RecipeError, match="dropout"):
        new_recipe("explainable_heatmap", dropout=1.0)
    net = small(network, dropout=0.3, normalisation="published")
    dropped = [m for m in net.modules() if isinstance(m, nn.Dropout2d)]
    assert {m.p for m in dropped} == {0.3}
    batch = images(2, 1, 16, 16)
    net.eval()
    with torch.no_grad():
        assert torch.equal(net(batch), net(batch))
        net.train()
        assert not torch.equal(net(batch), net(batch))


def test_residual_blocks_learn_in_training():
    net = small("gp_reconresnet", dropout=0.2, normalisation="published").train()
    net(images(2, 1, 16, 16)).sum().backward()
    assert all(block.body[0].weight.grad.abs().sum() > 0 for block in net.middle)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("dimensions", ["2D", "3D"])
def test_axes_keep_their_order(network, dimensions):
    """A phantom without any symmetry: what happens at a place is seen at that place, on every axis."""
    net = small(network, dimensions=dimensions, normalisation="batch").eval()
    size = (24, 40) if dimensions == "2D" else (16, 24, 32)
    place = (5, 30) if dimensions == "2D" else (3, 18, 25)
    plain = torch.zeros(1, 1, *size)
    marked = plain.clone()
    marked[(0, 0, *place)] = 10.0
    with torch.no_grad():
        change = (net.features(marked) - net.features(plain)).abs().sum(dim=1)[0]
    strongest = np.array(np.unravel_index(int(change.argmax()), size))
    assert (np.abs(strongest - np.array(place)) <= np.array(net.stride)).all()


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("dimensions", "spacing"), [("2D", None), ("3D", (1.0, 1.0, 1.0)), ("3D", (1.0, 1.0, 3.0))])
@pytest.mark.parametrize("upsampling", ["bilinear", "transposed"])
def test_nothing_beyond_the_halo_reaches_a_feature(network, dimensions, spacing, upsampling):
    shared = {"dimensions": dimensions, "spacing": spacing, "upsampling": upsampling, "width": 2, "depth": 3, "blocks": 1}
    net = small(network, **shared).eval()
    halo, stride = net.halo, net.stride
    assert all(h % s == 0 for h, s in zip(halo, stride, strict=True))
    axis = len(halo) - 1
    size = [2 * s for s in stride]
    size[axis] = 2 * halo[axis] + 4 * stride[axis]
    image = images(1, 1, *size).requires_grad_()
    middle = size[axis] // 2
    for place in range(middle, middle + stride[axis]):
        (touched,) = torch.autograd.grad(net.features(image)[..., place].sum(), image)
        reached = torch.nonzero(touched.abs().sum(dim=tuple(range(2 + axis))))[:, 0]
        assert place - reached.min() <= halo[axis]
        assert reached.max() - place <= halo[axis]


@pytest.mark.parametrize("network", NETWORKS)
def test_tiles_give_the_whole_image_s_logits_and_heatmap(network):
    net = small(network, width=2, depth=2, blocks=1).eval()
    size, tile = (40, 52), 16
    image = images(1, 1, *size)
    with torch.no_grad():
        whole = net.explain(image)
        tiled, heatmap = TiledPooling(net.head, size), torch.full((2, *size), np.nan)
        for i in range(0, size[0], tile):
            for j in range(0, size[1], tile):
                low = [max(0, a - h) for a, h in zip((i, j), net.halo, strict=True)]
                high = [min(n, a + tile + h) for a, n, h in zip((i, j), size, net.halo, strict=True)]
                features = net.features(image[..., low[0] : high[0], low[1] : high[1]])
                features = features[..., i - low[0] : i - low[0] + tile, j - low[1] : j - low[1] + tile]
                tiled.add(features[0], (i, j))
                heatmap[:, i : i + tile, j : j + tile] = net.head.heatmap(features)[0]
    assert torch.allclose(tiled.logits(), whole.logits[0], atol=1e-5)
    assert torch.allclose(heatmap, whole.heatmap[0], atol=1e-5)
    assert (tiled.points().places == decision_points(whole.features[0], net.head).places).all()


def test_a_network_that_must_see_the_whole_image_says_so():
    assert small("gp_reconresnet", normalisation="published").halo is None
    assert small("gp_unet", upsampling="sinc").halo is None
    assert small("gp_unet").halo is not None


def test_no_instance_norm_in_front_of_the_pooling_in_3d():
    flat, solid = (small("gp_reconresnet", normalisation="published", dimensions=d) for d in ("2D", "3D"))
    assert isinstance(flat.up[0][1], nn.InstanceNorm2d)
    assert isinstance(solid.up[0][1], nn.Identity)


@pytest.mark.parametrize("network", NETWORKS)
def test_one_step_of_training_lowers_the_loss(network):
    net = small(network, width=8, dropout=0.0).train()
    batch, label = images(6, 1, 16, 16), torch.tensor([0, 1] * 3)
    batch[1::2, :, 4:8, 9:13] += 2
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(net(batch), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_absurd_networks_are_refused_before_they_are_built():
    recipe = new_recipe("explainable_heatmap", width=256, depth=6)
    with pytest.raises(RecipeError, match="8192"):
        build_network(recipe, inputs=1, classes=2)
    with pytest.raises(RecipeError, match="channels"):
        build_network(new_recipe("explainable_heatmap"), inputs=0, classes=2)
    with pytest.raises(RecipeError, match="voxel size"):
        build_network(new_recipe("explainable_heatmap", dimensions="3D"), inputs=1, classes=2, spacing=(1, 1))
