"""`new_record`: how a mask was made, enough to make it again, without a path, a layer name or patient data."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
import uuid
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from . import __version__
from .errors import DataError
from .io.records import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .case import Case
    from .method import Weights
    from .prompts import ExtremePoints, Scribbles
    from .volume import Volume

INTENDED_USE = "research only, not a medical device"
_PACKAGES = ("numpy", "scipy", "numba", "scikit-image", "torch", "monai", "nibabel")


def new_record(
    case: Case,
    weights: Weights,
    mask: Volume,
    *,
    notes: Sequence[str] = (),
    durations: Mapping[str, float] | None = None,
    fitted: bool = True,
    unpaired_masks: Sequence[Volume] = (),
) -> dict[str, Any]:
    """Describe one run as JSON values.

    Parameters
    ----------
    case : Case
        The volume and the marks as the method got them.
    weights : Weights
        What `fit` returned; its recipe is the one that was carried out.
    mask : Volume
        What `predict` returned.
    notes : sequence of str
        What the user was told; names of the volume in them are taken out.
    durations : dict of str to float, optional
        Seconds by part of the run.
    fitted : bool
        False where the weights came from elsewhere, so that the record alone cannot repeat the run.
    unpaired_masks : sequence of Volume
        Masks of other patients that were learnt from.
    """
    volume = case.volume
    return {
        "schema_version": SCHEMA_VERSION,
        "intended_use": INTENDED_USE,
        "run": uuid.uuid4().hex,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": _software(),
        "method": weights.method,
        "recipe": weights.recipe.to_json(),
        "seed": weights.recipe.seed,
        "training": {**weights.meta, "fitted": fitted, "sha256": _hash_of_tensors(weights)},
        "image": {
            "sha256": volume.sha256,
            "shape": list(volume.shape),
            "channels": [channel.sha256 for channel in case.channels.values()],
            "affine": volume.affine.tolist(),
            "scale_factors": _scale_factors(volume),
            **_files(volume),
            "spacing_known": volume.spacing_known,
            "orientation_known": volume.orientation_known,
        },
        "prompts": _prompts(case),
        **({"unpaired_masks": [_named(mask) for mask in unpaired_masks]} if unpaired_masks else {}),
        "output": {"sha256": mask.sha256, "dtype": mask.array.dtype.name, "voxels": int((mask.array != 0).sum())},
        "notes": [_without_names(note, case) for note in notes],
        "durations": {name: round(seconds, 3) for name, seconds in (durations or {}).items()},
        "edited_voxels": 0,
    }


def hash_of_prompts(points: ExtremePoints | None, scribbles: Scribbles | None = None) -> str:
    """SHA-256 of the marks: of the points' JSON in voxel space, and of the strokes' voxels where there are some."""
    digest = hashlib.sha256(b"" if points is None else json.dumps(points.to_json(), sort_keys=True).encode())
    if scribbles is not None:
        digest.update(repr(scribbles.labels.shape).encode())
        digest.update(np.ascontiguousarray(scribbles.labels).tobytes())
    return digest.hexdigest()


def recorded_masks(recorded: Sequence[Mapping[str, Any]], given: Sequence[Volume]) -> list[Volume]:
    """The masks that a record names, in its order, found among those given by their hashes.

    Raises
    ------
    DataError
        Some are not among them.
    """
    known = {mask.sha256: mask for mask in given}
    masks = [known.get(str(one.get("sha256"))) for one in recorded]
    if missing := masks.count(None):
        are = "is" if missing == 1 else "are"
        raise DataError(
            f"{missing} of the {len(masks)} recorded unpaired masks {are} not among those given; give the same folder."
        )
    return [mask for mask in masks if mask is not None]


def _software() -> dict[str, Any]:
    packages = {"napari-weakseg": __version__}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    torch = sys.modules.get("torch")
    return {
        "packages": packages,
        "python": platform.python_version(),
        "os": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads() if torch is not None else 1,
    }


def _files(volume: Volume) -> dict[str, Any]:
    """Hash of the source file when it was read, and now if it has changed since."""
    from .io.nifti import source_now

    read = volume.header.sha256 if volume.header is not None else ""
    now = source_now(volume)
    changed = bool(read) and now is not None and now != read
    return ({"file_sha256": read} if read else {}) | ({"file_sha256_now": now} if changed else {})


def _scale_factors(volume: Volume) -> list[float] | None:
    """Slope and intercept of the stored values, where the reader says which it used."""
    slope, intercept = getattr(volume.header, "slope", None), getattr(volume.header, "intercept", None)
    return None if slope is None or intercept is None else [float(slope), float(intercept)]


def _prompts(case: Case) -> dict[str, Any] | None:
    points, scribbles = case.points, case.scribbles
    if points is None and scribbles is None:
        return None
    marks: dict[str, Any] = {"sha256": hash_of_prompts(points, scribbles)}
    if points is not None:
        world = [[place for place in six if np.isfinite(place).all()] for six in points.world.round(4)]
        marks |= {"voxel": points.to_json(), "ras_mm": [[place.tolist() for place in six] for six in world]}
    if scribbles is not None:
        marks["scribbles"] = scribbles.to_json()
    if case.previous is not None:
        marks["previous"] = {"sha256": case.previous.sha256}
    return marks


def _named(mask: Volume) -> dict[str, str]:
    """Base name and hash of a mask."""
    path = mask.header.path if mask.header is not None else None
    return {"name": mask.name if path is None else path.name, "sha256": mask.sha256}


def _hash_of_tensors(weights: Weights) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights.tensors):
        tensor = weights.tensors[name]
        digest.update(repr((name, tensor.shape, tensor.dtype.str)).encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()


def _without_names(note: str, case: Case) -> str:
    """The note without the name of the file or layer that it may quote: that can be a patient's."""
    names = {channel.name for channel in case.channels.values()}
    paths = [channel.header.path for channel in case.channels.values() if channel.header is not None]
    names |= {path.name.removesuffix(".gz").removesuffix(".nii") for path in paths if path is not None}
    for name in sorted(names - {""}, key=len, reverse=True):
        note = re.sub(rf"(?<!\w){re.escape(name)}(\.nii(\.gz)?)?(?!\w)", "the image", note)
    return note
