"""Rows F1 to F42 of the fault catalogue: what each odd or damaged NIfTI file leads to.

REFUSE is one sentence of our own, ASK names the argument that answers it, NOTE opens the file and says what is odd.
"""

from __future__ import annotations

import gzip
import os
import struct
import sys
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_weakseg.errors import Ask, DataError, GeometryError, WeaksegError
from napari_weakseg.io import nifti_gate
from napari_weakseg.io.nifti import export_notes, read_mask, read_volume, source_now, write_map, write_mask
from napari_weakseg.volume import Volume

SHAPE = (8, 9, 10)
AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])
AFFINE[:3, 3] = (-4, 5, 6)
NUMBERS = np.arange(720, dtype=np.int16).reshape(SHAPE)


def image(array=NUMBERS, affine=AFFINE, *, kind=nib.Nifti1Image, forms=(1, 1)) -> nib.Nifti1Image:
    made = kind(array, affine, dtype=array.dtype)
    if affine is not None:
        made.set_sform(affine, forms[0])
        made.set_qform(affine, forms[1])
    made.header.set_xyzt_units("mm")
    return made


def save(folder: Path, name: str = "case.nii", made=None) -> Path:
    """Through bytes: nibabel looks at suffixes and would refuse some of the names."""
    content = (made or image()).to_bytes()
    path = folder / name
    path.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
    return path


def patch(path: Path, offset: int, form: str, *values) -> Path:
    """Change bytes of the header in place."""
    packed = path.name.endswith(".gz")
    content = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    struct.pack_into("<" + form, content, offset, *values)
    path.write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))
    return path


def refused(path: Path, *parts: str, read=read_volume, kind: type[WeaksegError] = WeaksegError, **options) -> None:
    with pytest.raises(kind) as caught:
        read(path, **options)
    text = str(caught.value)
    assert not isinstance(caught.value, Ask)
    assert path.name in text or len(path.name) > 60
    assert str(path.parent) not in text
    assert "\n" not in text
    assert len(text.split()) <= 30
    for part in parts:
        assert part in text


def asked(path: Path, argument: str, *parts: str) -> Ask:
    with pytest.raises(Ask) as caught:
        read_volume(path)
    assert caught.value.argument == argument
    assert path.name in str(caught.value)
    assert len(str(caught.value).split()) <= 30
    for part in parts:
        assert part in str(caught.value)
    return caught.value


def noted(volume: Volume, *parts: str) -> None:
    for part in parts:
        assert any(part in note for note in volume.notes), volume.notes
    assert all(len(note.split()) <= 30 for note in volume.notes)


@pytest.fixture(scope="module")
def large() -> bytes:
    """A gzip file of more than 300 kB unpacked: below that some readers notice damage by chance."""
    noise = np.random.default_rng(0).integers(0, 60, (64, 72, 80)).astype(np.uint8)
    return gzip.compress(image(noise).to_bytes(), compresslevel=1, mtime=0)


