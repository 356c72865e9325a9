"""Reading and writing NIfTI: geometry, label values, headers, agreement of readers."""

from __future__ import annotations

import gzip
import itertools
import json
import struct
import subprocess
import sys
import warnings

import nibabel as nib
import numpy as np
import pytest
from nibabel import orientations

from napari_weakseg.errors import DataError, WeaksegError
from napari_weakseg.io.nifti import export_notes, on_grid_of, read_mask, read_volume, write_map, write_mask
from napari_weakseg.volume import SourceHeader, Volume

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import SimpleITK as sitk

SHAPE = (6, 7, 8)
CORNERS = np.array(list(itertools.product(*[(0, n - 1) for n in SHAPE])), dtype=float)
CODES = ["".join(axes) for order in itertools.permutations(("RL", "AP", "SI")) for axes in itertools.product(*order)]


def labels(shape=SHAPE) -> np.ndarray:
    """A mask that no turn maps onto itself."""
    array = np.zeros(shape, dtype=np.uint8)
    array[1:3, 2:6, 3] = 1
    array[4, 1, 5:] = 2
    array[-1, -1, 0] = 3
    return array


def oriented(code: str, spacing) -> np.ndarray:
    """Affine of a grid with these axis codes and spacings along the array axes."""
    turn = orientations.inv_ornt_aff(orientations.axcodes2ornt(code), SHAPE)
    affine = np.linalg.inv(turn) @ np.diag([*(1.0,) * 3, 1.0])
    affine = affine @ np.diag([*spacing, 1.0])
    affine[:3, 3] = (-31.5, 12.25, 80.0)
    return affine


def rotation(rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.sign(np.diag(r))


def save(path, array, affine, *, sform=1, qform=1, kind=nib.Nifti1Image):
    made = kind(array, affine)
    made.set_sform(affine, sform)
    made.set_qform(affine, qform)
    made.header.set_xyzt_units("mm")
    nib.save(made, path)
    return path


def simpleitk_world(image: sitk.Image, voxels: np.ndarray) -> np.ndarray:
    positions = [image.TransformContinuousIndexToPhysicalPoint([float(n) for n in voxel]) for voxel in voxels]
    return np.array(positions) * (-1, -1, 1)  # ITK counts in LPS


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.7, 0.7, 5.0), (3.0, 0.9, 1.3)], ids=str)
def test_all_48_orientations_lie_where_the_image_lies(tmp_path, spacing):
    assert len(set(CODES)) == 48
    for code in CODES:
        affine = oriented(code, spacing)
        volume = read_volume(save(tmp_path / "image.nii", np.arange(336, dtype=np.int16).reshape(SHAPE), affine))
        assert volume.orientation == code
        assert volume.notes == ()
        out = write_mask(volume.with_array(labels()), tmp_path / "mask.nii.gz")
        world = CORNERS @ affine[:3, :3].T + affine[:3, 3]
        by_nibabel = nib.load(out)
        np.testing.assert_array_equal(np.asarray(by_nibabel.dataobj), labels())
        assert np.abs(CORNERS @ by_nibabel.affine[:3, :3].T + by_nibabel.affine[:3, 3] - world).max() < 1e-3
        by_simpleitk = sitk.ReadImage(str(out))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(by_simpleitk).T, labels())
        assert np.abs(simpleitk_world(by_simpleitk, CORNERS) - world).max() < 1e-3
        again = read_mask(out, like=volume)
        np.testing.assert_array_equal(again.array, labels())
        for value in (1, 2, 3):
            centre = volume.to_world(np.argwhere(labels() == value).mean(axis=0))
            assert np.abs(again.to_world(np.argwhere(again.array == value).mean(axis=0)) - centre).max() < 1e-3


