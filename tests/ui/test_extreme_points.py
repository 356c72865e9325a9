"""The extreme points panel as a person uses it: mouse, buttons, keys, files."""

from __future__ import annotations

import threading

import nibabel as nib
import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QScrollArea
from user import PATIENCE, phantom

from napari_weakseg.io.nifti import read_mask, write_mask
from napari_weakseg.io.records import read_record
from napari_weakseg.plugin.panels.extreme_points_view import KEYS


def _mask(panel):
    return panel.bench.layers.mask_voxels()


def test_six_clicks_on_three_planes_give_a_first_mask(hands):
    volume, mask = phantom()
    hands.open(volume)
    panel = hands.panel()
    assert "6 outermost" in panel.view.hint.text()
    six = hands.click_all(panel, mask)
    hands.idle(panel)
    placed = panel.bench.layers.find("points").data
    assert len(placed) == 6
    assert np.abs(np.sort(placed, axis=0) - np.sort(six, axis=0)).max() < 0.7
    assert all(button.text().endswith("●") for button in panel.view.direction_buttons.values())
    assert panel.view.box_label.text().startswith("box 29 × 23 × 39 mm") or "mm" in panel.view.box_label.text()
    assert "First mask" in panel.view.mask_label.text()
    assert {"phantom box", "phantom extreme points", "phantom first mask"} <= {layer.name for layer in hands.viewer.layers}
    shown = panel.bench.layers.grid.to_volume(hands.viewer.layers["phantom first mask"].data) > 0
    assert 2 * (shown & mask).sum() / (shown.sum() + mask.sum()) > 0.9


def test_refine_accept_undo_save_reopen(hands, tmp_path):
    oblique = np.array([[0.98, -0.17, 0.0, 5.0], [0.17, 0.98, 0.0, -7.0], [0.0, 0.0, 3.0, 20.0], [0, 0, 0, 1.0]])
    volume, mask = phantom(affine=oblique)
    hands.open(volume)
    panel = hands.panel()
    hands.place_all(panel, mask)
    hands.press(panel.view.refine_button)
    hands.qtbot.waitUntil(lambda: hands.viewer.layers["phantom preview"].visible, timeout=PATIENCE)
    assert hands.viewer.layers["phantom preview"].contour > 0
    hands.idle(panel)
    assert "Refined" in panel.view.mask_label.text()
    hands.press(panel.view.accept_button)
    accepted = _mask(panel).copy()
    assert accepted.any()
    assert not hands.viewer.layers["phantom preview"].visible
    hands.press(panel.view.undo_button)
    assert not _mask(panel).any()
    assert hands.viewer.layers["phantom preview"].visible
    hands.press(panel.view.redo_button)
    assert np.array_equal(_mask(panel), accepted)
    assert "Saved out.nii.gz" in hands.save(panel, tmp_path / "out.nii.gz")
    saved = nib.load(tmp_path / "out.nii.gz")
    assert np.allclose(saved.affine, oblique, atol=1e-6)
    assert np.array_equal(np.asarray(saved.dataobj), accepted)
    assert read_mask(tmp_path / "out.nii.gz", like=volume).shape == volume.shape
    record = read_record(tmp_path / "out.weakseg.json")
    assert record["method"] == "ellipsoid"
    assert record["saved"]["edited_voxels"] == 0
    assert "phantom" not in str(record)
    hands.viewer.open(str(tmp_path / "out.nii.gz"), plugin="napari-weakseg")
    again = hands.viewer.layers["out"]
    mask_layer = panel.bench.layers.find("mask")
    assert np.array_equal(np.asarray(again.data), np.asarray(mask_layer.data))
    assert np.allclose(again.scale, mask_layer.scale)
    assert np.allclose(again.translate, mask_layer.translate, atol=1e-4)


def test_a_point_is_dragged_and_the_drag_undone(hands):
    volume, mask = phantom()
    image = hands.open(volume)
    panel = hands.panel()
    hands.place_all(panel, mask)
    points = panel.bench.layers.find("points")
    before = points.data.copy()
    first = panel.bench.proposals
    points.mode = "select"
    start = before[0]
    hands.drag(image, start, start + np.array((0, 3, 4)))
    hands.idle(panel)
    moved = points.data
    assert np.abs(moved[0] - start - np.array((0, 3, 4))).max() < 1
    assert np.allclose(moved[1:], before[1:])
    assert panel.bench.proposals != first
    assert panel.bench.history.past[-1].title == "move a point"
    hands.press(panel.view.undo_button)
    hands.idle(panel)
    assert np.allclose(points.data, before)
    assert "First mask" in panel.view.mask_label.text()


