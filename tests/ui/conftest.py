"""A real window, a fast method, and hands that click."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import ellipsoid_method
from user import Hands


def pytest_collection_modifyitems(items):
    """Everything in this folder opens a real window."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.ui)


@pytest.fixture(autouse=True)
def own_state(monkeypatch, tmp_path):
    """Keep journals of tests out of the user's own folder, and let the fast method stand for the real one."""
    monkeypatch.setattr("platformdirs.user_state_path", lambda *a, **k: tmp_path / "state")
    monkeypatch.setattr(
        "napari_weakseg.methods._modules", lambda: dict.fromkeys(("simple_propagation", "ellipsoid"), "ellipsoid_method")
    )
    monkeypatch.setattr("napari_weakseg.plugin.panels.desk_panel._warm_up", lambda: None)
    ellipsoid_method.gates.clear()
    ellipsoid_method.reached.clear()
    ellipsoid_method.closed.clear()
    yield
    for gate in ellipsoid_method.gates.values():
        gate.set()


@pytest.fixture
def hands(make_napari_viewer, qtbot):
    """A shown window and someone in front of it."""
    return Hands(make_napari_viewer(show=True), qtbot)
