"""NIfTI files to volumes and back; everything that comes in passes the gate of `nifti_gate` and `nifti_place`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import Ask, DataError, GeometryError
from ..volume import SourceHeader, Volume
from .names import shown, without_suffix
from .nifti_gate import Stored, pass_gate, told
from .nifti_place import place_of
from .nifti_write import export_notes, smallest_label_type, source_now, write_image, write_map, write_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["export_notes", "on_grid_of", "read_mask", "read_volume", "source_now", "write_image", "write_map", "write_mask"]


def read_volume(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    volume_index: int | None = None,
    prefer: str | None = None,
    units: str | None = None,
) -> Volume:
    """Read an image.

    Plain integers and real numbers stay as they are stored; where the header has scale factors the values are float32.

    Parameters
    ----------
    path : path
        A ``.nii`` or ``.nii.gz`` file.
    name : str, optional
        What the volume is called; default the file's base name without its suffix.
    volume_index : int, optional
        Which volume of a four-dimensional file, counted from 0.
    prefer : {"sform", "qform"}, optional
        Which of the two stored places to take where they disagree.
    units : {"mm", "m", "um", "unknown"}, optional
        The unit of the header's lengths where it does not state mm; unknown where they mean nothing: lengths count voxels.

    Returns
    -------
    Volume
        Shape (I, J, K) in the file's axis order; what is odd about it is in ``notes``.

    Raises
    ------
    DataError, GeometryError
        The file is damaged, or not a three-dimensional scalar NIfTI image with a usable place.
    Ask
        Several volumes, or two places: the keyword that answers it is named.
    """
    with told(path):
        stored = pass_gate(path, volume_index=volume_index)
        place = place_of(stored.fields, stored.header, stored.array.shape, os.fspath(path), prefer=prefer, units=units)
        notes = [*stored.notes, *place.notes]
        slope, intercept = _scale_factors(stored, path, notes)
        array = _scaled(stored, slope, intercept, path, notes)
        _check_values(array, path, notes)
        return Volume(
            array,
            place.affine,
            name=without_suffix(path) if name is None else name,
            spacing_known=place.spacing_known,
            orientation_known=place.orientation_known,
            header=SourceHeader(place.sform_code, place.qform_code, stored.sha256, slope, intercept, Path(path).resolve()),
            notes=tuple(notes),
        )


def read_mask(
    path: str | os.PathLike[str],
    *,
    like: Volume | None = None,
    resample: bool = False,
    prefer: str | None = None,
    units: str | None = None,
) -> Volume:
    """Read a label volume: finite whole numbers, in the smallest integer type that holds them.

    Parameters
    ----------
    path : path
        A ``.nii`` or ``.nii.gz`` file.
    like : Volume, optional
        The image that the mask is for: its grid is required.
    resample : bool
        True brings a mask of another grid onto that of `like`, by the nearest voxel.
    prefer, units : str, optional
        As in `read_volume`.

    Raises
    ------
    DataError, GeometryError
        As in `read_volume`; also values that are no labels, and another grid than that of `like`.
    """
    with told(path):
        stored = _only_volume(path)
        place = place_of(stored.fields, stored.header, stored.array.shape, os.fspath(path), prefer=prefer, units=units)
        mask = Volume(
            _labels(stored, path),
            place.affine,
            name=without_suffix(path),
            spacing_known=place.spacing_known,
            orientation_known=place.orientation_known,
            header=SourceHeader(place.sform_code, place.qform_code, stored.sha256, path=Path(path).resolve()),
            notes=(*stored.notes, *place.notes),
        )
        if like is None or mask.same_grid(like):
            return mask
        if not resample:
            raise GeometryError(grids_differ(mask, like, path))
        moved = on_grid_of(mask, like)
        return replace(moved, notes=(*mask.notes, "the mask lay on another grid; each voxel took the nearest label."))


def on_grid_of(mask: Volume, like: Volume) -> Volume:
    """A label volume on another grid: each voxel takes the nearest label, 0 outside."""
    from scipy import ndimage

    step = np.linalg.inv(mask.affine) @ like.affine
    array = ndimage.affine_transform(  # grid-constant: the outermost voxels reach half a voxel beyond their centres
        mask.array, step[:3, :3], offset=step[:3, 3], output_shape=like.shape, order=0, mode="grid-constant", prefilter=False
    )
    return Volume(
        array,
        like.affine,
        name=mask.name,
        spacing_known=like.spacing_known,
        orientation_known=like.orientation_known,
        header=like.header,
    )


def _only_volume(path: str | os.PathLike[str]) -> Stored:
    """A mask's voxels: of a file with several volumes none is chosen."""
    try:
        return pass_gate(path)
    except Ask as question:
        raise DataError(
            f"{shown(path)} holds several volumes and a mask is one; save the one that is meant in a file of its own."
        ) from question


