"""Volumes, points and results to layers and back: nothing moves, nothing is guessed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels, Points
from nibabel import orientations as ori

from napari_weakseg.errors import GeometryError, PromptError
from napari_weakseg.method import Result
from napari_weakseg.plugin.companions import Companions
from napari_weakseg.plugin.layers import Grid, from_layer, image_layer_data, read_grid, show
from napari_weakseg.plugin.session import Document
from napari_weakseg.prompts import LESION, ExtremePoints, Scribbles
from napari_weakseg.volume import SourceHeader, Volume

CODES = [
    "".join(side[flip] for side, flip in zip(axes, flips, strict=True))
    for axes in itertools.permutations(("RL", "AP", "SI"))
    for flips in itertools.product((0, 1), repeat=3)
]


def placed(codes, *, spacing=(0.7, 1.1, 3.0), tilt=0.0, shape=(5, 6, 7)):
    """A volume of random voxels with these axis codes, tilted by some degrees."""
    to_ras = ori.inv_ornt_aff(ori.axcodes2ornt(tuple(codes)), shape)
    turn = np.eye(4)
    c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    turn[:2, :2] = [[c, -s], [s, c]]
    affine = turn @ to_ras @ np.diag([*spacing, 1.0])
    affine[:3, 3] += (12.5, -40.0, 7.0)
    array = np.random.default_rng(0).integers(0, 1000, shape).astype(np.int16)
    return Volume(array, affine, "scan", header=SourceHeader(2, 1, "ab"), notes=("odd",))


@pytest.mark.parametrize("tilt", [0, 15])
@pytest.mark.parametrize("codes", CODES)
def test_all_48_orientations_come_back_from_a_layer(codes, tilt):
    assert len(set(CODES)) == 48
    volume = placed(codes, tilt=tilt)
    data, options, _ = image_layer_data(volume)
    layer = Image(data, **options)
    back, grid = read_grid(layer)
    assert np.array_equal(back.array, volume.array)
    assert np.array_equal(back.affine, volume.affine)
    assert back.header == volume.header
    assert back.notes == volume.notes
    voxels = np.random.default_rng(1).uniform(0, 4, (9, 3))
    assert np.allclose(grid.points_to_volume(grid.points_to_layer(voxels)), voxels)
    corner = np.array([1, 2, 3])
    z, y, x = grid.points_to_layer(corner)[0].astype(int)
    assert data[z, y, x] == volume.array[1, 2, 3]
    if tilt == 0:  # napari's world is then the scanner's, counted towards left, back and bottom
        world = np.array(layer.data_to_world((z, y, x)))[::-1]
        assert np.allclose(world, -volume.to_world(corner), atol=1e-4)


def test_slices_are_shown_in_radiological_convention():
    volume = placed("RAS", spacing=(1, 1, 1), shape=(4, 5, 6))
    grid = Grid.of(volume)
    head_left_front = grid.points_to_layer((0, 4, 5))[0]  # patient's left, front, top
    assert head_left_front.tolist() == [0, 0, 3]  # first slice, top row, right column
    assert list(grid.placement["axis_labels"]) == ["z", "y", "x"]


def test_layers_get_no_rotation_but_scale_translate_and_units():
    data, options, _ = image_layer_data(placed("PSR", tilt=20))
    layer = Image(data, **options)
    assert np.allclose(layer.rotate, np.eye(3))
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    assert np.allclose(sorted(layer.scale), sorted((0.7, 1.1, 3.0)))


def test_unknown_spacing_counts_voxels():
    volume = Volume(np.zeros((4, 5, 6)), np.diag([2.0, 2, 2, 1]), "scan", spacing_known=False)
    data, options, _ = image_layer_data(volume)
    layer = Image(data, **options)
    assert np.allclose(layer.scale, 1)
    assert not read_grid(layer)[0].spacing_known


def test_writing_into_the_view_writes_into_the_volume():
    volume = placed("SLA")
    grid = Grid.of(volume)
    array = np.zeros(volume.shape, np.uint8)
    grid.to_volume(grid.to_layer(array))[1:3, 2:4, 3] = 1
    assert array.sum() == 4
    assert array[1:3, 2:4, 3].all()


def test_a_layer_of_another_reader_keeps_its_own_transform():
    turned = Image(np.zeros((4, 5, 6)), scale=(3, 1, 1), translate=(7, 8, 9), rotate=30, name="other")
    volume, grid = read_grid(turned)
    assert volume.shape == (6, 5, 4)
    assert np.allclose(volume.spacing, (1, 1, 3))
    assert not volume.orientation_known
    assert any("rotated" in note for note in volume.notes)
    copy = Labels(grid.to_layer(np.zeros(volume.shape, np.uint8)), **grid.placement)
    for corner in itertools.product((0, 3), (0, 4), (0, 5)):
        assert np.allclose(copy.data_to_world(corner), turned.data_to_world(corner))


def test_a_layer_that_was_moved_by_hand_counts_with_its_new_scale():
    data, options, _ = image_layer_data(placed("RAS"))
    layer = Image(data, **options)
    layer.scale = (5, 1, 1)
    assert np.allclose(read_grid(layer)[0].spacing, (1, 1, 5))


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Image(np.zeros((5, 6, 3), np.uint8), rgb=True, name="photo"), "colour"),
        (Image(np.zeros((5, 6)), name="slice"), "2 axes"),
        (Image(np.zeros((2, 3, 4, 5)), name="series"), "4 axes"),
        (Image([np.zeros((8, 8, 8)), np.zeros((4, 4, 4))], multiscale=True, name="pyramid"), "pyramid"),
    ],
)
def test_what_is_no_volume_is_refused_in_a_sentence(layer, words):
    with pytest.raises(GeometryError, match=words) as error:
        from_layer(layer)
    assert layer.name in str(error.value)
    assert len(str(error.value).split()) <= 30


def test_points_of_a_layer_with_its_own_transform_are_taken_through_the_world():
    data, options, _ = image_layer_data(placed("LAS", shape=(20, 20, 20)))
    image = Image(data, **options)
    six = np.array([[2, 9, 9], [17, 9, 9], [9, 3, 9], [9, 16, 9], [9, 9, 4], [9, 9, 15]], float)
    _, grid = read_grid(image)
    world = np.array([image.data_to_world(c) for c in grid.points_to_layer(six)])
    rotation = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    points = Points(np.zeros((6, 3)), name="mine", scale=(2, 1, 1), translate=(5, 5, 5), rotate=rotation)
    points.data = np.array([points.world_to_data(w) for w in world])
    found = from_layer(points, image)
    assert isinstance(found, ExtremePoints)
    assert np.allclose(found.points[0], six)


def test_points_without_an_image_ask_for_it():
    with pytest.raises(PromptError, match="image="):
        from_layer(Points(np.zeros((6, 3)), name="mine"))
    with pytest.raises(PromptError, match="six"):
        from_layer(Points(ndim=3, name="mine"))
    flat = Points(np.zeros((6, 2)), name="flat")
    with pytest.raises(PromptError, match="2 coordinates"):
        from_layer(flat, Image(np.zeros((4, 5, 6))))


def test_scale_one_points_on_a_coarse_image_allocate_nothing_large():
    image = Image(np.zeros((4, 5, 6), np.uint8), scale=(20000, 20000, 20000))
    volume, grid = read_grid(image)
    points = Points(np.array([[20000.0, 40000, 60000]]))
    from napari_weakseg.plugin.layers import voxels_of

    assert np.allclose(voxels_of(points, image, grid), [[3, 2, 1]])
    assert volume.array.nbytes == 120


def test_our_points_layer_becomes_extreme_points_again():
    viewer = ViewerModel()
    data, options, _ = image_layer_data(placed("AIL", shape=(20, 20, 20)))
    layers = Companions(viewer, viewer.add_image(data, **options))
    document = Document()
    six = [[2, 9, 9], [17, 9, 9], [9, 3, 9], [9, 16, 9], [9, 9, 4], [9, 9, 15]]
    for voxel in six:
        document = document.place(voxel, layers.volume.shape)
    layers.show_points(document)
    found = from_layer(viewer.layers["scan extreme points"])
    assert np.allclose(found.points[0], six)
    assert np.array_equal(found.affine, layers.volume.affine)


def test_labels_named_scribbles_become_scribbles():
    strokes = np.zeros((4, 5, 6), np.uint8)
    strokes[1, 2, 3], strokes[2, 2, 3] = 1, 255
    found = from_layer(Labels(strokes, name="scan scribbles"))
    assert isinstance(found, Scribbles)
    assert set(np.unique(found.labels)) == {0, 1, 255}


def test_show_adds_the_mask_and_updates_it():
    viewer = ViewerModel()
    volume = placed("RAS")
    first = volume.with_array((volume.array > 500).astype(np.uint8))
    layer = show(Result(first, (LESION,)), viewer)
    assert layer.name == "scan mask"
    assert np.array_equal(from_layer(layer).array, first.array)
    second = volume.with_array((volume.array > 800).astype(np.uint8))
    probability = np.random.default_rng(0).random(volume.shape).astype(np.float32)
    again = show(Result(second, (LESION,), {"probability lesion": probability}), viewer)
    assert again is layer
    assert np.array_equal(from_layer(layer).array, second.array)
    layer.undo()
    assert np.array_equal(from_layer(layer).array, first.array)
    assert not viewer.layers["scan probability lesion"].visible
