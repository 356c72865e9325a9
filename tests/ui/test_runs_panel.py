"""Runs in the window: it stays alive, Cancel acts, and whatever goes wrong ends in one sentence."""

from __future__ import annotations

import itertools
import threading

import ellipsoid_method
import numpy as np
import pytest
from qtpy.QtCore import Qt, QTimer
from user import PATIENCE, phantom

from napari_weakseg.plugin.proposals import FIRST, REFINED


class Turns:
    """Whether the event loop came back between any two pieces of news of a run: then clicks and keys are answered."""

    def __init__(self, panel):
        self.seen = []
        self._timer = QTimer()
        self._timer.timeout.connect(lambda: self.seen.append("turn"))
        self._timer.start(5)
        drawn = panel.runs._progressed

        def told(progress):
            self.seen.append("news")
            drawn(progress)

        panel.runs._progressed = told

    @property
    def news(self):
        """How often the window was told of the run."""
        return self.seen.count("news")

    def always(self):
        """Stop looking; returns whether there was a turn between all news but the last two, which come when a run ends."""
        self._timer.stop()
        places = [place for place, what in enumerate(self.seen) if what == "news"][:-1]
        return all(later > one + 1 for one, later in itertools.pairwise(places))


@pytest.fixture
def ready(hands):
    """A panel with all points and a first mask."""
    volume, mask = phantom(shape=(128, 128, 48), radius=(24, 20, 12))
    hands.open(volume)
    panel = hands.panel()
    hands.place_all(panel, mask)
    assert [p.stage for p in panel.bench.proposals] == [FIRST]
    return panel


def _hold():
    ellipsoid_method.gates["hold"] = threading.Event()


def test_the_window_stays_alive_while_a_fit_works(hands, ready):
    """Between any two masks that a fit shows, the window turns to whatever else was asked of it."""
    ready.form.container["steps"].value = 1000
    ready.form.container["max_seconds"].value = 3600
    turns = Turns(ready)
    hands.press(ready.view.refine_button)
    hands.qtbot.waitUntil(lambda: turns.news >= 4, timeout=PATIENCE)
    hands.press(ready.view.cancel_button)
    hands.idle(ready)
    assert turns.always()
    assert [p.stage for p in ready.bench.standing()] == [REFINED]


def test_the_window_answers_while_a_fit_is_in_the_middle_of_a_step(hands, ready):
    """The step ends only when the test says so: all that happens before is the window's own doing."""
    _hold()
    hands.press(ready.view.refine_button)
    hands.qtbot.waitUntil(ellipsoid_method.reached.is_set, timeout=PATIENCE)
    before = hands.viewer.dims.point[0]
    hands.qtbot.keyClick(hands.canvas, Qt.Key.Key_Right)
    hands.qtbot.waitUntil(lambda: hands.viewer.dims.point[0] != before, timeout=PATIENCE)
    hands.press(ready.view.structure_add)
    assert len(ready.bench.document.structures) == 2
    hands.press(ready.view.undo_button)
    assert len(ready.bench.document.structures) == 1
    assert ready.runs.running
    ellipsoid_method.gates["hold"].set()
    hands.idle(ready)
    assert [p.stage for p in ready.bench.standing()] == [REFINED]


@pytest.mark.slow
def test_the_window_stays_alive_while_the_real_method_learns(hands, monkeypatch):
    """SimPLe on a small phantom: previews come, the window turns between them, Cancel acts at once."""
    monkeypatch.setattr(
        "napari_weakseg.methods._modules", lambda: {"simple_propagation": "napari_weakseg.methods.simple_propagation"}
    )
    volume, mask = phantom(shape=(48, 44, 20), radius=(10, 9, 5))
    hands.open(volume)
    panel = hands.panel()
    hands.place_all(panel, mask)
    hands.idle(panel)
    panel.form.container["max_seconds"].value = 4
    turns = Turns(panel)
    panel.runs.refine()
    hands.idle(panel)
    assert turns.always()
    assert [p.stage for p in panel.bench.standing()] == [REFINED]
    assert panel.bench.standing()[0].record["method"] == "simple_propagation"
    panel.form.container["max_seconds"].value = 600
    panel.runs.refine()
    hands.qtbot.waitUntil(lambda: panel.runs.progress is not None, timeout=PATIENCE)
    hands.press(panel.view.cancel_button)
    assert not panel.view.cancel_button.isEnabled()  # before the method's step has ended
    hands.idle(panel)


def test_cancel_acts_at_once_and_keeps_the_last_good_mask(hands, ready):
    ready.form.container["steps"].value = 1000
    hands.press(ready.view.refine_button)
    hands.qtbot.waitUntil(lambda: any(p.stage == REFINED for p in ready.bench.proposals), timeout=PATIENCE)
    _hold()
    hands.qtbot.waitUntil(ellipsoid_method.reached.is_set, timeout=PATIENCE)
    hands.press(ready.view.cancel_button)
    assert not ready.view.cancel_button.isEnabled()  # at once: the step is still held
    assert "Cancelled" in ready.view.message.text()
    kept = [p for p in ready.bench.proposals if p.stage == REFINED]
    assert len(kept) == 1
    hands.qtbot.wait(100)
    assert not ready.view.refine_button.isEnabled()  # the thread still ends its step: no second run beside it
    ellipsoid_method.gates["hold"].set()
    hands.idle(ready)
    assert [p for p in ready.bench.proposals if p.stage == REFINED] == kept
    assert ellipsoid_method.closed.count("fit") == 2
    assert ready.view.refine_button.isEnabled()
    hands.press(ready.view.accept_button)
    assert ready.bench.layers.mask_voxels().any()


