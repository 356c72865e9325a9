"""Second half of the gate for NIfTI files: where the voxels lie (rules 9 to 15)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import Ask, DataError, GeometryError
from .names import shown

if TYPE_CHECKING:
    from ..volume import FloatArray

UNITS = {"m": 1000.0, "mm": 1.0, "um": 0.001}
"""Answers to ``units`` and how many mm one of each is."""

UNKNOWN = "unknown"
"""The answer to ``units`` where the header's lengths mean nothing, as in images that were converted from pictures."""

TOLERANCE_MM = 0.1
"""How far apart two forms, or two grids, may put a corner."""

SHEAR = 1e-4
"""Cosine between two axes from which on a grid counts as sheared."""

_LARGEST = 1e12  # beyond any length in any unit; NIfTI-2's doubles would overflow further on
_STORED_UNITS = {1: "m", 3: "um"}
_WORDS = {"m": "metres", "mm": "millimetres", "um": "micrometres"}


@dataclass(frozen=True, eq=False)
class Place:
    """What a header says about the voxels' place, after rules 9 to 15."""

    affine: FloatArray
    spacing_known: bool
    orientation_known: bool
    sform_code: int
    qform_code: int
    notes: tuple[str, ...]


def corner_positions(affine: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Positions in mm of the eight corner voxels, shape (8, 3)."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij"), dtype=np.float64).reshape(3, -1).T
    return np.asarray(corners @ affine[:3, :3].T + affine[:3, 3])