class TestDamagedBytes:
    @pytest.mark.parametrize("share", [0.5, 0.9, 0.9999, "trailer", "last byte"], ids=lambda share: f"F1-{share}")
    def test_truncated_gzip(self, tmp_path, large, share):
        keep = {"trailer": len(large) - 8, "last byte": len(large) - 1}.get(share) or int(len(large) * share)
        path = tmp_path / "case.nii.gz"
        path.write_bytes(large[:keep])
        refused(path, "ends early", "copy", kind=DataError)

    def test_many_cuts(self, tmp_path, large):
        path = tmp_path / "case.nii.gz"
        for keep in np.random.default_rng(1).integers(1, len(large), 100):
            path.write_bytes(large[:keep])
            with pytest.raises(DataError):
                read_volume(path)

    def test_one_bit_flipped_F2(self, tmp_path, large):
        path = tmp_path / "case.nii.gz"
        path.write_bytes(large)
        right = read_volume(path).array
        rng = np.random.default_rng(2)
        positions = [*range(10), *rng.integers(10, len(large), 182), *range(len(large) - 8, len(large))]
        for position in positions:
            content = bytearray(large)
            content[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(content)
            if position >= 10:
                refused(path, kind=DataError)
            else:  # time and system fields of gzip's own header mean nothing for the voxels
                try:
                    volume = read_volume(path)
                except DataError:
                    continue
                np.testing.assert_array_equal(volume.array, right)

    def test_message_names_the_damage_F2(self, tmp_path, large):
        content = bytearray(large)
        content[-6] ^= 1  # the checksum itself
        path = tmp_path / "case.nii.gz"
        path.write_bytes(content)
        refused(path, "compressed data", "damaged")

    def test_damage_within_the_header_is_told_as_damage_F2(self, tmp_path):
        path = save(tmp_path, "case.nii.gz")
        content = bytearray(gzip.decompress(path.read_bytes()))
        struct.pack_into("<h", content, 40, -5)
        stored = bytearray(gzip.compress(bytes(content), compresslevel=0))
        stored[-5] ^= 1
        path.write_bytes(stored)
        refused(path, "compressed data")

    @pytest.mark.parametrize("name", ["case.nii", "case.nii.gz"])
    def test_empty_file_F3(self, tmp_path, name):
        path = tmp_path / name
        path.write_bytes(b"")
        refused(path, "is empty")

    @pytest.mark.parametrize("keep", [348, 352, 353, 800, 352 + 1440 - 1], ids=lambda n: f"F4-{n}")
    def test_raw_data_cut_short(self, tmp_path, keep):
        path = save(tmp_path)
        path.write_bytes(path.read_bytes()[:keep])
        refused(path, "1,792", f"{keep:,}", "cut short")

    @pytest.mark.parametrize("keep", [4, 100, 347])
    def test_header_cut_short_F4(self, tmp_path, keep):
        path = save(tmp_path)
        path.write_bytes(path.read_bytes()[:keep])
        refused(path)

    def test_gzip_with_whole_stream_but_too_few_voxels_F4(self, tmp_path):
        path = tmp_path / "case.nii.gz"
        path.write_bytes(gzip.compress(image().to_bytes()[:1000]))
        refused(path, "1,792", "1,000")

    def test_bytes_after_the_voxels_are_noted(self, tmp_path):
        path = save(tmp_path)
        path.write_bytes(path.read_bytes() + b"tail")
        noted(read_volume(path), "4 bytes after the voxels")

    def test_bomb_behind_the_voxels_is_refused(self, tmp_path):
        path = tmp_path / "case.nii.gz"
        path.write_bytes(gzip.compress(image().to_bytes() + bytes(40 << 20), compresslevel=1))
        refused(path, "long after its voxels")


class TestNotNifti:
    def test_gzip_named_nii_F5(self, tmp_path):
        refused(save(tmp_path, "case.nii.gz").rename(tmp_path / "case.nii"), "rename", ".nii.gz")

    def test_plain_named_gz_F5(self, tmp_path):
        refused(save(tmp_path).rename(tmp_path / "case.nii.gz"), "rename", ".nii.")

    @pytest.mark.parametrize("name", ["case.nii", "case.nii.gz", "case.nii.gz packed"])
    @pytest.mark.parametrize(
        ("content", "word"),
        [
            (b"just some notes on the patient\n" * 40, "not a NIfTI"),
            (b"short", "not a NIfTI"),
            (b"<!DOCTYPE html><html>404</html>" * 20, "web page"),
            (b"\x89PNG\r\n\x1a\n" + bytes(500), "PNG"),
            (bytes(128) + b"DICM" + bytes(400), "DICOM"),
            (bytes(1000), "not a NIfTI"),
        ],
        ids=["F6-text", "F6-short", "F6-html", "F6-png", "F6-dicom", "F6-zeros"],
    )
    def test_other_content(self, tmp_path, name, content, word):
        path = tmp_path / name.removesuffix(" packed")
        path.write_bytes(gzip.compress(content) if name.endswith("packed") else content)
        refused(path, word, kind=DataError)

    def test_folder_F7(self, tmp_path):
        (tmp_path / "case.nii").mkdir()
        refused(tmp_path / "case.nii", "is a folder")

    def test_missing_F7(self, tmp_path):
        refused(tmp_path / "case.nii", "does not exist")

    @pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="rights do not bind this user")
    def test_no_permission_F7(self, tmp_path):
        path = save(tmp_path)
        path.chmod(0)
        refused(path, "may not be read")

    def test_device_F7(self, tmp_path):
        if not hasattr(os, "mkfifo"):
            pytest.skip("no named pipes here")
        os.mkfifo(tmp_path / "case.nii")
        refused(tmp_path / "case.nii", "not a regular file")

    def test_analyze_F35(self, tmp_path):
        made = nib.AnalyzeImage(NUMBERS, AFFINE)
        content = made.header.binaryblock + NUMBERS.tobytes(order="F")
        for name in ("case.hdr", "case.nii"):
            (tmp_path / name).write_bytes(content)
            refused(tmp_path / name, "Analyze", "orientation")

    def test_unknown_magic_F35(self, tmp_path):
        refused(patch(save(tmp_path), 344, "4s", b"n+7\0"), "not a NIfTI")

    def test_half_of_a_pair(self, tmp_path):
        refused(patch(save(tmp_path), 344, "4s", b"ni1\0"), "pair")


