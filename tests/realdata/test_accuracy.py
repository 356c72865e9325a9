"""What holds on real volumes: two targets of every set, the same prompts for all; the full tables come from `make bench`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import napari_weakseg as ws
from napari_weakseg.arrays.first_mask import Window, clean_mask, first_mask
from napari_weakseg.arrays.metrics import dice

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def targets():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        from cases import DATA, list_targets

        found = list(list_targets(per_set=2))
    finally:
        sys.path.remove(str(BENCHMARKS))
    if not found:
        pytest.skip(f"the real volumes are not beside the project ({DATA.parent.name}/{DATA.name})")
    return found


def first_mask_of(target):
    volume, reference = target.read()
    window = Window.around(target.points(reference), volume.shape, volume.spacing)
    mask = np.zeros(volume.shape, dtype=bool)
    mask[window.index] = clean_mask(first_mask(volume.array[window.index], window), window)
    return volume, reference, mask


def test_the_first_mask_is_good_on_every_kind_of_target(targets):
    scores = {target.name: dice(*first_mask_of(target)[1:]) for target in targets}
    assert np.median(list(scores.values())) > 0.75, scores
    assert min(scores.values()) > 0.3, scores


def test_the_mask_of_a_case_lies_where_its_reference_lies(targets, tmp_path):
    target = next(t for t in targets if t.set == "hippocampus")
    volume = ws.read_volume(target.folder / target.image)
    _, reference = target.read()
    points = ws.ExtremePoints.from_points(target.points(reference), volume)
    result = ws.segment(volume, points, recipe=ws.new_recipe(max_seconds=0))
    path = ws.write_mask(result, tmp_path / "mask.nii.gz")
    again = ws.read_volume(path)
    assert again.same_grid(volume, tolerance_mm=1e-3)
    np.testing.assert_array_equal(again.array, result.labels)


@pytest.mark.slow
def test_refining_keeps_what_the_first_mask_had(targets):
    gains = []
    for target in [t for t in targets if t.set.startswith("hippocampus")][::2]:
        volume, reference, first = first_mask_of(target)
        points = ws.ExtremePoints.from_points(target.points(reference), volume)
        recipe = ws.new_recipe(max_seconds=1000.0, preview_seconds=0.0, steps_train=4, steps_propagate=2, steps_retrain=4)
        refined = ws.segment(volume, points, recipe=recipe).labels > 0
        gains.append(dice(refined, reference) - dice(first, reference))
    assert min(gains) > -0.1, gains
    assert np.median(gains) > -0.03, gains
