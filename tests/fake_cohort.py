"""A small cohort on disk for tests: noise, every second volume with a bright ball."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np

from fake_classifier import CLASSES

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])


def make_cohort(folder, count=4, labelled=2):
    """Small volumes, every second with a bright ball, the first ones with labels per slice; returns the path of the file."""
    cases = []
    for number in range(count):
        i, j, k = np.ogrid[:20, :18, :12]
        inside = (i - 9) ** 2 / 25 + (j - 8) ** 2 / 16 + (k - 6) ** 2 / 6 <= (1 if number % 2 == 0 else -1)
        noise = np.random.default_rng(number).normal(0, 5, inside.shape)
        image = nib.Nifti1Image((100 + 80 * inside + noise).astype(np.int16), AFFINE)
        image.header.set_xyzt_units("mm")
        nib.save(image, folder / f"case_{number}.nii.gz")
        entry = {"id": f"case_{number}", "image": f"case_{number}.nii.gz"}
        if number < labelled:
            entry["image_label"] = [int(shown) for shown in inside.any(axis=(0, 1))]
        cases.append(entry)
    data = {
        "name": "balls",
        "channels": ["flair"],
        "structures": [{"name": "lesion", "value": 1}],
        "image_classes": list(CLASSES),
        "slice_axis": 2,
        "training": cases,
        "validation": [],
        "testing": [],
        "unpaired_masks": [],
    }
    (folder / "cohort.json").write_text(json.dumps(data))
    return folder / "cohort.json"