def test_random_oblique_grids(tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(150):
        affine = np.eye(4)
        affine[:3, :3] = rotation(rng) * rng.uniform(0.3, 8, 3)
        affine[:3, 3] = rng.uniform(-300, 300, 3)
        volume = Volume(labels(), affine)
        out = write_mask(volume, tmp_path / "mask.nii")
        again = read_mask(out)
        assert np.abs(again.corners() - volume.corners()).max() <= 1e-4
        np.testing.assert_array_equal(again.array, labels())
        by_simpleitk = sitk.ReadImage(str(out))
        assert np.abs(simpleitk_world(by_simpleitk, CORNERS) - volume.corners()).max() < 1e-3
        np.testing.assert_array_equal(sitk.GetArrayFromImage(by_simpleitk).T, labels())


def test_large_grid_keeps_a_qform_only_where_it_agrees(tmp_path):
    rng = np.random.default_rng(5)
    for _ in range(10):
        affine = np.eye(4)
        affine[:3, :3] = rotation(rng) * (8, 8, 8)
        volume = Volume(np.zeros((2000, 2, 2), np.uint8), affine)
        assert read_mask(write_mask(volume, tmp_path / "mask.nii"), like=volume).same_grid(volume, tolerance_mm=1e-2)


@pytest.mark.parametrize(
    ("sform", "qform", "expected"), [(1, 1, (1, 1)), (2, 1, (2, 1)), (4, 3, (4, 3)), (3, 0, (3, 1)), (0, 2, (1, 2))]
)
def test_form_codes_come_back(tmp_path, sform, qform, expected):
    affine = oriented("LPS", (1, 2, 3))
    volume = read_volume(save(tmp_path / "image.nii", labels(), affine, sform=sform, qform=qform))
    assert (volume.header.sform_code, volume.header.qform_code) == (sform, qform)
    header = nib.load(write_mask(volume.with_array(labels()), tmp_path / "mask.nii")).header
    assert (int(header["sform_code"]), int(header["qform_code"])) == expected
    if sform:
        np.testing.assert_array_equal(header.get_sform(), nib.load(tmp_path / "image.nii").header.get_sform())


def test_prefer_of_equal_forms_changes_nothing(tmp_path):
    path = save(tmp_path / "image.nii", labels(), oriented("RAS", (1, 2, 3)))
    assert read_volume(path, prefer="qform").notes == ()


@pytest.mark.parametrize("largest", [1, 255, 256, 65_535, 65_536, 2**31 - 1])
@pytest.mark.parametrize("source", ["uint8", "int16", "float32", "scaled"])
def test_label_values_are_exact(tmp_path, largest, source):
    array = (np.arange(336).reshape(SHAPE) % 100).astype("int16" if source == "scaled" else source)
    path = save(tmp_path / "image.nii", array, oriented("LPS", (1, 2, 3)))
    if source == "scaled":
        content = bytearray(path.read_bytes())
        struct.pack_into("<2f", content, 112, 0.37, -12)
        path.write_bytes(content)
    volume = read_volume(path)
    values = np.array([0, 1, max(largest - 1, 0), largest], dtype=np.int64)[np.arange(336).reshape(SHAPE) % 4]
    smallest = next(t for t in ("uint8", "uint16", "int32") if largest <= np.iinfo(t).max)
    for dtype in ("int64", "int32", "float64", "uint64", "uint32"):
        out = write_mask(volume.with_array(values.astype(dtype)), tmp_path / "mask.nii.gz")
        assert nib.load(out).get_data_dtype() == np.dtype(smallest)
        np.testing.assert_array_equal(np.asarray(nib.load(out).dataobj), values)
        np.testing.assert_array_equal(read_mask(out, like=volume).array, values)


@pytest.mark.parametrize(("low", "dtype"), [(-1, "int16"), (-32769, "int32")])
def test_negative_labels(tmp_path, low, dtype):
    values = np.where(labels() > 0, low, 0)
    out = write_mask(Volume(values), tmp_path / "mask.nii")
    assert nib.load(out).get_data_dtype() == np.dtype(dtype)
    np.testing.assert_array_equal(read_mask(out).array, values)


def test_what_is_no_mask_is_not_written(tmp_path):
    for array in (
        np.full(SHAPE, 2**31),
        np.full(SHAPE, 0.5),
        np.full(SHAPE, np.nan),
        np.full(SHAPE, 1 + 1j),
        np.full(SHAPE, -(2**31) - 1),
    ):
        with pytest.raises(DataError):
            write_mask(Volume(array), tmp_path / "mask.nii")
    with pytest.raises(DataError, match=r"\.nii\.gz or \.nii"):
        write_mask(Volume(labels()), tmp_path / "mask.mha")
    assert list(tmp_path.iterdir()) == []


def test_bool_masks_and_empty_ones(tmp_path):
    assert nib.load(write_mask(Volume(labels() > 0), tmp_path / "mask.nii")).get_data_dtype() == np.uint8
    empty = Volume(np.zeros(SHAPE, np.uint8))
    assert not read_mask(write_mask(empty, tmp_path / "mask.nii")).array.any()
    assert any("empty" in note for note in export_notes(empty))


def test_name_that_itk_mixes_up_is_noted(tmp_path):
    mask = Volume(labels(), name="mask")
    assert export_notes(mask, tmp_path / "mask.nii.gz") == ()
    write_mask(mask, tmp_path / "mask.nii")
    assert "mask.nii lies beside it" in export_notes(mask, tmp_path / "mask.nii.gz")[0]
    (tmp_path / "mask.nii").rename(tmp_path / "mask.nii.gz")
    assert "mask.nii.gz lies beside it" in export_notes(mask, tmp_path / "mask.nii")[0]


def test_map_is_float32(tmp_path):
    probability = np.random.default_rng(0).random(SHAPE)
    volume = Volume(probability, oriented("LPS", (1, 2, 3)), name="probability")
    out = write_map(volume, tmp_path / "map.nii.gz")
    again = read_volume(out)
    assert again.array.dtype == np.float32
    np.testing.assert_array_equal(again.array, probability.astype(np.float32))
    assert again.same_grid(volume, tolerance_mm=1e-4)
    with pytest.raises(DataError, match="not finite"):
        write_map(Volume(np.full(SHAPE, 1e300)), tmp_path / "map.nii.gz")
    np.testing.assert_array_equal(read_volume(out).array, again.array)


def test_equal_masks_are_equal_files(tmp_path):
    first = write_mask(Volume(labels()), tmp_path / "a.nii.gz").read_bytes()
    second = write_mask(Volume(labels(), name="other"), tmp_path / "b.nii.gz").read_bytes()
    assert first == second
    assert first[3] == 0  # neither name nor comment
    assert first[4:8] == bytes(4)  # no time


def test_header_of_an_export_holds_nothing_but_geometry(tmp_path):
    header = nib.load(write_mask(Volume(labels()), tmp_path / "mask.nii")).header
    for key in ("descrip", "aux_file", "intent_name", "db_name"):
        assert bytes(header[key]).strip(b"\0") == b""
    assert len(header.extensions) == 0
    assert header.get_xyzt_units()[0] == "mm"
    content = (tmp_path / "mask.nii").read_bytes()
    assert struct.unpack_from("<2f", content, 112) == (1.0, 0.0)


def test_unwritable_result_is_noticed_when_read_back(tmp_path, monkeypatch):
    from napari_weakseg.io import nifti_write

    out = write_mask(Volume(labels()), tmp_path / "mask.nii.gz")
    before = out.read_bytes()
    real = nifti_write._packed

    def spoilt(data: bytes) -> bytes:
        return real(data[:-5] + b"\1" * 5)

    monkeypatch.setattr(nifti_write, "_packed", spoilt)
    with pytest.raises(DataError, match="differs"):
        write_mask(Volume(labels()), out)
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["mask.nii.gz"]


def test_readers_agree(tmp_path):
    """Our reader, nibabel and SimpleITK on valid files: same voxels, same place."""
    rng = np.random.default_rng(7)
    for number, dtype in enumerate(itertools.islice(itertools.cycle(["u1", "i2", "u2", "i4", "f4", "f8"]), 60)):
        affine = np.eye(4)
        affine[:3, :3] = rotation(rng) * rng.uniform(0.5, 6, 3)
        affine[:3, 3] = rng.uniform(-200, 200, 3)
        array = rng.integers(0, 200, SHAPE).astype(dtype)
        path = save(
            tmp_path / f"image{number}.nii{'.gz' if number % 2 else ''}", array, affine, sform=number % 4, qform=1 + number % 3
        )
        ours, theirs, itk = read_volume(path), nib.load(path), sitk.ReadImage(str(path))
        np.testing.assert_array_equal(ours.array, array)
        np.testing.assert_array_equal(ours.array, np.asarray(theirs.dataobj))
        np.testing.assert_array_equal(ours.array, sitk.GetArrayFromImage(itk).T)
        np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-6)
        assert np.abs(ours.to_world(CORNERS) - simpleitk_world(itk, CORNERS)).max() < 1e-3


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_header_fuzz_ends_in_our_errors_or_a_usable_place(tmp_path, kind):
    rng = np.random.default_rng(11)
    whole = save(tmp_path / "image.nii", labels(), oriented("LPS", (1, 2, 3)), kind=kind).read_bytes()
    header_size = kind.header_class.sizeof_hdr + 4
    path = tmp_path / "fuzzed.nii"
    outcomes = {"refused": 0, "opened": 0}
    for _ in range(600):
        content = bytearray(whole)
        for offset in rng.integers(0, header_size, rng.integers(1, 7)):
            content[offset] = rng.integers(256)
        path.write_bytes(content)
        try:
            volume = read_volume(path)
        except WeaksegError as error:
            assert len(str(error).split()) <= 30
            outcomes["refused"] += 1
            continue
        outcomes["opened"] += 1
        assert np.isfinite(volume.affine).all()
        assert np.isfinite(np.linalg.inv(volume.affine)).all()
    assert min(outcomes.values()) > 50, outcomes


