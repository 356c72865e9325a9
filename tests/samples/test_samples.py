"""The shipped volumes: what is in them, where they lie, and that the kept script makes them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from napari_weakseg.errors import DataError
from napari_weakseg.io.cohort import check_cohort, read_cohort
from napari_weakseg.io.nifti import read_mask
from napari_weakseg.prompts import BACKGROUND_STROKE
from napari_weakseg.samples import (
    COHORT,
    HEART,
    TITLES,
    cohort_files,
    list_samples,
    read_sample,
    sample_path,
    unpaired_hearts,
)

ROOT = Path(__file__).parents[2]
PARTS = ("image", "mask", "points", "scribbles")


@pytest.fixture(scope="module", params=list_samples())
def case(request):
    """Each sample, read once."""
    return read_sample(request.param)


def test_everything_together_is_under_five_megabytes():
    sheets = list((ROOT / "sample_data").glob("*"))
    files = [sample_path(name, part) for name in list_samples() for part in PARTS] + [path for path in sheets if path.is_file()]
    files += [sample_path(HEART, part) for part in PARTS if part != "points"]
    assert sum(path.stat().st_size for path in (*files, *cohort_files(), *unpaired_hearts())) < 5e6


def test_the_heart_has_three_structures_strokes_and_masks_of_others():
    case = read_sample(HEART)
    mask, strokes = case.reference.array, case.scribbles.labels
    assert [structure.name for structure in case.structures] == ["right ventricle", "muscle", "left ventricle"]
    assert case.volume.notes == ()
    assert case.volume.spacing == pytest.approx((1.5, 1.5, 8))
    assert not mask[:, :, -1].any()  # above the valves
    for value in (1, 2, 3):
        assert ndimage.label(mask == value)[1] == 1
        assert (mask[strokes == value] == value).all()
    assert (mask[strokes == BACKGROUND_STROKE] == 0).all()
    assert 1 < (strokes > 0).any(axis=(0, 1)).sum() < 5
    left, muscle = (np.median(case.volume.array[mask == value]) for value in (3, 2))
    assert left > 1.5 * muscle
    others = [read_mask(path) for path in unpaired_hearts()]
    assert len(others) == 12
    assert all(set(np.unique(other.array)) == {0, 1, 2, 3} for other in others)
    sizes = [int((other.array == 3).sum()) for other in others]
    assert max(sizes) > 1.5 * min(sizes)
    with pytest.raises(DataError, match="has no 'points'"):
        sample_path(HEART, "points")


def test_the_cohort_can_be_used_as_it_is():
    path = cohort_files()[0].with_name("cohort.json")
    assert check_cohort(path) == ()
    cohort = read_cohort(path, references=True)
    assert cohort.image_classes == ("normal", "lesion")
    assert (len(cohort.training), len(cohort.testing)) == (12, 4)
    for cases in (cohort.training, cohort.testing):
        shown = [case.reference.array.any(axis=(0, 1)) for case in cases]
        assert [case.image_label.label for case in cases] == [tuple(int(n) for n in slices) for slices in shown]
        assert sum(slices.any() for slices in shown) == len(cases) / 2
    case = cohort.training[0]
    assert case.volume.notes == ()
    assert case.volume.spacing == pytest.approx((3, 3, 6))


def test_brain_is_oblique_and_anisotropic():
    volume = read_sample("brain_mri").volume
    assert volume.spacing == pytest.approx((1, 1, 3), abs=1e-4)
    directions = volume.affine[:3, :3] / np.array(volume.spacing)
    tilt = np.degrees(np.arccos(np.abs(directions).max(axis=0)))
    assert tilt.max() == pytest.approx(12.7, abs=1)
    assert volume.array.dtype == np.int16


def test_abdomen_is_in_hounsfield_units():
    case = read_sample("abdomen_ct")
    array, mask = case.volume.array, case.reference.array
    assert array.dtype == np.int16
    assert array.min() >= -1024
    assert np.median(array[:3]) == pytest.approx(-1000, abs=30)  # air beside the patient
    assert np.median(array[mask == 1]) == pytest.approx(108, abs=10)
    assert (array > 300).any()


def test_organs_touch():
    mask = read_sample("abdomen_ct").reference.array
    assert (ndimage.binary_dilation(mask == 1) & (mask == 2)).sum() > 100


def test_volumes_open_without_a_note(case):
    assert case.volume.notes == ()
    assert case.volume.spacing_known
    assert case.volume.orientation_known


def test_masks_lie_inside_and_are_one_piece(case):
    mask = case.reference.array
    assert mask.dtype == np.uint8
    for structure in case.structures:
        inside = mask == structure.value
        assert ndimage.label(inside)[1] == 1
        assert not any(inside.take([0, -1], axis=axis).any() for axis in range(3))


def test_points_miss_the_surface_by_a_voxel_at_most(case):
    for six, value in zip(case.points.points, case.points.values, strict=True):
        inside = case.reference.array == value
        surface = inside & ~ndimage.binary_erosion(inside)
        voxels = np.argwhere(inside)
        for number, point in enumerate(six):
            axis, upper = divmod(number, 2)
            end = voxels[:, axis].max() if upper else voxels[:, axis].min()
            assert abs(point[axis] - end) <= 1
            assert np.abs(np.argwhere(surface) - point).max(axis=1).min() <= 1


def test_strokes_lie_where_they_say(case):
    strokes, mask = case.scribbles.labels, case.reference.array
    assert set(np.unique(strokes)) == {0, *(s.value for s in case.structures), BACKGROUND_STROKE}
    for value in np.unique(strokes)[1:]:
        marked = strokes == value
        assert 0 < marked.any(axis=(0, 1)).sum() <= 3 * len(case.structures)
        assert (mask[marked] == (0 if value == BACKGROUND_STROKE else value)).all()
    assert (strokes > 0).mean() < 0.005


def test_a_name_that_does_not_exist_is_refused():
    with pytest.raises(DataError, match=next(iter(TITLES))):
        read_sample("knee")
    with pytest.raises(DataError, match="scribbles"):
        sample_path("brain_mri", "picture")


@pytest.mark.slow
@pytest.mark.parametrize("name", (*list_samples(), COHORT, HEART))
def test_the_script_makes_the_shipped_voxels(name):
    """To the bit with the versions that made them: see sample_data/README.md."""
    run = subprocess.run(
        [sys.executable, str(ROOT / "sample_data" / "make_samples.py"), "--check", "--only", name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
