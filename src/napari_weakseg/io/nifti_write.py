"""Volumes to NIfTI files: fresh header, smallest exact type, the source's place bit for bit, read back before it counts."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from ..method import Result
from ..volume import SourceHeader, Volume
from .atomic import write_atomically
from .names import shown
from .nifti_gate import pass_gate, told
from .nifti_place import SHEAR, TOLERANCE_MM, corner_positions, place_of, shear_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NIFTI1_LONGEST = 32767


def write_mask(result_or_volume: Result | Volume, path: str | os.PathLike[str]) -> Path:
    """Write labels as a NIfTI mask that lies exactly on the volume they were made on.

    The header is a fresh one: nothing of the source but its place and form codes. What the user should know of the
    export is in `export_notes`, which may be asked before or after.

    Parameters
    ----------
    result_or_volume : Result or Volume
        Whole numbers, shape (I, J, K).
    path : path
        Target, ``.nii.gz`` or ``.nii``; an existing file is replaced atomically, never the source image.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    DataError
        Not whole numbers, a label beyond int32, the target is the source, the folder cannot be written, or the file
        read back is not what was to be written. An old file of that name is then unchanged.
    """
    volume = _volume_of(result_or_volume)
    return _write(volume, _exact_labels(volume), path)


def write_image(volume: Volume, path: str | os.PathLike[str]) -> Path:
    """Write intensities in the type that they have, voxel for voxel; otherwise as `write_mask`.

    Raises
    ------
    DataError
        As `write_mask`; also values that are no real numbers.
    """
    array = volume.array
    if array.dtype.kind not in "iuf":
        raise DataError(f"{volume.name} holds values of type {array.dtype}, not intensities; give real numbers.")
    dtype = np.dtype(np.float32) if array.dtype == np.float16 else array.dtype.newbyteorder("<")
    return _write(volume, array.astype(dtype, copy=False), path)


def write_map(volume: Volume, path: str | os.PathLike[str]) -> Path:
    """Write a probability or heatmap as float32 on its volume's grid; otherwise as `write_mask`.

    Raises
    ------
    DataError
        As `write_mask`; also values that are not finite as float32.
    """
    with np.errstate(over="ignore"):
        array = volume.array.astype(np.float32)
    if not np.isfinite(array).all():
        raise DataError(f"{volume.name} holds values that are not finite; it was not written.")
    return _write(volume, array, path)


def export_notes(result_or_volume: Result | Volume, path: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """What a user should know of an export of this volume (to `path`); empty for most."""
    volume = _volume_of(result_or_volume)
    notes: list[str] = []
    if max(volume.shape) > _NIFTI1_LONGEST:
        notes.append(f"an axis has more than {_NIFTI1_LONGEST:,} voxels: written as NIfTI-2, which ITK cannot open.")
    if shear_of(volume.affine) > SHEAR:
        notes.append("the grid is sheared: written with the sform alone, which ITK-based programs cannot open.")
    if volume.array.dtype.kind in "biu" and not volume.array.any():
        notes.append("the mask is empty.")
    if path is not None and _sibling(Path(path)).exists():
        notes.append(f"{shown(_sibling(Path(path)))} lies beside it: programs based on ITK mix the two up, rename one of them.")
    now = source_now(volume)
    if volume.header is not None and now is not None and now != volume.header.sha256:
        notes.append("the source image changed on disk since it was loaded; the mask belongs to the image as it was loaded.")
    return tuple(notes)


def _sibling(path: Path) -> Path:
    """The same name with the other of the two endings: ITK takes the voxels of one for the other (measured, 2.5.7)."""
    return path.with_name(path.name[:-3]) if path.name.lower().endswith(".gz") else path.with_name(f"{path.name}.gz")


def source_now(volume: Volume) -> str | None:
    """SHA-256 of the source file as it is now, to be held against ``volume.header.sha256``; None where it is gone."""
    if volume.header is None or volume.header.path is None:
        return None
    try:
        with open(volume.header.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def smallest_label_type(array: NDArray[Any]) -> np.dtype[Any]:
    """Smallest of uint8, uint16, int32 that holds all values (int16, int32 where some are negative), else int64."""
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    for candidate in (np.uint8, np.uint16, np.int32) if low >= 0 else (np.int16, np.int32):
        if np.iinfo(candidate).min <= low and high <= np.iinfo(candidate).max:
            return np.dtype(candidate)
    return np.dtype(np.int64)


def _volume_of(result_or_volume: Result | Volume) -> Volume:
    return result_or_volume.mask if isinstance(result_or_volume, Result) else result_or_volume


def _exact_labels(volume: Volume) -> NDArray[Any]:
    """The labels in the smallest exact type."""
    array = volume.array
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array == np.round(array)).all()):
        raise DataError(f"{volume.name} holds fractions, not labels; write it with write_map or threshold it first.")
    if array.dtype.kind not in "iuf":
        raise DataError(f"{volume.name} holds values of type {array.dtype}, not labels; give whole numbers.")
    dtype = smallest_label_type(array)
    if dtype.itemsize > 4:
        raise DataError(f"{volume.name} holds the label {int(np.abs(array).max())}; masks end at {2**31 - 1}, renumber it.")
    return array.astype(dtype)


def _write(volume: Volume, array: NDArray[Any], path: str | os.PathLike[str]) -> Path:
    name = os.fspath(path)
    _refuse_target(volume, path)
    with told(path):
        header = _fresh_header(volume, array)
        data = bytes(header.binaryblock) + b"\0\0\0\0" + np.asarray(array).tobytes(order="F")
    if name.lower().endswith(".gz"):
        data = _packed(data)
    return write_atomically(path, data, check=lambda temporary: _compare(temporary, name, volume, array, header))


def _refuse_target(volume: Volume, path: str | os.PathLike[str]) -> None:
    if not os.fspath(path).lower().endswith((".nii", ".nii.gz")):
        raise DataError(f"{shown(path)} does not end in .nii.gz or .nii; give it one of these endings.")
    source = volume.header.path if volume.header is not None else None
    if source is None:
        return
    target = Path(os.path.realpath(path))
    if target == source or (target.exists() and source.exists() and os.path.samefile(target, source)):
        raise DataError(f"{shown(path)} is the image that the mask was made from; choose another name.")


def _fresh_header(volume: Volume, array: NDArray[Any]) -> Any:
    """A header with nothing of the source but its place and form codes."""
    import nibabel as nib

    header_type: Any = nib.Nifti2Header if max(volume.shape) > _NIFTI1_LONGEST else nib.Nifti1Header
    header = header_type(endianness="<")
    header.set_data_dtype(array.dtype)
    header.set_data_shape(volume.shape)
    header["vox_offset"] = header_type.single_vox_offset
    header["magic"] = header_type.single_magic
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["pixdim"][0] = 1
    source = volume.header or SourceHeader(*((1, 1) if volume.orientation_known else (0, 0)))
    if volume.spacing_known:
        header.set_xyzt_units("mm")
        header["pixdim"][1:4] = np.linalg.norm(volume.affine[:3, :3], axis=0)
    if source.sform_code == 0 and source.qform_code == 0:
        return header
    header.set_qform(volume.affine, source.qform_code or 1)
    header.set_sform(volume.affine, source.sform_code or 1)
    header["pixdim"][1:4] = np.linalg.norm(volume.affine[:3, :3], axis=0)
    apart = corner_positions(header.get_qform(), volume.shape) - corner_positions(header.get_sform(), volume.shape)
    if shear_of(volume.affine) > SHEAR or float(np.linalg.norm(apart, axis=1).max()) > TOLERANCE_MM / 2:
        bare = header_type(endianness="<")  # a qform cannot hold this place, and two that disagree would be asked about
        for key in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z", "qform_code"):
            header[key] = bare[key]
        header["pixdim"][0] = 1
    return header


def _packed(data: bytes) -> bytes:
    """Gzip without time and name, so that equal masks are equal files."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0, compresslevel=6) as stream:
        stream.write(data)
    return buffer.getvalue()


def _compare(temporary: Path, name: str, volume: Volume, array: NDArray[Any], header: Any) -> None:
    """Read the finished file through the gate; it must hold what was to be written."""
    stored = pass_gate(temporary, called=name)
    place = place_of(stored.fields, stored.header, stored.shape, name)
    same = stored.array.dtype == array.dtype and np.array_equal(stored.array, array)
    if place.orientation_known:
        same = same and np.array_equal(place.affine.astype(np.float32), np.asarray(header.get_sform(), dtype=np.float32))
        same = same and replace(volume, array=stored.array, affine=place.affine).same_grid(volume)
    if not same:
        raise DataError(f"{shown(name)} read back differs from what was written; an old file is unchanged, check the disk.")