def test_notes_and_names_carry_no_path(tmp_path):
    folder = tmp_path / "DOE_JANE"
    folder.mkdir()
    path = save(folder / "brain.v2.nii.gz", labels(), np.diag([1, 2, 300, 1.0]), sform=0, qform=0)
    volume = read_volume(path)
    assert volume.name == "brain.v2"
    assert volume.notes
    assert "DOE_JANE" not in "".join(volume.notes) + repr(volume.header) + repr(volume)
    assert read_volume(path, name="T1").name == "T1"


def test_hash_of_the_file_is_kept(tmp_path):
    import hashlib

    for name in ("a.nii", "a.nii.gz"):
        path = save(tmp_path / name, labels(), np.eye(4))
        assert read_volume(path).header.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_gzip_of_several_members_is_read(tmp_path):
    content = save(tmp_path / "image.nii", labels(), np.eye(4)).read_bytes()
    (tmp_path / "two.nii.gz").write_bytes(gzip.compress(content[:400]) + gzip.compress(content[400:]))
    np.testing.assert_array_equal(read_volume(tmp_path / "two.nii.gz").array, labels())


def test_mask_brought_onto_a_finer_grid_keeps_its_place_and_values():
    mask = Volume(np.kron(labels(), np.ones((1, 1, 1), np.uint8)).astype(np.int32) * 70_000, np.diag([2, 2, 2, 1.0]))
    fine = np.diag([1, 1, 1, 1.0])
    fine[:3, 3] = -0.5
    like = Volume(np.zeros(tuple(2 * n for n in SHAPE)), fine)
    np.testing.assert_array_equal(on_grid_of(mask, like).array, np.kron(mask.array, np.ones((2, 2, 2), np.int32)))


