"""The generated volumes: seeded, of every kind, marked as a user would mark them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_weakseg.prompts import BACKGROUND_STROKE
from napari_weakseg.synthesis.fields import REACH, Axes, SmoothField, spline_basis
from napari_weakseg.synthesis.scenes import enclosed, random_case
from napari_weakseg.synthesis.shapes import KINDS, random_shape
from napari_weakseg.synthesis.user import random_marks, shaky_points, spoiled


def test_spline_weights_sum_to_one_and_are_never_negative() -> None:
    weights = spline_basis(np.linspace(-REACH - 1, REACH + 1, 31), 6)
    assert weights.shape == (31, 6)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    assert weights.min() >= 0


def test_a_field_has_the_same_value_on_any_grid() -> None:
    smooth = SmoothField(np.random.default_rng(0), 5)
    fine, coarse = Axes.cube(-1, 1, 9), Axes.cube(-1, 1, 5)
    np.testing.assert_allclose(smooth(fine)[::2, ::2, ::2], smooth(coarse), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_a_connected_target_that_is_neither_empty_nor_everything(kind: str) -> None:
    for seed in range(3):
        case = random_case((1, seed), kind)
        assert case.kind == kind
        assert case.image.shape == case.mask.shape
        assert case.image.dtype == np.float32
        assert np.isfinite(case.image).all()
        assert 0 < case.mask.sum() < case.mask.size
        assert ndimage.label(case.mask)[1] == 1
        assert min(case.spacing) == pytest.approx(1)


def test_the_same_seed_gives_the_same_volume_and_another_seed_another() -> None:
    first, again, other = random_case((2, 0)), random_case((2, 0)), random_case((2, 1))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.mask, again.mask)
    assert first.image.shape != other.image.shape or not np.array_equal(first.image, other.image)


def test_a_cut_shape_lies_within_the_whole_one() -> None:
    axes = Axes.cube(-1.5, 1.5, 20)
    shape = random_shape(np.random.default_rng(3), "ellipsoid", cut=True)
    part, whole = shape(axes) > 0, shape.whole(axes) > 0
    assert part.any()
    assert (whole & ~part).any()
    assert not (part & ~whole).any()


def test_the_inside_of_a_hollow_box_is_enclosed_and_the_outside_is_not() -> None:
    mask = np.zeros((7, 7, 7), dtype=bool)
    mask[1:6, 1:6, 1:6] = True
    mask[2:5, 2:5, 2:5] = False
    inside = np.zeros_like(mask)
    inside[2:5, 2:5, 2:5] = True
    np.testing.assert_array_equal(enclosed(mask), inside)


@pytest.mark.parametrize("seed", range(12))
def test_the_simulated_user_marks_what_belongs_where(seed: int) -> None:
    case = random_case((4, seed))
    marks = random_marks(np.random.default_rng(seed), case)
    assert marks.points is not None or marks.strokes is not None or marks.previous is not None
    if marks.points is not None:
        assert (marks.points >= 0).all()
        assert (marks.points <= np.array(case.mask.shape) - 1).all()
    if marks.strokes is not None:
        assert case.mask[marks.strokes == 1].all()
        assert not case.mask[marks.strokes == BACKGROUND_STROKE].any()
    if marks.previous is not None:
        assert 0 <= marks.previous.min() <= marks.previous.max() <= 1


def test_points_stay_within_two_voxels_of_the_extremes() -> None:
    case = random_case((5, 0), "ellipsoid")
    voxels = np.argwhere(case.mask)
    points = shaky_points(np.random.default_rng(0), case.mask)
    extremes = np.stack([voxels.min(axis=0), voxels.max(axis=0)], axis=1).ravel()
    axes = np.repeat(np.arange(3), 2)
    assert np.abs(points[np.arange(6), axes] - extremes).max() <= 2


def test_a_spoiled_mask_is_wrong_but_not_about_everything() -> None:
    case = random_case((6, 0), "blob")
    wrong = (spoiled(np.random.default_rng(0), case.mask) > 0.5) != case.mask
    assert 0 < wrong.sum() < case.mask.size / 2