class TestDimensions:
    def test_four_dimensional_asks_F8(self, tmp_path):
        stack = np.random.default_rng(0).integers(0, 99, (*SHAPE, 4)).astype(np.int16)
        for name in ("case.nii", "case.nii.gz"):
            path = save(tmp_path, name, image(stack))
            assert asked(path, "volume_index", "4 volumes").choices == ("0", "1", "2", "3")
            for index in range(4):
                np.testing.assert_array_equal(read_volume(path, volume_index=index).array, stack[..., index])
            for index in (-1, 4):
                refused(path, f"no volume {index}", volume_index=index)

    def test_cut_four_dimensional_is_refused_F8(self, tmp_path):
        path = save(tmp_path, "case.nii", image(np.zeros((*SHAPE, 4), np.int16)))
        path.write_bytes(path.read_bytes()[:-1])
        refused(path, "cut short", volume_index=0)

    def test_trailing_singletons_are_squeezed_F9(self, tmp_path):
        volume = read_volume(save(tmp_path, "case.nii", image(NUMBERS[..., None, None])))
        np.testing.assert_array_equal(volume.array, NUMBERS)
        assert volume.notes == ()
        out = write_mask(volume.with_array(NUMBERS % 3), tmp_path / "mask.nii.gz")
        assert nib.load(out).shape == SHAPE

    @pytest.mark.parametrize("shape", [(8, 9), (8,)], ids=["F10-2D", "F10-1D"])
    def test_too_few_axes(self, tmp_path, shape):
        path = patch(save(tmp_path), 40, "4h", len(shape), *shape, *[1] * (3 - len(shape)))
        refused(path, "dimension", "three")

    def test_vector_image_is_refused(self, tmp_path):
        refused(save(tmp_path, "case.nii", image(np.zeros((8, 9, 10, 1, 3), np.float32))), "5 axes")

    @pytest.mark.parametrize("shape", [(8, 9, 1), (1, 9, 10), (1, 1, 1)], ids=lambda s: f"F11-{s}")
    def test_axis_of_one_voxel(self, tmp_path, shape):
        array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
        volume = read_volume(save(tmp_path, "case.nii", image(array)))
        noted(volume, "single voxel")
        np.testing.assert_array_equal(volume.array, array)
        out = read_mask(write_mask(volume.with_array(array % 2), tmp_path / "mask.nii"), like=volume)
        np.testing.assert_array_equal(out.array, array % 2)

    def test_short_axes_open_F12(self, tmp_path):
        assert read_volume(save(tmp_path, "case.nii", image(np.arange(315, dtype=np.int16).reshape(5, 7, 9)))).shape == (
            5,
            7,
            9,
        )

    @pytest.mark.parametrize("name", ["case.nii", "case.nii.gz"])
    @pytest.mark.parametrize(
        "dims",
        [(3, 32767, 32767, 32767, 1), (4, 1300, 1300, 1300, 1), (3, 32767, 32767, 2, 1)],
        ids=["F28-70TB", "F28-4.4GB", "F28-4.3GB"],
    )
    def test_lying_header_costs_nothing(self, tmp_path, name, dims):
        path = patch(save(tmp_path, name), 40, "5h", *dims)
        tracemalloc.start()
        refused(path, "cut short")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 50e6

    def test_lying_header_that_its_packed_size_allows_F28(self, tmp_path, monkeypatch):
        monkeypatch.setattr(nifti_gate, "memory_budget", lambda: 1 << 50)
        noise = np.random.default_rng(0).integers(0, 255, 2_200_000).astype(np.uint8).reshape(100, 220, 100)
        path = patch(save(tmp_path, "case.nii", image(noise)), 40, "4h", 3, 1000, 1000, 2200)
        path.write_bytes(b"")
        content = bytearray(image(noise).to_bytes())
        struct.pack_into("<4h", content, 40, 3, 1000, 1000, 2200)
        packed = tmp_path / "case.nii.gz"
        packed.write_bytes(gzip.compress(bytes(content), compresslevel=1))
        tracemalloc.start()
        refused(packed, "cut short")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 50e6

    @pytest.mark.parametrize(
        "dims",
        [(0, 8, 9, 10), (-3, 8, 9, 10), (9, 8, 9, 10), (3, 0, 9, 10), (3, 8, -9, 10), (3, 8, 9, -32768)],
        ids=lambda d: f"F29-{d}",
    )
    def test_senseless_dimensions(self, tmp_path, dims):
        refused(patch(save(tmp_path), 40, "4h", *dims), "dimensions", kind=DataError)

    def test_budget_F42(self, tmp_path, monkeypatch):
        path = patch(save(tmp_path), 40, "4h", 3, 512, 512, 600)
        os.truncate(path, 352 + 512 * 512 * 600 * 2)  # sparse
        monkeypatch.setattr(nifti_gate, "memory_budget", lambda: 100 << 20)
        refused(path, "300 MiB", "100 MiB")


