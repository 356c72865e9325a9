"""Strokes as the panel keeps them: one entry per stroke, so that each can be taken back; without Qt or napari."""

from __future__ import annotations

import base64
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..prompts import BACKGROUND_STROKE, Scribbles, Structure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .session import ObjectKey

Shape = tuple[int, int, int]


class Stroke(NamedTuple):
    """One stroke.

    Parameters
    ----------
    object : ObjectKey
        The object that was corrected by it.
    code : int
        A structure's value, 255 for background, 0 where strokes were rubbed out.
    voxels : bytes
        Flat indices into (I, J, K), int64.
    """

    object: ObjectKey
    code: int
    voxels: bytes

    @property
    def where(self) -> NDArray[np.int64]:
        """The flat indices."""
        return np.frombuffer(self.voxels, dtype=np.int64)

    def to_json(self) -> list[Any]:
        """JSON values for the journal."""
        return [*self.object, self.code, _packed(self.voxels)]


@lru_cache(maxsize=512)
def _packed(voxels: bytes) -> str:
    """Written down after every action, so not packed anew each time."""
    return base64.b64encode(zlib.compress(voxels, 6)).decode()


def stroke_from_json(data: Sequence[Any], key: ObjectKey) -> Stroke:
    """Read what `Stroke.to_json` wrote."""
    return Stroke(key, int(data[2]), zlib.decompress(base64.b64decode(data[3])))


def painted(strokes: Sequence[Stroke], shape: Shape) -> NDArray[np.uint8]:
    """All strokes as codes on the volume, later ones over earlier ones; shape (I, J, K)."""
    codes = np.zeros(shape, dtype=np.uint8)
    flat = codes.reshape(-1)
    for stroke in strokes:
        flat[stroke.where] = stroke.code
    return codes


def new_strokes(before: NDArray[np.uint8], after: NDArray[Any], key: ObjectKey) -> tuple[Stroke, ...]:
    """What was drawn between two states (I, J, K), one stroke per code."""
    where = np.flatnonzero(np.ascontiguousarray(before != after))
    if not where.size:
        return ()
    codes = np.ascontiguousarray(after).reshape(-1)[where]
    return tuple(Stroke(key, int(code), where[codes == code].astype(np.int64).tobytes()) for code in np.unique(codes))


def scribbles_of(
    strokes: Sequence[Stroke], keys: Sequence[ObjectKey], structures: tuple[Structure, ...], shape: Shape
) -> Scribbles | None:
    """The strokes as a method takes them, for a run on some objects; None where there are none.

    For one object alone, what marks any other object is background.
    """
    codes = painted(strokes, shape)
    if not codes.any():
        return None
    if len(keys) == 1:
        own = codes.reshape(-1)
        for stroke in strokes:
            if stroke.object != keys[0] and stroke.code not in (0, BACKGROUND_STROKE):
                mine = own[stroke.where] == stroke.code
                own[stroke.where[mine]] = BACKGROUND_STROKE
        codes[(codes != 0) & (codes != keys[0].structure)] = BACKGROUND_STROKE
        structures = tuple(structure for structure in structures if structure.value == keys[0].structure)
    return Scribbles(codes, structures)
