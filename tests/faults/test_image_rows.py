"""Rows F11, F12, F14 to F16 and P19 of the fault catalogue, where they reach a method: first masks of odd images."""

from __future__ import annotations

import numpy as np
import pytest

import napari_weakseg as ws
from napari_weakseg.api import steps
from napari_weakseg.errors import DataError, RecipeError
from napari_weakseg.methods import list_methods, new_recipe
from napari_weakseg.prompts import ExtremePoints
from napari_weakseg.volume import Volume

METHODS = [card.name for card in list_methods() if "extreme_points" in card.prompts]
SIX = np.array([[6, 12, 8], [17, 12, 8], [12, 6, 8], [12, 17, 8], [12, 12, 4], [12, 12, 11]], dtype=float)


def image() -> np.ndarray:
    """A bright box that the points touch."""
    array = np.random.default_rng(0).normal(0, 5, (24, 24, 16)).astype(np.float32)
    array[6:18, 6:18, 4:12] += 100
    return array


def first_mask(method: str, array: np.ndarray, points: np.ndarray = SIX):
    volume = Volume(array, np.diag([1.0, 1.0, 2.0, 1.0]), "scan")
    result = ws.segment(
        volume, ExtremePoints.from_points(points, volume), method=method, recipe=new_recipe(method, max_seconds=0)
    )
    assert result.labels.shape == array.shape
    return result


@pytest.mark.parametrize("method", METHODS)
def test_where_the_image_is_not_finite_nothing_is_marked_F14(method):
    array = image()
    array[10:14, 10:14, 8] = np.nan
    array[0, 0, 0] = np.inf
    result = first_mask(method, array)
    assert result.labels[~np.isfinite(array)].sum() == 0
    assert result.labels.sum() > 500
    assert any("16 voxels" in note for note in result.notes)
    volume = Volume(array, name="scan")
    running = steps(
        ws.Case("case", {"image": volume}, points=ExtremePoints.from_points(SIX, volume)),
        method=method,
        recipe=new_recipe(method, max_seconds=0),
    )
    assert next(running).preview.labels()[~np.isfinite(array)].sum() == 0
    running.close()


@pytest.mark.parametrize("method", METHODS)
def test_an_image_without_a_number_is_refused_F15(method):
    with pytest.raises(DataError, match="no finite value"):
        first_mask(method, np.full((24, 24, 16), np.nan, np.float32))


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_image_gives_a_mask_within_the_box_F16(method):
    labels = first_mask(method, np.zeros((24, 24, 16), np.float32)).labels
    assert labels[6:18, 6:18, 4:12].sum() == labels.sum() > 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("axis", range(3))
def test_one_slice_is_enough_F11(method, axis):
    points = SIX.copy()
    points[:, axis] = 0
    assert first_mask(method, np.take(image(), [8], axis=axis), points).labels.any()


@pytest.mark.parametrize("method", METHODS)
def test_axes_shorter_than_a_network_s_stride_F12(method):
    points = np.array([[0, 3, 4], [4, 3, 4], [2, 0, 4], [2, 6, 4], [2, 3, 0], [2, 3, 8]], dtype=float)
    assert first_mask(method, image()[6:11, 6:13, 4:13], points).labels.any()


@pytest.mark.parametrize("method", METHODS)
def test_a_patch_size_that_cannot_be_is_refused_P19(method):
    if not hasattr(new_recipe(method), "patch"):
        pytest.skip("this method has no patches")
    for size in ((0, 32, 32), (-8, 32, 32)):
        with pytest.raises(RecipeError, match="patch"):
            new_recipe(method, patch=size)