class TestVoxelTypes:
    @pytest.mark.parametrize(("code", "size"), [(128, 3), (2304, 4)], ids=["F13-RGB", "F13-RGBA"])
    def test_colour(self, tmp_path, code, size):
        names = "RGBA"[:size]
        made = image(np.zeros(SHAPE, dtype=[(n, "u1") for n in names]))
        assert int(made.header["datatype"]) == code
        refused(save(tmp_path, "case.nii", made), "colour")

    @pytest.mark.parametrize("code", [1, 0, 77, 1536, 1792, 32], ids=lambda c: f"F30-{c}")
    def test_other_types(self, tmp_path, code):
        refused(patch(save(tmp_path), 70, "h", code), kind=DataError)

    def test_wrong_bitpix_is_noted_F30(self, tmp_path):
        volume = read_volume(patch(save(tmp_path), 72, "h", 8))
        noted(volume, "bitpix")
        np.testing.assert_array_equal(volume.array, NUMBERS)

    @pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", ">i2", ">f4", ">f8"])
    def test_every_real_type_in_either_byte_order(self, tmp_path, dtype):
        array = (NUMBERS % 100).astype(dtype)
        header = nib.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
        header.set_data_dtype(np.dtype(dtype))
        made = nib.Nifti1Image(array, AFFINE, header)
        volume = read_volume(save(tmp_path, "case.nii.gz", made))
        assert volume.array.dtype == np.dtype(dtype).newbyteorder("=")
        np.testing.assert_array_equal(volume.array, array)
        np.testing.assert_allclose(volume.affine, AFFINE)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
    @pytest.mark.parametrize("count", [3, 360])
    def test_some_not_finite_F14(self, tmp_path, bad, count):
        array = NUMBERS.astype(np.float32)
        array.flat[:count] = bad
        noted(read_volume(save(tmp_path, "case.nii", image(array))), f"{count} of 720 voxels are not finite")

    def test_none_finite_F15(self, tmp_path):
        for value in (np.nan, np.inf):
            refused(save(tmp_path, "case.nii", image(np.full(SHAPE, value, np.float32))), "no finite")

    @pytest.mark.parametrize("value", [0, 7])
    def test_constant_F16(self, tmp_path, value):
        noted(
            read_volume(save(tmp_path, "case.nii", image(np.full(SHAPE, value, np.int16)))),
            f"every voxel has the value {value}",
        )

    def test_beyond_float32_is_refused(self, tmp_path):
        array = NUMBERS.astype(np.float64)
        array[0, 0, 0] = 1e300
        refused(save(tmp_path, "case.nii", image(array)), "32-bit")


