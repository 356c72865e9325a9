"""Heatmap to mask: thresholds, cleaning in mm³, nothing where nothing is predicted, and prompts for the other methods."""

from __future__ import annotations

import numpy as np
import pytest

from napari_weakseg.arrays.heatmaps import (
    LiveThreshold,
    clean_mask,
    heatmap_mask,
    heatmap_points,
    multi_otsu,
    negatives_threshold,
    threshold_at,
    where_predicted,
)
from napari_weakseg.volume import Volume


def three_levels(shape=(20, 30, 10)):
    """Background about 0, a middle zone about 2, a core about 5."""
    rng = np.random.default_rng(0)
    heatmap = rng.normal(0, 0.1, shape).astype(np.float32)
    heatmap[5:15, 8:22, 2:8] += 2
    heatmap[8:12, 12:18, 3:6] += 3
    return heatmap


def test_multi_otsu_parts_three_levels_and_phi_walks_between_them():
    heatmap = three_levels()
    first, second = multi_otsu(heatmap)
    assert 0.3 < first < 1.7
    assert 2.2 < second < 4.7
    assert threshold_at((first, second)) == second
    assert threshold_at((first, second), 1.0) == first
    core = heatmap > threshold_at((first, second), 0.0)
    assert core.sum() == 4 * 6 * 3
    assert (heatmap > threshold_at((first, second), 1.0)).sum() == 10 * 14 * 6


def test_the_threshold_does_not_depend_on_the_heatmap_s_unit():
    heatmap = three_levels()
    mask = heatmap > threshold_at(multi_otsu(heatmap), 0.3)
    scaled = 40 * heatmap - 7
    np.testing.assert_array_equal(scaled > threshold_at(multi_otsu(scaled), 0.3), mask)


def test_only_what_lies_inside_counts():
    heatmap = three_levels()
    inside = np.ones(heatmap.shape, dtype=bool)
    inside[:3] = False
    odd = heatmap.copy()
    odd[:3] = 500
    assert multi_otsu(odd, inside) == multi_otsu(heatmap, inside)


@pytest.mark.parametrize("value", [0.0, -3.5, 7.0])
def test_a_constant_map_gives_an_empty_mask(value):
    heatmap = np.full((4, 5, 6), value, dtype=np.float32)
    pair = multi_otsu(heatmap)
    for phi in (0, 0.5, 1):
        assert not heatmap_mask(heatmap, threshold_at(pair, phi)).any()


def test_two_values_and_not_a_number():
    heatmap = np.zeros((4, 5, 6), dtype=np.float32)
    heatmap[1, 2, 3] = 4
    assert heatmap_mask(heatmap, threshold_at(multi_otsu(heatmap))).sum() == 1
    heatmap[0, 0, 0] = np.nan
    heatmap[0, 0, 1] = np.inf
    assert heatmap_mask(heatmap, threshold_at(multi_otsu(heatmap))).sum() == 1
    assert multi_otsu(np.full((2, 2, 2), np.nan)) == (0, 0)
    assert multi_otsu(heatmap, np.zeros(heatmap.shape, dtype=bool)) == (0, 0)


def test_one_far_outlier_leaves_no_error():
    heatmap = three_levels()
    heatmap[0, 0, 0] = 1e6
    threshold = threshold_at(multi_otsu(heatmap))
    assert np.isfinite(threshold)
    assert (heatmap > threshold).any()


def test_threshold_from_images_without_the_class():
    rng = np.random.default_rng(1)
    quiet = [rng.normal(0, 1, (30, 30, 8)) for _ in range(5)]
    threshold = negatives_threshold(quiet, percentile=99)
    assert threshold == pytest.approx(2.33, abs=0.1)
    assert negatives_threshold([q.astype(np.float32) for q in quiet], percentile=99, values_per_map=2000) == pytest.approx(
        threshold, abs=0.2
    )
    with pytest.raises(ValueError, match="at least one"):
        negatives_threshold([])


