"""A cohort in memory of bright balls, for the method that learns a brightness."""

from __future__ import annotations

import numpy as np

from napari_weakseg.arrays.extreme_points import simulate_points
from napari_weakseg.case import Case, Cohort
from napari_weakseg.prompts import ExtremePoints, ImageLabel, Structure
from napari_weakseg.volume import Volume


def a_case(name, seed, *, empty=False):
    """A ball with every kind of mark; the same image for the same seed."""
    rng = np.random.default_rng(seed)
    i, j, k = np.ogrid[:16, :14, :10]
    radius = rng.uniform(3, 4.5)
    mask = (((i - 8) ** 2 + (j - 7) ** 2 + (k - 5) ** 2) <= radius**2).astype(np.uint8) * (not empty)
    volume = Volume((rng.normal(20, 3, mask.shape) + 80 * mask).astype(np.float32), np.diag([1, 1, 2, 1.0]), name)
    points = None if empty else ExtremePoints.from_points(simulate_points(mask), volume)
    label = ImageLabel(("normal", "lesion"), tuple(int(v) for v in mask.any(axis=(0, 1))))
    reference = volume.with_array(mask)
    return Case(name, {"image": volume}, points=points, image_label=label, reference=reference, patient=f"patient {seed}")


def a_cohort(training=6, testing=3):
    """Cases t0, t1... to learn from and u0, u1, ... to test; u2 is without a ball."""
    return Cohort(
        "balls",
        structures=(Structure("lesion", 1),),
        image_classes=("normal", "lesion"),
        training=tuple(a_case(f"t{n}", n) for n in range(training)),
        testing=tuple(a_case(f"u{n}", 100 + n, empty=n == 2) for n in range(testing)),
    )
