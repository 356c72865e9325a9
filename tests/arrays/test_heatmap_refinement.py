"""From a blurred heatmap to a boundary."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_weakseg.arrays.heatmap_refinement import Refinement, heatmap_seeds, refined_mask, refined_probability
from napari_weakseg.arrays.heatmaps import clean_mask, where_predicted
from napari_weakseg.arrays.metrics import dice
from napari_weakseg.arrays.random_walker import BACKGROUND, FOREGROUND, FREE


@pytest.fixture(scope="module")
def scene():
    """A bright lesion in noise, and a heatmap that is blurred, reaches too far and misses its centre."""
    rng = np.random.default_rng(0)
    i, j, k = np.mgrid[:40, :36, :14]
    lesion = ((i - 18) / 8) ** 2 + ((j - 16) / 6) ** 2 + ((k - 7) / 4) ** 2 < 1
    image = (100 + 60 * lesion + rng.normal(0, 8, lesion.shape)).astype(np.float32)
    heatmap = ndimage.gaussian_filter(np.roll(lesion, (1, 2, 0), (0, 1, 2)).astype(np.float32), (3, 3, 1.5))
    return image, lesion, (4 * heatmap - 1).astype(np.float32)


def test_the_image_draws_the_boundary(scene):
    image, lesion, heatmap = scene
    coarse = clean_mask(heatmap > 0)
    assert dice(coarse, lesion) < 0.85
    fine = refined_mask(refined_probability([image], heatmap, 0.0))
    assert dice(fine, lesion) > 0.93


def test_the_channel_that_shows_the_edge_is_found(scene):
    image, lesion, heatmap = scene
    useless = np.random.default_rng(1).normal(size=image.shape).astype(np.float32)
    for channels in ([useless, image], [image, useless]):
        assert dice(refined_mask(refined_probability(channels, heatmap, 0.0)), lesion) > 0.9


def test_a_heatmap_in_other_units_gives_the_same(scene):
    image, _, heatmap = scene
    mask = refined_mask(refined_probability([image], heatmap, 0.0))
    again = refined_mask(refined_probability([5 * image - 300], 30 * heatmap + 7, 7.0))
    assert dice(mask, again) > 0.99


def test_nothing_is_drawn_where_nothing_is_predicted(scene):
    image, _, heatmap = scene
    assert not refined_probability([image], heatmap, 0.0, allowed=where_predicted(image.shape, False)).any()
    slices = np.arange(14) < 7
    probability = refined_probability([image], heatmap, 0.0, allowed=where_predicted(image.shape, slices))
    assert probability[..., :7].max() > 0.9
    assert not probability[..., 7:].any()


def test_no_voxel_above_the_threshold_no_mask(scene):
    image, _, heatmap = scene
    assert not refined_probability([image], heatmap, 99.0).any()
    assert not refined_probability([image], np.full_like(heatmap, np.nan), 0.0).any()
    assert not refined_probability([image], heatmap, 0.0, min_size=1e6).any()


def test_a_constant_image_leaves_the_heatmap(scene):
    image, _, heatmap = scene
    fine = refined_mask(refined_probability([np.zeros_like(image)], heatmap, 0.0))
    assert dice(fine, heatmap > 0) > 0.7


def test_a_component_that_fills_the_volume():
    heatmap = np.ones((6, 6, 4), dtype=np.float32)
    heatmap[0, 0, 0] = 0.5
    probability = refined_probability([heatmap * 10], heatmap, 0.0)
    assert np.isfinite(probability).all()
    assert probability.max() == 1


def test_seeds_are_the_hottest_share_and_what_is_far_away():
    heatmap = np.zeros((30, 30, 10), dtype=np.float32)
    heatmap[5:15, 5:15, 2:8] = np.linspace(1, 2, 600).reshape(10, 10, 6)
    heatmap[22:25, 22:25, 4:6] = 1.5
    seeds = heatmap_seeds(heatmap, heatmap > 0.5, core=0.25, reach=0.5)
    assert set(np.unique(seeds)) == {BACKGROUND, FOREGROUND, FREE}
    assert (seeds[5:15, 5:15, 2:8] == FOREGROUND).sum() == 150
    assert (seeds[22:25, 22:25, 4:6] == FOREGROUND).all()  # equals are not torn apart
    assert seeds[15, 10, 5] == FREE
    assert seeds[19, 10, 5] == BACKGROUND
    assert seeds[26, 23, 5] == BACKGROUND  # a small component reaches less far
    assert (heatmap_seeds(heatmap, heatmap > 9) == BACKGROUND).all()


def test_reach_knows_the_spacing():
    heatmap = np.zeros((21, 21, 21), dtype=np.float32)
    heatmap[8:13, 8:13, 8:13] = 1
    seeds = heatmap_seeds(heatmap, heatmap > 0, spacing=(1, 1, 4), reach=0.5)
    extent = [np.flatnonzero((seeds != BACKGROUND).any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    assert np.ptp(extent[0]) > np.ptp(extent[2])


def test_settings_matter(scene):
    image, _, heatmap = scene
    plain = refined_probability([image], heatmap, 0.0)
    without = refined_probability([image], heatmap, 0.0, settings=Refinement(appearance=0.0))
    assert not np.array_equal(plain, without)
