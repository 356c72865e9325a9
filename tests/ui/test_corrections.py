"""Strokes on the mask in view, what they leave behind, and the doubt: as a person uses them."""

from __future__ import annotations

import threading

import ellipsoid_method
import numpy as np
from qtpy.QtCore import Qt
from user import PATIENCE, phantom

from napari_weakseg.io.nifti import read_mask
from napari_weakseg.io.records import read_record
from napari_weakseg.plugin.edits import recoverable
from napari_weakseg.plugin.panels.extreme_points_view import KEYS


def shown(hands, panel, name="phantom first mask"):
    return panel.bench.layers.grid.to_volume(hands.viewer.layers[name].data) > 0


def draw(hands, panel, voxels):
    """A stroke by mouse from one voxel of the volume to another of the same axial slice."""
    start, stop = panel.bench.layers.grid.points_to_layer(np.array(voxels, dtype=float))
    hands.drag(panel.bench.layers.find("scribbles"), tuple(start), tuple(stop))
    hands.qtbot.wait(30)
    hands.idle(panel)


def ready(hands):
    volume, mask = phantom()
    hands.open(volume)
    panel = hands.panel()
    hands.place_all(panel, mask)
    return panel, volume


def test_a_stroke_on_the_object_adds_one_on_the_rest_takes_away_and_both_are_undone(hands):
    panel, _ = ready(hands)
    before = shown(hands, panel).copy()
    hands.press(panel.view.object_stroke)
    assert panel.view.object_stroke.isChecked()
    assert not panel.view.points_mode.isChecked()
    draw(hands, panel, [(31, 42, 12), (36, 42, 12)])
    added = shown(hands, panel).copy()
    assert added[33, 42, 12]
    assert (before & ~added).sum() == 0
    hands.press(panel.view.background_stroke)
    draw(hands, panel, [(28, 20, 12), (34, 20, 12)])
    taken = shown(hands, panel).copy()
    assert not taken[31, 20, 12]
    assert taken[33, 42, 12]
    assert (panel.bench.layers.read_strokes()[30:33, 20, 12] == 255).all()
    hands.press(panel.view.undo_button)
    assert np.array_equal(shown(hands, panel), added)
    assert not (panel.bench.layers.read_strokes() == 255).any()
    hands.press(panel.view.undo_button)
    assert np.array_equal(shown(hands, panel), before)
    assert not panel.bench.layers.read_strokes().any()
    hands.press(panel.view.redo_button)
    hands.idle(panel)
    assert np.array_equal(shown(hands, panel), added)
    hands.press(panel.view.points_mode)
    assert hands.viewer.layers.selection.active.name == "phantom extreme points"
    assert panel.view.points_mode.isChecked()


def test_keys_choose_what_the_mouse_does(hands):
    ready(hands)
    canvas = hands.canvas
    canvas.setFocus()
    shift = Qt.KeyboardModifier.ShiftModifier
    assert KEYS["object_stroke"] == "Shift-O"
    hands.qtbot.keyClick(canvas, Qt.Key.Key_O, shift)
    assert hands.viewer.layers.selection.active.name == "phantom scribbles"
    assert hands.viewer.layers["phantom scribbles"].selected_label == 1
    hands.qtbot.keyClick(canvas, Qt.Key.Key_B, shift)
    assert hands.viewer.layers["phantom scribbles"].selected_label == 255
    hands.qtbot.keyClick(canvas, Qt.Key.Key_C, shift)
    assert hands.viewer.layers["phantom extreme points"].mode == "add"


def test_a_finished_mask_is_corrected_and_accepting_replaces_it(hands, tmp_path):
    panel, volume = ready(hands)
    hands.press(panel.view.accept_button)
    accepted = panel.bench.layers.mask_voxels().copy()
    panel._look(next(iter(panel.bench.document.finished)))
    hands.press(panel.view.background_stroke)
    draw(hands, panel, [(28, 20, 12), (34, 20, 12)])
    assert "First mask" in panel.view.mask_label.text()
    hands.press(panel.view.accept_button)
    corrected = panel.bench.layers.mask_voxels()
    assert accepted[31, 20, 12]
    assert not corrected[31, 20, 12]
    assert (corrected > 0).sum() < (accepted > 0).sum()
    assert "strokes" in hands.save(panel, tmp_path / "out.nii.gz")
    strokes = read_mask(tmp_path / "out_scribbles.nii.gz", like=volume)
    assert np.array_equal(strokes.array, panel.bench.layers.read_strokes())
    record = read_record(tmp_path / "out.weakseg.json")
    assert record["saved"]["strokes"]["structures"] == [{"name": "lesion", "value": 1}]


