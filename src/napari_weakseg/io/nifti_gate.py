"""First half of the gate for NIfTI files: from the path to voxels as stored (rules 1 to 8).

Nothing else in the package opens such files. The stream is read to its very end, so that gzip's checksum and length
are checked; the header's claims are checked in Python integers before anything is allocated.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import logging
import math
import os
import re
import stat
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

import numpy as np

from ..errors import Ask, DataError, WeaksegError
from .names import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

VOXEL_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
"""NIfTI type codes that are integer or real, with numpy's names."""

_OTHER_TYPES = {
    128: "a colour image (RGB)",
    2304: "a colour image (RGBA)",
    32: "a complex image",
    1792: "a complex image",
    2048: "a complex image",
    1536: "an image of 128-bit floats",
    1: "an image of single bits",
}
_CHUNK = 1 << 20
_HEAD = 544  # NIfTI-2's header and its extension flag
_TRAILING_LIMIT = 16 << 20  # bytes after the voxels that are still read through to reach the checksum
_PROGRAM = re.compile(
    rb"(?:(?:FSL|SPM|ITK|SimpleITK|NiBabel|FreeSurfer|ANTs|MRtrix|AFNI|3D Slicer)[\s\d.:v-]*|[\d.]+(?::[\da-f]+)?)?", re.I
)
_GZIP_RATIO = 1040  # deflate cannot pack tighter than about 1032 to 1


class Readable(Protocol):
    """Anything that bytes can be read from."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end."""
        ...


@dataclass(frozen=True, eq=False)
class Stored:
    """A file's voxels and header fields after rules 1 to 8.

    Parameters
    ----------
    array : ndarray, shape (I, J, K)
        Voxels as stored, in native byte order, not scaled.
    fields : numpy.void
        The header's fields as they are in the file.
    header : nibabel header
        The same after nibabel's repairs, each of which is in `notes`.
    sha256 : str
        Hash of the file's bytes.
    notes : list of str
        What was odd.
    """

    array: NDArray[Any]
    fields: Any
    header: Any
    sha256: str
    notes: list[str]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(I, J, K)."""
        i, j, k = self.array.shape
        return i, j, k


@dataclass(frozen=True)
class _Layout:
    """Where the voxels lie in the stream, and what they are."""

    shape: tuple[int, int, int]
    volumes: int
    dtype: np.dtype[Any]
    start: int

    @property
    def volume_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def stop(self) -> int:
        return self.start + self.volume_bytes * self.volumes


@dataclass
class _Hashing:
    """A file whose bytes are hashed as they are read."""

    file: BinaryIO
    digest: Any = field(default_factory=hashlib.sha256)

    def read(self, size: int = -1, /) -> bytes:
        chunk = self.file.read(size)
        self.digest.update(chunk)
        return chunk


def memory_budget() -> int:
    """Bytes that one image may take: half of this computer's memory, 4 GiB where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return 4 << 30


