"""Tests of the plugin that need no display: napari's ViewerModel stands for the window."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_weakseg.plugin.layers import image_layer_data
from napari_weakseg.plugin.proposals import FIRST, Proposal
from napari_weakseg.plugin.workbench import Workbench
from napari_weakseg.recipe import Recipe
from napari_weakseg.volume import Volume


@pytest.fixture(autouse=True)
def own_state(monkeypatch, tmp_path):
    """Keep journals of tests out of the user's own folder."""
    monkeypatch.setattr("platformdirs.user_state_path", lambda *a, **k: tmp_path / "state")


class Desk:
    """A workbench with one image, and what a user does to its points layer."""

    def __init__(self):
        self.viewer = ViewerModel()
        self.volume = Volume(np.random.default_rng(0).random((30, 28, 16)), np.diag([-1.0, 1.0, 3.0, 1.0]), "scan")
        data, options, _ = image_layer_data(self.volume)
        self.image = self.viewer.add_image(data, **options)
        self.bench = Workbench(self.viewer, "fake", Recipe())
        self.bench.choose_image(self.image)

    @property
    def points(self):
        return self.bench.layers.find("points")

    @property
    def mask(self):
        return self.bench.layers.mask_voxels()

    def add(self, voxel):
        self.points.add(self.bench.layers.grid.points_to_layer(voxel)[0])
        return self.bench.points_changed()

    def six(self, low, high):
        """Six clicks on the faces of a box; returns whether the last one completed the object."""
        middle = (np.array(low) + np.array(high)) / 2
        for axis in range(3):
            for end in (low, high):
                voxel = middle.copy()
                voxel[axis] = end[axis]
                done = self.add(voxel)
        return done

    def save(self, path):
        """All that the button does, in this thread; returns the sentence."""
        save = self.bench.save(path)
        words = save.write()
        self.bench.saved(save)
        return words

    def propose(self, low, high, *, stage=FIRST, keys=None, value=None, record=None):
        """A box as the mask of some objects."""
        keys = (self.bench.document.current,) if keys is None else keys
        labels = np.full(np.array(high) - low + 1, value or keys[0].structure, np.uint8)
        self.bench.propose(Proposal(tuple(keys), tuple(low), labels, stage, record or {}))


@pytest.fixture
def desk():
    return Desk()
