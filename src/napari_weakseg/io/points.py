"""Extreme points from files: our own JSON, 3D Slicer's markups, napari's points CSV."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import PromptError
from ..prompts import LESION, ExtremePoints, Structure
from .atomic import write_atomically
from .names import shown, without_suffix

if TYPE_CHECKING:
    from pathlib import Path

    from ..volume import FloatArray, Volume

MOST_BYTES = 5_000_000
"""Larger points files are refused before they are parsed."""

_SLICER_SPACES = {"LPS": (-1.0, -1.0, 1.0), "RAS": (1.0, 1.0, 1.0), "1": (-1.0, -1.0, 1.0), "0": (1.0, 1.0, 1.0)}
_WHOLE = re.compile(r"\d{1,3}(\.0*)?")
_SLICER_DEFAULT_LABEL = re.compile(r"(F|P|MarkupsFiducial|Point|PointList)?", re.IGNORECASE)


def read_points(path: str | os.PathLike[str], volume: Volume, *, partial: bool = False) -> ExtremePoints:
    """Read extreme points that were placed on `volume`.

    Three kinds of file are told apart by what they hold:

    - our ``POINTS.json``: voxel indices (i, j, k) in the image file's own axis order, or RAS mm;
    - 3D Slicer's ``.mrk.json``: positions in mm, LPS or RAS as the file states; each list of points is one object;
    - a CSV that napari saved from a points layer on an image that our reader opened: data coordinates (z, y, x) of the
      array turned to LPI, mapped back to (i, j, k) here. Columns ``structure`` (a name or
      a value), ``value`` and ``object`` group the points; without them all points are one object.

    Parameters
    ----------
    path : path
        The file, at most 5 MB.
    volume : Volume
        The image, for its affine and size.
    partial : bool
        Accept objects with fewer than six points, as they are used together with strokes.

    Returns
    -------
    ExtremePoints
        Inside the volume; what was odd is in ``notes``.

    Raises
    ------
    PromptError
        The file is damaged or of another kind, or its points cannot be used.
    """
    text = _read_text(path)
    name = shown(path)
    try:
        is_table = os.fspath(path).lower().endswith(".csv")
        read = _from_csv(text, volume, partial) if is_table else _from_json(text, path, volume, partial)
        return read.checked(volume)
    except PromptError as error:
        raise PromptError(f"{name}: {error}") from error


def write_points(points: ExtremePoints, path: str | os.PathLike[str]) -> Path:
    """Write the full form of ``POINTS.json``, in voxel indices.

    Raises
    ------
    DataError
        The folder cannot be written.
    """
    return write_atomically(path, (json.dumps(points.to_json(), indent=1, allow_nan=False) + "\n").encode())


def _read_text(path: str | os.PathLike[str]) -> str:
    name = shown(path)
    try:
        if os.path.isdir(path):
            raise PromptError(f"{name} is a folder; choose a points file.")
        if os.path.getsize(path) > MOST_BYTES:
            raise PromptError(f"{name} is larger than {MOST_BYTES // 1_000_000} MB and no points file; choose another.")
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise PromptError(f"{name} does not exist; check the name and the folder.") from error
    except (OSError, ValueError) as error:
        raise PromptError(f"{name} cannot be read; check its rights and the disk.") from error
    if not data.strip():
        raise PromptError(f"{name} is empty; save the points again.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptError(f"{name} is not a text file; choose a points file (.json, .mrk.json or .csv).") from error


def _from_json(text: str, path: str | os.PathLike[str], volume: Volume, partial: bool) -> ExtremePoints:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PromptError("this is no JSON, or it is damaged; save the points again.") from error
    if isinstance(data, Mapping) and "markups" in data:
        return _from_markups(data, path, volume, partial)
    return ExtremePoints.from_json(data, volume, partial=partial)


def _from_markups(data: Mapping[str, Any], path: str | os.PathLike[str], volume: Volume, partial: bool) -> ExtremePoints:
    nodes = data["markups"]
    if not isinstance(nodes, list) or not all(isinstance(node, Mapping) for node in nodes):
        raise PromptError("'markups' is not a list of markups; save the points again in 3D Slicer.")
    lists = [node for node in nodes if node.get("type", "Fiducial") == "Fiducial"]
    if not lists:
        raise PromptError("there is no list of fiducial points in it; save one from 3D Slicer.")
    notes = (f"{len(nodes) - len(lists)} markups that are no point lists were left out.",) if len(lists) < len(nodes) else ()
    names = [_markups_name(node, path) for node in lists]
    structures = {name: Structure(name, value) for value, name in enumerate(dict.fromkeys(names), start=1)}
    objects = [(structures[name], _markups_positions(node)) for name, node in zip(names, lists, strict=True)]
    return ExtremePoints.from_objects(objects, volume, space="ras_mm", notes=notes, partial=partial)


def _markups_name(node: Mapping[str, Any], path: str | os.PathLike[str]) -> str:
    """The list's own name or description, else what its points' labels share, else the file's name."""
    for key in ("name", "label", "description"):
        if isinstance(node.get(key), str) and node[key].strip():
            return str(node[key]).strip()
    for key in ("description", "label"):
        stems = {re.sub(r"[\s_\-]*\d*$", "", str(point.get(key) or "")).strip() for point in _control_points(node)}
        if len(stems) == 1 and not _SLICER_DEFAULT_LABEL.fullmatch(stem := stems.pop()):
            return stem
    return without_suffix(path, (".mrk.json", ".json"))


