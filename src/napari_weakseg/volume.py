"""`Volume`: one 3D scalar image or label volume with its place in the patient."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import GeometryError

if TYPE_CHECKING:
    from pathlib import Path

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class SourceHeader:
    """What an export has to restore of the file that a volume came from.

    Parameters
    ----------
    sform_code, qform_code : int
        Codes as stored in the file; both 0 where the file says nothing about orientation.
    sha256 : str
        Hash of the file's bytes at the time of reading, to notice that it changed since.
    slope, intercept : float
        Scale factors that were applied to the stored values; 1 and 0 where there were none.
    path : Path or None
        Where the file lies, to refuse an export onto it. In memory only: no record, log or text ever holds it.
    """

    sform_code: int = 1
    qform_code: int = 1
    sha256: str = ""
    slope: float = 1.0
    intercept: float = 0.0
    path: Path | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3D array and where it lies.

    Parameters
    ----------
    array : ndarray, shape (I, J, K)
        Voxels in the file's own axis order (nibabel's). Scalar, any integer or real type.
    affine : ndarray, shape (4, 4), float64
        Voxel index (i, j, k, 1) to position in RAS mm.
    name : str
        What the user calls it; never a path.
    spacing_known : bool
        False where the source says nothing usable about the voxel size: margins then count voxels.
    orientation_known : bool
        False where the source does not say which side is which.
    header : SourceHeader or None
        Codes of the source file; None for a volume that no file stands behind.
    notes : tuple of str
        What is odd about it but usable: shown for as long as it is open.

    Raises
    ------
    GeometryError
        Not three axes, an empty axis, or an affine that is not finite or not invertible.
    """

    array: NDArray[Any]
    affine: FloatArray = field(default_factory=lambda: np.eye(4))
    name: str = "volume"
    spacing_known: bool = True
    orientation_known: bool = True
    header: SourceHeader | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        array = np.asarray(self.array)
        affine = np.asarray(self.affine, dtype=np.float64)
        if array.ndim != 3:
            raise GeometryError(f"{self.name} has {array.ndim} axes; a volume needs three, choose one volume or slice stack.")
        if 0 in array.shape:
            raise GeometryError(f"{self.name} has an empty axis (shape {array.shape}); load a complete volume.")
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GeometryError(f"the affine of {self.name} is not a finite 4 x 4 matrix; check where it was made.")
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        if (lengths == 0).any() or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
            raise GeometryError(f"the affine of {self.name} is singular; its axes do not span space.")
        object.__setattr__(self, "array", array)
        object.__setattr__(self, "affine", affine)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along (i, j, k)."""
        i, j, k = self.array.shape
        return i, j, k

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels along (i, j, k): mm, or 1 each where `spacing_known` is False."""
        if not self.spacing_known:
            return 1.0, 1.0, 1.0
        i, j, k = (float(length) for length in np.linalg.norm(self.affine[:3, :3], axis=0))
        return i, j, k

    @property
    def unit(self) -> str:
        """``"mm"``, or ``"voxels"`` where the spacing is unknown: the word that goes beside every length."""
        return "mm" if self.spacing_known else "voxels"

    @property
    def orientation(self) -> str:
        """Axis codes such as ``"RAS"``: the patient's side towards which each array axis runs."""
        from nibabel.orientations import aff2axcodes

        return "".join(aff2axcodes(self.affine))

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel in mm³ (1 where the spacing is unknown)."""
        return float(np.prod(self.spacing)) if not self.spacing_known else abs(float(np.linalg.det(self.affine[:3, :3])))

    @property
    def sha256(self) -> str:
        """Hash of voxels, shape, type and affine: what a record calls this volume by."""
        digest = hashlib.sha256()
        digest.update(repr((self.shape, self.array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(self.affine).tobytes())
        digest.update(np.ascontiguousarray(self.array).tobytes())
        return digest.hexdigest()

    @property
    def voxels_sha256(self) -> str:
        """Hash of voxels and shape alone, whatever type and place they are stored with."""
        voxels = np.ascontiguousarray(self.array, dtype=np.float32)
        return hashlib.sha256(repr(self.shape).encode() + voxels.tobytes()).hexdigest()

    def to_world(self, voxels: ArrayLike) -> FloatArray:
        """Voxel indices (..., 3) to RAS positions in mm (..., 3)."""
        return np.asarray(voxels, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_voxel(self, positions: ArrayLike) -> FloatArray:
        """RAS positions in mm (..., 3) to fractional voxel indices (..., 3)."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(np.asarray(positions, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3])

    def in_voxels(self, length: float, *, minimum: int = 0) -> tuple[int, int, int]:
        """A length in `unit` as whole voxels per axis, rounded up and at least `minimum`."""
        i, j, k = (max(minimum, math.ceil(length / step - 1e-6)) for step in self.spacing)
        return i, j, k

    def corners(self) -> FloatArray:
        """RAS positions in mm of the eight corner voxels, shape (8, 3)."""
        last = np.array(self.shape) - 1
        return self.to_world(np.array(np.meshgrid(*[(0, n) for n in last], indexing="ij")).reshape(3, -1).T)

    def same_grid(self, other: Volume, *, tolerance_mm: float = 0.1) -> bool:
        """Whether shape and the place of every corner agree."""
        if self.shape != other.shape:
            return False
        return float(np.abs(self.corners() - other.corners()).max()) <= tolerance_mm

    def with_array(self, array: NDArray[Any], *, name: str | None = None) -> Volume:
        """The same place with other voxels (a mask, a probability)."""
        if np.shape(array) != self.shape:
            raise GeometryError(f"an array of shape {np.shape(array)} does not fit the grid {self.shape} of {self.name}.")
        return replace(self, array=array, name=self.name if name is None else name, notes=())
