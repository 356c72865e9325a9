"""The cohort panel as a person uses it: table, keys, buttons, training in the background."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QScrollArea
from user import PATIENCE

import fake_classifier
from fake_cohort import make_cohort
from napari_weakseg.io.cohort import read_cohort
from napari_weakseg.plugin.model_card import figures_of
from napari_weakseg.plugin.panels.cohort_view import ACCEPT_KEY, CLASS_KEYS, NEXT_KEY, UNDO_KEY
from napari_weakseg.plugin.panels.extreme_points_view import KEYS


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "napari_weakseg.methods._modules",
        lambda: {
            "fake_classifier": "fake_classifier",
            "simple_propagation": "ellipsoid_method",
            "ellipsoid": "ellipsoid_method",
        },
    )
    yield make_cohort(tmp_path)
    for gate in fake_classifier.gates.values():
        gate.set()
    fake_classifier.gates.clear()
    fake_classifier.reached.clear()


@pytest.fixture
def panel(hands, path):
    made = hands.panel("Cohort")
    made.open_cohort(str(path))
    return made


def _opened(hands, panel, case_id):
    hands.qtbot.waitUntil(lambda: panel.desk.case_id == case_id and not panel._opening, timeout=PATIENCE)
    hands.qtbot.wait(50)


def _idle(hands, panel):
    hands.qtbot.waitUntil(lambda: panel.training.runs.idle and not panel._saving and not panel._opening, timeout=PATIENCE)
    hands.qtbot.wait(50)


def _key(hands, key):
    hands.qtbot.keyClick(hands.canvas, key, Qt.KeyboardModifier.ControlModifier)
    hands.qtbot.wait(20)


def test_from_a_table_of_labels_to_reviewed_masks(hands, panel, path):
    view = panel.view
    assert "4 cases" in view.cohort_label.text()
    view.table.setFocus()
    view.table.selectRow(2)
    hands.qtbot.keyClick(view.table, Qt.Key.Key_Return)
    _opened(hands, panel, "case_2")
    panel.desk.go_to(5)
    _key(hands, Qt.Key.Key_2)  # the second class on slice 5, and on to the next
    _key(hands, Qt.Key.Key_2)
    hands.press(view.class_buttons[0])
    assert read_cohort(path).training.image_labels[2].label == tuple(int(n in (5, 6)) for n in range(12))
    assert panel.desk.slice_shown() == 8
    hands.qtbot.mouseClick(view.slices, Qt.MouseButton.LeftButton, pos=view.slices.place_of(3).toPoint())
    assert panel.desk.slice_shown() == 3
    assert "slice 3 of 12: normal" in view.case_label.text()
    assert view.table.item(2, 1).text() == "lesion on 2 of 12 slices"
    hands.press(view.train_button)
    _idle(hands, panel)
    assert "trained" in view.message.text().lower()
    assert view.curves.isVisible()
    assert view.train_button.text() == "Resume"
    hands.press(view.predict_button)
    _idle(hands, panel)
    assert "Predicted 4 of 4" in view.message.text()
    assert [view.table.item(row, 2).text() for row in range(4)] == ["segmented"] * 4
    hands.press(view.next_button)
    hands.qtbot.waitUntil(
        lambda: panel.desk.layers is not None and panel.desk.layers.find("mask") is not None, timeout=PATIENCE
    )
    _idle(hands, panel)
    current = panel.desk.case_id
    mask = panel.desk.layers.find("mask")
    mask.mode, mask.selected_label, mask.brush_size = "paint", 1, 3
    hands.viewer.layers.selection.active = mask
    before = int((panel.desk.layers.mask_voxels() > 0).sum())
    hands.click(mask, (6, 3, 3))
    assert int((panel.desk.layers.mask_voxels() > 0).sum()) > before
    hands.press(view.accept_button)
    _idle(hands, panel)
    assert (panel.desk.book.results / f"{current}_reviewed.nii.gz").exists()
    assert panel.desk.book.counts()["reviewed"] == 1


def test_what_was_painted_is_kept_when_another_case_is_opened(hands, panel):
    panel.open_case("case_0")
    _opened(hands, panel, "case_0")
    from napari_weakseg.plugin.session import Document

    panel.desk.layers.mask(Document(structures=panel.desk.structures))
    panel.desk.layers.mask_voxels()[2, 3, 4] = 1
    panel.open_case("case_1")
    _opened(hands, panel, "case_1")
    panel.open_case("case_0")
    _opened(hands, panel, "case_0")
    assert np.argwhere(panel.desk.layers.mask_voxels()).tolist() == [[2, 3, 4]]


def test_a_training_is_stopped_and_resumed(hands, panel):
    gate = fake_classifier.gates["hold"] = threading.Event()
    panel.training.form.container["steps"].value = 50
    hands.press(panel.view.train_button)
    hands.qtbot.waitUntil(fake_classifier.reached.is_set, timeout=PATIENCE)
    assert not panel.view.train_button.isEnabled()
    assert not panel.view.open_button.isEnabled()
    hands.press(panel.view.stop_button)
    assert "Stopped" in panel.view.message.text()
    gate.set()
    _idle(hands, panel)
    assert fake_classifier.closed.pop() is not threading.main_thread()  # the window need not wait for what is saved
    assert panel.view.train_button.text() == "Resume"
    before = dict(figures_of(panel.training.folder))
    hands.press(panel.view.train_button)
    _idle(hands, panel)
    assert "Trained" in panel.view.message.text()
    rows = panel.training.runs.rows  # the curves go on where they were
    assert [step for step, _ in rows] == list(range(1, len(rows) + 1))
    assert dict(rows[: len(before)]) == before
    assert rows[-1][1]["loss"] == 1 / 50


def test_more_marks_after_a_training_begin_another_run(hands, panel):
    hands.press(panel.view.train_button)
    _idle(hands, panel)
    panel.open_case("case_2")
    _opened(hands, panel, "case_2")
    hands.press(panel.view.class_buttons[1])
    hands.press(panel.view.train_button)
    _idle(hands, panel)
    words = panel.view.message.text()
    assert "other cases" in words
    assert "+ beside Run" in words
    hands.press(panel.view.new_run_button)
    assert panel.view.run_box.currentText() == "run_2"
    assert panel.view.train_button.text() == "Train"
    hands.press(panel.view.train_button)
    _idle(hands, panel)
    assert "Trained: run_2" in panel.view.message.text()
    assert [panel.view.run_box.itemText(row) for row in range(2)] == ["run_2", "run_1"]


def test_the_card_of_a_run_says_what_it_learnt_from_and_names_nobody(hands, panel, path):
    hands.press(panel.view.train_button)
    _idle(hands, panel)
    hands.qtbot.mouseClick(panel.view.card.toggleButton(), Qt.MouseButton.LeftButton)
    words = panel.view.card_label.text()
    assert "Learnt from: cohort balls, 2 cases of 2 patients, channels flair" in words
    assert "Marks: image label normal / lesion" in words
    assert "preset laptop, seed 0" in words
    assert "case_0" not in words
    assert str(path.parent) not in words


def test_a_label_is_taken_back_by_key(hands, panel, path):
    panel.open_case("case_2")
    _opened(hands, panel, "case_2")
    panel.desk.go_to(5)
    _key(hands, Qt.Key.Key_2)
    _key(hands, Qt.Key.Key_2)
    _key(hands, Qt.Key.Key_0)
    assert read_cohort(path).training.image_labels[2].label == tuple(int(n == 5) for n in range(12))
    assert panel.desk.slice_shown() == 6
    _key(hands, Qt.Key.Key_0)
    assert read_cohort(path).training.image_labels[2] is None
    assert not panel.view.undo_button.isEnabled()
    hands.press(panel.view.class_buttons[1])
    hands.press(panel.view.clear_button)
    hands.press(panel.view.undo_button)
    assert read_cohort(path).training.image_labels[2].label[5] == 1


def test_strokes_that_are_painted_are_kept_with_the_case_and_come_back(hands, panel, path):
    panel.open_case("case_2")
    _opened(hands, panel, "case_2")
    layer = panel.desk.stroke_layer()
    hands.viewer.layers.selection.active = layer
    layer.mode, layer.selected_label, layer.brush_size = "paint", 1, 3
    hands.click(layer, (6, 8, 8))
    hands.qtbot.waitUntil(lambda: read_cohort(path).training.entries[2].scribble is not None, timeout=PATIENCE)
    drawn = panel.desk._strokes.drawn()
    assert drawn.any()
    assert "scribbles" in panel.view.table.item(2, 1).text()
    panel.open_case("case_0")
    _opened(hands, panel, "case_0")
    panel.open_case("case_2")
    _opened(hands, panel, "case_2")
    assert np.array_equal(panel.desk._strokes.drawn(), drawn)
    assert np.array_equal(read_cohort(path).training[2].scribbles.labels, drawn)


def test_explain_opens_the_heatmap_of_the_case_in_view(hands, panel):
    hands.press(panel.view.train_button)
    _idle(hands, panel)
    panel.open_case("case_0")
    _opened(hands, panel, "case_0")
    hands.press(panel.view.explain_button)
    heat = hands.panel("Explainable heatmap")
    hands.qtbot.waitUntil(lambda: heat.task is None and heat.desk.explanation is not None, timeout=PATIENCE)
    assert heat.image == panel.desk.layers.image
    assert heat.trained.name == "run_1"


def test_points_that_are_clicked_are_kept_with_the_case(hands, panel, path):
    panel.open_case("case_2")
    _opened(hands, panel, "case_2")
    hands.press(panel.view.points_button)
    other = hands.panel()
    points = other.bench.layers.find("points")
    for voxel in [[3, 8, 6], [15, 8, 6], [9, 3, 6], [9, 13, 6], [9, 8, 4], [9, 8, 8]]:
        points.add(panel.desk.layers.grid.points_to_layer(voxel)[0])
        hands.qtbot.wait(20)
    hands.qtbot.waitUntil(lambda: read_cohort(path).training[2].points is not None, timeout=PATIENCE)
    hands.idle(other)
    assert "points" in panel.view.table.item(2, 1).text()


def test_a_case_that_is_removed_by_hand_is_closed(hands, panel):
    panel.open_case("case_0")
    _opened(hands, panel, "case_0")
    hands.viewer.layers.clear()
    assert panel.desk.case is None
    assert not panel.view.case_part.isVisible()


def test_a_damaged_image_is_one_sentence(hands, panel, tmp_path):
    (tmp_path / "case_1.nii.gz").write_bytes(b"broken")
    panel.open_case("case_1")
    hands.qtbot.waitUntil(lambda: "case_1" in panel.view.message.text() and not panel._opening, timeout=PATIENCE)
    assert len(panel.view.message.text().split()) <= 30
    hands.press(panel.view.check_button)
    hands.qtbot.waitUntil(lambda: "case_1.nii.gz" in panel.view.message.text(), timeout=PATIENCE)


def test_the_dialog_blocks_nothing(hands, panel, monkeypatch):
    opened = []
    monkeypatch.setattr(QFileDialog, "open", lambda self: opened.append(self.windowTitle()))
    hands.press(panel.view.open_button)
    assert opened == ["Open cohort"]


def test_closing_the_panel_gives_the_keys_back(hands, panel):
    assert "Ctrl+2" in {str(key) for key in hands.viewer.keymap}
    hands.viewer.window.remove_dock_widget(panel.parent())
    hands.qtbot.wait(100)
    assert "Ctrl+2" not in {str(key) for key in hands.viewer.keymap}


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_panel_works_at_320_pixels_in_both_themes(hands, panel, theme):
    hands.viewer.theme = theme
    panel.open_case("case_0")
    _opened(hands, panel, "case_0")
    panel.parent().setFixedWidth(320)
    hands.qtbot.wait(200)
    view = panel.view
    assert panel.findChild(QScrollArea).widget().width() <= 320
    fixed = (
        view.open_button,
        view.next_button,
        view.train_button,
        view.stop_button,
        view.accept_button,
        view.undo_button,
        view.explain_button,
    )
    for button in (*fixed, *view.class_buttons):
        assert button.fontMetrics().horizontalAdvance(button.text()) < button.width()


def test_no_key_of_the_panel_is_one_of_naparis_or_of_the_other_panel(hands):
    from app_model.types import KeyBinding
    from napari.layers import Image, Labels, Points, Shapes
    from napari.settings import get_settings
    from napari.viewer import Viewer

    def normal(key):
        return str(KeyBinding.from_str(key) if isinstance(key, str) else key)

    taken = {normal(key) for kind in (Viewer, Image, Labels, Points, Shapes) for key in kind.class_keymap}
    taken |= {normal(key) for keys in get_settings().shortcuts.shortcuts.values() for key in keys}
    taken |= {normal(key.replace("-", "+")) for key in KEYS.values()}
    keys = (*CLASS_KEYS, UNDO_KEY, ACCEPT_KEY, NEXT_KEY)
    assert not {normal(key.replace("Control-", "Ctrl+").replace("-", "+")) for key in keys} & taken