def test_result_is_written_like_its_mask(tmp_path):
    from napari_weakseg.method import Result
    from napari_weakseg.prompts import LESION

    result = Result(Volume(labels()), (LESION,))
    np.testing.assert_array_equal(read_mask(write_mask(result, tmp_path / "m.nii")).array, labels())


def test_volume_without_orientation_is_written_without(tmp_path):
    volume = Volume(labels(), np.diag([1, 2, 3, 1.0]), orientation_known=False)
    again = read_mask(write_mask(volume, tmp_path / "mask.nii"))
    assert not again.orientation_known
    assert again.spacing == (1, 2, 3)
    known = Volume(labels(), header=SourceHeader(0, 0))
    assert not read_mask(write_mask(known, tmp_path / "mask.nii")).orientation_known


def test_no_connection_is_opened(tmp_path):
    """S10 for this room: reading, writing and records work where sockets cannot be made."""
    program = (
        "import socket, sys\n"
        "class Refused(socket.socket):\n"
        "    def __init__(self, *a, **k): raise AssertionError('network')\n"
        "socket.socket = socket.create_connection = Refused\n"
        "import numpy as np\n"
        "from napari_weakseg.volume import Volume\n"
        "from napari_weakseg.io.nifti import read_mask, write_mask\n"
        "from napari_weakseg.io.records import write_record\n"
        "read_mask(write_mask(Volume(np.ones((2, 2, 2), np.uint8)), sys.argv[1] + '/m.nii.gz'))\n"
        "write_record({'a': 1}, sys.argv[1] + '/r.json')\n"
        "heavy = {'torch', 'monai', 'napari', 'SimpleITK', 'skimage', 'qtpy'}\n"
        "import json; print(json.dumps(sorted(heavy & {*sys.modules})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
