"""The scribbles panel as a person uses it: mouse, keys, buttons, files."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from qtpy.QtCore import Qt

import stroke_method
from napari_weakseg.io.nifti import read_mask, write_mask
from napari_weakseg.io.records import read_record
from napari_weakseg.plugin.panels.scribbles_view import KEYS
from napari_weakseg.plugin.panels.structure_table import LOCK, MARKED, NAME, SHOW, VALUE
from napari_weakseg.plugin.proposals import FIRST, REFINED
from napari_weakseg.volume import Volume

TITLE = "Scribbles (adversarial gates)"
WAIT = 300000
LEFT, RIGHT = (20, 24, 8), (44, 24, 8)


@pytest.fixture(autouse=True)
def stroke_rooms(monkeypatch, own_state):
    rooms = {"simple_propagation": "ellipsoid_method", "strokes": "stroke_method"}
    rooms |= {name: f"napari_weakseg.methods.{name}" for name in ("partial_cross_entropy", "adversarial_gating")}
    monkeypatch.setattr("napari_weakseg.methods._modules", lambda: rooms)
    monkeypatch.setattr("napari_weakseg.plugin.panels.scribbles.DEFAULT", "strokes")
    stroke_method.begun.clear()
    stroke_method.closed.clear()
    yield
    for gate in stroke_method.gates.values():
        gate.set()
    stroke_method.gates.clear()


def two_balls():
    """Two balls of different brightness on a noisy dark ground."""
    shape = (64, 48, 16)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    image = np.random.default_rng(0).normal(50, 3, shape)
    inside = {1: LEFT, 2: RIGHT}
    mask = np.zeros(shape, dtype=np.uint8)
    for value, centre in inside.items():
        mask[(((index - centre) / (9, 9, 5)) ** 2).sum(axis=-1) <= 1] = value
    image[mask == 1] += 70
    image[mask == 2] += 140
    return Volume(image.astype(np.float32), np.diag([1.0, 1.0, 2.0, 1.0]), "balls"), mask


def codes(panel):
    return panel.desk.own.read_strokes()


def shown(panel, stage=FIRST):
    """What is seen in a proposal's layer, on the volume."""
    name = "balls mask of strokes" if stage == FIRST else "balls refined mask of strokes"
    return panel.desk.own.grid.to_volume(panel.viewer.layers[name].data)


def idle(hands, panel):
    hands.qtbot.waitUntil(lambda: panel.runs.idle and not panel._while_drawing.isActive(), timeout=WAIT)
    hands.qtbot.wait(20)


def drag(hands, panel, start, stop, plane=0, wait=True):
    """A stroke by mouse between two voxels of the volume, in the plane across an axis of the layer."""
    ends = panel.desk.own.grid.points_to_layer(np.array([start, stop], dtype=float))
    hands.drag(panel.desk.own.find("scribbles"), tuple(ends[0]), tuple(ends[1]), plane=plane)
    hands.qtbot.wait(30)
    if wait:
        idle(hands, panel)


def row(panel, code):
    return panel.view.table.row_of(code)


def choose(hands, panel, code):
    """Click on a row of the table."""
    table = panel.view.table
    place = table.visualItemRect(table.item(row(panel, code), MARKED)).center()
    hands.qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)


def cell(panel, code, column):
    return panel.view.table.item(row(panel, code), column)


def tick(hands, panel, code, column):
    """Click on a box of the table."""
    table = panel.view.table
    area = table.visualItemRect(cell(panel, code, column))
    area.setWidth(min(area.width(), 24))
    hands.qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=area.center())


@pytest.fixture
def ready(hands):
    """The panel on the two balls, with two structures."""
    volume, mask = two_balls()
    hands.open(volume)
    panel = hands.panel(TITLE)
    hands.press(panel.view.structure_add)
    return panel, volume, mask


def draw_all(hands, panel):
    """Two structures and the background, by mouse, on two planes."""
    choose(hands, panel, 1)
    drag(hands, panel, (16, 24, 8), (24, 24, 8))
    choose(hands, panel, 2)
    drag(hands, panel, (44, 24, 6), (44, 24, 10), plane=1)
    choose(hands, panel, 255)
    drag(hands, panel, (10, 6, 8), (54, 6, 8))


