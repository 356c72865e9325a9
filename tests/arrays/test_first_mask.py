"""The tangent ellipsoid and the classical first mask."""

from __future__ import annotations

import numpy as np
import pytest

from napari_weakseg.arrays.extreme_points import simulate_points
from napari_weakseg.arrays.first_mask import Window, clean_mask, first_mask
from napari_weakseg.arrays.intensity import scaled_intensity
from napari_weakseg.arrays.tangent_ellipsoid import ellipsoid_radius, tangent_ellipsoid


def oblique_ellipsoid(shape=(48, 44, 40)):
    """A body whose long axis runs diagonally, with its matrix."""
    axes = np.array([[1, 1, 0], [-1, 1, 0], [0, 0, np.sqrt(2)]]) / np.sqrt(2)
    matrix = axes.T @ np.diag([18.0**2, 7.0**2, 9.0**2]) @ axes
    offset = np.stack(np.meshgrid(*[np.arange(n) - n // 2 for n in shape], indexing="ij"), axis=-1)
    return np.einsum("...a,ab,...b->...", offset, np.linalg.inv(matrix), offset) < 1, matrix


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_six_points_of_an_oblique_ellipsoid_give_it_back():
    body, matrix = oblique_ellipsoid()
    _, found = tangent_ellipsoid(simulate_points(body), shrink=1.0)
    np.testing.assert_allclose(found, matrix, rtol=0.15, atol=12)
    points = simulate_points(body)
    assert dice(ellipsoid_radius(points, body.shape) < 1, body) > 0.9
    # what the box alone says is far worse
    assert dice(ellipsoid_radius(points, body.shape, shrink=0.0) < 1, body) < 0.75


def test_contradictory_points_still_give_a_body():
    points = [[0, 9, 9], [9, 9, 9], [9, 0, 9], [9, 9, 9], [9, 9, 0], [9, 9, 9]]
    _, matrix = tangent_ellipsoid(points)
    assert np.linalg.eigvalsh(matrix).min() > 0


def test_the_radius_is_one_on_the_surface_of_a_straight_ellipsoid():
    points = [[2, 6, 6], [10, 6, 6], [6, 3, 6], [6, 9, 6], [6, 6, 0], [6, 6, 12]]
    radius = ellipsoid_radius(points, (13, 13, 13))
    assert radius[6, 6, 6] == 0
    # the surface lies half a voxel beyond the outermost voxel's centre
    assert radius[10, 6, 6] == pytest.approx(4 / 4.5)
    assert radius[6, 6, 12] == pytest.approx(6 / 6.5)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (1, 1, 3)])
def test_a_noisy_oblique_body_is_found(spacing):
    body, _ = oblique_ellipsoid()
    rng = np.random.default_rng(0)
    image = 100 * body + 40 * rng.standard_normal(body.shape)
    window = Window.around(simulate_points(body, jitter=1), body.shape, spacing)
    mask = clean_mask(first_mask(image[window.index], window), window)
    assert dice(mask, body[window.index]) > 0.88


@pytest.mark.parametrize("image", [np.zeros((20, 20, 20)), np.full((20, 20, 20), np.nan)])
def test_an_image_that_says_nothing_gives_an_ellipsoid_like_mask(image):
    points = np.array([[4, 10, 10], [15, 10, 10], [10, 4, 10], [10, 15, 10], [10, 10, 4], [10, 10, 15]])
    window = Window.around(points, image.shape)
    probability = first_mask(image[window.index], window)
    assert np.isfinite(probability).all()
    mask = clean_mask(probability, window)
    assert 0.3 < mask.sum() / (4 / 3 * np.pi * 6**3) < 1.6


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("end", [0, -1])
def test_an_object_at_the_border_keeps_its_last_slice(axis, end):
    body = np.zeros((24, 24, 24), dtype=bool)
    body[8:16, 8:16, 8:16] = True
    body = np.roll(body, -8 if end == 0 else 8, axis=axis)
    image = body * 100.0 + np.random.default_rng(0).standard_normal(body.shape)
    window = Window.around(simulate_points(body), body.shape)
    mask = np.zeros(body.shape, dtype=bool)
    mask[window.index] = clean_mask(first_mask(image[window.index], window), window)
    assert mask.take(end, axis=axis).sum() > 30


def test_a_flat_object_on_one_slice_works():
    body = np.zeros((30, 30, 1), dtype=bool)
    body[8:20, 10:22] = True
    window = Window.around(simulate_points(body), body.shape)
    mask = clean_mask(first_mask((body * 50.0)[window.index], window), window)
    assert dice(mask, body[window.index]) > 0.85


def test_intensities_are_scaled_between_percentiles_and_stay_finite():
    image = np.arange(1000.0).reshape(10, 10, 10)
    image[0, 0, 0] = np.nan
    image[9, 9, 9] = 1e9
    scaled = scaled_intensity(image)
    assert scaled.min() == 0
    assert scaled.max() == 1
    assert np.isfinite(scaled).all()