def shear_of(affine: FloatArray) -> float:
    """Largest cosine between two axes: 0 for a straight grid."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.abs(np.triu(axes.T @ axes, 1)).max())


def place_of(
    fields: Any, header: Any, shape: tuple[int, ...], name: str, *, prefer: str | None = None, units: str | None = None
) -> Place:
    """Affine and what is known about it.

    Parameters
    ----------
    fields, header : header fields as stored, and nibabel's repaired header
        From `nifti_gate.pass_gate`.
    shape : tuple of int
        (I, J, K).
    name : str
        For messages.
    prefer : {"sform", "qform"}, optional
        Which form to take where the two disagree.
    units : {"m", "mm", "um", "unknown"}, optional
        The unit of all lengths in the header, whatever it states itself; unknown where they mean nothing.

    Raises
    ------
    GeometryError
        Non-finite numbers, a singular affine, no usable form, other units than mm.
    Ask
        The two forms disagree by more than 0.1 mm at a corner.
    """
    if prefer not in (None, "sform", "qform"):
        raise DataError(f"prefer is {prefer!r}; give 'sform' or 'qform'.")
    if units not in (None, UNKNOWN, *UNITS):
        raise DataError(f"units is {units!r}; give one of {', '.join(UNITS)} or {UNKNOWN}.")
    notes: list[str] = []
    _refuse_non_finite(fields, name)
    scale = _millimetres(fields, name, units, notes)
    pixdim = np.array(fields["pixdim"][1:4], dtype=np.float64)
    pixdim_good = bool((pixdim > 0).all())
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    sform = np.asarray(header.get_sform(), dtype=np.float64) if sform_code else None
    if not pixdim_good and sform is None:
        raise GeometryError(f"{shown(name)} has a voxel size of {_three(pixdim)}, which cannot be; export the image again.")
    qform = _qform(header, name, sform is None, notes) if qform_code and pixdim_good else None
    if not pixdim_good:
        notes.append(f"the voxel size field reads {_three(pixdim)}; size and place were taken from the sform.")
    affine = _chosen_form(sform, qform, shape, name, prefer, scale, notes)
    known = affine is not None
    if affine is None:
        affine = np.asarray(header.get_base_affine(), dtype=np.float64)
        notes.append("orientation unknown: the file does not say which side is left, front or top.")
    affine = np.diag([scale, scale, scale, 1.0]) @ affine
    _refuse_singular(affine, name)
    spacing_known = known or _unit_code(fields) != 0 or units is not None or not np.allclose(pixdim, 1)
    if units == UNKNOWN:
        spacing_known = False
        notes.append("voxel size unknown, as stated: lengths count voxels.")
    elif not spacing_known:
        notes.append("voxel size unknown: the file states neither size nor unit; lengths count voxels.")
    _note_oddities(affine, pixdim * scale if pixdim_good else None, notes)
    return Place(affine, spacing_known, known, sform_code, qform_code, tuple(notes))


def _three(numbers: FloatArray) -> str:
    return " x ".join(f"{n:.4g}" for n in numbers)


def _unit_code(fields: Any) -> int:
    return int(fields["xyzt_units"]) & 7


def _refuse_non_finite(fields: Any, name: str) -> None:
    """Rules 9 and 12: nothing in the header that a place is made of may be NaN, infinite or absurdly large."""
    keys = ("srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
    numbers = np.concatenate([np.atleast_1d(fields[key]) for key in keys] + [fields["pixdim"][:4]])
    if not (np.abs(numbers.astype(np.float64)) < _LARGEST).all():
        raise GeometryError(f"the place of {shown(name)} in its header is not finite or absurd; export the image again.")


def _millimetres(fields: Any, name: str, units: str | None, notes: list[str]) -> float:
    """Rule 14: factor to mm."""
    stored = _STORED_UNITS.get(_unit_code(fields))
    if _unit_code(fields) > 3:
        notes.append(f"the unit code {_unit_code(fields)} means nothing; lengths were taken as {_WORDS[units or 'mm']}.")
    if units == UNKNOWN:
        return 1.0
    if units is None:
        if stored is not None:
            raise GeometryError(
                f"{shown(name)} states its lengths in {_WORDS[stored]}; read with units '{stored}', or 'mm' if that is wrong."
            )
        return 1.0
    if units != (stored or "mm") or units != "mm":
        notes.append(f"lengths were read as {_WORDS[units]}, as asked for.")
    return UNITS[units]


def _qform(header: Any, name: str, needed: bool, notes: list[str]) -> FloatArray | None:
    from nibabel.spatialimages import HeaderDataError

    try:
        return np.asarray(header.get_qform(), dtype=np.float64)
    except (ValueError, HeaderDataError) as error:
        if needed:
            raise GeometryError(f"the qform of {shown(name)} is no rotation; it is damaged, export the image again.") from error
    notes.append("the qform is no rotation and was not used.")
    return None


def _chosen_form(
    sform: FloatArray | None,
    qform: FloatArray | None,
    shape: tuple[int, ...],
    name: str,
    prefer: str | None,
    scale: float,
    notes: list[str],
) -> FloatArray | None:
    """Rules 9 to 11: the form to use, None where none is coded."""
    forms = {"sform": sform, "qform": qform}
    if prefer is not None and sform is not None and qform is not None:
        chosen = forms[prefer]
        assert chosen is not None
        _refuse_singular(chosen, name)
        if _apart(sform, qform, shape) * scale > TOLERANCE_MM:
            notes.append(f"sform and qform disagree; the {prefer} was taken, as asked for.")
        return chosen
    if sform is not None:
        _refuse_singular(sform, name)
    if sform is not None and qform is not None:
        distance = _apart(sform, qform, shape) * scale
        if distance > TOLERANCE_MM:
            mirrored = np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0
            how = "one mirrors the other, left and right differ" if mirrored else f"they lie {distance:.4g} mm apart"
            raise Ask(
                f"the two places stored in {shown(name)} disagree ({how}); choose one by prefer.",
                argument="prefer",
                choices=("sform", "qform"),
            )
    return sform if sform is not None else qform


def _apart(first: FloatArray, second: FloatArray, shape: tuple[int, ...]) -> float:
    difference = corner_positions(first, shape) - corner_positions(second, shape)
    return float(np.sqrt((difference**2).sum(axis=1)).max())


def _refuse_singular(affine: FloatArray, name: str) -> None:
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not math.isfinite(float(lengths.sum())) or (lengths == 0).any() or abs(np.linalg.det(affine[:3, :3] / lengths)) <= 1e-3:
        raise GeometryError(f"the axes of {shown(name)} do not span space (singular affine); export the image again.")


def _note_oddities(affine: FloatArray, pixdim: FloatArray | None, notes: list[str]) -> None:
    """Rules 12, 13 and 15."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if pixdim is not None and (np.abs(pixdim - spacing) > 0.01 * spacing).any():
        notes.append(f"the voxel size ({_three(pixdim)} mm) differs from the affine ({_three(spacing)} mm), which counts.")
    shear = shear_of(affine)
    if shear > SHEAR:
        notes.append(f"the axes are sheared ({shear:.2g}); programs based on ITK cannot open masks on this grid.")
    if (spacing < 0.01).any() or (spacing > 50).any():
        notes.append(f"the voxel size {_three(spacing)} mm is unusual; check the unit.")
