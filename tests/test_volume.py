"""`Volume`: axes, spacing, world coordinates, grids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_weakseg.errors import GeometryError
from napari_weakseg.volume import SourceHeader, Volume

AFFINE = np.array([[0, -2.0, 0, 10], [1.0, 0, 0, -20], [0, 0, 3.0, 5], [0, 0, 0, 1]])


def volume(shape=(4, 5, 6), **changes) -> Volume:
    return Volume(np.arange(np.prod(shape)).reshape(shape), **{"affine": AFFINE, **changes})


def test_spacing_orientation_and_voxel_volume():
    assert volume().shape == (4, 5, 6)
    assert volume().spacing == (1.0, 2.0, 3.0)
    assert volume().orientation == "ALS"
    assert volume().voxel_volume == pytest.approx(6.0)
    assert volume().unit == "mm"


def test_unknown_spacing_counts_voxels():
    unknown = volume(spacing_known=False)
    assert unknown.spacing == (1.0, 1.0, 1.0)
    assert unknown.voxel_volume == 1.0
    assert unknown.unit == "voxels"
    assert unknown.in_voxels(3) == (3, 3, 3)


def test_world_and_back():
    np.testing.assert_allclose(volume().to_world([[0, 0, 0], [1, 1, 1]]), [[10, -20, 5], [8, -19, 8]])
    points = np.random.default_rng(0).uniform(-3, 9, (2, 7, 3))
    np.testing.assert_allclose(volume().to_voxel(volume().to_world(points)), points)


def test_sheared_voxel_volume_is_the_determinant():
    affine = np.eye(4)
    affine[0, 1] = 0.5
    assert volume(affine=affine).voxel_volume == pytest.approx(1.0)


@pytest.mark.parametrize(("length", "expected"), [(3.0, (3, 2, 1)), (3.1, (4, 2, 2)), (0.0, (0, 0, 0))])
def test_lengths_in_voxels_round_up(length, expected):
    assert volume().in_voxels(length) == expected


def test_least_number_of_voxels():
    assert volume().in_voxels(0.5, minimum=2) == (2, 2, 2)


def test_grids():
    moved = AFFINE.copy()
    moved[0, 3] += 0.05
    assert volume().same_grid(volume(affine=moved))
    moved[0, 3] += 0.1
    assert not volume().same_grid(volume(affine=moved))
    assert volume().same_grid(volume(affine=moved), tolerance_mm=0.2)
    assert not volume().same_grid(volume((4, 5, 7)))


def test_small_rotation_is_seen_at_the_corners():
    turned = AFFINE.copy()
    turned[0, 2] += 0.05  # 0.25 mm at the sixth slice
    assert not volume().same_grid(volume(affine=turned))


@pytest.mark.parametrize(
    ("array", "affine"),
    [
        (np.zeros((3, 4)), np.eye(4)),
        (np.zeros((3, 4, 5, 2)), np.eye(4)),
        (np.zeros((3, 0, 5)), np.eye(4)),
        (np.zeros((3, 4, 5)), np.eye(3)),
        (np.zeros((3, 4, 5)), np.diag([1, 1, np.nan, 1])),
        (np.zeros((3, 4, 5)), np.diag([1, 0, 1, 1])),
        (np.zeros((3, 4, 5)), np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])),
    ],
    ids=["2D", "4D", "empty", "affine 3x3", "nan", "zero axis", "parallel axes"],
)
def test_unusable(array, affine):
    with pytest.raises(GeometryError):
        Volume(array, affine)


def test_other_voxels_at_the_same_place():
    source = volume(header=SourceHeader(2, 1, "ab", Path("x")), notes=("odd",), orientation_known=False)
    mask = source.with_array(np.zeros((4, 5, 6), np.uint8), name="mask")
    assert mask.same_grid(source, tolerance_mm=0)
    assert (mask.header, mask.orientation_known, mask.notes, mask.name) == (source.header, False, (), "mask")
    with pytest.raises(GeometryError, match="does not fit"):
        source.with_array(np.zeros((4, 5, 7)))


def test_hash_knows_voxels_type_and_place():
    same = volume()
    assert volume().sha256 == same.sha256 == Volume(np.asfortranarray(same.array), AFFINE, name="other").sha256
    others = [
        same.with_array(same.array + 1),
        same.with_array(same.array.astype(np.float32)),
        volume(affine=AFFINE + np.eye(4, k=3)),
    ]
    assert len({same.sha256, *(other.sha256 for other in others)}) == 4


def test_source_path_is_never_shown():
    assert "secret" not in repr(SourceHeader(path=Path("/secret/x.nii")))