class TestPlace:
    @pytest.mark.parametrize("apart", [70.0, 0.15], ids=lambda mm: f"F17-{mm}mm")
    def test_forms_apart_ask(self, tmp_path, apart):
        made = image()
        moved = AFFINE.copy()
        moved[0, 3] += apart
        made.set_qform(moved, 1)
        path = save(tmp_path, "case.nii", made)
        assert asked(path, "prefer", f"{apart:g} mm").choices == ("sform", "qform")
        np.testing.assert_allclose(read_volume(path, prefer="sform").affine, AFFINE, atol=1e-5)
        chosen = read_volume(path, prefer="qform")
        np.testing.assert_allclose(chosen.affine, moved, atol=1e-5)
        noted(chosen, "qform")

    def test_forms_nearly_equal_F17(self, tmp_path):
        made = image()
        moved = AFFINE.copy()
        moved[0, 3] += 0.05
        made.set_qform(moved, 1)
        volume = read_volume(save(tmp_path, "case.nii", made))
        assert volume.notes == ()
        np.testing.assert_allclose(volume.affine, AFFINE)

    def test_forms_mirrored_F18(self, tmp_path):
        made = image()
        made.set_qform(np.diag([-1, 1, 1, 1]) @ AFFINE, 1)
        asked(save(tmp_path, "case.nii", made), "prefer", "left and right differ")

    def test_unknown_answer_is_refused(self, tmp_path):
        with pytest.raises(DataError, match="prefer"):
            read_volume(save(tmp_path), prefer="best")
        with pytest.raises(DataError, match="units"):
            read_volume(save(tmp_path), units="inch")

    def test_no_form_coded_F19(self, tmp_path):
        volume = read_volume(save(tmp_path, "case.nii", image(forms=(0, 0))))
        noted(volume, "orientation unknown")
        assert not volume.orientation_known
        assert volume.spacing_known
        assert volume.spacing == (1.0, 2.0, 3.0)
        out = write_mask(volume.with_array(NUMBERS % 3), tmp_path / "mask.nii.gz")
        header = nib.load(out).header
        assert (int(header["sform_code"]), int(header["qform_code"])) == (0, 0)
        mask = read_mask(out, like=volume)
        assert not mask.orientation_known
        np.testing.assert_array_equal(mask.array, NUMBERS % 3)

    def test_nothing_known_counts_voxels_F19(self, tmp_path):
        made = image(affine=None)
        made.header.set_xyzt_units(0)
        volume = read_volume(save(tmp_path, "case.nii", made))
        noted(volume, "orientation unknown", "voxel size unknown")
        assert volume.unit == "voxels"
        assert not read_mask(write_mask(volume.with_array(NUMBERS % 3), tmp_path / "mask.nii")).spacing_known

    def test_spacing_of_one_is_known_where_stated(self, tmp_path):
        assert read_volume(save(tmp_path, "case.nii", image(affine=np.eye(4)))).spacing_known

    @pytest.mark.parametrize(
        ("shear", "is_noted"), [(0.2, True), (1e-3, True), (1e-5, False)], ids=["F20-0.2", "F20-1e-3", "F20-1e-5"]
    )
    def test_shear(self, tmp_path, shear, is_noted):
        affine = AFFINE.copy()
        affine[0, 1] = 2 * shear
        made = nib.Nifti1Image(NUMBERS, affine)
        made.set_sform(affine, 1)
        made.set_qform(None, 0)
        path = save(tmp_path, "case.nii", made)
        volume = read_volume(path)
        assert any("sheared" in note for note in volume.notes) is is_noted
        mask = volume.with_array(NUMBERS % 3)
        out = write_mask(mask, tmp_path / "mask.nii.gz")
        stored = nib.load(out).header
        np.testing.assert_array_equal(stored.get_sform(), nib.load(path).header.get_sform())
        assert (int(stored["qform_code"]) == 0) is is_noted
        assert any("sheared" in note for note in export_notes(mask)) is is_noted
        assert read_mask(out, like=volume).same_grid(volume, tolerance_mm=1e-6)

    @pytest.mark.parametrize("row", [(0, 0, 0, 0), (0, 2, 0, 5)], ids=["F21-zero", "F21-singular"])
    def test_singular_sform(self, tmp_path, row):
        refused(patch(save(tmp_path), 280, "4f", *row), "singular", kind=GeometryError)

    @pytest.mark.parametrize("value", [np.nan, np.inf], ids=["nan", "inf"])
    @pytest.mark.parametrize("offset", [280, 292, 300, 256, 268, 80, 84, 88], ids=lambda o: f"F22-{o}")
    def test_not_finite_place(self, tmp_path, offset, value):
        refused(patch(save(tmp_path), offset, "f", value), "not finite", kind=GeometryError)

    def test_doubles_that_overflow_F22(self, tmp_path):
        path = save(tmp_path, "case.nii", image(kind=nib.Nifti2Image))
        refused(patch(path, 400, "d", 1e300), "absurd", kind=GeometryError)

    @pytest.mark.parametrize("size", [0.0, -2.0], ids=["F23-zero", "F23-negative"])
    def test_senseless_pixdim(self, tmp_path, size):
        volume = read_volume(patch(save(tmp_path), 84, "f", size))
        noted(volume, "voxel size field")
        np.testing.assert_allclose(volume.affine, AFFINE)
        refused(patch(save(tmp_path, "case.nii", image(forms=(0, 1))), 84, "f", size), "voxel size", kind=GeometryError)
        refused(patch(save(tmp_path, "case.nii", image(forms=(0, 0))), 84, "f", size), "voxel size", kind=GeometryError)

    def test_pixdim_that_differs_is_noted(self, tmp_path):
        noted(read_volume(patch(save(tmp_path, "case.nii", image(forms=(1, 0))), 84, "f", 2.2)), "differs from the affine")

    @pytest.mark.parametrize(("code", "unit", "factor"), [(1, "m", 1000.0), (3, "um", 0.001)], ids=["F24-metre", "F24-micron"])
    def test_other_units(self, tmp_path, code, unit, factor):
        path = patch(save(tmp_path), 123, "B", code)
        refused(path, "units", f"'{unit}'")
        volume = read_volume(path, units=unit)
        np.testing.assert_allclose(volume.affine[:3], AFFINE[:3] * factor)
        noted(volume, "as asked for")
        np.testing.assert_allclose(read_volume(path, units="mm").affine, AFFINE)
        out = write_mask(volume.with_array(NUMBERS % 3), tmp_path / "mask.nii")
        assert read_mask(out, like=volume).spacing == pytest.approx(volume.spacing)

    def test_lengths_that_mean_nothing_can_be_said_to(self, tmp_path):
        """Images that were converted from pictures say 1 mm and mean nothing by it."""
        volume = read_volume(save(tmp_path), units="unknown")
        assert not volume.spacing_known
        assert volume.spacing == (1.0, 1.0, 1.0)
        assert volume.unit == "voxels"
        assert "voxel size unknown, as stated: lengths count voxels." in volume.notes
        np.testing.assert_allclose(volume.affine, AFFINE)

    def test_unset_units_are_mm_F25(self, tmp_path):
        volume = read_volume(patch(save(tmp_path), 123, "B", 0))
        assert volume.notes == ()
        assert volume.spacing == (1.0, 2.0, 3.0)

    def test_time_units_do_not_matter_F25(self, tmp_path):
        assert read_volume(patch(save(tmp_path), 123, "B", 2 | 8)).notes == ()

    @pytest.mark.parametrize("size", [0.0005, 4000.0], ids=lambda s: f"F26-{s}")
    def test_unusual_spacing(self, tmp_path, size):
        noted(read_volume(save(tmp_path, "case.nii", image(affine=np.diag([size, size, size, 1])))), "unusual")

    def test_permuted_anisotropic_axes_F27(self, tmp_path):
        affine = np.array([[0, 0, 0.5, 3], [8, 0, 0, 4], [0, -0.5, 0, 5], [0, 0, 0, 1.0]])
        volume = read_volume(save(tmp_path, "case.nii", image(affine=affine)))
        assert volume.notes == ()
        assert volume.spacing == (8.0, 0.5, 0.5)
        assert volume.in_voxels(4.0) == (1, 8, 8)
        np.testing.assert_allclose(volume.affine, affine)


