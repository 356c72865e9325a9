"""What the network sees of a case and how its maps come back: places, sides, sequence."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import torch

from napari_weakseg.case import Case
from napari_weakseg.errors import DataError
from napari_weakseg.methods import new_recipe
from napari_weakseg.methods.explainable_heatmap.augmentation import augmented, mirror_axis
from napari_weakseg.methods.explainable_heatmap.images import images_of
from napari_weakseg.methods.explainable_heatmap.sequence import in_sequence, learnt_chain
from napari_weakseg.methods.explainable_heatmap.symmetry import with_excess
from napari_weakseg.volume import Volume


def ellipse(shape=(40, 60, 5), centre=(18, 33), radii=(13, 22)):
    i, j = np.mgrid[: shape[0], : shape[1]]
    inside = ((i - centre[0]) / radii[0]) ** 2 + ((j - centre[1]) / radii[1]) ** 2 < 1
    return np.repeat(100.0 * inside[:, :, None], shape[2], axis=2).astype(np.float32)


def seen(array, *, slice_axis=2, **changes):
    recipe = new_recipe("explainable_heatmap", **{"working_size": 24, **changes})
    return images_of(Case("a", {"flair": Volume(array)}), recipe, channels=("flair",), slice_axis=slice_axis)


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
def test_a_bright_spot_comes_back_to_its_place(slice_axis):
    array = np.moveaxis(ellipse(), 2, slice_axis)
    spot = [25, 40]
    spot.insert(slice_axis, 3)
    array[tuple(slice(p - 1, p + 2) if a != slice_axis else p for a, p in enumerate(spot))] = 300
    images = seen(array, slice_axis=slice_axis)
    assert images.tensor.shape == (1, 5, 24, 24)
    place = np.unravel_index(int(images.tensor[0].argmax()), (5, 24, 24))
    assert place[0] == 3
    assert np.abs(images.frame.to_voxels(np.array([place]))[0] - spot).max() <= 1
    back = images.frame.to_volume(images.tensor[0])
    assert back.shape == array.shape
    assert np.abs(np.array(np.unravel_index(back.argmax(), back.shape)) - spot).max() <= 1


def test_the_body_is_cut_out_and_its_median_is_one():
    images = seen(ellipse())
    assert abs(images.frame.box[0].start - (18 - 12 - 3)) <= 1
    assert abs(images.frame.box[1].stop - (33 + 21 + 1 + 3)) <= 1
    assert float(images.tensor[0, 2].median()) in (0.0, 1.0)
    assert float(images.tensor.max()) == 1
    assert seen(ellipse(), crop_body=False).frame.box == (slice(0, 40), slice(0, 60), slice(0, 5))


def test_small_images_keep_their_pixels_and_zero_keeps_all():
    assert seen(ellipse(), working_size=200).frame.inner == tuple(s.stop - s.start for s in seen(ellipse()).frame.box[:2])
    assert seen(ellipse(), working_size=0, crop_body=False).tensor.shape == (1, 5, 40, 60)


def test_intensities_of_the_paper_are_divided_by_the_slice_s_maximum():
    array = ellipse() * np.linspace(1, 3, 5)
    assert torch.allclose(seen(array, intensity="slice maximum").tensor.amax((0, 2, 3)).float(), torch.ones(5))


def test_a_constant_image_is_refused():
    with pytest.raises(DataError, match="same everywhere"):
        seen(np.full((8, 9, 5), 7.0))


def test_no_number_counts_as_dark():
    array = ellipse()
    array[18, 33, 2] = np.nan
    assert torch.isfinite(seen(array).tensor).all()


def test_a_channel_that_is_missing_is_named():
    recipe = new_recipe("explainable_heatmap")
    case = Case("a", {"flair": Volume(ellipse()), "t1": Volume(ellipse())})
    with pytest.raises(DataError, match="t2"):
        images_of(case, recipe, channels=("flair", "t2"), slice_axis=2)


def test_the_excess_lies_on_the_lesion_s_own_side():
    array = ellipse()
    array[22:27, 30:36] = 200  # off the mirror line i = 18
    images = seen(array, working_size=40)
    axis = mirror_axis([images.tensor])
    assert axis in (0, 1)
    excess = with_excess(images, 0, "brighter").tensor[1:]
    place = np.unravel_index(int(excess.argmax()), excess.shape)
    i, j, _ = images.frame.to_voxels(np.array([place[1:]]))[0]
    assert 21 <= i <= 27
    assert 29 <= j <= 36
    assert with_excess(images, 0, "off").tensor is images.tensor
    assert with_excess(images, None, "brighter").tensor is images.tensor


def test_nothing_is_in_excess_on_symmetric_images_even_turned_a_little():
    i, j = np.mgrid[:48, :48] - 23.5
    turned = np.deg2rad(6)
    i, j = i * np.cos(turned) - j * np.sin(turned), i * np.sin(turned) + j * np.cos(turned)
    array = 100.0 * ((i / 14) ** 2 + (j / 20) ** 2 < 1) + 80.0 * ((np.abs(i) - 6) ** 2 + (j - 8) ** 2 < 9)
    images = seen(np.repeat(array[:, :, None], 3, axis=2).astype(np.float32), working_size=48)
    inner = with_excess(images, 0, "brighter").tensor[1, 1].float()
    assert inner.quantile(0.98) < 0.45  # rims are blurred, blobs would reach 0.8
    assert mirror_axis([images.tensor]) is not None


def test_augmentation_keeps_shape_and_moves_all_channels_alike():
    torch.manual_seed(3)
    images = torch.rand(4, 1, 20, 24).expand(4, 3, 20, 24).clone()
    for how in ("none", "light", "paper"):
        out, _ = augmented(images, how, 0)
        assert out.shape == images.shape
        if how == "paper":
            assert torch.allclose(out[:, 0], out[:, 2])
    assert augmented(images, "none", 0)[0] is images
    slabs = torch.rand(2, 1, 5, 20, 24)
    assert augmented(slabs, "light", None)[0].shape == slabs.shape


def brute_force(logits, chain, power):
    steps, usual = np.array(chain["steps"]), np.linalg.matrix_power(np.array(chain["steps"]), 1000)[0]
    total = np.zeros_like(logits)
    for path in product(range(logits.shape[1]), repeat=len(logits)):
        weight = chain["first"][path[0]] * chain["last"][path[-1]] / usual[path[-1]]
        weight *= np.prod([steps[a, b] for a, b in pairwise(path)])
        weight *= np.exp(power * sum(logits[k, c] for k, c in enumerate(path)))
        for k, c in enumerate(path):
            total[k, c] += weight
    return total / total.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("slices", "classes"), [(1, 2), (5, 2), (4, 3)])
def test_the_sequence_is_what_all_paths_add_up_to(slices, classes):
    rng = np.random.default_rng(1)
    chain = learnt_chain([rng.integers(0, classes, 9).tolist() for _ in range(4)], classes)
    logits = rng.normal(0, 3, (slices, classes))
    assert np.allclose(in_sequence(logits, chain, 0.5), brute_force(logits, chain, 0.5))


def test_a_lonely_slice_is_overruled_and_a_gap_is_closed():
    chain = learnt_chain([[0] * 8 + [1] * 6 + [0] * 8] * 5, 2)
    logits = np.zeros((20, 2))
    logits[:, 1] = -3
    logits[[2, 10, 11, 13, 14], 1] = [1.0, 3, 3, 3, 3]
    logits[12, 1] = -0.5
    found = in_sequence(logits, chain, 0.5).argmax(axis=1)
    assert found.tolist() == [0] * 10 + [1] * 5 + [0] * 5


def test_sequences_of_hundreds_of_slices_do_not_underflow():
    chain = learnt_chain([[0] * 50 + [1] * 50], 2)
    logits = np.random.default_rng(0).normal(0, 60, (800, 2))
    assert np.isfinite(in_sequence(logits, chain, 1.0)).all()