def test_a_click_outside_the_image_is_refused_in_a_sentence(hands):
    volume, _ = phantom()
    image = hands.open(volume)
    panel = hands.panel()
    hands.click(image, (12, -4, 30))
    assert "outside the image" in panel.view.message.text()
    assert len(panel.bench.layers.find("points").data) == 0


def test_keys_do_what_is_printed_on_the_buttons(hands):
    volume, mask = phantom()
    hands.open(volume)
    panel = hands.panel()
    hands.place_all(panel, mask)

    def key(char, modifier=Qt.KeyboardModifier.NoModifier):
        hands.qtbot.keyClick(hands.canvas, char, modifier)
        hands.qtbot.wait(30)

    assert "(U)" in panel.view.undo_button.text()
    key(Qt.Key.Key_U)
    assert len(panel.bench.document.marks) == 5
    key(Qt.Key.Key_U, Qt.KeyboardModifier.ShiftModifier)
    assert len(panel.bench.document.marks) == 6
    hands.idle(panel)
    key(Qt.Key.Key_G)
    hands.idle(panel)
    assert "Refined" in panel.view.mask_label.text()
    key(Qt.Key.Key_K)
    assert _mask(panel).any()
    key(Qt.Key.Key_N)
    assert panel.view.object_box.currentText() == "2 of 2"
    key(Qt.Key.Key_J)
    key(Qt.Key.Key_H)
    assert _mask(panel).any()


def test_no_key_of_the_panel_is_one_of_naparis(hands):
    from app_model.types import KeyBinding
    from napari.layers import Image, Labels, Points, Shapes
    from napari.settings import get_settings
    from napari.viewer import Viewer

    def normal(key):
        return str(KeyBinding.from_str(key) if isinstance(key, str) else key)

    taken = {normal(key) for kind in (Viewer, Image, Labels, Points, Shapes) for key in kind.class_keymap}
    taken |= {normal(key) for keys in get_settings().shortcuts.shortcuts.values() for key in keys}
    assert {"P", "V", "Ctrl+R"} <= taken
    ours = {normal(key.replace("-", "+")) for key in KEYS.values()}
    assert not ours & taken


def test_the_panel_works_at_320_pixels(hands):
    volume, mask = phantom(name="a very long name of an image that a hospital's archive has given it")
    hands.open(volume)
    panel = hands.panel()
    hands.place_all(panel, mask)
    inner = panel.view.findChild(QScrollArea).widget()
    assert inner.minimumSizeHint().width() <= 320
    panel.view.settings.expand(animate=False)
    hands.qtbot.wait(50)
    assert inner.minimumSizeHint().width() <= 320


def test_two_lesions_and_a_second_structure(hands):
    volume, mask = phantom(shape=(80, 60, 24), centre=(20, 30, 12), radius=(10, 9, 5))
    _, second = phantom(shape=(80, 60, 24), centre=(58, 30, 12), radius=(10, 9, 5))
    hands.open(volume)
    panel = hands.panel()
    hands.place_all(panel, mask)
    hands.press(panel.view.object_add)
    hands.place_all(panel, second)
    assert len(panel.bench.standing()) == 2
    hands.press(panel.view.refine_button)
    hands.idle(panel)
    hands.press(panel.view.accept_button)
    found = _mask(panel).copy()
    assert found[20, 30, 12] == found[58, 30, 12] == 1
    hands.press(panel.view.structure_add)
    assert panel.view.structure_box.currentText() == "structure 2"
    hands.place_all(panel, second)
    hands.press(panel.view.accept_button)
    assert np.array_equal(_mask(panel), found)
    assert "other finished labels" in panel.view.message.text()


def test_odd_images_work(hands):
    c, s = np.cos(0.4), np.sin(0.4)
    oblique = np.array([[c, -s, 0, 5.0], [s, c, 0, -7.0], [0, 0, 4.0, 20.0], [0, 0, 0, 1.0]])
    cases = {
        "oblique": phantom(affine=oblique, name="oblique"),
        "thick": phantom(affine=np.diag([0.5, 0.5, 8, 1]), name="thick"),
        "unknown": phantom(name="unknown", spacing_known=False, notes=("the spacing is unknown: sizes are in voxels",)),
    }
    panel = None
    for name, (volume, mask) in cases.items():
        image = hands.open(volume)
        panel = hands.panel() if panel is None else panel
        panel.choose_image(image)
        hands.place_all(panel, mask)
        hands.press(panel.view.accept_button)
        found = _mask(panel) > 0
        assert 2 * (found & mask).sum() / (found.sum() + mask.sum()) > 0.9, name
        image.visible = False
    assert "spacing is unknown" in panel.view.notes.text()
    assert panel.view.image_info.text() == "spacing unknown, 64 × 56 × 24 voxels"


