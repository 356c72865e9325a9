"""The widgets of the scribbles panel: how it looks. It knows nothing of napari and speaks by Qt's signals."""

from __future__ import annotations

from qtpy.QtWidgets import QCheckBox, QWidget

from . import mask_view
from .codes_question import CodesForm
from .mask_view import MaskView
from .parts import button, combo, fold, line, named, side_by_side, small, text
from .plots import SlicePlot
from .structure_table import StructureTable

KEYS = {name: key for name, key in mask_view.KEYS.items() if name not in ("object_stroke", "background_stroke")}
"""Action to key; each is printed on its button, none is used by napari 0.9."""

BACKGROUND_KEY = "0"
STRUCTURE_KEYS = "123456789"
"""Keys of the brush where strokes are drawn: in place of napari's numbers for its tools, which keep their letters."""


class View(MaskView):
    """The panel's widgets; `scribbles.ScribblesPanel` gives them their meaning."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._build_structures()
        self.add(line())
        self._build_run()
        self.add(line())
        self._build_doubt()
        self._build_method()
        self.add_ends()

    def _build_structures(self) -> None:
        self.add(named(("Image", self.image_box, None), ("", self.image_info, None)), self.channels_box)
        self.table = StructureTable()
        self.structure_add = button("+ Structure", "Add a structure")
        self.strokes_box = combo("Strokes from another layer or a file; what their values mean is asked")
        self.codes = CodesForm()
        self.hint = text()
        self.undo_button.setToolTip("Take back the last stroke, result or change of a structure")
        self.add(
            self.table,
            side_by_side(self.structure_add, self.strokes_box),
            self.codes,
            self.hint,
            side_by_side(self.undo_button, self.redo_button),
        )

    def _build_run(self) -> None:
        self.live_box = QCheckBox("First mask while drawing")
        self.live_box.setChecked(True)
        self.live_box.setToolTip("Each stroke makes the mask anew, in the background")
        self.accept_button.setToolTip("Write what is shown into the mask; locked structures stay as they are")
        self.mask_notes = text()
        self.save_strokes_button = button("Save strokes…", "Write the strokes alone as NIfTI")
        self.add(
            self.live_box,
            self.mask_label,
            self.mask_notes,
            side_by_side(self.refine_button, self.cancel_button),
            self.progress,
            side_by_side(self.accept_button, self.discard_button),
            side_by_side(self.save_button, self.save_strokes_button),
        )

    def _build_doubt(self) -> None:
        self.slices_label = text()
        self.slices = SlicePlot()
        self.doubt_button.setText(f"Next doubtful slice ({mask_view.printed(KEYS['next_doubt'])})")
        self.maps_box = QCheckBox("Attention maps")
        self.maps_box.setToolTip("How far the gates of the network's levels are open: four layers, one per level")
        self.add(self.slices_label, self.slices, self.doubt_button, self.maps_box)

    def _build_method(self) -> None:
        self.method_box = combo("How the refinement learns")
        self.form_label = text()
        self.masks_button = button("Folder of masks…", "Complete masks of other patients, with the same values")
        self.masks_drop = small("×", "Learn without them")
        self.masks_row = QWidget()
        row = side_by_side(self.masks_button, self.masks_drop)
        row.setContentsMargins(0, 0, 0, 0)
        self.masks_row.setLayout(row)
        method = QWidget()
        method.setLayout(named(("Method", self.method_box, None)))
        self.method = fold("Method", method, self.masks_row)
        self.add(self.form_label, self.method)