def test_strokes_of_two_structures_and_background_on_two_planes_and_the_mask_follows(hands, ready):
    panel, _, mask = ready
    assert panel.view.table.rowCount() == 3
    choose(hands, panel, 1)
    drag(hands, panel, (16, 24, 8), (24, 24, 8))
    assert "Note: all strokes are of one kind" in panel.view.mask_notes.text()
    assert (codes(panel) == 1)[17:24, 24, 8].all()
    assert not (codes(panel) == 1)[:, :, [7, 9]].any()  # on the slice in view alone
    one = shown(panel).copy()
    assert (one == 1)[20, 24, 8]
    assert not (one == 2).any()
    choose(hands, panel, 2)
    drag(hands, panel, (44, 24, 6), (44, 24, 10), plane=1)
    assert (codes(panel) == 2)[44, 24, 6:11].all()
    assert not (codes(panel) == 2)[:, 23].any()
    choose(hands, panel, 255)
    drag(hands, panel, (10, 6, 8), (54, 6, 8))
    both = shown(panel)
    for value in (1, 2):
        assert 2 * ((both == value) & (mask == value)).sum() / ((both == value).sum() + (mask == value).sum()) > 0.95
    assert cell(panel, 2, MARKED).text().endswith(" on 5") or "on 6" in cell(panel, 2, MARKED).text()
    assert "structure 1" in panel.view.mask_label.text()
    assert "of one kind" not in panel.view.mask_notes.text()
    assert panel.view.slices.isVisible()


def test_the_mask_follows_while_the_mouse_is_down(hands, ready):
    panel, _, _ = ready
    choose(hands, panel, 1)
    layer = panel.desk.own.find("scribbles")
    ends = panel.desk.own.grid.points_to_layer(np.array([(16, 24, 8), (24, 24, 8)], dtype=float))
    hands.show_slice(layer, tuple(ends[0]))
    path = [hands.pixel(layer, tuple(c)) for c in np.linspace(*ends, 8)]
    hands.qtbot.mouseMove(hands.canvas, path[0])
    hands.qtbot.mousePress(hands.canvas, Qt.MouseButton.LeftButton, pos=path[0])
    for point in path:
        hands.qtbot.mouseMove(hands.canvas, point)
        hands.qtbot.wait(10)
    hands.qtbot.waitUntil(lambda: panel.desk.in_view() is not None, timeout=WAIT)
    assert shown(panel)[20, 24, 8] == 1
    assert not panel.desk.history.past[1:]  # no stroke of its own yet
    hands.qtbot.mouseRelease(hands.canvas, Qt.MouseButton.LeftButton, pos=path[-1])
    hands.qtbot.wait(50)
    idle(hands, panel)
    assert [edit.title for edit in panel.desk.history.past[1:]] == ["draw a stroke"]


def test_keys_choose_what_the_brush_draws_and_napari_keeps_its_letters(hands, ready):
    panel, _, _ = ready
    layer = hands.viewer.layers["balls scribbles"]
    hands.canvas.setFocus()
    for key, code in ((Qt.Key.Key_1, 1), (Qt.Key.Key_2, 2), (Qt.Key.Key_0, 255)):
        hands.qtbot.keyClick(hands.canvas, key)
        assert layer.selected_label == code
        assert layer.mode == "paint"
        assert panel.view.table.currentRow() == row(panel, code)
    hands.qtbot.keyClick(hands.canvas, Qt.Key.Key_E)
    assert layer.mode == "erase"
    assert "Choose a structure" in panel.view.hint.text()
    hands.qtbot.keyClick(hands.canvas, Qt.Key.Key_9)  # no such structure
    assert layer.selected_label == 255
    layer.mode = "paint"
    layer.selected_label = 2  # in napari's own controls
    assert panel.view.table.currentRow() == row(panel, 2)


