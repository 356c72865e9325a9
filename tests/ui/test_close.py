"""What happens when the whole program ends: in order, or not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SCRIPT = """
import os, signal, sys, time
sys.path.insert(0, {here!r})
import napari, numpy as np
import napari_weakseg.methods as methods
import platformdirs
from pathlib import Path
methods._modules = lambda: {{"simple_propagation": "ellipsoid_method", "ellipsoid": "ellipsoid_method"}}
platformdirs.user_state_path = lambda *a, **k: Path({state!r})
import napari_weakseg.plugin.panels.desk_panel as panels
panels._warm_up = lambda: None
from qtpy.QtCore import QTimer
from qtpy.QtTest import QTest
from napari_weakseg.arrays.extreme_points import simulate_points
from napari_weakseg.plugin.layers import image_layer_data
from user import phantom
volume, mask = phantom()
viewer = napari.Viewer()
data, options, _ = image_layer_data(volume)
viewer.add_image(data, **options)
_, panel = viewer.window.add_plugin_dock_widget("napari-weakseg", "Extreme points (SimPLe)")
def until(condition):
    while not condition():
        QTest.qWait(20)
until(lambda: panel.bench.journal is not None)
for coordinate in panel.bench.layers.grid.points_to_layer(simulate_points(mask)):
    panel.bench.layers.find("points").add(coordinate)
    QTest.qWait(20)
{then}
"""
CLOSE = """
panel.form.container["steps"].value = 1000
until(lambda: panel.bench.standing() and panel.runs.idle)
panel.runs.refine()
until(lambda: panel.runs.progress is not None)
print("closing", flush=True)
QTimer.singleShot(100, lambda: viewer.window._qt_window.close())
napari.run()
print("ended", flush=True)
"""
KILL = """
until(lambda: panel.bench.standing() and panel.runs.idle)
panel.accept()
QTest.qWait(50)
os.kill(os.getpid(), signal.SIGKILL)
"""


def _run(tmp_path, then):
    code = SCRIPT.format(here=str(HERE), state=str(tmp_path / "state"), then=then)
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, env=os.environ)


def test_closing_the_window_during_a_run_ends_it_without_a_word(tmp_path):
    run = _run(tmp_path, CLOSE)
    assert run.returncode == 0, run.stderr
    assert "ended" in run.stdout
    assert "Traceback" not in run.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_window_loses_no_click_and_no_accepted_mask(tmp_path, hands):
    from user import PATIENCE, phantom

    run = _run(tmp_path, KILL)
    assert run.returncode == -signal.SIGKILL, run.stderr
    volume, mask = phantom()
    hands.open(volume)
    panel = hands.panel()
    hands.qtbot.waitUntil(lambda: panel.view.recovery.isVisible(), timeout=PATIENCE)
    hands.press(panel.view.restore_button)
    assert len(panel.bench.document.marks) == 6
    found = panel.bench.layers.mask_voxels() > 0
    assert 2 * (found & mask).sum() / (found.sum() + mask.sum()) > 0.9