def _control_points(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    points = node.get("controlPoints") or []
    if not isinstance(points, list) or not all(isinstance(point, Mapping) for point in points):
        raise PromptError("its 'controlPoints' are not a list of points; save the points again in 3D Slicer.")
    return points


def _markups_positions(node: Mapping[str, Any]) -> FloatArray:
    """RAS positions in mm, shape (N, 3)."""
    space = str(node.get("coordinateSystem"))
    if space not in _SLICER_SPACES:
        raise PromptError(f"its coordinateSystem is {node.get('coordinateSystem')!r}; it has to state LPS or RAS.")
    units = node.get("coordinateUnits", "mm")
    if units not in ("mm", ["mm"], "", None):
        raise PromptError(f"its coordinateUnits are {units!r}; save the points in mm.")
    placed = [point for point in _control_points(node) if point.get("positionStatus", "defined") == "defined"]
    positions = [point.get("position") for point in placed]
    try:
        array = np.asarray(positions, dtype=np.float64).reshape(len(positions), 3)
    except (TypeError, ValueError, OverflowError) as error:
        raise PromptError("a control point has no three coordinates; save the points again in 3D Slicer.") from error
    return np.asarray(array * _SLICER_SPACES[space])


def _from_csv(text: str, volume: Volume, partial: bool) -> ExtremePoints:
    try:
        rows = list(csv.DictReader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise PromptError("this is no CSV table, or it is damaged; save the points layer again.") from error
    columns = [name for name in (rows[0] if rows else {}) if isinstance(name, str)]
    axes = [name for name in columns if name.startswith("axis-")]
    if "shape-type" in columns:
        raise PromptError("these are shapes, not points; save a points layer.")
    if axes != ["axis-0", "axis-1", "axis-2"]:
        raise PromptError("it needs the columns axis-0, axis-1 and axis-2 and at least one row; save a 3D points layer.")
    groups: dict[tuple[str, str, str], list[list[float]]] = {}
    for number, row in enumerate(rows, start=1):
        name, value = row.get("structure") or LESION.name, row.get("value") or ""
        if _WHOLE.fullmatch(name):  # our own layer names structures by their value
            name, value = (LESION.name if float(name) == LESION.value else f"structure {float(name):.0f}"), name
        key = (name, value, row.get("object") or "")
        try:
            groups.setdefault(key, []).append([float(row[axis]) for axis in axes])
        except (TypeError, ValueError) as error:
            raise PromptError(f"row {number} holds no three numbers; save the points layer again.") from error
    structures = _csv_structures(groups)
    objects = [(structures[key[0]], _from_lpi(np.array(points), volume)) for key, points in groups.items()]
    ungrouped = not {"structure", "object", "value"}.intersection(columns) and len(rows) > 6
    notes = ("no column groups the points into objects; all were taken as one.",) if ungrouped else ()
    return ExtremePoints.from_objects(objects, volume, notes=notes, partial=partial)


def _csv_structures(groups: Mapping[tuple[str, str, str], Any]) -> dict[str, Structure]:
    """Structures by name: values from the column ``value``, else counted in order of appearance."""
    stated: dict[str, str] = {}
    for name, value, _ in groups:
        if stated.setdefault(name, value) != value:
            raise PromptError(f"{name!r} has two values ({stated[name] or 'none'}, {value or 'none'}); give it one.")
    try:
        values = {name: int(float(value)) if value else number for number, (name, value) in enumerate(stated.items(), start=1)}
    except (ValueError, OverflowError) as error:
        raise PromptError("the column 'value' holds something that is no whole number; use 1 to 254.") from error
    return {name: Structure(name, value) for name, value in values.items()}


def _from_lpi(points: FloatArray, volume: Volume) -> FloatArray:
    """(z, y, x) in the array that our napari reader shows, as (i, j, k) of the file."""
    from nibabel import orientations

    own = orientations.io_orientation(volume.affine)
    turn = orientations.ornt_transform(own, orientations.axcodes2ornt("LPI"))
    back = orientations.inv_ornt_aff(turn, volume.shape)
    return np.asarray(points[:, ::-1] @ back[:3, :3].T + back[:3, 3])