def test_nothing_is_drawn_where_the_class_is_not_predicted():
    heatmap = three_levels()
    threshold = threshold_at(multi_otsu(heatmap), 1.0)
    assert not heatmap_mask(heatmap, threshold, allowed=where_predicted(heatmap.shape, False)).any()
    predicted = np.zeros(10, dtype=bool)
    predicted[4:6] = True
    mask = heatmap_mask(heatmap, threshold, allowed=where_predicted(heatmap.shape, predicted, slice_axis=2))
    assert np.flatnonzero(mask.any(axis=(0, 1))).tolist() == [4, 5]
    along_i = np.zeros(20, dtype=bool)
    along_i[7] = True
    mask = heatmap_mask(heatmap, threshold, allowed=where_predicted(heatmap.shape, along_i, slice_axis=0))
    assert np.flatnonzero(mask.any(axis=(1, 2))).tolist() == [7]


def test_the_body_limits_what_may_be_drawn():
    body = np.zeros((4, 4, 4), dtype=bool)
    body[1] = True
    assert where_predicted((4, 4, 4), True, inside=body).sum() == 16


def test_live_threshold_is_the_plain_comparison_and_knows_its_limits():
    heatmap = three_levels()
    heatmap[0, 0, 0] = np.nan
    allowed = where_predicted(heatmap.shape, np.arange(10) < 7)
    live = LiveThreshold(heatmap, allowed)
    low, high = live.limits
    assert low == np.nanmin(heatmap[..., :7])
    assert high == np.nanmax(heatmap[..., :7])
    for threshold in (-10, 0.0, 1.5, 4.0, 99):
        np.testing.assert_array_equal(live.mask(threshold), (heatmap > threshold) & allowed)
    assert live.mask(0).dtype == np.uint8
    assert live.mask(0) is not None
    assert np.shares_memory(live.mask(0), live.mask(1))
    assert LiveThreshold(heatmap, allowed & False).limits == (0, 0)


def test_components_are_measured_in_mm3_and_in_voxels_where_the_spacing_is_unknown():
    mask = np.zeros((20, 20, 20), dtype=bool)
    mask[1:3, 1:3, 1:3] = True  # 8 voxels
    mask[8:11, 8:11, 8:11] = True  # 27 voxels
    assert clean_mask(mask, min_size=9).sum() == 27
    assert clean_mask(mask, min_size=9, voxel_volume=2.0).sum() == 35
    assert clean_mask(mask, min_size=55, voxel_volume=2.0).sum() == 0
    assert clean_mask(mask, min_size=0).sum() == 35


def test_components_are_three_dimensional_and_the_number_kept_is_a_choice():
    mask = np.zeros((9, 9, 9), dtype=bool)
    for n in range(8):
        mask[n, n, n] = True  # one diagonal line: lone voxels in every slice, one component in 3D
    mask[7, 0, 0] = True
    assert clean_mask(mask, min_size=2).sum() == 8
    assert clean_mask(mask, keep=1).sum() == 8
    assert clean_mask(mask, keep=2).sum() == 9
    assert clean_mask(mask, keep=5).sum() == 9


def test_holes_are_filled():
    mask = np.zeros((7, 7, 7), dtype=bool)
    mask[1:6, 1:6, 1:6] = True
    mask[3, 3, 3] = False
    assert clean_mask(mask).sum() == 125
    assert clean_mask(mask, fill=False).sum() == 124


def test_points_lie_on_the_components_from_the_largest_on():
    volume = Volume(np.zeros((30, 30, 12)), affine=np.diag([1.0, 1.0, 4.0, 1.0]))
    mask = np.zeros(volume.shape, dtype=bool)
    mask[2:6, 2:6, 2:5] = True
    mask[12:24, 10:20, 3:9] = True
    mask[28, 28, :] = True  # a line spans no box
    points = heatmap_points(mask, volume)
    assert len(points) == 2
    np.testing.assert_array_equal(points.points[0].min(axis=0), [12, 10, 3])
    np.testing.assert_array_equal(points.points[0].max(axis=0), [23, 19, 8])
    for six in points.points.round().astype(int):
        assert mask[tuple(six.T)].all()
    points.checked(volume)
    assert len(heatmap_points(mask, volume, largest=1)) == 1
    assert heatmap_points(np.zeros(volume.shape), volume) is None


def test_points_on_a_single_slice():
    volume = Volume(np.zeros((12, 12, 1)))
    mask = np.zeros(volume.shape, dtype=bool)
    mask[3:8, 4:9] = True
    heatmap_points(mask, volume, jitter=1).checked(volume)