def test_a_single_slice_takes_four_clicks(hands):
    volume, _ = phantom(shape=(64, 56, 1), radius=(14, 11, 1))
    image = hands.open(volume)
    panel = hands.panel()
    assert len(panel.view.direction_buttons) == 4
    for voxel in ((18, 28, 0), (45, 28, 0), (32, 17, 0), (32, 39, 0)):
        hands.click(image, tuple(panel.bench.layers.grid.points_to_layer(voxel)[0]))
    hands.idle(panel)
    assert "First mask" in panel.view.mask_label.text()


def test_images_that_cannot_be_used_are_refused_and_left_alone(hands):
    hands.viewer.add_image(np.zeros((30, 40, 3), np.uint8), rgb=True, name="photo")
    panel = hands.panel()
    assert "colour image" in panel.view.image_info.text()
    assert not panel.view.refine_button.isEnabled()
    assert [layer.name for layer in hands.viewer.layers] == ["photo"]
    volume, _ = phantom()
    hands.viewer.layers.clear()
    hands.open(volume)
    hands.qtbot.wait(50)
    assert "64 × 56 × 24" in panel.view.image_info.text()
    hands.viewer.add_image(np.zeros((2, 3, 4, 5)), name="series")
    panel.choose_image(hands.viewer.layers["series"])
    assert "4 axes" in panel.view.hint.text()


def test_the_save_button_asks_for_a_file_and_blocks_nothing(hands, tmp_path, monkeypatch):
    volume, mask = phantom()
    hands.open(volume)
    panel = hands.panel()
    assert not panel.view.save_button.isEnabled()
    hands.place_all(panel, mask)
    hands.press(panel.view.accept_button)
    hands.press(panel.view.save_button)
    dialog = panel.findChild(QFileDialog)
    assert dialog is not None
    dialog.fileSelected.emit(str(tmp_path / "by_dialog.nii.gz"))
    dialog.close()
    hands.saved(panel)
    assert (tmp_path / "by_dialog.nii.gz").exists()
    words = hands.save(panel, tmp_path / "missing" / "folder" / "x.nii.gz")
    assert len(words.split()) <= 30
    assert "Saved" not in words


def test_a_mask_is_written_off_the_gui_thread(hands, tmp_path, monkeypatch):
    volume, mask = phantom()
    hands.open(volume)
    panel = hands.panel()
    hands.place_all(panel, mask)
    hands.press(panel.view.accept_button)
    accepted = _mask(panel).copy()
    threads, gate = [], threading.Event()

    def held(*arguments):
        threads.append(threading.current_thread())
        gate.wait(20)
        return write_mask(*arguments)

    monkeypatch.setattr("napari_weakseg.plugin.export.write_mask", held)
    panel.save_to(str(tmp_path / "out.nii.gz"))
    hands.qtbot.waitUntil(lambda: len(threads) == 1, timeout=PATIENCE)
    assert threads[0] is not threading.main_thread()
    assert not panel.view.save_button.isEnabled()
    panel.ask_where_to_save()
    assert panel.findChild(QFileDialog) is None
    hands.press(panel.view.undo_button)  # the window works on, and what is written stays what it was
    assert not _mask(panel).any()
    assert not (tmp_path / "out.nii.gz").exists()
    gate.set()
    hands.saved(panel)
    assert panel.view.save_button.isEnabled()
    assert np.array_equal(np.asarray(nib.load(tmp_path / "out.nii.gz").dataobj), accepted)


def test_what_goes_wrong_in_saving_is_one_sentence(hands, tmp_path, monkeypatch):
    volume, mask = phantom()
    hands.open(volume)
    panel = hands.panel()
    hands.place_all(panel, mask)
    hands.press(panel.view.accept_button)

    def full(*arguments):
        raise RuntimeError("no")

    monkeypatch.setattr("napari_weakseg.plugin.export.write_mask", full)
    words = hands.save(panel, tmp_path / "out.nii.gz")
    assert words.startswith("Nothing was saved (RuntimeError)")
    assert len(words.split()) <= 30
    assert panel.view.save_button.isEnabled()


def test_unsaved_work_is_offered_when_the_image_is_opened_again(hands):
    volume, mask = phantom()
    image = hands.open(volume)
    panel = hands.panel()
    hands.qtbot.waitUntil(lambda: panel.bench.journal is not None, timeout=PATIENCE)
    hands.place_all(panel, mask)
    hands.press(panel.view.accept_button)
    kept = _mask(panel).copy()
    hands.viewer.layers.clear()
    hands.qtbot.wait(50)
    image = hands.open(volume)
    assert panel.bench.layers.image == image
    hands.qtbot.waitUntil(lambda: panel.view.recovery.isVisible(), timeout=PATIENCE)
    hands.press(panel.view.restore_button)
    assert np.array_equal(_mask(panel), kept)
    assert len(panel.bench.document.marks) == 6
    assert not panel.view.recovery.isVisible()
