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


def look_at(panel: Any, image: Any) -> bool:
    """Make the extreme points panel work on this image; returns whether it can."""
    if panel.bench.layers is None or panel.bench.layers.image != image:
        panel.choose_image(image)
    return panel.bench.layers is not None


def give_points(panel: Any, image: Any, points: ArrayLike) -> None:
    """Place points in the extreme points panel as one action that can be undone there; its first mask follows."""
    if not look_at(panel, image):
        return
    bench = panel.bench
    if bench.act("points of a heatmap", with_object(bench.document, points, bench.layers.volume.shape)):
        panel.runs.first_mask()
    panel.refresh()
