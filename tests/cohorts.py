"""Small cohorts on disk, for the tests of everything that reads one."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np

SHAPE = (6, 7, 5)
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
SIX = [[0, 3, 2], [5, 3, 2], [2, 0, 2], [2, 6, 2], [2, 3, 0], [2, 3, 4]]


def save(path, array, affine=AFFINE):
    """Write a NIfTI file with both forms; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.asarray(array), affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def image(seed):
    """Noise (6, 7, 5) that is another one for every seed."""
    return np.random.default_rng(seed).normal(100, 10, SHAPE).astype(np.float32)


def mask(value=1):
    """A box of `value`."""
    array = np.zeros(SHAPE, np.uint8)
    array[1:4, 2:5, 1:3] = value
    return array


def other_mask():
    """A box where no case has one: the mask of another patient."""
    return np.roll(mask(), 1, axis=0)


def scribble():
    """Strokes in ACDC's codes: 0 background stroke, 1 lesion, 4 unlabelled."""
    array = np.full(SHAPE, 4, np.uint8)
    array[2, 3, 1:3], array[0, :3, 0] = 1, 0
    return array


def make_cohort(folder, *, cases=4, channels=("flair",)):
    """Write a cohort with every kind of mark in `folder`; returns what is in its ``cohort.json``."""
    training = []
    for number in range(cases):
        name = f"case_{number}"
        for place, channel in enumerate(channels):
            save(folder / name / f"{channel}.nii.gz", image(10 * number + place))
        save(folder / name / "mask.nii.gz", mask())
        save(folder / name / "scribble.nii.gz", scribble())
        (folder / name / "points.json").write_text(json.dumps({"space": "voxel", "points": SIX}))
        images = [f"{name}/{channel}.nii.gz" for channel in channels]
        training.append(
            {
                "id": name,
                "patient": f"p{number // 2}",
                "image": images[0] if len(images) == 1 else images,
                "image_label": [0, 0, 1, 1, 0],
                "points": f"{name}/points.json",
                "scribble": f"{name}/scribble.nii.gz",
                "label": f"{name}/mask.nii.gz",
            }
        )
    save(folder / "others" / "mask_01.nii.gz", other_mask())
    data = {
        "name": "brains",
        "channels": list(channels),
        "structures": [{"name": "lesion", "value": 1}],
        "image_classes": ["normal", "lesion"],
        "slice_axis": 2,
        "scribble_codes": {"background": 0, "unlabelled": 4},
        "training": training,
        "validation": [],
        "testing": [],
        "unpaired_masks": ["others/mask_01.nii.gz"],
    }
    (folder / "cohort.json").write_text(json.dumps(data))
    return data
