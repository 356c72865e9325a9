"""A cohort that trains in seconds: a ring around a core, a bright bar that is neither, strokes, masks of others."""

from __future__ import annotations

import numpy as np

from napari_weakseg.case import Case
from napari_weakseg.prompts import BACKGROUND_STROKE, Scribbles, Structure
from napari_weakseg.volume import Volume

STRUCTURES = (Structure("ring", 1), Structure("core", 2))
SIDE, SLICES = 32, 4


def toy_mask(rng, shape=(SIDE, SIDE, SLICES)):
    """A ring (1) around a core (2), somewhere near the middle."""
    centre = np.array(shape[:2]) / 2 + rng.uniform(-1.5, 1.5, 2)
    i, j = np.ogrid[: shape[0], : shape[1]]
    radius = np.hypot(i - centre[0], j - centre[1])
    size = rng.uniform(6, 8)
    flat = np.where(radius < size / 2, 2, np.where(radius < size, 1, 0))
    return np.repeat(flat[:, :, None], shape[2], axis=2).astype(np.uint8)


def toy_volume(mask, rng, *, name="toy"):
    """An image of the mask with a bright bar beside it; slices of 1 mm pixels, 5 mm apart."""
    image = np.array([0.0, 1.0, 0.5])[mask]
    image[2:5, 4:24] = 1.0
    image = image + rng.normal(0, 0.1, image.shape)
    return Volume(image.astype(np.float32), np.diag([1.0, 1.0, 5.0, 1.0]), name)


def toy_strokes(mask):
    """A cross of strokes through the structures and beyond them, one on the bar; about a tenth of the voxels."""
    labels = np.zeros(mask.shape, dtype=np.uint8)
    for k in range(mask.shape[2]):
        middle = np.argwhere(mask[:, :, k] == 2).mean(axis=0).round().astype(int)
        row, column = mask[middle[0], :, k], mask[:, middle[1], k]
        labels[middle[0], :, k] = np.where(row == 0, BACKGROUND_STROKE, row)
        labels[8:, middle[1], k] = np.where(column == 0, BACKGROUND_STROKE, column)[8:]
        labels[3, 6:20, k] = BACKGROUND_STROKE
    return Scribbles(labels, STRUCTURES)


def toy_case(number, *, strokes=True, channels=("image",)):
    """One case with its reference."""
    rng = np.random.default_rng(number)
    mask = toy_mask(rng)
    volume = toy_volume(mask, rng)
    own = toy_strokes(mask) if strokes else None
    return Case(
        f"case_{number}",
        dict.fromkeys(channels, volume),
        scribbles=own,
        reference=volume.with_array(mask, name="mask"),
    )


def toy_masks(count=6):
    """Masks of other patients."""
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    return [Volume(toy_mask(np.random.default_rng((9, n))), affine, f"mask_{n}") for n in range(count)]
