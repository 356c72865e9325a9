"""Kill -9 in the middle of a training of each method: resumed, it has the losses and weights of one that nothing broke."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from napari_weakseg.arrays.extreme_points import simulate_points
from napari_weakseg.case import Case, Cohort
from napari_weakseg.cohorts import training_steps
from napari_weakseg.io.runs import Run, read_weights
from napari_weakseg.methods import get_method
from napari_weakseg.prompts import ExtremePoints, ImageLabel
from toy_cohort import STRUCTURES, toy_case, toy_masks

SLICES = {"filters": 4, "size": 32, "batch": 2, "steps": 6}
VOLUMES = {"widths": (4, 8), "first_mask": "classical", "steps_train": 3, "steps_propagate": 2, "steps_retrain": 2}
METHODS = {
    "partial_cross_entropy": SLICES | {"hold_out": 0.3},
    "adversarial_gating": SLICES | {"discriminator_filters": 4},
    "explainable_heatmap": {"width": 4, "depth": 2, "working_size": 32, "epochs": 3, "batch": 4, "self_training": 0.5},
    "simple_propagation": VOLUMES,
}


def cohort():
    """Three cases with every kind of mark, and masks of others."""
    cases = []
    for number in range(3):
        case = toy_case(number)
        mask = case.reference.array
        points = np.stack([simulate_points(mask == value) for value in (1, 2)]).astype(float)
        marks = ExtremePoints(points, np.array([1, 2]), STRUCTURES, case.volume.affine)
        label = ImageLabel(("normal", "lesion"), (0, 1, 1, number % 2))
        cases.append(Case(case.id, case.channels, marks, case.scribbles, label))
    return Cohort("toys", structures=STRUCTURES, training=tuple(cases), unpaired_masks=tuple(toy_masks(2)))


def learn(folder, method, kill=0):
    """Train, resuming what there is; dies by its own hand after `kill` optimiser steps."""
    Run.due = lambda self: True
    recipe = get_method(method).recipe_class.for_cohort(
        "laptop", **METHODS[method], device="cpu", max_seconds=1e6, preview_seconds=0
    )
    for step in training_steps(cohort(), recipe, method=method, run=folder, resume=True):
        if step.scores:
            kill -= 1
            if kill == 0:
                os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills of POSIX")
@pytest.mark.parametrize("method", METHODS)
def test_a_killed_training_goes_on_as_if_it_had_not_been(tmp_path, method):
    def train(name, kill=0):
        """In a process of its own, so that all three compute with the same threads whatever ran here before."""
        code = "import sys; from test_kills import learn; learn(sys.argv[1], sys.argv[2], int(sys.argv[3]))"
        path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
        return subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / name), method, str(kill)],
            check=False,
            env={**os.environ, "PYTHONPATH": path},
        ).returncode

    assert train("whole") == 0
    assert train("broken", kill=4) == -signal.SIGKILL
    assert train("broken") == 0
    assert (tmp_path / "broken" / "metrics.csv").read_bytes() == (tmp_path / "whole" / "metrics.csv").read_bytes()
    whole, broken = read_weights(tmp_path / "whole"), read_weights(tmp_path / "broken")
    assert whole.tensors
    assert all(np.array_equal(value, broken.tensors[name]) for name, value in whole.tensors.items())
