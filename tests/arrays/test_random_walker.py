"""The fused walker against equations solved by hand, against a direct solve, and against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest

from napari_weakseg.arrays.random_walker import random_walker


def direct_solution(image, seeds, spacing=(1, 1, 1), beta=130.0, gamma=0.0, prior=None):
    """The same equation with a dense matrix, one row per voxel."""
    shape, size = image.shape, image.size
    index = np.arange(size).reshape(shape)
    matrix = np.zeros((size, size))
    for axis in range(3):
        low = index.take(range(shape[axis] - 1), axis=axis).ravel()
        high = index.take(range(1, shape[axis]), axis=axis).ravel()
        step = (image.ravel()[low] - image.ravel()[high]) / spacing[axis]
        weight = np.exp(-beta * step**2 / (10 * image.std())) + 1e-10
        matrix[low, high] = matrix[high, low] = weight
    laplacian = np.diag(matrix.sum(axis=1)) - matrix
    free = seeds.ravel() == -1
    fixed = (seeds.ravel() == 1).astype(float)
    right = -laplacian[np.ix_(free, ~free)] @ fixed[~free]
    left = laplacian[np.ix_(free, free)]
    if gamma:
        left = left + gamma * np.eye(free.sum())
        right = right + gamma * prior.ravel()[free]
    out = fixed.copy()
    out[free] = np.linalg.solve(left, right)
    return out.reshape(shape)


def test_a_line_of_equal_voxels_falls_linearly_between_its_seeds():
    image = np.zeros((1, 1, 5))
    image[0, 0, 0] = 0  # constant: every weight is 1
    seeds = np.array([[[1, -1, -1, -1, 0]]])
    np.testing.assert_allclose(random_walker(image, seeds, tol=1e-6)[0].ravel(), [1, 0.75, 0.5, 0.25, 0], atol=1e-5)


def test_a_prior_pulls_a_single_voxel_by_its_weight():
    # one free voxel between a 1 and a 0, all weights 1: (2 + gamma) x = 1 + gamma p
    seeds = np.array([[[1, -1, 0]]])
    prior = np.full((1, 1, 3), 0.9)
    x = random_walker(np.zeros((1, 1, 3)), seeds, gamma=2.0, prior=prior, tol=1e-7)[0]
    assert x[0, 0, 1] == pytest.approx((1 + 2 * 0.9) / 4, abs=1e-5)


@pytest.mark.parametrize(("gamma", "spacing"), [(0.0, (1, 1, 1)), (0.05, (1, 1, 1)), (0.0, (1, 1, 3))])
def test_it_solves_the_same_equation_as_a_dense_matrix(gamma, spacing):
    rng = np.random.default_rng(3)
    image = rng.random((5, 6, 7))
    seeds = np.full(image.shape, -1)
    seeds[0] = 0
    seeds[3, 3, 3] = 1
    prior = rng.random(image.shape)
    ours = random_walker(image, seeds, spacing=spacing, gamma=gamma, prior=prior if gamma else None, tol=1e-6)[0]
    np.testing.assert_allclose(ours, direct_solution(image, seeds, spacing, gamma=gamma, prior=prior), atol=2e-4)


@pytest.mark.filterwarnings("ignore")  # scikit-image names solvers that could be installed
def test_it_agrees_with_scikit_image_on_a_noisy_ball():
    from skimage.segmentation import random_walker as peer

    rng = np.random.default_rng(0)
    z, y, x = np.mgrid[:24, :26, :28] - np.array([12, 13, 14])[:, None, None, None]
    ball = z**2 + y**2 + x**2 < 64
    image = ball + 0.15 * rng.standard_normal(ball.shape)
    seeds = np.where(z**2 + y**2 + x**2 < 9, 1, np.where(z**2 + y**2 + x**2 > 121, 0, -1))
    ours = random_walker(image, seeds)[0]
    theirs = peer(image, np.where(seeds == -1, 0, np.where(seeds == 1, 1, 2)), mode="cg_j", return_full_prob=True)[0]
    a, b = ours > 0.5, theirs > 0.5
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.998


def test_several_structures_sum_to_one_with_the_background():
    rng = np.random.default_rng(1)
    image = rng.random((6, 6, 6))
    seeds = np.full(image.shape, -1)
    seeds[0], seeds[5, :3], seeds[5, 3:] = 0, 1, 2
    x = random_walker(image, seeds, tol=1e-6)
    background = random_walker(image, np.where(seeds == 0, 1, np.where(seeds > 0, 0, -1)), tol=1e-6)[0]
    assert x.shape == (2, 6, 6, 6)
    np.testing.assert_allclose(x.sum(axis=0) + background, 1, atol=1e-3)


def test_a_warm_start_gives_the_same_answer():
    rng = np.random.default_rng(2)
    image = 0.2 * rng.random((8, 8, 8))
    seeds = np.full(image.shape, -1)
    seeds[0], seeds[7, 4, 4] = 0, 1
    cold = random_walker(image, seeds, tol=1e-6)
    warm = random_walker(image, seeds, tol=1e-6, start=np.clip(cold + 0.1, 0, 1))
    np.testing.assert_allclose(cold, warm, atol=1e-3)


def test_without_a_free_voxel_the_seeds_come_back():
    seeds = np.zeros((3, 3, 3), dtype=int)
    seeds[1, 1, 1] = 1
    np.testing.assert_array_equal(random_walker(np.zeros((3, 3, 3)), seeds)[0], seeds)


@pytest.mark.parametrize("value", [0, 1])
def test_a_missing_kind_of_seed_is_refused(value):
    seeds = np.full((3, 3, 3), -1)
    seeds[0, 0, 0] = value
    with pytest.raises(ValueError, match="foreground and a background"):
        random_walker(np.zeros((3, 3, 3)), seeds)
