"""Rows P1 to P3, P7, P8, P10, P15 and P17 of the fault catalogue: what napari's layers may hold. No window is needed."""

from __future__ import annotations

import numpy as np
import pytest

from napari_weakseg.errors import GeometryError, PromptError

pytest.importorskip("napari")
from napari.layers import Image, Labels, Points

from napari_weakseg.plugin.layers import from_layer, image_layer_data, read_grid, voxels_of
from napari_weakseg.volume import Volume

SHAPE = (10, 20, 30)
SIX = np.array([[1, 9, 14], [8, 9, 14], [4, 3, 14], [4, 15, 14], [4, 9, 5], [4, 9, 25]], dtype=float)
NEXT = SIX + np.array((0, 2, 2))
VOLUME = Volume(np.zeros(SHAPE, np.float32), np.diag([-3.0, -1.0, 1.0, 1.0]), name="scan")


@pytest.fixture
def image() -> Image:
    data, options, _ = image_layer_data(VOLUME)
    return Image(data, **options)


def points_on(image: Image, voxels, **options) -> Points:
    """A points layer on the image, in the image's own data coordinates."""
    _, grid = read_grid(image)
    return Points(grid.points_to_layer(voxels), ndim=3, name="clicks", scale=image.scale, translate=image.translate, **options)


def refused(kind, words: str, layer, image=None) -> None:
    with pytest.raises(kind, match=words) as caught:
        from_layer(layer, image)
    assert len(str(caught.value).split()) <= 30


def test_a_layer_without_points_says_how_many_P1(image):
    refused(PromptError, "place six", points_on(image, np.empty((0, 3))), image)


@pytest.mark.parametrize("count", range(1, 6))
def test_too_few_points_name_the_missing_directions_P2(image, count):
    refused(PromptError, f"{count} of six points; still missing", points_on(image, SIX[:count]), image)


@pytest.mark.parametrize("count", [7, 50])
def test_more_than_six_use_the_extremes_P3(image, count):
    inner = np.random.default_rng(0).uniform((2, 4, 6), (7, 14, 24), (count - 6, 3))
    points = from_layer(points_on(image, np.concatenate([inner, SIX])), image)
    assert len(points) == 1
    np.testing.assert_allclose(points.points[0].min(axis=0), SIX.min(axis=0))
    np.testing.assert_allclose(points.points[0].max(axis=0), SIX.max(axis=0))
    assert str(count) in " ".join(points.notes)


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")  # napari's own, on drawing such a layer
@pytest.mark.parametrize(
    "transform",
    [
        {"scale": (2, 3, 5)},
        {"translate": (7, -8, 9)},
        {"rotate": np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])},
        {"affine": np.array([[1, 0.2, 0, 3], [0, 2, 0, 0], [0.1, 0, 1, -4], [0, 0, 0, 1.0]])},
    ],
    ids=lambda transform: next(iter(transform)),
)
def test_points_go_through_world_coordinates_P7(image, transform):
    own = Points(np.zeros((6, 3)), name="clicks", **transform)
    _, grid = read_grid(image)
    own.data = np.array([own.world_to_data(image.data_to_world(c)) for c in grid.points_to_layer(SIX)])
    np.testing.assert_allclose(from_layer(own, image).points[0], SIX, atol=1e-4)


@pytest.mark.parametrize("axes", [2, 4])
def test_points_of_other_dimensions_are_refused_P7(image, axes):
    refused(PromptError, f"{axes} coordinates", Points(np.zeros((6, axes)), name="clicks"), image)


def test_points_of_scale_one_on_a_coarse_image_P8():
    coarse = Image(np.zeros((4, 5, 6), np.uint8), scale=(20000, 20000, 20000))
    _, grid = read_grid(coarse)
    np.testing.assert_allclose(voxels_of(Points([[20000.0, 40000, 60000]]), coarse, grid), [[3, 2, 1]])


def test_two_lesions_are_two_objects_where_grouped_P10(image):
    both = np.concatenate([SIX, NEXT])
    groups = {"structure": np.ones(12, int), "object": np.repeat([1, 2], 6)}
    points = from_layer(points_on(image, both, features=groups), image)
    np.testing.assert_allclose(points.points, both.reshape(2, 6, 3))
    assert points.notes == ()


def test_two_lesions_without_groups_are_one_box_and_noted_P10(image):
    points = from_layer(points_on(image, np.concatenate([SIX, NEXT])), image)
    assert len(points) == 1
    assert any("no column groups" in note for note in points.notes)


def test_an_unfinished_object_is_left_out_and_noted(image):
    groups = {"structure": np.ones(9, int), "object": np.repeat([1, 2], [6, 3])}
    points = from_layer(points_on(image, np.concatenate([SIX, SIX[:3]]), features=groups), image)
    assert len(points) == 1
    assert any("1 of 2 objects" in note for note in points.notes)


def test_a_single_slice_needs_four_points():
    data, options, _ = image_layer_data(Volume(np.zeros((20, 30, 1), np.float32), name="slice"))
    flat = Image(data, **options)
    four = np.array([[3, 10, 0], [15, 10, 0], [9, 4, 0], [9, 20, 0]], dtype=float)
    points = from_layer(points_on(flat, four), flat)
    np.testing.assert_allclose(points.points[0].max(axis=0), (15, 20, 0))


@pytest.mark.parametrize("name", ["mask", "scan scribbles"])
def test_a_labels_layer_that_is_a_pyramid_is_refused_P15(name):
    pyramid = [np.zeros((8, 8, 8), np.uint8), np.zeros((4, 4, 4), np.uint8)]
    refused(GeometryError, "pyramid", Labels(pyramid, multiscale=True, name=name))


def test_a_labels_layer_of_another_shape_than_the_image_is_refused_P15(image):
    strokes = from_layer(Labels(np.ones((4, 5, 6), np.uint8), name="scan scribbles"))
    with pytest.raises(PromptError, match="do not fit"):
        strokes.checked(VOLUME)


def test_a_lazy_labels_layer_is_read_P15():
    array = pytest.importorskip("dask.array")
    labels = np.random.default_rng(0).integers(0, 3, (6, 5, 4)).astype(np.uint8)
    layer = Labels(array.from_array(labels, chunks=2), name="mask")
    np.testing.assert_array_equal(from_layer(layer).array, labels.T)


def test_a_read_only_labels_layer_is_read_P15():
    labels = np.random.default_rng(0).integers(0, 3, (6, 5, 4)).astype(np.uint8)
    labels.flags.writeable = False
    np.testing.assert_array_equal(from_layer(Labels(labels, name="mask")).array, labels.T)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Image(np.zeros((5, 6, 3), np.uint8), rgb=True, name="photo"), "colour"),
        (Image(np.zeros((2, 3, 4, 5), np.float32), name="series"), "4 axes"),
        (Image(np.zeros((5, 6), np.float32), name="plane"), "2 axes"),
    ],
    ids=["rgb", "time", "2D"],
)
def test_what_is_no_volume_is_refused_P17(layer, words):
    refused(GeometryError, words, layer)