def test_closing_the_dock_gives_the_keys_back_and_leaves_the_strokes(hands, ready):
    panel, _, _ = ready
    choose(hands, panel, 1)
    drag(hands, panel, (16, 24, 8), (24, 24, 8))
    layer = hands.viewer.layers["balls scribbles"]
    assert "3" in {str(key) for key in layer.keymap}
    hands.viewer.window.remove_dock_widget(panel.parent())
    hands.qtbot.waitUntil(lambda: not layer.keymap, timeout=WAIT)
    assert (layer.data == 1).any()


def test_rubbing_out_takes_marks_away_and_is_undone_with_napari_s_own_key(hands, ready):
    panel, _, _ = ready
    choose(hands, panel, 1)
    drag(hands, panel, (16, 24, 8), (24, 24, 8))
    before = codes(panel).copy()
    hands.canvas.setFocus()
    hands.qtbot.keyClick(hands.canvas, Qt.Key.Key_E)
    drag(hands, panel, (16, 24, 8), (24, 24, 8))
    assert not codes(panel).any()
    assert panel.desk.in_view() is None
    assert "draw a stroke on each structure" in panel.view.message.text().lower()
    hands.qtbot.keyClick(hands.canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    idle(hands, panel)
    assert np.array_equal(codes(panel), before)
    assert panel.desk.in_view() is not None


def test_lock_and_accept(hands, ready):
    panel, _, _ = ready
    draw_all(hands, panel)
    hands.press(panel.view.accept_button)
    accepted = panel.desk.layers.mask_voxels().copy()
    assert set(np.unique(accepted)) == {0, 1, 2}
    tick(hands, panel, 2, LOCK)
    assert panel.desk.document.locked == {2}
    choose(hands, panel, 1)
    drag(hands, panel, (40, 24, 8), (48, 24, 8))  # over the locked one
    choose(hands, panel, 255)
    drag(hands, panel, (16, 20, 8), (24, 20, 8))
    hands.press(panel.view.accept_button)
    assert "1 locked" in panel.view.message.text()
    now = panel.desk.layers.mask_voxels()
    assert np.array_equal(now == 2, accepted == 2)
    assert (accepted == 1)[20, 20, 8]
    assert not (now == 1)[20, 20, 8]
    hands.press(panel.view.undo_button)
    assert np.array_equal(panel.desk.layers.mask_voxels(), accepted)
    assert panel.desk.in_view() is not None
    tick(hands, panel, 1, SHOW)
    assert hands.viewer.layers["balls mask"].colormap.color_dict[1][3] == 0
    tick(hands, panel, 1, SHOW)
    assert hands.viewer.layers["balls mask"].colormap.color_dict[1][3] == 1


def test_refine_shows_previews_and_is_undone_step_by_step(hands, ready):
    panel, _, _ = ready
    draw_all(hands, panel)
    first = shown(panel).copy()
    hands.press(panel.view.refine_button)
    assert panel.view.cancel_button.isEnabled()
    hands.qtbot.waitUntil(lambda: hands.viewer.layers["balls refined mask of strokes"].visible, timeout=WAIT)
    idle(hands, panel)
    assert "Refined" in panel.view.mask_label.text()
    assert panel.view.mask_notes.text() == "Note: without unpaired masks"
    assert not panel.view.message.isVisible()  # the same while it ran
    refined = shown(panel, REFINED).copy()
    assert (refined > 0).sum() > (first > 0).sum()
    assert len(panel.desk.slices().values) == 16
    panel.view.maps_box.click()
    assert hands.viewer.layers["balls attention 1/4"].visible
    hands.press(panel.view.doubt_button)
    assert panel.desk.slice_shown() == 15
    place = panel.view.slices.place_of(4).toPoint()
    hands.qtbot.mouseClick(panel.view.slices, Qt.MouseButton.LeftButton, pos=place)
    assert panel.desk.slice_shown() == 4
    hands.press(panel.view.undo_button)
    assert panel.view.message.text() == "Undone: refine."
    assert not hands.viewer.layers["balls refined mask of strokes"].visible
    for _ in range(3):
        hands.press(panel.view.undo_button)
        idle(hands, panel)
    assert not codes(panel).any()
    for _ in range(4):
        hands.press(panel.view.redo_button)
        idle(hands, panel)
    assert np.array_equal(shown(panel, REFINED), refined)
    assert np.array_equal(shown(panel), first)


def test_a_stroke_while_refining_updates_the_first_mask_and_the_refinement_goes_on(hands, ready):
    panel, _, _ = ready
    draw_all(hands, panel)
    panel.form.container["steps"].value = 1000
    panel.form.container["work"].value = 0.01
    hands.press(panel.view.refine_button)
    hands.qtbot.waitUntil(lambda: panel.runs.refined, timeout=WAIT)
    hands.qtbot.wait(1200)
    choose(hands, panel, 255)
    drag(hands, panel, (40, 24, 8), (48, 24, 8), wait=False)
    hands.qtbot.waitUntil(lambda: shown(panel)[44, 24, 8] == 0, timeout=WAIT)
    assert panel.runs.refining
    hands.qtbot.waitUntil(lambda: shown(panel, REFINED)[44, 24, 8] == 0, timeout=WAIT)
    assert len(stroke_method.begun) == 2
    assert stroke_method.begun[1] > 0
    hands.press(panel.view.cancel_button)
    idle(hands, panel)
    assert "cancelled" in panel.view.message.text().lower()
    assert panel.runs.refined
    assert panel.desk.history.past[-1].title == "refine"
    choose(hands, panel, 1)
    drag(hands, panel, (18, 22, 8), (22, 22, 8))  # after Cancel nothing goes on by itself
    assert not panel.runs.refined
    assert "goes on from where it was" in panel.view.progress.label.text()


def test_a_stroke_after_refining_goes_on_with_it(hands, ready):
    panel, _, _ = ready
    draw_all(hands, panel)
    hands.press(panel.view.refine_button)
    idle(hands, panel)
    drag(hands, panel, (30, 40, 8), (40, 40, 8))
    assert stroke_method.begun == [0, 4]
    assert panel.runs.refined
    hands.press(panel.view.undo_button)
    assert panel.view.message.text() == "Undone: refine."


def test_cancel_acts_at_once_and_drawing_goes_on(hands, ready):
    panel, _, _ = ready
    draw_all(hands, panel)
    stroke_method.gates["hold"] = threading.Event()
    hands.press(panel.view.refine_button)
    hands.press(panel.view.cancel_button)
    assert not panel.view.cancel_button.isEnabled()
    choose(hands, panel, 255)
    drag(hands, panel, (40, 24, 8), (48, 24, 8), wait=False)
    hands.qtbot.waitUntil(lambda: shown(panel)[44, 24, 8] == 0, timeout=WAIT)
    stroke_method.gates["hold"].set()
    idle(hands, panel)
    assert not panel.runs.refined


def test_a_fit_that_fails_is_said_in_a_sentence(hands, ready):
    panel, _, _ = ready
    draw_all(hands, panel)
    panel.form.container["fails"].value = True
    hands.press(panel.view.refine_button)
    idle(hands, panel)
    assert "ValueError" in panel.view.message.text()
    assert panel.view.refine_button.isEnabled()
    assert panel.desk.in_view() is not None


def test_structures_are_edited_in_the_table(hands, ready):
    panel, _, _ = ready
    draw_all(hands, panel)
    cell(panel, 1, NAME).setText("RV")
    cell(panel, 2, VALUE).setText("30")
    idle(hands, panel)
    assert [(s.name, s.value) for s in panel.desk.document.structures] == [("RV", 1), ("structure 2", 30)]
    assert (codes(panel) == 30).any()
    assert (shown(panel) == 30).any()
    cell(panel, 30, VALUE).setText("1")
    assert "another structure has the value 1" in panel.view.message.text().lower()
    assert cell(panel, 30, VALUE).text() == "30"
    for words in ("many", "²", "-1", "1.5"):
        cell(panel, 30, VALUE).setText(words)
        assert "whole number" in panel.view.message.text(), words
        assert cell(panel, 30, VALUE).text() == "30"
    cell(panel, 30, NAME).setText("RV")
    assert "already" in panel.view.message.text()
    panel.set_colour(1, "#aa0011")
    assert hands.viewer.layers["balls scribbles"].colormap.color_dict[1][0] == pytest.approx(170 / 255, abs=1e-3)


def test_codes_of_strokes_from_elsewhere_are_asked(hands, ready, tmp_path):
    panel, volume, mask = ready
    foreign = np.full(mask.shape, 4, dtype=np.uint8)
    foreign[18:23, 24, 8], foreign[42:47, 24, 8], foreign[5:60, 4, 8] = 1, 2, 0
    write_mask(volume.with_array(foreign), tmp_path / "acdc.nii.gz")
    panel.open_strokes(str(tmp_path / "acdc.nii.gz"))
    hands.qtbot.waitUntil(lambda: panel.view.codes.question is not None, timeout=WAIT)
    form = panel.view.codes
    assert list(form.boxes) == [0, 1, 2, 4]
    assert all(box.currentText() == "choose…" for box in form.boxes.values())
    assert not form.use_button.isEnabled()
    assert not codes(panel).any()
    for value, meaning in ((0, "not marked"), (1, "structure"), (2, "structure"), (4, "background")):
        form.boxes[value].setCurrentText(meaning)
        form._ready()
    hands.press(form.use_button)
    assert "marks 99 %" in panel.view.message.text() or "marks 100 %" in panel.view.message.text()
    form.table_box.setCurrentIndex(2)
    form._fill_in(2)
    assert form.boxes[0].currentText() == "background"
    hands.press(form.use_button)
    idle(hands, panel)
    assert not form.isVisible()
    assert (codes(panel) == 255).sum() == 55
    assert (shown(panel) == 2)[44, 24, 8]
    layer = hands.viewer.add_labels(np.zeros((3, 3, 3), dtype=np.uint8), name="other")
    panel.take_layer(layer)
    assert "does not lie on the grid" in panel.view.message.text()
    panel.open_strokes(str(tmp_path / "missing.nii.gz"))
    assert panel.view.message.text() == "Reading missing.nii.gz…"
    hands.qtbot.waitUntil(lambda: panel.view.message.text() != "Reading missing.nii.gz…", timeout=WAIT)
    assert "missing.nii.gz" in panel.view.message.text().lower()


def test_a_layer_drawn_elsewhere_is_taken_over(hands, ready):
    panel, _, mask = ready
    drawn = hands.viewer.add_labels(
        np.zeros(panel.image.data.shape, dtype=np.uint8),
        scale=panel.image.scale,
        translate=panel.image.translate,
        units=panel.image.units,
        name="by hand",
    )
    panel.desk.own.grid.to_volume(drawn.data)[18:23, 24, 8] = 7
    entries = [panel.view.strokes_box.itemText(n) for n in range(panel.view.strokes_box.count())]
    assert entries == ["Strokes from…", "by hand", "a file…"]
    panel._strokes_chosen(1)
    assert panel.view.codes.question.counts == {0: mask.size - 5, 7: 5}
    hands.press(panel.view.codes.drop_button)
    assert panel.view.codes.question is None
    assert not codes(panel).any()


def test_save_mask_strokes_and_record(hands, ready, tmp_path):
    panel, volume, _ = ready
    draw_all(hands, panel)
    assert not panel.view.save_button.isEnabled()
    panel.ask_where_to_save()
    assert "no mask yet" in panel.view.message.text()
    hands.press(panel.view.accept_button)
    assert "its strokes and its record" in hands.save(panel, tmp_path / "out.nii.gz")
    assert np.array_equal(read_mask(tmp_path / "out.nii.gz", like=volume).array, panel.desk.layers.mask_voxels())
    assert np.array_equal(read_mask(tmp_path / "out_scribbles.nii.gz", like=volume).array, codes(panel))
    record = read_record(tmp_path / "out.weakseg.json")
    assert record["method"] == "strokes"
    assert "balls" not in str(record)
    panel.save_strokes_to(str(tmp_path / "strokes.nii.gz"))
    hands.saved(panel)
    assert "255 background" in panel.view.message.text()


def test_masks_of_other_patients_change_the_form(hands, ready, tmp_path):
    panel, volume, mask = ready
    assert "learn from the prediction itself" in panel.view.form_label.text()
    (tmp_path / "empty").mkdir()
    panel.read_masks(str(tmp_path / "empty"))
    hands.qtbot.waitUntil(lambda: "holds no NIfTI file" in panel.view.message.text(), timeout=WAIT)
    for number in range(3):
        write_mask(volume.with_array(mask), tmp_path / f"mask_{number}.nii.gz")
    panel.read_masks(str(tmp_path))
    hands.qtbot.waitUntil(lambda: len(panel.desk.masks) == 3, timeout=WAIT)
    assert panel.view.form_label.text().startswith("3 masks of other patients")
    assert panel.view.message.text() == "Read 3 masks of other patients."
    hands.press(panel.view.structure_add)
    assert "No mask holds the value 3 (structure 3)" in panel.view.form_label.text()
    write_mask(volume.with_array(np.where(mask == 1, 9, mask)), tmp_path / "other_values.nii.gz")
    panel.read_masks(str(tmp_path))
    hands.qtbot.waitUntil(lambda: panel.view.message.text().startswith("Read 4 masks"), timeout=WAIT)
    assert "No structure has the value 9: masks that hold it (1 of 4)" in panel.view.message.text()
    assert panel.view.form_label.text().startswith("4 masks of other patients")
    assert "3 used" in panel.view.form_label.text()
    assert len(panel.desk.masks) == 3
    panel.view.method.expand(animate=False)
    hands.qtbot.wait(50)
    hands.press(panel.view.masks_drop)
    assert panel.desk.masks == ()
    panel.choose_method("partial_cross_entropy")
    assert panel.view.masks_row.isHidden()


def test_what_cannot_be_used_is_said(hands):
    panel = hands.panel(TITLE)
    assert "Open an image" in panel.view.hint.text()
    for button in (panel.view.refine_button, panel.view.accept_button, panel.view.structure_add):
        assert not button.isEnabled()
    hands.viewer.add_image(np.zeros((8, 8, 8, 3)), rgb=True, name="photo")
    assert "colour image" in panel.view.image_info.text()
    volume, _ = two_balls()
    image = hands.open(volume)
    panel.choose_image(image)
    panel.runs.refine()
    assert "draw a stroke on each structure" in panel.view.message.text().lower()
    hands.viewer.layers.remove(image)
    assert panel.desk.own is None


def test_removing_the_layer_of_strokes_keeps_them(hands, ready):
    panel, _, _ = ready
    draw_all(hands, panel)
    before = codes(panel).copy()
    hands.viewer.layers.remove("balls scribbles")
    hands.qtbot.waitUntil(lambda: panel.desk.own.find("scribbles") is not None, timeout=WAIT)
    assert np.array_equal(codes(panel), before)
    choose(hands, panel, 1)
    drag(hands, panel, (18, 30, 8), (22, 30, 8))
    assert (codes(panel) == 1)[20, 30, 8]


def test_the_panel_fits_in_320_pixels_and_prints_its_keys(hands, ready):
    panel, _, _ = ready
    choose(hands, panel, 1)
    drag(hands, panel, (16, 24, 8), (24, 24, 8))
    panel.setFixedWidth(320)
    hands.qtbot.wait(50)
    view = panel.view
    assert KEYS["refine"] in view.refine_button.text()
    for widget in (view.table, view.structure_add, view.strokes_box, view.refine_button, view.doubt_button, view.slices):
        assert widget.mapTo(panel, widget.rect().bottomRight()).x() <= 320
    for widget in (view.structure_add, view.doubt_button, view.save_strokes_button, view.accept_button):
        assert widget.width() >= widget.fontMetrics().horizontalAdvance(widget.text()), widget.text()
    assert view.table.columnWidth(NAME) > 60


def test_a_real_network_refines_in_the_window(hands, ready):
    panel, _, _ = ready
    panel.choose_method("partial_cross_entropy")
    for knob, value in {"steps": 4, "size": 48, "filters": 4, "batch": 2}.items():
        panel.form.container[knob].value = value
    draw_all(hands, panel)
    assert (shown(panel) == 1)[LEFT]
    assert (shown(panel) == 2)[RIGHT]
    hands.press(panel.view.refine_button)
    idle(hands, panel)
    assert panel.runs.refined
    assert panel.desk.in_view().record["method"] == "partial_cross_entropy"
    assert panel.desk.slices().by == "mask"
    choose(hands, panel, 255)
    drag(hands, panel, (30, 44, 8), (40, 44, 8))
    assert panel.desk.in_view().record["training"]["fitted"] is False


def two_spheres():
    """Two spheres of different brightness in a cube, as far from either end of every axis, and their mask."""
    shape = (32, 32, 32)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    mask = np.zeros(shape, dtype=np.uint8)
    for value, centre in {1: (16, 10, 16), 2: (16, 22, 16)}.items():
        mask[((index - centre) ** 2).sum(axis=-1) <= 25] = value
    image = np.random.default_rng(0).normal(50, 3, shape) + 70 * (mask == 1) + 140 * (mask == 2)
    return Volume(image.astype(np.float32), np.eye(4), "spheres"), mask


def test_adversarial_gates_refine_in_the_window_and_doubt_the_slices_that_were_drawn_across(hands, tmp_path):
    volume, mask = two_spheres()
    hands.open(volume)
    panel = hands.panel(TITLE)
    panel.choose_method("adversarial_gating")
    hands.press(panel.view.structure_add)
    for number in range(3):
        write_mask(volume.with_array(np.roll(mask, 3 + number, axis=2)), tmp_path / f"mask_{number}.nii.gz")
    panel.read_masks(str(tmp_path))
    hands.qtbot.waitUntil(lambda: len(panel.desk.masks) == 3, timeout=WAIT)
    knobs = {"form": "MAAG", "warm_up": 0.0, "steps": 3, "size": 32, "filters": 4, "batch": 2, "discriminator_filters": 2}
    for knob, value in {**knobs, "preview_seconds": 0.0}.items():
        panel.form.container[knob].value = value
    plane = panel.desk.own.grid.layer_axis(0)  # strokes lie in slices across the file's first axis
    choose(hands, panel, 1)
    drag(hands, panel, (16, 8, 16), (16, 12, 16), plane=plane)
    choose(hands, panel, 2)
    drag(hands, panel, (16, 20, 16), (16, 24, 16), plane=plane)
    notes = panel.view.mask_notes
    assert notes.isVisible()
    assert notes.text().lower().count("background") == 1  # it has no stroke yet: said, and once
    choose(hands, panel, 255)
    drag(hands, panel, (16, 4, 4), (16, 28, 4), plane=plane)
    assert "background" not in notes.text()
    hands.press(panel.view.refine_button)
    idle(hands, panel)
    shown = panel.desk.in_view()
    assert shown.stage == REFINED, panel.view.message.text()
    assert shown.record["training"]["form"] == "MAAG"
    assert len(shown.record["unpaired_masks"]) == 3
    found = panel.desk.own.grid.to_volume(hands.viewer.layers["spheres refined mask of strokes"].data)
    assert (found[16, 10, 16], found[16, 22, 16], found[16, 16, 4]) == (1, 2, 0)
    doubt = panel.desk.slices()
    assert (doubt.by, doubt.axis, doubt.values.shape) == ("discriminator", 0, (32,))
    assert ((doubt.values >= 0) & (doubt.values <= 1)).all()
    hands.press(panel.view.doubt_button)
    assert hands.viewer.dims.order[0] == plane
    assert panel.desk.slice_shown() == doubt.values.argmax()
    panel.view.maps_box.click()
    for level in range(4):
        layer = hands.viewer.layers[f"spheres attention 1/{2**level}"]
        assert layer.visible
        assert layer.data.shape == panel.image.data.shape
        assert ((layer.data >= 0) & (layer.data <= 1)).all()