class TestScaleFactors:
    def test_factors_are_kept_for_the_record(self, tmp_path):
        header = read_volume(patch(save(tmp_path), 112, "2f", 2, -3)).header
        assert (header.slope, header.intercept) == (2.0, -3.0)
        header = read_volume(patch(save(tmp_path), 112, "2f", 0, 0)).header
        assert (header.slope, header.intercept) == (1.0, 0.0)

    def test_large_slope_F31(self, tmp_path):
        array = NUMBERS.copy()
        array[0, 0, 0] = -32768
        volume = read_volume(patch(save(tmp_path, "case.nii", image(array)), 112, "2f", 1e6, 5))
        assert volume.array.dtype == np.float32
        np.testing.assert_allclose(volume.array, array.astype(np.float64) * 1e6 + 5, rtol=1e-6)
        noted(volume, "1e+06")

    def test_common_offset_is_exact(self, tmp_path):
        volume = read_volume(patch(save(tmp_path), 112, "2f", 1, -1024))
        np.testing.assert_array_equal(volume.array, NUMBERS.astype(np.float32) - 1024)
        assert volume.notes == ()

    @pytest.mark.parametrize(("slope", "inter"), [(np.nan, 0), (np.inf, 0), (0, 5)])
    def test_unusable_slope_is_noted(self, tmp_path, slope, inter):
        volume = read_volume(patch(save(tmp_path), 112, "2f", slope, inter))
        noted(volume, "unusable")
        np.testing.assert_array_equal(volume.array, NUMBERS)

    def test_slope_zero_means_unscaled(self, tmp_path):
        volume = read_volume(patch(save(tmp_path), 112, "2f", 0, 0))
        assert volume.notes == ()
        assert volume.array.dtype == np.int16

    def test_values_that_overflow_are_refused(self, tmp_path):
        refused(patch(save(tmp_path), 112, "2f", 1e38, 0), "too large")
        refused(patch(save(tmp_path), 112, "2f", 1, np.nan), "scale factors")


