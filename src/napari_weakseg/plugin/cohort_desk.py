"""The work of the cohort panel without any widget: a case with its layers, labels and points that are kept, masks accepted.

It needs no display (napari's `ViewerModel` is enough), so that it is tested as plain code.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError, PromptError, WeaksegError
from ..io.nifti import read_mask, read_volume
from ..io.scribbles import write_scribbles
from ..prompts import ImageLabel, Scribbles, Structure
from .cohort_book import REVIEWED, CohortBook, points_of
from .heatmap_desk import Writing
from .heatmap_layers import HeatmapLayers
from .layers import image_layer_data, write_labels
from .scribble_layers import ScribbleLayers
from .scribble_session import new_document
from .session import Document, Mark, ObjectKey
from .slices import go_to_slice, slice_shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Layer
    from numpy.typing import NDArray

    from ..case import Case
    from ..prompts import ExtremePoints
    from ..volume import Volume


class CohortDesk:
    """One viewer, an open cohort, and the case in view.

    Parameters
    ----------
    viewer : napari viewer
        Where the layers are.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer
        self.book: CohortBook | None = None
        self.case: Case | None = None
        self.layers: HeatmapLayers | None = None
        self._own: list[Layer] = []
        self._mask_as_opened: NDArray[Any] | None = None
        self._strokes: ScribbleLayers | None = None
        self._strokes_as_kept: NDArray[np.uint8] | None = None
        self._labels_before: list[tuple[str, ImageLabel | None, int | None]] = []  # case, its labels, the slice in view

    # -- cohort and case -------------------------------------------------------------------

    def open_cohort(self, path: str | Path) -> None:
        """Open a cohort file.

        Raises
        ------
        DataError
            It is missing or wrong; what was open stays so.
        """
        book = CohortBook(path)
        self.close_case()
        self.book = book
        self._labels_before = []

    def load(self, case_id: str) -> tuple[Case, Volume | None, dict[str, Volume]]:
        """Read a case from disk, with its mask and heatmaps where there are some; for any thread.

        Raises
        ------
        WeaksegError
            A file is damaged or does not fit.
        """
        assert self.book is not None
        case = self.book.read(case_id)
        path = self.book.result(case_id)
        mask = None if path is None else read_mask(path, like=case.volume)
        heatmaps = {name: read_volume(path) for name, path in self.book.heatmaps(case_id).items()}
        return case, mask, {name: heat for name, heat in heatmaps.items() if heat.same_grid(case.volume)}

    def show(self, case: Case, mask: Volume | None, heatmaps: dict[str, Volume]) -> None:
        """Take the case before out of the viewer, and show this one with all that belongs to it."""
        self.close_case()
        before = {str(layer.unique_id) for layer in self.viewer.layers}
        shown = None
        for volume in reversed(case.channels.values()):
            data, options, _ = image_layer_data(volume)
            shown = self.viewer.add_image(data, **options)
        assert shown is not None
        self.case, self.layers = case, HeatmapLayers(self.viewer, shown)
        document = document_of(case, self.structures)
        self._strokes = ScribbleLayers(self.viewer, shown)
        if case.scribbles is not None:
            strokes = self.stroke_layer()
            codes = self.layers.grid.to_layer(case.scribbles.labels)
            where = np.nonzero(codes)
            write_labels(strokes, where, codes[where].astype(strokes.data.dtype))
            strokes.mode = "pan_zoom"
        self._strokes_as_kept = self._strokes.drawn()
        for name, heat in heatmaps.items():
            values = np.asarray(heat.array, dtype=np.float32)
            low, high = float(np.median(values)), float(values.max())
            self.layers.show_heatmap(name, values, (low, high if high > low else low + 1.0))
        if mask is not None:
            layer = self.layers.mask(Document(structures=self.structures))
            labels = self.layers.grid.to_layer(mask.array)
            where = np.nonzero(labels)
            write_labels(layer, where, labels[where].astype(layer.data.dtype))
            layer.visible = True
        if document.marks:
            self.layers.show_points(document)
        self._mask_as_opened = self._mask_now()
        self._own = [layer for layer in self.viewer.layers if str(layer.unique_id) not in before]
        self.viewer.layers.selection.active = shown
        self.viewer.reset_view()
        go_to_slice(self.layers, self.slice_axis, self.first_slice())

    def close_case(self) -> None:
        """Take the case out of the viewer; layers of the user's own stay."""
        layers, self.layers, self.case = self.layers, None, None
        self._strokes, self._strokes_as_kept = None, None
        if layers is None:
            self._own = []
            return
        own = str(layers.image.unique_id)
        mine = [x for x in self.viewer.layers if x in self._own or x.metadata.get("weakseg", {}).get("of") == own]
        self._own, self._mask_as_opened = [], None
        for layer in mine:  # a brush on the canvas of a layer that is gone is drawn once more, and takes the program with it
            layer.mode = "pan_zoom"
        self.viewer.layers.selection.clear()
        for layer in mine:
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)

    @property
    def case_id(self) -> str:
        """The case in view; empty where there is none."""
        return "" if self.case is None else self.case.id

    @property
    def structures(self) -> tuple[Structure, ...]:
        """What masks of this cohort hold: its structures, else one for each class but the first."""
        assert self.book is not None
        if self.book.cohort.structures:
            return self.book.cohort.structures
        return tuple(Structure(name, value) for value, name in enumerate(self.book.classes) if value) or (
            Structure("lesion", 1),
        )

    @property
    def slice_axis(self) -> int:
        """Array axis along which the cohort counts slices."""
        assert self.book is not None
        return self.book.cohort.slice_axis

    # -- slices and labels -----------------------------------------------------------------

    def slice_count(self) -> int:
        """How many slices the case in view has."""
        return 0 if self.case is None else self.case.volume.shape[self.slice_axis]

    def first_slice(self) -> int:
        """Where to look first: the middle of the slices with a label or a probable class, else the middle."""
        assert self.book is not None
        shown = np.flatnonzero(self.slice_labels() > 0)
        table = self.book.slice_scores(self.case_id)
        if not len(shown) and table is not None and len(table) == self.slice_count():
            shown = np.flatnonzero(table.argmax(axis=1) > 0)
        return int(shown[len(shown) // 2]) if len(shown) else self.slice_count() // 2

    def slice_labels(self) -> NDArray[np.int64]:
        """Class of each slice of the case in view, -1 where it has no label."""
        if self.book is None or self.case is None:
            return np.zeros(0, dtype=np.int64)
        label = self.book.entry(self.case_id).image_label
        own = -1 if label is None else label.label
        return np.broadcast_to(np.asarray(own, dtype=np.int64), (self.slice_count(),)).copy()

    def slice_heights(self) -> tuple[NDArray[np.float64], bool]:
        """How much each slice shows of any class but the first, 0 to 1, and whether that is predicted or only labelled."""
        labels = self.slice_labels()
        table = None if self.book is None else self.book.slice_scores(self.case_id)
        if table is not None and len(table) == len(labels):
            return 1 - table[:, 0], True
        return np.where(labels > 0, 1.0, np.where(labels == 0, 0.15, 0.0)), False

    def slice_shown(self) -> int | None:
        """The slice that is looked at, in the file's order."""
        return None if self.layers is None or self.book is None else slice_shown(self.layers, self.slice_axis)

    def go_to(self, index: int) -> None:
        """Look at another slice."""
        if self.layers is not None and self.book is not None:
            go_to_slice(self.layers, self.slice_axis, int(np.clip(index, 0, self.slice_count() - 1)))

    def label(self, value: int | None, *, by_slice: bool) -> str:
        """Label the slice in view, or the volume; it is on disk when this returns. Returns a sentence.

        Raises
        ------
        WeaksegError
            Nothing is open, or the cohort file was changed by another program.
        """
        book, case_id = self._open()
        index = self.slice_shown()
        before = (case_id, book.entry(case_id).image_label, index)
        name = "" if value is None or value >= len(book.classes) else book.classes[value]
        if value is None or not by_slice:
            book.label(case_id, value)
            self._labels_before.append(before)
            return f"{case_id} is labelled {name}." if name else "the labels of this case were taken away."
        if index is None:
            raise PromptError("look at the plane in which slices are counted, then label the slice.")
        others = book.label_slice(case_id, index, value, self.slice_count())
        self._labels_before.append(before)
        rest = f" All other slices took {book.classes[0]}: go through them and correct." if others else ""
        return f"slice {index} is labelled {name}.{rest}"

    @property
    def can_undo(self) -> bool:
        """Whether a label was given in this session that can be taken back."""
        return bool(self._labels_before)

    def undo_label(self) -> str:
        """Give a case the labels that it had before the last change; returns a sentence.

        Raises
        ------
        WeaksegError
            The cohort file was changed by another program.
        """
        if self.book is None or not self._labels_before:
            return "there is no label to take back."
        case_id, label, index = self._labels_before[-1]
        self.book.label(case_id, None if label is None else label.label)
        self._labels_before.pop()
        if case_id == self.case_id and index is not None:
            self.go_to(index)
        return f"the last change of the labels of {case_id} was taken back."

    def _open(self) -> tuple[CohortBook, str]:
        if self.book is None:
            raise PromptError("open a cohort file first.")
        if self.case is None:
            raise PromptError("open a case first: choose it in the table and press Enter.")
        return self.book, self.case.id

    # -- strokes ---------------------------------------------------------------------------

    def stroke_layer(self) -> Any:
        """The layer of the case's strokes, made where there is none, with the cohort's structures and their values."""
        assert self._strokes is not None
        layer = self._strokes.find("scribbles")
        return self._strokes.strokes(new_document(self.structures)) if layer is None else layer

    def strokes_to_keep(self) -> Callable[[], str] | None:
        """What writes the strokes as they are now, in any thread, and gives the case's id; None where nothing changed.

        Raises
        ------
        PromptError
            A value was drawn that no structure of the cohort has.
        """
        if self._strokes is None or self.case is None or self.book is None:
            return None
        drawn, path, volume = self._strokes.drawn(), self.book.strokes_path(self.case.id), self.case.volume
        if np.array_equal(drawn, self._strokes_as_kept if self._strokes_as_kept is not None else 0):
            return None
        scribbles, case_id = Scribbles(drawn, self.structures), self.case.id
        self._strokes_as_kept = drawn

        def write() -> str:
            if not drawn.any():
                path.unlink(missing_ok=True)
                return case_id
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DataError(f"the folder {path.parent.name} cannot be made; check the rights of its folder.") from error
            write_scribbles(scribbles, volume, path)
            return case_id

        return write

    # -- points ----------------------------------------------------------------------------

    def keep_points(self) -> bool:
        """Save the complete objects of the points layer as they are now; returns whether they had changed.

        Raises
        ------
        WeaksegError
            The cohort file was changed by another program.
        """
        if self.layers is None or self.case is None or self.book is None or self.layers.find("points") is None:
            return False
        document = self.layers.kept_document()
        points = points_of(document, self.case.volume, self.structures)
        known = self.book.entry(self.case.id).points
        if points is None and known is None:
            return False
        if points is not None:
            points = self._named(points)
            if not isinstance(known, Path) and known is not None and dict(known) == points.to_json():
                return False
            if isinstance(known, Path) and self.case.points is not None and self.case.points.to_json() == points.to_json():
                return False
        elif document.marks:
            return False  # an object that is being moved or not complete yet: what was kept stays
        self.book.place_points(self.case.id, points)
        return True

    def _named(self, points: ExtremePoints) -> ExtremePoints:
        """With the cohort's names of the structures, which its file insists on."""
        from dataclasses import replace

        known = {structure.value: structure for structure in self.structures}
        unknown = [s.name for s in points.structures if s.value not in known]
        if unknown:
            raise PromptError(f"the cohort has no structure {unknown[0]!r}; add it to its file, or use one that it has.")
        return replace(points, structures=tuple(known[s.value] for s in points.structures))

    # -- masks -----------------------------------------------------------------------------

    def _mask_now(self) -> NDArray[Any] | None:
        voxels = None if self.layers is None else self.layers.mask_voxels()
        return None if voxels is None else voxels.copy()

    def painted(self) -> bool:
        """Whether the mask in view differs from the one that was opened or saved last."""
        now = None if self.layers is None else self.layers.mask_voxels()
        if now is None:
            return False
        before = self._mask_as_opened
        return bool(now.any()) if before is None else not np.array_equal(now, before)

    def save_reviewed(self) -> Writing:
        """The mask in view, accepted or corrected, as it is to be written; the prediction's own file stays.

        Raises
        ------
        WeaksegError
            There is no mask, or the folder of results cannot be made.
        """
        book, case_id = self._open()
        assert self.layers is not None
        if self.layers.find("mask") is None:
            raise PromptError("this case has no mask yet; predict it, or paint one.")
        volume = self.layers.to_volume()
        try:
            book.results.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"the folder {book.results.name} cannot be made; check the rights of its folder.") from error
        self._mask_as_opened = volume.array
        record = {"case": case_id, "saved": {"corrected": self._differs_from_prediction(volume)}}
        return Writing(volume, book.reviewed_path(case_id), record, is_map=False)

    def _differs_from_prediction(self, volume: Volume) -> bool | None:
        assert self.book is not None
        path = self.book.results / f"{self.case_id}_mask.nii.gz"
        try:
            return not np.array_equal(read_mask(path, like=volume).array, volume.array) if path.is_file() else None
        except WeaksegError:
            return None

    def reviewed(self, case_id: str) -> None:
        """The mask of a case was looked at and is good."""
        assert self.book is not None
        self.book.set_state(case_id, REVIEWED)


def document_of(case: Case, structures: tuple[Structure, ...]) -> Document:
    """A case's extreme points as the extreme points panel keeps them."""
    if case.points is None or not len(case.points):
        return Document()
    counts: dict[int, int] = {}
    objects, marks = [], []
    flat = [axis for axis, n in enumerate(case.volume.shape) if n == 1]
    for six, value in zip(case.points.points, case.points.values.tolist(), strict=True):
        counts[value] = counts.get(value, 0) + 1
        key = ObjectKey(value, counts[value])
        objects.append(key)
        for number, (i, j, k) in enumerate(six.tolist()):
            if number // 2 not in flat:
                marks.append(Mark(key, (i, j, k)))
    known = structures or case.points.structures
    return Document(known, tuple(objects), objects[-1], tuple(marks))
