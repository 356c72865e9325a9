"""A user in front of the window, and what is looked at."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QApplication

from napari_weakseg.arrays.extreme_points import simulate_points
from napari_weakseg.plugin.layers import image_layer_data
from napari_weakseg.volume import Volume

PATIENCE = 200_000
"""Milliseconds after which a test gives up: long, since both cores may be busy with something else."""


def phantom(shape=(64, 56, 24), affine=None, name="phantom", centre=None, radius=(14, 11, 6), **more):
    """A noisy volume with one bright ellipsoid, and its mask."""
    affine = np.diag([1.0, 1.0, 3.0, 1.0]) if affine is None else affine
    centre = (np.array(shape) - 1) / 2 if centre is None else centre
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    mask = (((index - centre) / np.array(radius)) ** 2).sum(axis=-1) <= 1
    noise = np.random.default_rng(0).normal(0, 8, shape)
    return Volume((100 + 80 * mask + noise).astype(np.float32), affine, name, **more), mask


class Hands:
    """A user in front of the window."""

    def __init__(self, viewer, qtbot):
        self.viewer, self.qtbot = viewer, qtbot

    def open(self, volume):
        """Add a volume as the reader does."""
        data, options, _ = image_layer_data(volume)
        return self.viewer.add_image(data, **options)

    def panel(self, name="Extreme points (SimPLe)"):
        """Open the dock widget from the menu."""
        _dock, panel = self.viewer.window.add_plugin_dock_widget("napari-weakseg", name)
        self.viewer.window._qt_window.resize(1400, 950)
        self.qtbot.wait(300)
        return panel

    @property
    def canvas(self):
        """The widget that is clicked into."""
        return self.viewer.window._qt_viewer.canvas.native

    def pixel(self, layer, coordinate):
        """Data coordinate of a layer to a point of the canvas."""
        world, (row, col) = layer.data_to_world(coordinate), self.viewer.dims.displayed
        x, y, _, w = self.viewer.window._qt_viewer.canvas.view.scene.transform.map([world[col], world[row], 0, 1])
        return QPoint(round(x / w), round(y / w))

    def show_slice(self, layer, coordinate, plane=0):
        """Look across axis `plane` at the slice with a data coordinate."""
        rest = [axis for axis in range(3) if axis != plane]
        if self.viewer.dims.order != (plane, *rest):
            self.viewer.dims.order = (plane, *rest)
            self.viewer.reset_view()
        self.viewer.dims.set_point(plane, layer.data_to_world(coordinate)[plane])
        self.qtbot.wait(50)

    def click(self, layer, coordinate, plane=0):
        """Go to the slice of a data coordinate and click on it."""
        self.show_slice(layer, coordinate, plane)
        point = self.pixel(layer, coordinate)
        self.qtbot.mouseMove(self.canvas, point)
        self.qtbot.mouseClick(self.canvas, Qt.MouseButton.LeftButton, pos=point)
        self.qtbot.wait(QApplication.doubleClickInterval() + 50)

    def drag(self, layer, start, stop, plane=0):
        """Press on a data coordinate and release on another of the same slice."""
        self.show_slice(layer, start, plane)
        path = [self.pixel(layer, tuple(c)) for c in np.linspace(start, stop, 8)]
        self.qtbot.mouseMove(self.canvas, path[0])
        self.qtbot.mousePress(self.canvas, Qt.MouseButton.LeftButton, pos=path[0])
        for point in path:
            self.qtbot.mouseMove(self.canvas, point)
            self.qtbot.wait(10)
        self.qtbot.mouseRelease(self.canvas, Qt.MouseButton.LeftButton, pos=path[-1])
        self.qtbot.wait(50)

    def press(self, button):
        """Click on a button of the panel."""
        assert button.isEnabled(), f"{button.text()} is off"
        self.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    def click_all(self, panel, mask, planes=(0, 0, 1, 1, 2, 2)):
        """The six extreme points of a mask, by mouse, each in one of three planes."""
        six = panel.bench.layers.grid.points_to_layer(simulate_points(mask))
        image = panel.bench.layers.image
        for coordinate, plane in zip(six, planes, strict=True):
            self.click(image, tuple(coordinate), plane)
        return six

    def place_all(self, panel, mask):
        """The six extreme points without the mouse: faster, for tests of what comes after."""
        points = panel.bench.layers.find("points")
        for coordinate in panel.bench.layers.grid.points_to_layer(simulate_points(mask)):
            points.add(coordinate)
            self.qtbot.wait(10)
        self.idle(panel)

    def save(self, panel, path):
        """Save as the dialog would tell the panel to, and wait for the end; returns what is said."""
        panel.save_to(str(path))
        self.saved(panel)
        return panel.view.message.text()

    def saved(self, panel):
        """Until nothing is being saved."""
        self.qtbot.waitUntil(lambda: not panel._saving, timeout=PATIENCE)

    def idle(self, panel, timeout=PATIENCE):
        """Until no run is under way."""
        self.qtbot.waitUntil(lambda: panel.runs.idle, timeout=timeout)
        self.qtbot.wait(20)