def _scale_factors(stored: Stored, path: str | os.PathLike[str], notes: list[str]) -> tuple[float, float]:
    """Slope and intercept to apply; 1 and 0 where the header has none or none that can be used."""
    slope, inter = float(stored.fields["scl_slope"]), float(stored.fields["scl_inter"])
    if not np.isfinite(slope) or (slope == 0 and inter != 0):
        notes.append(f"the scale factors {slope:g} and {inter:g} are unusable; the values are as stored.")
        return 1.0, 0.0
    if slope == 0:
        return 1.0, 0.0
    if not np.isfinite(inter):
        raise DataError(f"the scale factors of {shown(path)} ({slope:g} and {inter:g}) are unusable; export the image again.")
    return slope, inter


def _scaled(stored: Stored, slope: float, inter: float, path: str | os.PathLike[str], notes: list[str]) -> NDArray[Any]:
    """Rule 16: values after the header's scale factors."""
    if (slope, inter) == (1.0, 0.0):
        return stored.array
    scaled = np.empty(stored.shape, dtype=np.float32, order="F")
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(stored.shape[2]):  # slice by slice: float64 of the whole volume would double the memory
            scaled[:, :, k] = stored.array[:, :, k].astype(np.float64) * slope + inter
    finite = scaled[np.isfinite(scaled)]
    if _count_finite(stored.array) != finite.size:
        raise DataError(f"the scale factors of {shown(path)} ({slope:g} and {inter:g}) make it too large; save it unscaled.")
    extent = float(finite.max()) - float(finite.min()) if finite.size else 0.0
    if not 1e-4 <= slope <= 1e4 or extent > 1e6:
        notes.append(f"unusual scale factors {slope:g} and {inter:g}: the values span {extent:.4g}.")
    return scaled


def _count_finite(array: NDArray[Any]) -> int:
    return array.size if array.dtype.kind in "iu" else int(np.count_nonzero(np.isfinite(array)))


def _check_values(array: NDArray[Any], path: str | os.PathLike[str], notes: list[str]) -> None:
    """Rule 17: what is not finite, too large for float32, or constant."""
    values = array
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        missing = array.size - int(np.count_nonzero(finite))
        if missing == array.size:
            raise DataError(f"{shown(path)} holds no finite value; choose another image.")
        if missing:
            notes.append(f"{missing:,} of {array.size:,} voxels are not finite; they count as its minimum, label 0.")
            values = array[finite]
        if array.dtype.itemsize > 4 and float(np.abs(values).max()) > float(np.finfo(np.float32).max):
            raise DataError(f"{shown(path)} holds values beyond the range of 32-bit floats; rescale it first.")
    if values.min() == values.max():
        notes.append(f"every voxel has the value {values.flat[0]:g}.")


def _labels(stored: Stored, path: str | os.PathLike[str]) -> NDArray[Any]:
    """Rule 18: whole numbers, exact in the type that they are stored in."""
    array: NDArray[Any] = stored.array
    slope, inter = float(stored.fields["scl_slope"]), float(stored.fields["scl_inter"])
    scaled = np.isfinite(slope) and slope != 0 and (slope, inter) != (1.0, 0.0)
    if scaled:
        array = array.astype(np.float64) * slope + inter
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise DataError(f"{shown(path)} holds labels that are not finite; give it whole numbers.")
        if (array != np.round(array)).any():
            hint = f" (its scale factor is {slope:.4g}; save it unscaled)" if scaled else ""
            raise DataError(f"{shown(path)} holds fractions, not labels{hint}; choose a mask of whole numbers.")
        exact = 2.0 ** (24 if array.dtype.itemsize == 4 else 53)
        if np.abs(array).max() >= exact:
            raise DataError(f"{shown(path)} holds labels too large for its type (from {exact:.0f} on); save it as int32.")
    if array.dtype.kind == "u" and array.max() > np.iinfo(np.int64).max:
        raise DataError(f"{shown(path)} holds labels beyond 64-bit integers; renumber them.")
    return array.astype(smallest_label_type(array), copy=False)


def grids_differ(
    mask: Volume,
    like: Volume,
    path: str | os.PathLike[str],
    advice: str = "resample it first, or read it with resample (nearest label)",
) -> str:
    """How far apart two grids are, and what to do about it."""
    if mask.shape != like.shape:
        what = f"has the shape {mask.shape}, {like.name} has {like.shape}"
    else:
        what = f"lies up to {float(np.abs(mask.corners() - like.corners()).max()):.4g} mm off {like.name}"
    return f"{shown(path)} {what}; {advice}."
