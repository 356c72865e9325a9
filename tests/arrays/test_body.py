"""The body without the air around it."""

from __future__ import annotations

import numpy as np
import pytest

from napari_weakseg.arrays.body import body_mask, box_of_mask


def head(air: float = 0.0, tissue: float = 100.0):
    rng = np.random.default_rng(0)
    i, j, k = np.mgrid[:40, :50, :12]
    body = ((i - 20) / 14) ** 2 + ((j - 24) / 18) ** 2 < 1
    sinus = ((i - 20) / 4) ** 2 + ((j - 30) / 4) ** 2 < 1
    image = np.where(body & ~sinus, tissue, air) + rng.normal(0, 0.02 * (tissue - air), body.shape)
    return image, body & (k >= 0)


@pytest.mark.parametrize(("air", "tissue"), [(0.0, 100.0), (-1000.0, 40.0), (5.0, 12.0)])
def test_the_body_with_its_cavities(air, tissue):
    image, body = head(air, tissue)
    found = body_mask(image)
    assert (found & body).sum() > 0.98 * body.sum()
    assert (found & ~body).sum() < 0.12 * body.sum()  # at most a rim of one voxel


def test_a_small_thing_beside_the_body_is_not_the_body():
    image, _ = head()
    image[1:3, 1:3] = 200
    assert not body_mask(image)[1, 1].any()


def test_dark_tissue_is_kept_beside_a_very_bright_lesion():
    image, body = head()
    image[18:22, 10:14, 4:8] = 1500
    assert (body_mask(image) & body).sum() > 0.98 * body.sum()


@pytest.mark.parametrize("image", [np.zeros((4, 5, 6)), np.full((4, 5, 6), 7.0), np.full((4, 5, 6), np.nan)])
def test_without_any_contrast_all_is_body(image):
    assert body_mask(image).all()


def test_boxes():
    mask = np.zeros((10, 10, 4), dtype=bool)
    mask[3:5, 6, 1:3] = True
    assert box_of_mask(mask) == (slice(3, 5), slice(6, 7), slice(1, 3))
    assert box_of_mask(mask, margin=4) == (slice(0, 9), slice(2, 10), slice(0, 4))
    assert box_of_mask(mask & False) == (slice(0, 10), slice(0, 10), slice(0, 4))