def test_cancel_before_the_first_step_leaves_the_first_mask(hands, ready):
    _hold()
    hands.press(ready.view.refine_button)
    hands.qtbot.waitUntil(ellipsoid_method.reached.is_set, timeout=PATIENCE)
    hands.press(ready.view.cancel_button)
    ellipsoid_method.gates["hold"].set()
    hands.idle(ready)
    assert [p.stage for p in ready.bench.standing()] == [FIRST]


def test_a_second_press_starts_no_second_run(hands, ready):
    _hold()
    ready.runs.refine()
    first = ready.runs.run
    ready.runs.refine()
    assert ready.runs.run is first
    ellipsoid_method.gates["hold"].set()
    hands.idle(ready)


@pytest.mark.parametrize(
    ("error", "words"),
    [("value", "ValueError"), ("memory", "not enough memory"), ("runtime", "RuntimeError"), ("exit", "interrupted")],
)
def test_what_goes_wrong_is_one_sentence_and_the_buttons_come_back(hands, ready, error, words):
    ready.form.container["fails"].value = error
    hands.press(ready.view.refine_button)
    hands.idle(ready)
    assert words in ready.view.message.text()
    assert len(ready.view.message.text().split()) <= 30
    assert ready.view.refine_button.isEnabled()
    assert not ready.view.cancel_button.isEnabled()
    ready.form.container["fails"].value = ""
    hands.press(ready.view.refine_button)
    hands.idle(ready)
    assert [p.stage for p in ready.bench.standing()] == [REFINED]


def test_a_wrong_setting_is_said_and_nothing_starts(hands, ready):
    ready.form.container["steps"].max = 10**6
    ready.form.container["steps"].value = 5000
    hands.press(ready.view.refine_button)
    assert ready.runs.run is None
    assert "5000" in ready.view.message.text()


def test_an_image_removed_during_a_run_drops_its_result(hands, ready):
    _hold()
    hands.press(ready.view.refine_button)
    hands.qtbot.wait(50)
    hands.viewer.layers.remove(ready.bench.layers.image)
    assert "removed" in ready.view.message.text()
    ellipsoid_method.gates["hold"].set()
    hands.idle(ready)
    assert ready.bench.layers is None
    assert "phantom mask" not in hands.viewer.layers


def test_a_renamed_image_keeps_its_result(hands, ready):
    _hold()
    hands.press(ready.view.refine_button)
    hands.qtbot.wait(50)
    ready.bench.layers.image.name = "other"
    ellipsoid_method.gates["hold"].set()
    hands.idle(ready)
    assert ready.view.image_box.currentText() == "other"
    hands.press(ready.view.accept_button)
    assert "other mask" in hands.viewer.layers


def test_points_edited_during_a_run_do_not_get_its_result(hands, ready):
    _hold()
    hands.press(ready.view.refine_button)
    hands.qtbot.wait(50)
    job = ready.runs.run.job
    before = job.case.points.points.copy()
    points = ready.bench.layers.find("points")
    moved = points.data.copy()
    moved[0] += (2, 2, 2)
    points.data = moved
    hands.qtbot.wait(50)
    assert np.array_equal(job.case.points.points, before)
    ellipsoid_method.gates["hold"].set()
    hands.idle(ready)
    assert [p.stage for p in ready.bench.standing()] == [FIRST]


def test_closing_the_panel_ends_its_run_and_gives_the_keys_back(hands, ready):
    _hold()
    hands.press(ready.view.refine_button)
    hands.qtbot.wait(50)
    run = ready.runs.run
    dock = ready.parent()
    hands.viewer.window.remove_dock_widget(dock)
    hands.qtbot.wait(100)
    assert run.cancelled
    ellipsoid_method.gates["hold"].set()
    hands.qtbot.waitUntil(lambda: "fit" in ellipsoid_method.closed[1:], timeout=PATIENCE)
    assert not {"U", "G", "K"} & {str(key) for key in hands.viewer.keymap}
    again = hands.panel()
    assert len(again.bench.document.marks) == 6
    points = again.bench.layers.find("points")
    points.remove([0])
    hands.qtbot.wait(50)
    assert len(again.bench.document.marks) == 5
    assert len(ready.bench.document.marks) == 6  # the closed one no longer listens


def test_a_warning_from_the_worker_is_no_crash(hands, ready, monkeypatch):
    import warnings

    busy = ellipsoid_method._busy
    monkeypatch.setattr(ellipsoid_method, "_busy", lambda s: (warnings.warn("from the thread", stacklevel=1), busy(s)))
    hands.press(ready.view.refine_button)
    hands.idle(ready)
    assert [p.stage for p in ready.bench.standing()] == [REFINED]
