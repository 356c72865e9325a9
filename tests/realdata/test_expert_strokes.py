"""First masks from an expert's own strokes on two hearts, development cases; the table: benchmarks/scribbles_one_volume.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import napari_weakseg as ws
from napari_weakseg.arrays.metrics import dice
from napari_weakseg.io.scribbles import read_scribbles

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "acdc"
pytestmark = pytest.mark.realdata


@pytest.mark.parametrize("name", ["patient019_frame01", "patient059_frame09"])
def test_the_first_mask_of_three_structures_is_good(name):
    if not (DATA / name).exists():
        pytest.skip(f"the real volumes are not beside the project (shared/data/acdc/{name})")
    volume = ws.read_volume(DATA / name / "image.nii.gz")
    strokes = read_scribbles(DATA / name / "scribble.nii.gz", volume, codes=(0, 4))
    recipe = ws.new_recipe("adversarial_gating", max_seconds=0)
    result = ws.segment(volume, strokes, method="adversarial_gating", recipe=recipe)
    reference = ws.read_volume(DATA / name / "mask.nii.gz").array
    scores = [dice(result.labels == value, reference == value) for value in (1, 2, 3)]
    assert np.mean(scores) > 0.82, scores
    assert min(scores) > 0.7, scores
    other = ws.segment(volume, strokes, recipe=ws.new_recipe(max_seconds=0))
    both = [dice(other.labels == value, result.labels == value) for value in (1, 2, 3)]
    assert min(both) > 0.98, both  # every method that takes strokes has the same first mask
