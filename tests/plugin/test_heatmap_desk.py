"""The heatmap panel's work without a window."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from napari.components import ViewerModel

from fake_classifier import classify
from napari_weakseg.arrays.heatmap_refinement import refined_mask, refined_probability
from napari_weakseg.errors import DataError, PromptError, WeaksegError
from napari_weakseg.plugin.explanation import Explanation
from napari_weakseg.plugin.heatmap_desk import HeatmapDesk, boundary_on_image
from napari_weakseg.plugin.heatmap_layers import AGAINST, TOWARDS
from napari_weakseg.plugin.layers import image_layer_data, transform_of
from napari_weakseg.plugin.prompting import with_object
from napari_weakseg.plugin.session import Document
from napari_weakseg.volume import Volume

OBLIQUE = np.array([[0.0, -0.98, 0.1, 5.0], [1.0, 0.0, 0.0, -7.0], [0.0, 0.1, 2.9, 20.0], [0, 0, 0, 1.0]])


@pytest.fixture
def desk(blob):
    """A desk with the blob, turned and tilted, and what the fake classifier says of it."""
    volume = Volume(blob[0].array, OBLIQUE, "blob")
    viewer = ViewerModel()
    data, options, _ = image_layer_data(volume)
    made = HeatmapDesk(viewer)
    made.choose_image(viewer.add_image(data, **options))
    made.show(Explanation(volume, classify(volume)))
    return made


def _layer(desk, end):
    return next(layer for layer in desk.viewer.layers if layer.name == f"blob {end}")


def test_one_heatmap_layer_per_class_lies_exactly_on_the_image(desk):
    image = desk.layers.image
    for name in ("normal", "lesion"):
        layer = _layer(desk, f"heatmap {name}")
        assert np.allclose(transform_of(layer), transform_of(image))
        assert layer.units == image.units
        assert layer.axis_labels == image.axis_labels
        assert layer.blending == "additive"
        assert layer.colormap.name == "magma"
        assert np.array_equal(desk.layers.grid.to_volume(layer.data), desk.explanation.heatmap(name))
        assert layer.visible == (name == "lesion")
    desk.choose_class("normal")
    assert _layer(desk, "heatmap normal").visible
    assert not _layer(desk, "heatmap lesion").visible


def test_running_again_makes_no_second_layers(desk):
    count = len(desk.viewer.layers)
    desk.show(desk.explanation)
    assert len(desk.viewer.layers) == count


def test_the_threshold_draws_what_lies_above_it_and_nothing_where_the_class_is_not_predicted(desk):
    layer = _layer(desk, "heatmap mask")
    heat, predicted = desk.explanation.heatmap("lesion"), desk.explanation.predicted("lesion")
    for value in (desk.automatic["lesion"], 0.3, -5.0):
        desk.set_threshold(value)
        drawn = desk.layers.grid.to_volume(layer.data)
        assert np.array_equal(drawn == 1, (heat > value) & predicted[None, None, :] & desk.explanation.body)
        assert desk.size() == (int((drawn > 0).sum()), int((drawn > 0).any(axis=(0, 1)).sum()))


def test_the_automatic_threshold_finds_the_blob(desk, blob):
    found, wanted = desk.mask(), blob[1].array.astype(bool)
    assert 2 * (found & wanted).sum() / (found.sum() + wanted.sum()) > 0.65


def test_the_boundary_on_the_image_replaces_the_threshold_until_the_slider_moves(desk, blob):
    threshold_alone = desk.mask()
    desk.show_refined(desk.boundary()())
    wanted = blob[1].array.astype(bool)
    dice = [2 * (m & wanted).sum() / (m.sum() + wanted.sum()) for m in (threshold_alone, desk.mask())]
    assert dice[1] >= dice[0] > 0.65
    assert desk.refined
    assert desk.size() == (int(desk.mask().sum()), int(desk.mask().any(axis=(0, 1)).sum()))
    assert np.array_equal(desk.layers.grid.to_volume(_layer(desk, "heatmap mask").data) > 0, desk.mask())
    desk.set_threshold(desk.threshold)
    assert not desk.refined
    assert np.array_equal(desk.mask(), threshold_alone)


def test_decision_points_are_sized_and_coloured_by_what_they_add(desk):
    desk.show_decision(True)
    layer = _layer(desk, "decision points")
    values = layer.features["contribution"].to_numpy()
    assert len(values) == 3 * 12
    assert np.allclose(desk.layers.grid.points_to_volume(layer.data), desk.decision(here=False).voxels)
    assert layer.size[np.abs(values).argmax()] == layer.size.max()
    from napari.utils.colormaps.standardize_color import transform_color

    assert np.allclose(layer.face_color[values > 0], transform_color(TOWARDS))
    assert np.allclose(layer.face_color[values < 0], transform_color(AGAINST))
    desk.show_decision(False)
    assert not layer.visible


def test_the_decision_of_the_slice_that_is_looked_at(desk):
    desk.go_to(7)
    assert desk.slice_shown() == 7
    assert desk.decision().voxels[:, 2].tolist() == [7, 7, 7]
    desk.viewer.dims.order = desk.viewer.dims.order[1:] + desk.viewer.dims.order[:1]
    assert desk.slice_shown() is None
    desk.go_to(2)
    assert desk.slice_shown() == 2


def test_accepting_again_replaces_what_was_accepted_and_spares_paint_and_other_labels(desk):
    assert "accepted" in desk.accept()
    mask = desk.layers.mask_voxels()
    first = mask == 1
    assert np.array_equal(first, desk.mask())
    mask[0, 0, 0], mask[1, 1, 1] = 1, 2  # the user's own
    desk.set_threshold(desk.threshold + 0.3)
    desk.accept()
    assert mask[0, 0, 0] == 1
    assert mask[1, 1, 1] == 2
    second = (mask == 1).copy()
    second[0, 0, 0] = False
    assert np.array_equal(second, desk.mask())
    assert second.sum() < first.sum()
    desk.layers.find("mask").undo()
    assert (mask == 1).sum() == first.sum() + 1


def test_mask_and_heatmap_are_saved_on_the_images_grid(desk, tmp_path):
    desk.set_threshold(0.25)
    assert "saved lesion.nii.gz" in desk.save_mask(tmp_path / "lesion.nii.gz").write()
    assert "saved heat.nii.gz" in desk.save_heatmap(tmp_path / "heat").write()
    mask, heat = nib.load(tmp_path / "lesion.nii.gz"), nib.load(tmp_path / "heat.nii.gz")
    assert np.array_equal(np.asarray(mask.dataobj) == 1, desk.mask())
    assert np.allclose(heat.get_fdata(), desk.explanation.heatmap("lesion"))
    assert np.allclose(mask.affine, OBLIQUE, atol=1e-4)
    assert np.allclose(heat.affine, OBLIQUE, atol=1e-4)
    record = json.loads((tmp_path / "lesion.weakseg.json").read_text())
    assert record["saved"]["threshold"] == 0.25
    assert record["saved"]["class"] == "lesion"
    assert record["method"] == "fake classifier"


def test_without_a_result_everything_says_what_to_do(blob):
    desk = HeatmapDesk(ViewerModel())
    assert "run a classifier" in desk.accept()
    for act in (desk.prompts, desk.case, lambda: desk.save_mask("x"), lambda: desk.save_heatmap("x")):
        with pytest.raises(WeaksegError) as caught:
            act()
        assert len(str(caught.value).split()) <= 30


def test_channels_are_found_by_name(blob):
    viewer = ViewerModel()
    desk = HeatmapDesk(viewer)
    for name in ("case_t1", "case_flair"):
        data, options, _ = image_layer_data(Volume(blob[0].array, np.eye(4), name))
        desk.choose_image(viewer.add_image(data, **options))
    case = desk.case(("flair", "t1"))
    assert [volume.name for volume in case.channels.values()] == ["case_flair", "case_t1"]
    with pytest.raises(DataError, match="t2"):
        desk.case(("flair", "t2"))


def test_prompts_are_the_outermost_voxels_of_the_largest_piece(desk):
    six, mask = desk.prompts(), desk.mask()
    voxels = np.argwhere(mask)
    assert np.array_equal(six.min(axis=0), voxels.min(axis=0))
    assert np.array_equal(six.max(axis=0), voxels.max(axis=0))
    desk.set_threshold(99.0)
    with pytest.raises(PromptError, match="threshold"):
        desk.prompts()


def test_points_of_a_heatmap_become_an_object_of_their_own(desk):
    six = desk.prompts()
    shape = desk.layers.volume.shape
    one = with_object(Document(), six, shape)
    assert len(one.objects) == 1
    two = with_object(one, six, shape)
    assert len(two.objects) == 2
    assert len(two.marks) == 12
    assert np.array_equal(two.points_of(two.objects[0]), six)


def test_the_boundary_on_the_image_sees_what_the_classifier_saw(blob):
    """All channels and the run's smallest component, as predicting does."""
    volume, _ = blob
    result = classify(volume)
    other = volume.with_array(100 - volume.array[::-1, ::-1])
    limits = {"voxel_volume": volume.voxel_volume, "min_size": 30.0}
    explained = Explanation(volume, result, channels=(volume, other), min_component=30.0)
    heat, allowed = explained.heatmap("lesion"), explained.allowed("lesion")
    near = refined_probability([volume.array, other.array], heat, 0.1, allowed=allowed, spacing=volume.spacing, **limits)
    found = boundary_on_image(explained, "lesion", 0.1)
    assert found.any()
    assert np.array_equal(found, refined_mask(near, **limits))
    assert not boundary_on_image(Explanation(volume, result, min_component=1e6), "lesion", 0.1).any()
