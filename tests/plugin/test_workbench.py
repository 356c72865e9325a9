"""What the panel's buttons do, with napari's ViewerModel in place of the window."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from napari_weakseg.errors import PromptError, WeaksegError
from napari_weakseg.io.records import read_record
from napari_weakseg.methods import new_recipe
from napari_weakseg.plugin.companions import Companions
from napari_weakseg.plugin.proposals import FIRST, REFINED
from napari_weakseg.plugin.report import expected_line
from napari_weakseg.plugin.session import Job, ObjectKey
from napari_weakseg.plugin.workbench import Workbench
from napari_weakseg.recipe import Recipe


def test_the_sixth_click_completes_the_object(desk):
    assert desk.six((4, 5, 3), (14, 15, 9))
    job = desk.bench.job(first=True)
    assert isinstance(job, Job)
    assert job.recipe.max_seconds == 0
    assert job.case.points.points.min(axis=(0, 1)).tolist() == [4, 5, 3]
    assert sorted(desk.points.features["direction"]) == sorted("LRAPSI")


def test_the_letters_stand_at_the_patients_sides(desk):
    desk.six((4, 5, 3), (14, 15, 9))
    by_letter = dict(zip(desk.points.features["direction"], desk.bench.document.marks, strict=True))
    assert by_letter["R"].voxel[0] == 14 or by_letter["L"].voxel[0] == 14
    assert desk.volume.orientation == "LAS"
    assert by_letter["L"].voxel[0] == 14
    assert by_letter["A"].voxel[1] == 15
    assert by_letter["S"].voxel[2] == 9


def test_clicks_outside_are_refused_and_leave_everything_as_it_was(desk):
    desk.add((4, 5, 3))
    with pytest.raises(PromptError, match="outside"):
        desk.add((4, 5, 30))
    assert len(desk.points.data) == 1
    assert len(desk.bench.document.marks) == 1


def test_dragging_and_deleting_points_can_be_undone(desk):
    desk.six((4, 5, 3), (14, 15, 9))
    before = desk.points.data.copy()
    moved = before.copy()
    moved[2] += (0, 1, 2)
    desk.points.data = moved
    assert desk.bench.points_changed()
    assert np.allclose(desk.points.data, moved)
    desk.points.remove([0, 3])
    assert not desk.bench.points_changed()
    assert len(desk.bench.missing()) == 2
    assert desk.bench.undo() == "delete points"
    assert desk.bench.undo() == "move a point"
    assert np.allclose(desk.points.data, before)
    desk.bench.redo()
    assert np.allclose(desk.points.data, moved)


def test_a_moved_point_takes_the_first_mask_of_its_object_away_and_no_other(desk):
    desk.six((4, 5, 3), (10, 11, 9))
    desk.propose((4, 5, 3), (10, 11, 9))
    desk.bench.act("begin an object", desk.bench.document.add_object())
    desk.six((18, 18, 3), (25, 25, 9))
    desk.propose((18, 18, 3), (25, 25, 9))
    desk.bench.look(ObjectKey(1, 1))
    desk.add((3, 8, 6))
    assert [p.objects for p in desk.bench.proposals] == [(ObjectKey(1, 2),)]


def test_accept_is_one_undoable_step_for_the_panel_and_for_napari(desk):
    desk.six((4, 5, 3), (14, 15, 9))
    desk.propose((4, 5, 3), (14, 15, 9))
    assert desk.bench.accept(overwrite=False) == "accepted."
    assert (desk.mask == 1).sum() == 11 * 11 * 7
    assert desk.mask[4:15, 5:16, 3:10].all()
    layer = desk.viewer.layers["scan mask"]
    layer.undo()
    assert not desk.mask.any()
    layer.redo()
    assert desk.bench.undo() == "accept a mask"
    assert not desk.mask.any()
    assert [p.stage for p in desk.bench.proposals] == [FIRST]
    desk.bench.redo()
    assert desk.mask.sum() == 11 * 11 * 7


def test_finished_labels_are_not_overwritten_unless_told(desk):
    desk.six((4, 5, 3), (14, 15, 9))
    desk.propose((4, 5, 3), (14, 15, 9))
    desk.bench.accept(overwrite=False)
    first = desk.mask.copy()
    desk.bench.act("add a structure", desk.bench.document.add_structure())
    desk.six((10, 5, 3), (20, 15, 9))
    desk.propose((10, 5, 3), (20, 15, 9))
    words = desk.bench.accept(overwrite=False)
    assert f"{5 * 11 * 7} voxels of other finished labels" in words
    assert np.array_equal(desk.mask[first > 0], first[first > 0])
    assert (desk.mask[15:21, 5:16, 3:10] == 2).all()
    desk.bench.undo()
    desk.bench.accept(overwrite=True)
    assert (desk.mask[10:21, 5:16, 3:10] == 2).all()


def test_accepting_an_object_again_replaces_what_it_wrote_and_nothing_else(desk):
    desk.six((4, 5, 3), (14, 15, 9))
    desk.propose((4, 5, 3), (14, 15, 9))
    desk.bench.accept(overwrite=False)
    desk.six((18, 18, 3), (25, 25, 9))
    desk.propose((18, 18, 3), (25, 25, 9))
    desk.bench.accept(overwrite=False)
    desk.bench.look(ObjectKey(1, 1))
    desk.add((15, 10, 6))
    desk.propose((6, 5, 3), (15, 15, 9))
    desk.bench.accept(overwrite=False)
    assert not desk.mask[4:6].any()
    assert desk.mask[6:16, 5:16, 3:10].all()
    assert desk.mask[18:26, 18:26, 3:10].all()


def test_undoing_an_accept_spares_what_was_painted_since(desk):
    desk.six((4, 5, 3), (14, 15, 9))
    desk.propose((4, 5, 3), (14, 15, 9))
    desk.bench.accept(overwrite=False)
    layer = desk.viewer.layers["scan mask"]
    z, y, x = desk.bench.layers.grid.points_to_layer((5, 6, 4))[0].astype(int)
    layer.data_setitem((np.array([z]), np.array([y]), np.array([x])), 7)
    desk.bench.undo()
    assert desk.mask[5, 6, 4] == 7
    assert np.count_nonzero(desk.mask) == 1


def test_the_refined_mask_stands_and_discard_goes_back_one_stage(desk):
    desk.six((4, 5, 3), (14, 15, 9))
    desk.propose((4, 5, 3), (14, 15, 9))
    desk.propose((3, 5, 3), (14, 15, 9), stage=REFINED)
    assert [p.stage for p in desk.bench.standing()] == [REFINED]
    assert desk.viewer.layers["scan preview"].contour == 1
    assert desk.viewer.layers["scan first mask"].contour == 0
    desk.propose((5, 5, 3), (14, 15, 9), stage=REFINED)
    shown = desk.bench.layers.grid.to_volume(desk.viewer.layers["scan preview"].data)
    assert not shown[3:5].any()
    desk.bench.discard()
    assert [p.stage for p in desk.bench.standing()] == [FIRST]
    assert not desk.viewer.layers["scan preview"].visible
    desk.bench.discard()
    assert desk.bench.standing() == ()
    assert len(desk.points.data) == 6


def test_renamed_and_removed_layers_are_found_or_made_again(desk):
    desk.six((4, 5, 3), (14, 15, 9))
    desk.viewer.layers["scan extreme points"].name = "my points"
    desk.image.name = "renamed"
    desk.propose((4, 5, 3), (14, 15, 9))
    desk.bench.accept(overwrite=False)
    assert "renamed mask" in desk.viewer.layers
    assert "renamed extreme points" not in desk.viewer.layers
    desk.viewer.layers.remove(desk.viewer.layers["renamed mask"])
    desk.six((18, 18, 3), (25, 25, 9))
    desk.propose((18, 18, 3), (25, 25, 9))
    desk.bench.accept(overwrite=False)
    assert (desk.mask > 0).sum() == 8 * 8 * 7


def test_each_image_has_its_own_work(desk):
    desk.add((4, 5, 3))
    other = desk.viewer.add_image(np.zeros((5, 6, 7)), name="other")
    desk.bench.choose_image(other)
    assert desk.bench.document.marks == ()
    desk.bench.choose_image(desk.image)
    assert len(desk.bench.document.marks) == 1
    assert len(desk.points.data) == 1


def test_layers_that_cannot_be_used_say_why_and_add_nothing(desk):
    photo = desk.viewer.add_image(np.zeros((5, 6, 3), np.uint8), rgb=True, name="photo")
    layers = len(desk.viewer.layers)
    desk.bench.choose_image(photo)
    assert "colour" in desk.bench.session.problem
    assert desk.bench.job(first=False)[0].sentence == desk.bench.session.problem
    assert len(desk.viewer.layers) == layers


def test_other_images_of_the_grid_become_channels(desk):
    data = desk.image.data * 2
    desk.viewer.add_image(data, **{**_options(desk), "name": "second"})
    desk.viewer.add_image(np.zeros((5, 6, 7)), name="elsewhere")
    desk.bench.use_channels(True)
    desk.six((4, 5, 3), (14, 15, 9))
    assert len(desk.bench.job(first=False).case.channels) == 2


def _options(desk):
    from napari_weakseg.plugin.layers import image_layer_data

    return image_layer_data(desk.volume)[1]


def test_saving_writes_mask_and_record_without_names(desk, tmp_path):
    desk.six((4, 5, 3), (14, 15, 9))
    desk.propose((4, 5, 3), (14, 15, 9), record={"method": "fake", "seed": 3})
    desk.bench.accept(overwrite=False)
    layer = desk.viewer.layers["scan mask"]
    layer.data_setitem((np.array([0]), np.array([0]), np.array([0])), 1)
    assert "out.nii.gz" in desk.save(tmp_path / "out")
    image = nib.load(tmp_path / "out.nii.gz")
    assert np.array_equal(np.asarray(image.dataobj), desk.mask)
    assert np.allclose(image.affine, desk.volume.affine)
    record = read_record(tmp_path / "out.weakseg.json")
    assert record["method"] == "fake"
    assert record["saved"]["edited_voxels"] == 1
    assert len(record["saved"]["marks"]) == 6
    assert "scan" not in (tmp_path / "out.weakseg.json").read_text()


def test_saving_says_what_is_odd_about_the_export(desk, tmp_path):
    desk.six((4, 5, 3), (14, 15, 9))
    desk.propose((4, 5, 3), (14, 15, 9), record={"method": "fake"})
    desk.bench.accept(overwrite=False)
    desk.save(tmp_path / "out.nii")
    assert "Note: out.nii lies beside it" in desk.save(tmp_path / "out.nii.gz")


def test_nothing_is_saved_without_a_mask(desk, tmp_path):
    with pytest.raises(WeaksegError, match="no mask"):
        desk.save(tmp_path / "out.nii.gz")
    assert list(tmp_path.glob("out*")) == []


def test_what_is_done_while_a_mask_is_written_is_neither_saved_nor_lost(desk, tmp_path):
    desk.bench.identify("c" * 64)
    desk.six((4, 5, 3), (14, 15, 9))
    desk.propose((4, 5, 3), (14, 15, 9))
    desk.bench.accept(overwrite=False)
    before = desk.mask.copy()
    save = desk.bench.save(tmp_path / "out.nii.gz")
    desk.bench.undo()
    desk.add((20, 20, 5))
    save.write()
    desk.bench.saved(save)
    assert np.array_equal(np.asarray(nib.load(tmp_path / "out.nii.gz").dataobj), before)
    assert read_record(tmp_path / "out.weakseg.json")["saved"]["edited_voxels"] == 0
    assert np.array_equal(desk.bench.last_saved, before)
    fresh = type(desk)()
    fresh.bench.identify("c" * 64)
    assert fresh.bench.recovered.document == desk.bench.document


def test_saved_work_is_not_offered_again(desk, tmp_path):
    desk.bench.identify("c" * 64)
    desk.six((4, 5, 3), (14, 15, 9))
    desk.propose((4, 5, 3), (14, 15, 9))
    desk.bench.accept(overwrite=False)
    desk.save(tmp_path / "out.nii.gz")
    fresh = type(desk)()
    fresh.bench.identify("c" * 64)
    assert fresh.bench.recovered is None


def test_who_does_not_want_it_has_nothing_kept(desk, tmp_path):
    from napari.settings import get_plugin_settings

    get_plugin_settings("napari-weakseg").unsaved_work.keep = False
    desk.bench.identify("c" * 64)
    desk.six((4, 5, 3), (14, 15, 9))
    desk.propose((4, 5, 3), (14, 15, 9))
    desk.bench.accept(overwrite=False)
    desk.save(tmp_path / "out.nii.gz")
    assert list(tmp_path.rglob("*.jsonl")) == []
    get_plugin_settings("napari-weakseg").unsaved_work.keep = True
    desk.bench.identify("c" * 64)
    assert len(list(tmp_path.rglob("*.jsonl"))) == 1


def test_time_memory_and_device_are_said_before_a_run(desk):
    desk.six((4, 5, 3), (14, 15, 9))
    job = replace(desk.bench.job(first=False), method="simple_propagation")
    words = expected_line(new_recipe("simple_propagation", device="cpu", max_seconds=40), job)
    assert words.startswith("refining takes up to 40 s · about 7")
    assert " MB" in words


def test_unsaved_work_is_offered_and_comes_back(desk):
    desk.bench.identify("c" * 64)
    desk.six((4, 5, 3), (14, 15, 9))
    desk.propose((4, 5, 3), (14, 15, 9))
    desk.bench.accept(overwrite=False)
    desk.bench.act("add a structure", desk.bench.document.add_structure())
    left = desk.mask.copy()
    document = desk.bench.document
    fresh = type(desk)()
    fresh.bench.identify("c" * 64)
    assert fresh.bench.recovered is not None
    fresh.bench.restore()
    assert fresh.bench.document == document
    assert np.array_equal(fresh.mask, left)
    assert len(fresh.points.data) == 6
    third = type(desk)()
    third.bench.identify("c" * 64)
    third.bench.forget()
    fourth = type(desk)()
    fourth.bench.identify("c" * 64)
    assert fourth.bench.recovered is None


def test_jumping_shows_the_missing_direction_in_the_plane(desk):
    desk.add((4, 5, 3))
    desk.add((14, 5, 3))
    for direction in range(6):
        desk.bench.jump(direction)
        axis = desk.bench.layers.grid.layer_axis(direction // 2)
        held = direction not in desk.bench.missing()
        assert held or axis in desk.viewer.dims.order[-2:]


def test_what_was_cut_short_by_a_bad_mask_layer_is_said(desk, tmp_path):
    desk.six((4, 5, 3), (14, 15, 9))
    desk.propose((4, 5, 3), (14, 15, 9))
    desk.bench.accept(overwrite=False)
    desk.viewer.layers["scan mask"].data = np.zeros((3, 3, 3), np.uint8)
    with pytest.raises(WeaksegError, match="another shape"):
        desk.save(tmp_path / "out.nii.gz")


def test_many_clicks_and_undos_leave_no_listeners_or_layers_behind(desk):
    rng = np.random.default_rng(0)
    desk.add(rng.integers(0, (30, 28, 16)))
    desk.add(rng.integers(0, (30, 28, 16)))
    listeners = [len(emitter.callbacks) for layer in desk.viewer.layers for emitter in layer.events.emitters.values()]
    for _ in range(40):
        desk.add(rng.integers(0, (30, 28, 16)))
        desk.bench.undo()
    assert [len(e.callbacks) for layer in desk.viewer.layers for e in layer.events.emitters.values()] == listeners
    assert len(desk.viewer.layers) == 5
    assert isinstance(desk.bench.layers, Companions)


def test_a_closed_panel_is_taken_up_where_it_was_left(desk):
    desk.six((4, 5, 3), (14, 15, 9))
    desk.propose((4, 5, 3), (14, 15, 9))
    desk.bench.accept(overwrite=False)
    desk.add((20, 20, 5))
    again = Workbench(desk.viewer, "fake", Recipe())
    again.choose_image(desk.image)
    assert again.document == desk.bench.document
    assert again.layers.find("mask") == desk.bench.layers.find("mask")
