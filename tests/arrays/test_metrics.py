"""Metrics against numbers found by hand and against MONAI."""

from __future__ import annotations

import numpy as np
import pytest

from napari_weakseg.arrays.metrics import assd, compare, dice, hd95, surface_distances


def _block(shape=(12, 10, 8), start=(3, 2, 2), size=(4, 4, 3)):
    mask = np.zeros(shape, dtype=np.uint8)
    mask[tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))] = 1
    return mask


def test_dice_by_hand():
    a, b = np.zeros(10, int), np.zeros(10, int)
    a[:4], b[2:8] = 1, 7
    assert dice(a, b) == pytest.approx(2 * 2 / 10)
    assert dice(a, a) == 1
    assert dice(a, 0 * a) == 0
    assert np.isnan(dice(0 * a, 0 * a))


def test_a_shift_is_measured_in_mm():
    a, b = _block(), _block(start=(3, 2, 3))
    there, back = surface_distances(a, b, (1.0, 1.0, 2.5))
    assert there.max() == back.max() == 2.5
    assert hd95(a, b, (1.0, 1.0, 2.5)) == pytest.approx(2.5)


def test_two_single_voxels():
    a, b = np.zeros((5, 5, 5)), np.zeros((5, 5, 5))
    a[0, 0, 0] = b[3, 4, 0] = 1
    assert hd95(a, b) == assd(a, b) == pytest.approx(5.0)
    assert hd95(a, b, (2, 2, 2)) == pytest.approx(10.0)


def test_empty_side_has_no_distance():
    scores = compare(_block(), np.zeros((12, 10, 8)))
    assert scores["dice"] == 0
    assert np.isnan(scores["hd95"])
    assert np.isnan(scores["assd"])


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="cannot be compared"):
        dice(np.ones((2, 2)), np.ones((2, 3)))


@pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning")  # raised inside MONAI 1.6 itself
@pytest.mark.parametrize("seed", range(4))
def test_same_figures_as_monai(seed):
    monai = pytest.importorskip("monai.metrics")
    import torch
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    a, b = (gaussian_filter(rng.normal(size=(20, 18, 14)), 2) > 0.02 for _ in range(2))  # touches the border too
    spacing = (0.7, 1.1, 3.0)
    pair = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (a, b)]
    theirs = monai.compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=spacing)
    assert hd95(a, b, spacing) == pytest.approx(float(theirs), rel=1e-5)
    theirs = monai.compute_average_surface_distance(*pair, include_background=True, symmetric=True, spacing=spacing)
    assert assd(a, b, spacing) == pytest.approx(float(theirs), rel=1e-5)
