"""The measures, on a classifier that anybody can do in the head: the mean of one box."""

from __future__ import annotations

import numpy as np
import pytest

from napari_weakseg.arrays.faithfulness import (
    deletion_curve,
    energy_inside,
    insertion_curve,
    map_similarity,
    occlusion_map,
    pointing_game,
)

BOX = (slice(None), slice(None), slice(4, 8), slice(10, 16))


def box_mean(images):
    """Looks at one box and at nothing else."""
    return images[BOX].mean(axis=(1, 2, 3))


@pytest.fixture
def picture():
    image = np.zeros((1, 20, 24), dtype=np.float32)
    image[0, 4:8, 10:16] = 1
    truth = image[0].copy()
    return image, truth


def test_a_true_map_deletes_at_once_and_a_false_one_at_the_end(picture):
    image, truth = picture
    nothing = np.zeros_like(image)
    good = deletion_curve(box_mean, image, truth, stand_in=nothing, steps=20)
    bad = deletion_curve(box_mean, image, -truth, stand_in=nothing, steps=20)
    assert good.scores[0] == 1
    assert good.scores[1] == 0  # 24 of 480 voxels: the first step takes them all
    assert good.area == pytest.approx(0.025)
    assert bad.area == pytest.approx(0.975)
    assert good.shares[0] == 0
    assert good.shares[-1] == 1


def test_insertion_is_the_other_way_round(picture):
    image, truth = picture
    nothing = np.zeros_like(image)
    assert insertion_curve(box_mean, image, truth, stand_in=nothing).area == pytest.approx(0.975)
    assert insertion_curve(box_mean, image, -truth, stand_in=nothing).area == pytest.approx(0.025)


def test_a_constant_map_is_neither(picture):
    image, truth = picture
    flat = np.zeros_like(truth)
    for curve in (deletion_curve, insertion_curve):
        assert curve(box_mean, image, flat, stand_in=np.zeros_like(image)).area == pytest.approx(0.5, abs=0.12)


def test_only_the_order_of_a_map_counts(picture):
    image, _ = picture
    heatmap = np.random.default_rng(0).normal(size=(20, 24))
    one = deletion_curve(box_mean, image, heatmap)
    two = deletion_curve(box_mean, image, np.exp(heatmap) * 50 - 3)
    np.testing.assert_array_equal(one.scores, two.scores)


def test_only_voxels_inside_take_part(picture):
    image, truth = picture
    inside = np.zeros(truth.shape, dtype=bool)
    inside[:, :10] = True
    curve = deletion_curve(box_mean, image, truth, stand_in=np.zeros_like(image), inside=inside)
    assert (curve.scores == 1).all()
    with pytest.raises(ValueError, match="no voxel"):
        deletion_curve(box_mean, image, truth, inside=inside & False)


def test_many_steps_are_scored_in_batches(picture):
    image, truth = picture
    seen = []

    def counting(images):
        seen.append(len(images))
        return box_mean(images)

    curve = deletion_curve(counting, image, truth, steps=40)
    assert sum(seen) == 41
    assert max(seen) <= 16
    assert len(curve.scores) == 41


def test_pointing_game():
    heatmap, mask = np.zeros((9, 9, 5)), np.zeros((9, 9, 5))
    mask[2:4, 2:4, 1:3] = 1
    heatmap[3, 2, 2] = 1
    assert pointing_game(heatmap, mask)
    heatmap[5, 3, 2] = 2
    assert not pointing_game(heatmap, mask)
    assert pointing_game(heatmap, mask, tolerance=2)
    assert not pointing_game(np.ones((9, 9, 5)), mask, tolerance=9)
    heatmap[0, 0, 0] = np.nan
    assert not pointing_game(heatmap, mask)
    with pytest.raises(ValueError, match="empty mask"):
        pointing_game(heatmap, np.zeros_like(mask))


def test_energy_inside_the_mask():
    heatmap, mask = np.zeros((10, 10)), np.zeros((10, 10))
    mask[:2, :2] = 1
    heatmap[:2, :2] = 3
    heatmap[8:, 9] = 6
    assert energy_inside(heatmap, mask) == pytest.approx(0.5)
    assert energy_inside(7 * heatmap + 100, mask) == pytest.approx(0.5)
    inside = np.ones((10, 10), dtype=bool)
    inside[8:] = False
    assert energy_inside(heatmap, mask, inside=inside) == 1
    assert np.isnan(energy_inside(np.ones((10, 10)), mask))


def test_similarity_of_maps():
    rng = np.random.default_rng(0)
    heatmap = rng.normal(size=(30, 32, 6))
    same = map_similarity(heatmap, 5 * heatmap + 3)
    assert same["rank correlation"] == pytest.approx(1)
    assert same["structural similarity"] == pytest.approx(1)
    other = map_similarity(heatmap, rng.normal(size=heatmap.shape))
    assert abs(other["rank correlation"]) < 0.1
    assert other["structural similarity"] < 0.5
    assert map_similarity(heatmap, -heatmap)["rank correlation"] == pytest.approx(-1)
    assert map_similarity(heatmap, np.ones_like(heatmap)) == {"rank correlation": 0.0, "structural similarity": 0.0}


@pytest.mark.parametrize("shape", [(2, 40), (3, 4), (5, 6, 1), (12, 2, 2)])
def test_similarity_of_small_maps_is_finite(shape):
    rng = np.random.default_rng(0)
    found = map_similarity(rng.normal(size=shape), rng.normal(size=shape))
    assert all(np.isfinite(value) for value in found.values())


def test_occlusion_finds_the_box_that_the_classifier_looks_at(picture):
    image, truth = picture
    heatmap = occlusion_map(box_mean, image, size=4, step=2, stand_in=np.zeros_like(image))
    assert heatmap.shape == truth.shape
    assert pointing_game(heatmap, truth)
    assert energy_inside(heatmap, truth) > 0.5
    assert heatmap[15:, :].max() == 0


def test_occlusion_covers_every_voxel_and_keeps_to_the_inside(picture):
    image, _ = picture
    tried = np.zeros((20, 24))

    def watching(images):
        tried.__iadd__((images[:, 0] == 9).sum(axis=0))
        return images.mean(axis=(1, 2, 3))

    occlusion_map(watching, image, size=7, step=5, stand_in=np.full_like(image, 9))
    assert (tried > 0).all()
    inside = np.zeros((20, 24), dtype=bool)
    inside[:3, :3] = True
    heatmap = occlusion_map(watching, image, size=(3, 3), step=3, stand_in=np.full_like(image, 9), inside=inside)
    assert (heatmap[:3, :3] != 0).all()
    assert not heatmap[3:].any()


def test_three_dimensions():
    image = np.zeros((2, 8, 9, 6), dtype=np.float32)
    image[0, 2:4, 2:4, 2:4] = 1

    def corner(images):
        return images[:, 0, 2:4, 2:4, 2:4].mean(axis=(1, 2, 3))

    truth = image[0]
    assert deletion_curve(corner, image, truth, stand_in=np.zeros_like(image)).area < 0.1
    assert pointing_game(occlusion_map(corner, image, size=2, step=1, stand_in=np.zeros_like(image)), truth)


def test_what_does_not_fit_is_refused(picture):
    image, truth = picture
    with pytest.raises(ValueError, match="does not fit"):
        deletion_curve(box_mean, image, truth[1:])
    with pytest.raises(ValueError, match="one each"):
        deletion_curve(lambda images: images.mean(), image, truth)
    with pytest.raises(ValueError, match="does not fit"):
        energy_inside(truth, truth[1:])