def test_a_mask_that_was_loaded_is_corrected(hands):
    volume, mask = phantom()
    hands.open(volume)
    panel = hands.panel()
    layer = panel.bench.layers.mask(panel.bench.document)
    panel.bench.layers.grid.to_volume(layer.data)[mask] = 1
    hands.press(panel.view.background_stroke)
    draw(hands, panel, [(28, 20, 12), (34, 20, 12)])
    hands.press(panel.view.accept_button)
    now = panel.bench.layers.mask_voxels() > 0
    assert not now[31, 20, 12]
    assert (mask & ~now).sum() < 0.1 * mask.sum()


def test_a_stroke_alone_makes_a_mask_and_a_background_stroke_alone_says_what_is_missing(hands):
    volume, _ = phantom()
    hands.open(volume)
    panel = hands.panel()
    hands.press(panel.view.background_stroke)
    draw(hands, panel, [(5, 5, 12), (15, 5, 12)])
    assert "Draw on the object first" in panel.view.message.text()
    hands.press(panel.view.object_stroke)
    draw(hands, panel, [(28, 27, 12), (34, 27, 12)])
    assert shown(hands, panel)[31, 27, 12]


def test_strokes_survive_a_crash(hands):
    panel, volume = ready(hands)
    hands.qtbot.waitUntil(lambda: panel.bench.journal is not None, timeout=PATIENCE)
    hands.press(panel.view.object_stroke)
    draw(hands, panel, [(31, 42, 12), (36, 42, 12)])
    journal = panel.bench.journal.path
    text = journal.read_text().replace(f'"pid": {__import__("os").getpid()}', '"pid": 999999999')
    journal.write_text(text)
    found = recoverable(volume.sha256, volume.shape)
    assert found is not None
    assert found.document.strokes == panel.bench.document.strokes


def test_a_stroke_ends_a_refinement_that_no_longer_fits(hands):
    panel, _ = ready(hands)
    ellipsoid_method.gates["hold"] = threading.Event()
    hands.press(panel.view.refine_button)
    hands.press(panel.view.object_stroke)
    start, stop = panel.bench.layers.grid.points_to_layer(np.array([(31, 42, 12), (36, 42, 12)], dtype=float))
    hands.drag(panel.bench.layers.find("scribbles"), tuple(start), tuple(stop))
    hands.qtbot.wait(30)
    ellipsoid_method.gates["hold"].set()
    hands.idle(panel)
    assert "Refined" not in panel.view.mask_label.text()
    assert shown(hands, panel)[33, 42, 12]


def test_doubt_is_shown_and_looked_at_plane_by_plane(hands):
    panel, _ = ready(hands)
    hands.press(panel.view.object_stroke)
    draw(hands, panel, [(31, 42, 12), (36, 42, 12)])
    assert panel.view.doubt_label.text().startswith("Doubt ")
    layers = len(hands.viewer.layers)
    panel.view.doubt_box.click()
    assert len(hands.viewer.layers) == layers + 1
    doubt = hands.viewer.layers["phantom doubt"]
    assert doubt.colormap.name == "clear magma"
    voxel = panel.bench.layers.grid.points_to_layer([[33, 44, 12]])[0]
    world = panel.bench.layers.image.data_to_world(tuple(voxel))
    assert doubt.get_value(world, world=True) > 0.9
    first = panel.bench.next_doubt()
    order = hands.viewer.dims.order
    assert panel.bench.layers.grid.layer_axis(first.axis) == order[0]
    places = {first, *(panel.bench.next_doubt() for _ in range(5))}
    assert len(places) > 1
    hands.press(panel.view.doubt_button)
    panel.view.doubt_box.click()
    assert not doubt.visible
    assert all("doubt" not in panel.view.image_box.itemText(n) for n in range(panel.view.image_box.count()))


def test_high_doubt_is_said(hands):
    volume, _ = phantom()
    hands.open(volume)
    panel = hands.panel()
    hands.press(panel.view.object_stroke)
    draw(hands, panel, [(28, 27, 12), (34, 27, 12)])
    assert "the image says little" in panel.view.doubt_label.text()


def test_the_panel_fits_in_320_pixels_with_strokes_and_doubt(hands):
    panel, _ = ready(hands)
    panel.setFixedWidth(320)
    hands.qtbot.wait(50)
    view = panel.view
    for widget in (view.points_mode, view.object_stroke, view.background_stroke, view.doubt_button, view.doubt_box):
        assert widget.mapTo(panel, widget.rect().bottomRight()).x() <= 320
        wanted = widget.fontMetrics().horizontalAdvance(widget.text())
        assert widget.width() >= wanted, widget.text()
