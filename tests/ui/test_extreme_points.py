"""The extreme points panel as a person uses it: mouse, buttons, keys, files."""

from __future__ import annotations

import nibabel as nib
import numpy as np
from user import phantom

from napari_weakseg.io.nifti import read_mask
from napari_weakseg.io.records import read_record


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
    hands.qtbot.waitUntil(lambda: "phantom preview" in hands.viewer.layers, timeout=5000)
    assert hands.viewer.layers["phantom preview"].contour > 0
    hands.idle(panel)
    assert "Refined" in panel.view.mask_label.text()
    hands.press(panel.view.accept_button)
    accepted = _mask(panel).copy()
    assert accepted.any()
    assert "phantom preview" not in hands.viewer.layers
    hands.press(panel.view.undo_button)
    assert not _mask(panel).any()
    assert "phantom preview" in hands.viewer.layers
    hands.press(panel.view.redo_button)
    assert np.array_equal(_mask(panel), accepted)
    panel.save_to(str(tmp_path / "out.nii.gz"))
    assert "Saved out.nii.gz" in panel.view.message.text()
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
