"""The picture: where things land, without looking at pixels one by one (people do that)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from napari_weakseg.method import Result
from napari_weakseg.overview import _View, write_overview
from napari_weakseg.prompts import LESION, Structure
from napari_weakseg.volume import Volume

CODES = ["".join(c) for p in itertools.permutations(("LR", "PA", "IS")) for c in itertools.product(*p)]


@pytest.mark.parametrize("codes", CODES)
def test_the_view_is_radiological_for_every_orientation(codes):
    """One voxel at the patient's right front top: first in the view on all three axes."""
    shape = (4, 5, 6)
    towards = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 2, 0), "P": (0, -2, 0), "S": (0, 0, 3), "I": (0, 0, -3)}
    affine = np.eye(4)
    affine[:3, :3] = np.array([towards[code] for code in codes]).T
    volume = Volume(np.zeros(shape), affine)
    assert volume.orientation == codes
    corners = volume.corners()
    right_front_top = corners[np.argmax(corners @ [1, 1, 1])]
    voxel = np.round(volume.to_voxel(right_front_top))
    view = _View.of(volume)
    np.testing.assert_array_equal(view.turn_points(voxel), (0, 0, 0))
    array = np.zeros(shape)
    array[tuple(voxel.astype(int))] = 1
    assert view.turn(array)[0, 0, 0] == 1
    assert view.shape == view.turn(array).shape
    assert view.spacing == pytest.approx((1, 2, 3))


def _pixels(path):
    from matplotlib.image import imread

    return imread(path)


def test_a_picture_with_everything(tmp_path, blob, blob_points):
    result = Result(blob[1], (LESION,))
    moved = blob[1].with_array(np.roll(blob[1].array, 2, axis=(0, 1)))
    path = write_overview(
        tmp_path / "a.png", blob[0], result, points=blob_points, earlier={"first mask": blob[1].array}, reference=moved
    )
    pixels = _pixels(path)
    assert pixels.shape[0] > 800
    assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 300
    orange = np.abs(pixels[..., :3] - np.array([0xE6, 0x9F, 0x00]) / 255).max(axis=-1) < 0.02
    assert orange.sum() > 200


@pytest.mark.parametrize("name", ["$x^", "_hidden", "肝臓\n🫀", "a" * 300])
def test_names_of_any_kind_are_drawn(tmp_path, blob, name):
    structure = Structure(name, 1)
    volume = Volume(blob[0].array, blob[0].affine, name)
    assert write_overview(tmp_path / "a.png", volume, Result(blob[1], (structure,))).exists()


@pytest.mark.parametrize("case", ["empty mask", "one slice", "constant", "not finite", "no orientation"])
def test_odd_volumes_are_drawn(tmp_path, case):
    shape = (12, 10, 1) if case == "one slice" else (12, 10, 6)
    array = np.full(shape, 3.0, np.float32)
    if case == "not finite":
        array[...] = np.nan
    mask = np.zeros(shape, np.uint8)
    if case != "empty mask":
        mask[3:6, 3:6] = 1
    known = case != "no orientation"
    volume = Volume(array, spacing_known=known, orientation_known=known)
    assert write_overview(tmp_path / "a.png", volume, Result(volume.with_array(mask), (LESION,))).stat().st_size > 10_000
