"""Marks that one panel hands to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from .session import Document


def with_object(document: Document, points: ArrayLike, shape: tuple[int, int, int]) -> Document:
    """The document with a further object that has these points; an empty one that was begun is taken.

    Parameters
    ----------
    document : Document
        The marks so far; none is changed.
    points : array, shape (N, 3)
        Voxel indices of the new object's points.
    shape : tuple of int
        Shape of the volume.
    """
    after = document.add_object() if document.rows_of(document.current) else document
    for point in points:  # type: ignore[union-attr]
        after = after.place(point, shape)
    return after


def look_at(panel: Any, image: Any) -> None:
    """Make a panel that works on one image work on this one."""
    if panel.image != image:
        panel.choose_image(image)


def give_points(panel: Any, image: Any, points: ArrayLike) -> None:
    """Place points in the extreme points panel as one action that can be undone there; its first mask follows."""
    look_at(panel, image)
    bench = panel.bench
    if bench.layers is None:
        return
    if bench.act("points of a heatmap", with_object(bench.document, points, bench.layers.volume.shape)):
        panel.runs.first_mask()
    panel.refresh()