@contextlib.contextmanager
def told(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn whatever the libraries raise on a damaged file into our own error with one sentence."""
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    name = shown(path)
    try:
        yield
    except WeaksegError:
        raise
    except EOFError as error:
        raise DataError(f"{name} ends early; copy or download it again.") from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"the compressed data of {name} are damaged; copy or download it again.") from error
    except FileNotFoundError as error:
        raise DataError(f"{name} does not exist; check the name and the folder.") from error
    except PermissionError as error:
        raise DataError(f"{name} may not be read; change its rights or copy it to a folder of your own.") from error
    except MemoryError as error:
        raise DataError(f"{name} needs more memory than is free; close other programs or crop it first.") from error
    except OSError as error:
        if len(os.fsencode(Path(path).name)) > 255:
            raise DataError(f"the name {shown(path, limit=30)} is too long; systems allow 255 bytes, shorten it.") from error
        reason = os.strerror(error.errno) if error.errno else "the system reports an error"
        raise DataError(f"{name} cannot be read ({reason}); check the disk and copy it again.") from error
    except (ImageFileError, HeaderDataError, ValueError, TypeError, ArithmeticError, struct.error) as error:
        raise DataError(f"the header of {name} is damaged and cannot be used; export the image again.") from error


def pass_gate(path: str | os.PathLike[str], *, called: str | None = None, volume_index: int | None = None) -> Stored:
    """Read one file through rules 1 to 8.

    Parameters
    ----------
    path : path
        The file.
    called : str, optional
        The name that messages and the check of the suffix go by, where a temporary file stands in for another one.
    volume_index : int, optional
        Which volume of a four-dimensional file.

    Raises
    ------
    DataError
        What is damaged or not supported.
    Ask
        Several volumes and no `volume_index`.
    """
    name = called or os.fspath(path)
    with told(name):
        size = _regular_file(path, name)
        with open(path, "rb") as file:
            packed = _is_packed(file, name)
            source = _Hashing(file)
            if not packed:
                return _from_stream(source, source, size, name, volume_index)
            with gzip.GzipFile(fileobj=cast("BinaryIO", source), mode="rb") as stream:
                return _from_stream(stream, source, size * _GZIP_RATIO, name, volume_index)


def _regular_file(path: str | os.PathLike[str], name: str) -> int:
    """Rule 1; returns the file's size in bytes."""
    try:
        status = os.stat(path)
    except ValueError as error:  # a NUL in the name
        raise DataError(f"{shown(name)} is not a usable file name; choose another file.") from error
    if stat.S_ISDIR(status.st_mode):
        raise DataError(f"{shown(name)} is a folder; choose a file.")
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{shown(name)} is not a regular file; choose a NIfTI file.")
    if status.st_size == 0:
        raise DataError(f"{shown(name)} is empty; copy or download it again.")
    return status.st_size


def _is_packed(file: BinaryIO, name: str) -> bool:
    """Rule 2: whether the content is gzip, as the name must say."""
    head = file.read(_HEAD)
    file.seek(0)
    packed, says_packed = head[:2] == b"\x1f\x8b", name.lower().endswith(".gz")
    if packed and not says_packed:
        raise DataError(f"{shown(name)} is compressed although its name does not say so; rename it to end in .nii.gz.")
    if says_packed and not packed:
        _recognise(head, name)
        raise DataError(f"{shown(name)} is not compressed although its name says so; rename it to end in .nii.")
    return packed


def _from_stream(stream: Readable, source: _Hashing, most: int, name: str, volume_index: int | None) -> Stored:
    """Rules 3 to 8 on the unpacked bytes; `most` is how many there can be."""
    head = _read(stream, _HEAD)
    try:
        header_type, order = _recognise(head, name)
        fields = np.frombuffer(head, dtype=header_type.template_dtype.newbyteorder(order), count=1)[0]
        layout = _layout(fields, header_type, name)
    except DataError:
        _drain(stream)  # damaged compressed data are the better reason for a senseless header
        raise
    if layout.stop > most:
        raise _too_short(layout, most, name)
    _check_budget(layout, fields, name)
    which = _chosen(layout, volume_index, name)
    begin = layout.start + (which or 0) * layout.volume_bytes
    data, total = _collect(stream, head, begin, begin + layout.volume_bytes, layout.stop + _TRAILING_LIMIT, name)
    if total < layout.stop:
        raise _too_short(layout, total, name)
    if which is None:
        raise Ask(
            f"{shown(name)} holds {layout.volumes} volumes; choose one by volume_index, counted from 0.",
            argument="volume_index",
            choices=tuple(str(n) for n in range(layout.volumes)) if layout.volumes <= 1000 else (),
        )
    array = np.frombuffer(data, dtype=layout.dtype).reshape(layout.shape, order="F")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    notes: list[str] = []
    header = _repaired(header_type, head, order, notes)
    if total > layout.stop:
        notes.append(f"{total - layout.stop} bytes after the voxels were ignored.")
    if 1 in layout.shape:
        notes.append(f"an axis has a single voxel (shape {layout.shape}).")
    if _carries_text(fields, head, layout.start, header_type.sizeof_hdr):
        notes.append("the header carries free text, which may name a person; nothing of it is copied to results.")
    return Stored(array, fields, header, source.digest.hexdigest(), notes)


def _recognise(head: bytes, name: str) -> tuple[Any, str]:
    """Rule 4: nibabel's header class and the byte order."""
    import nibabel as nib

    orders = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
    for order, word in (("<", "little"), (">", "big")):
        size = int.from_bytes(head[:4], word)  # type: ignore[arg-type]
        if size not in orders:
            continue
        header_type: Any = orders[size]
        magic = head[344:348] if size == 348 else head[4:12]
        if magic[:4] in (b"ni1\0", b"ni2\0"):
            raise DataError(f"{shown(name)} is half of a header and image pair; convert the pair to one .nii file.")
        if magic in (b"n+1\0", b"n+2\0\r\n\x1a\n"):
            if len(head) < size:
                raise DataError(f"{shown(name)} ends within its header ({len(head)} of {size} bytes); copy it again.")
            return header_type, order
        if size == 348 and len(head) >= 348 and not any(magic[:3]):
            raise DataError(f"{shown(name)} is Analyze 7.5, which stores no orientation; convert it to NIfTI.")
    kinds = {b"\x89PNG": "a PNG picture", b"\xff\xd8\xff": "a JPEG picture", b"PK\x03\x04": "a ZIP archive", b"%PDF": "a PDF"}
    kind = next((text for start, text in kinds.items() if head.startswith(start)), "")
    if head[128:132] == b"DICM":
        kind = "a DICOM file"
    elif not kind and head.lstrip()[:1] == b"<":
        kind = "a web page or XML text"
    raise DataError(f"{shown(name)} is {kind + ', ' if kind else ''}not a NIfTI file; choose a .nii or .nii.gz image.")


def _layout(fields: Any, header_type: Any, name: str) -> _Layout:
    """Rules 6, 7 and the first part of 8, in Python integers."""
    dims = [int(n) for n in fields["dim"]]
    if not 1 <= dims[0] <= 7 or any(n <= 0 for n in dims[1 : dims[0] + 1]):
        raise DataError(f"the header of {shown(name)} has senseless dimensions; it is damaged, export the image again.")
    if dims[0] < 3:
        count = ("one dimension", "two dimensions")[dims[0] - 1]
        raise DataError(f"{shown(name)} has {count}; choose a three-dimensional image.")
    shape, rest = (dims[1], dims[2], dims[3]), dims[4 : dims[0] + 1]
    if any(n > 1 for n in rest[1:]):
        extent = " x ".join(map(str, dims[1 : dims[0] + 1]))
        raise DataError(f"{shown(name)} has {dims[0]} axes ({extent}); save one volume of it.")
    code = int(fields["datatype"])
    if code not in VOXEL_TYPES:
        what = _OTHER_TYPES.get(code, f"of the unknown voxel type {code}")
        raise DataError(f"{shown(name)} is {what}; save it as integers or real numbers with one value per voxel.")
    start = float(fields["vox_offset"])
    smallest = header_type.single_vox_offset
    if not math.isfinite(start) or start != int(start) or start < smallest:
        raise DataError(f"the voxels of {shown(name)} would start in its header (byte {start:g}); export the image again.")
    dtype = np.dtype(VOXEL_TYPES[code]).newbyteorder(fields["dim"].dtype.byteorder)
    return _Layout(shape, rest[0] if rest else 1, dtype, int(start))


def _too_short(layout: _Layout, present: int, name: str) -> DataError:
    return DataError(f"{shown(name)} needs {layout.stop:,} bytes and has at most {present:,}; it is cut short, copy it again.")


def _check_budget(layout: _Layout, fields: Any, name: str) -> None:
    """Second part of rule 8: against this computer's memory."""
    scaled = (float(fields["scl_slope"]), float(fields["scl_inter"])) not in ((1.0, 0.0), (0.0, 0.0))
    needed = layout.volume_bytes + (4 * math.prod(layout.shape) if scaled else 0)
    budget = memory_budget()
    if needed > budget:
        raise DataError(
            f"{shown(name)} needs {needed >> 20:,} MiB of memory and {budget >> 20:,} MiB are allowed; crop or downsample it."
        )


def _chosen(layout: _Layout, volume_index: int | None, name: str) -> int | None:
    """Which volume to keep; None where the user has to say."""
    if volume_index is None:
        return 0 if layout.volumes == 1 else None
    if not 0 <= volume_index < layout.volumes:
        raise DataError(f"{shown(name)} has no volume {volume_index}; it has {layout.volumes}, counted from 0.")
    return volume_index


def _read(stream: Readable, size: int) -> bytes:
    """`size` bytes, or all there are."""
    parts: list[bytes] = []
    while size > 0 and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _drain(stream: Readable) -> None:
    """Read on for the sake of the checksum."""
    left = _TRAILING_LIMIT
    while left > 0 and (part := stream.read(_CHUNK)):
        left -= len(part)


def _collect(stream: Readable, head: bytes, begin: int, stop: int, limit: int, name: str) -> tuple[bytearray, int]:
    """Rule 3: read to the end, keep the bytes from `begin` to `stop`; returns them and the number of bytes seen."""
    kept = bytearray(head[begin:stop])
    at = len(head)
    while part := stream.read(_CHUNK):
        low, high = max(begin - at, 0), max(min(stop - at, len(part)), 0)
        if low < high:
            kept += memoryview(part)[low:high]
        at += len(part)
        if at > limit:
            raise DataError(f"{shown(name)} goes on long after its voxels end; it is damaged, export the image again.")
    return kept, at


def _repaired(header_type: Any, head: bytes, order: str, notes: list[str]) -> Any:
    """Rule 5: nibabel's header; each repair that it logs is a note."""
    header = header_type(binaryblock=head[: header_type.sizeof_hdr], endianness=order, check=False)
    log = logging.Logger("header repairs", logging.DEBUG)
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(handler)
    header.check_fix(logger=log, error_level=40)
    silent = ("pixdim[1",) if int(header["qform_code"]) else ("pixdim[1", "pixdim[0]")  # told elsewhere, or without effect
    notes += [f"header repaired: {line}." for line in lines if "leaving" not in line and not line.startswith(silent)]
    return header


def _carries_text(fields: Any, head: bytes, start: int, header_size: int) -> bool:
    """Whether text fields or extensions hold anything but the name of a program."""
    keys = {"descrip", "aux_file", "intent_name", "db_name"}.intersection(fields.dtype.names)
    texts = [not _PROGRAM.fullmatch(bytes(fields[key]).partition(b"\0")[0].strip()) for key in keys]
    extended = start > header_size + 4 and head[header_size : header_size + 1] not in (b"", b"\0")
    return extended or any(texts)