class TestLabels:
    def test_whole_floats_F32(self, tmp_path):
        for dtype in (np.float32, np.float64):
            mask = read_mask(save(tmp_path, "mask.nii", image((NUMBERS % 5).astype(dtype))))
            assert mask.array.dtype == np.uint8
            np.testing.assert_array_equal(mask.array, NUMBERS % 5)

    def test_fractions_F32(self, tmp_path):
        refused(save(tmp_path, "mask.nii", image((NUMBERS / 7).astype(np.float32))), "fractions", read=read_mask)

    def test_scaled_by_255_F32(self, tmp_path):
        path = patch(save(tmp_path, "mask.nii", image(((NUMBERS % 2) * 255).astype(np.uint8))), 112, "2f", 1 / 255, 0)
        refused(path, "scale factor", "unscaled", read=read_mask)

    def test_one_nan_F32(self, tmp_path):
        array = (NUMBERS % 3).astype(np.float32)
        array[1, 2, 3] = np.nan
        refused(save(tmp_path, "mask.nii", image(array)), "not finite", read=read_mask)

    def test_float32_cannot_tell_large_ids_apart_F32(self, tmp_path):
        refused(save(tmp_path, "mask.nii", image(np.where(NUMBERS, 0, 2.0**24).astype(np.float32))), "int32", read=read_mask)

    def test_int64_F33(self, tmp_path):
        array = (NUMBERS % 300).astype(np.int64)
        mask = read_mask(save(tmp_path, "mask.nii", image(array)))
        np.testing.assert_array_equal(mask.array, array)
        out = write_mask(Volume(array, AFFINE), tmp_path / "out.nii.gz")
        assert nib.load(out).get_data_dtype() == np.uint16
        np.testing.assert_array_equal(read_mask(out).array, array)

    def test_export_on_scaled_grid_F34(self, tmp_path):
        path = patch(save(tmp_path, "case.nii", image((NUMBERS % 200).astype(np.uint8))), 112, "2f", 0.01, 0)
        volume = read_volume(path)
        labels = np.choose(NUMBERS % 4, [0, 1, 2, 300])
        out = write_mask(volume.with_array(labels), tmp_path / "mask.nii.gz")
        np.testing.assert_array_equal(np.asarray(nib.load(out).dataobj), labels)

    def test_other_place_F41(self, tmp_path):
        like = read_volume(save(tmp_path))
        labels = (NUMBERS % 4).astype(np.uint8)
        moved = AFFINE.copy()
        moved[1, 3] += 0.5
        path = save(tmp_path, "mask.nii", image(labels, moved))
        refused(path, "0.5 mm", "resample", read=read_mask, kind=GeometryError, like=like)
        mask = read_mask(path, like=like, resample=True)
        assert mask.same_grid(like)
        noted(mask, "another grid")
        np.testing.assert_array_equal(mask.array, labels)  # half a mm of 2 mm voxels: each nearest label is its own

    def test_flipped_F41(self, tmp_path):
        like = read_volume(save(tmp_path))
        labels = (NUMBERS % 4).astype(np.uint8)
        flipped = AFFINE @ np.array([[-1, 0, 0, 7], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
        path = save(tmp_path, "mask.nii", image(labels[::-1], flipped))
        refused(path, read=read_mask, kind=GeometryError, like=like)
        np.testing.assert_array_equal(read_mask(path, like=like, resample=True).array, labels)

    def test_other_shape_F41(self, tmp_path):
        like = read_volume(save(tmp_path))
        refused(save(tmp_path, "mask.nii", image(NUMBERS[:4] % 2)), "(4, 9, 10)", read=read_mask, like=like)

    def test_within_a_tenth_of_a_mm_F41(self, tmp_path):
        like = read_volume(save(tmp_path))
        moved = AFFINE.copy()
        moved[1, 3] += 0.05
        assert read_mask(save(tmp_path, "mask.nii", image(NUMBERS % 2, moved)), like=like).notes == ()

    def test_four_dimensional_mask_is_never_guessed(self, tmp_path):
        with pytest.raises(DataError, match="several volumes") as caught:
            read_mask(save(tmp_path, "mask.nii", image(np.zeros((*SHAPE, 2), np.uint8))))
        assert len(str(caught.value).split()) <= 30


class TestFilesAndExport:
    def test_nifti2_F36(self, tmp_path):
        path = save(tmp_path, "case.nii.gz", image(kind=nib.Nifti2Image))
        volume = read_volume(path)
        assert volume.notes == ()
        np.testing.assert_array_equal(volume.array, NUMBERS)
        refused(patch(path, 16, "2q", 3, 2**40), "cut short")

    def test_long_axis_F36(self, tmp_path):
        labels = (np.arange(33000 * 4).reshape(33000, 2, 2) % 7).astype(np.uint8)
        mask = Volume(labels, AFFINE)
        out = write_mask(mask, tmp_path / "mask.nii.gz")
        assert isinstance(nib.load(out), nib.Nifti2Image)
        np.testing.assert_array_equal(read_mask(out, like=mask).array, labels)
        assert any("NIfTI-2" in note for note in export_notes(mask))

    def test_text_is_noted_and_not_copied_F37(self, tmp_path):
        canary = b"DOE^JANE 1970"
        extended = image()
        extended.header.extensions.append(nib.nifti1.Nifti1Extension("comment", canary))
        in_fields = image()
        in_fields.header["descrip"] = canary
        in_aux = image()
        in_aux.header["aux_file"] = canary
        for made in (extended, in_fields, in_aux):
            volume = read_volume(save(tmp_path, "case.nii", made))
            noted(volume, "free text")
            np.testing.assert_array_equal(volume.array, NUMBERS)
            out = write_mask(volume.with_array(NUMBERS % 3), tmp_path / "mask.nii")
            assert canary not in out.read_bytes()
            assert canary.decode() not in repr(volume.header) + "".join(volume.notes)

    @pytest.mark.parametrize("text", [b"FSL5.0", b"6.0.5:9e026117", b"SPM12", b"3D Slicer 5.6", b""])
    def test_names_of_programs_need_no_note_F37(self, tmp_path, text):
        made = image()
        made.header["descrip"] = text
        assert read_volume(save(tmp_path, "case.nii", made)).notes == ()

    @pytest.mark.parametrize(
        "name",
        [
            "a b c.nii.gz",
            "größe é.nii",
            "🧠.nii.gz",
            "v" * 240 + ".nii.gz",
            "a.b..c.v1.2.nii.gz",
            "CASE.NII.GZ",
            "-o.nii",
            "%s{x}.nii",
        ],
        ids=["spaces", "accents", "emoji", "240", "dots", "capitals", "dash", "format"],
    )
    def test_names_F38(self, tmp_path, name):
        source = save(tmp_path, "case.nii")
        volume = read_volume(source)
        out = write_mask(volume.with_array(NUMBERS % 3), tmp_path / name)
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["case.nii", name])
        np.testing.assert_array_equal(read_mask(out, like=volume).array, NUMBERS % 3)
        assert read_volume(out).name == name[: -len(".nii.gz" if name.lower().endswith("gz") else ".nii")]

    def test_name_too_long_F38(self, tmp_path):
        path = tmp_path / ("v" * 300 + ".nii.gz")
        refused(path, "too long", "255")
        with pytest.raises(DataError, match=r"too long.*255"):
            write_mask(Volume(NUMBERS % 3), path)

    def test_nul_in_the_name_F38(self, tmp_path):
        with pytest.raises(DataError, match="not a usable file name"):
            read_volume(f"{tmp_path}/a\0b.nii")
        with pytest.raises(DataError):
            write_mask(Volume(NUMBERS % 3), f"{tmp_path}/a\0b.nii")

    def test_source_changed_F39(self, tmp_path):
        path = save(tmp_path)
        volume = read_volume(path)
        mask = volume.with_array(NUMBERS % 3)
        assert export_notes(mask) == ()
        assert source_now(volume) == volume.header.sha256
        save(tmp_path, "case.nii", image(NUMBERS[::-1]))
        assert any("changed on disk" in note for note in export_notes(mask))
        assert source_now(volume) != volume.header.sha256
        path.unlink()
        assert export_notes(mask) == ()
        assert source_now(volume) is None

    @pytest.mark.parametrize("name", ["case.nii", "case.nii.gz"])
    def test_export_onto_the_source_F40(self, tmp_path, name, monkeypatch):
        path = save(tmp_path, name)
        before = path.read_bytes()
        volume = read_volume(path)
        (tmp_path / "soft.nii").symlink_to(path)
        os.link(path, tmp_path / "hard.nii")
        monkeypatch.chdir(tmp_path)
        for target in (path, tmp_path / "soft.nii", tmp_path / "hard.nii", Path(name), Path(f"../{tmp_path.name}/{name}")):
            for write in (write_mask, write_map):
                with pytest.raises(DataError, match="made from"):
                    write(volume.with_array(NUMBERS % 3), target)
        assert path.read_bytes() == before
        assert volume.array.sum() == NUMBERS.sum()  # no map of a file that was cut

    def test_opened_file_may_vanish_F40(self, tmp_path):
        path = save(tmp_path)
        volume = read_volume(path)
        path.write_bytes(b"")
        np.testing.assert_array_equal(volume.array, NUMBERS)
