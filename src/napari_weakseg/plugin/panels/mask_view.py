"""The widgets of a panel that makes masks of one image from marks: strokes, run, masks, doubt, record, unsaved work."""

from __future__ import annotations

from qtpy.QtWidgets import QCheckBox, QPushButton, QWidget

from .parts import Column, ProgressLine, button, combo, fold, rows_of, selectable, side_by_side, text

KEYS = {
    "undo": "U",
    "redo": "Shift-U",
    "refine": "G",
    "cancel": "Q",
    "accept": "K",
    "discard": "H",
    "save": "W",
    "object_stroke": "Shift-O",
    "background_stroke": "Shift-B",
    "next_doubt": "Shift-J",
}
"""Action to key; each is printed on its button, none is used by napari 0.9."""


def printed(key: str) -> str:
    """A key as it is printed on a button."""
    return key.replace("Shift-", "⇧")


def with_key(words: str, key: str, tip: str) -> QPushButton:
    """A button with its key printed on it."""
    return button(f"{words} ({printed(key)})", tip)


def toggle(words: str, key: str, tip: str) -> QPushButton:
    """One of the things that the mouse can do."""
    made = with_key(words, key, tip)
    made.setCheckable(True)
    return made


class MaskView(Column):
    """What such panels have in common; the parts are built here and put in order by whoever inherits."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.image_box = combo("The volume to segment")
        self.image_info = text()
        self.channels_box = QCheckBox("Use the other images of this grid too")
        self.undo_button = with_key("Undo", KEYS["undo"], "Take back the last click, drag, delete, stroke or accept")
        self.redo_button = with_key("Redo", KEYS["redo"], "Do again what was undone")
        self.settings = fold("Settings")
        self._make_run()
        self._make_corrections()
        self._make_ends()

    def _make_run(self) -> None:
        self.mask_label = text()
        self.refine_button = with_key(
            "Refine", KEYS["refine"], "Let a network learn from these marks alone and improve the mask"
        )
        self.cancel_button = with_key("Cancel", KEYS["cancel"], "Stop now and keep the last good mask")
        self.progress = ProgressLine()
        self.accept_button = with_key(
            "Accept", KEYS["accept"], "Write what is shown into the mask, as one step that can be undone"
        )
        self.discard_button = with_key(
            "Discard", KEYS["discard"], "Take the first mask and the refined one away; the marks stay"
        )
        self.save_button = with_key(
            "Save mask…", KEYS["save"], "Write the mask as NIfTI, with a record of how it was made beside it"
        )
        self.overwrite_box = QCheckBox("Overwrite other finished labels")

    def _make_corrections(self) -> None:
        """What the mouse does, and where to look."""
        self.object_stroke = toggle("+ Object", KEYS["object_stroke"], "Paint on what the mask lacks: it follows at once")
        self.background_stroke = toggle("− Rest", KEYS["background_stroke"], "Paint on what does not belong to the object")
        self.doubt_label = text()
        self.doubt_box = QCheckBox("Show doubt")
        self.doubt_box.setToolTip("Bright where the mask is unsure of itself")
        self.doubt_button = with_key(
            "Look next", KEYS["next_doubt"], "Go to the next plane in which a look or a stroke helps most"
        )

    def _make_ends(self) -> None:
        self.measures_label, self.record_label = selectable(), selectable()
        self.measures = fold("Measures", self.measures_label)
        self.record = fold("Record", self.record_label)
        self.recovery, self.recovery_label = QWidget(), text()
        self.restore_button = button("Restore", "Bring back the marks and the mask of the session that was not saved")
        self.forget_button = button("Forget", "Delete what was kept of that session")
        rows = rows_of(self.recovery)
        rows.addWidget(self.recovery_label)
        rows.addLayout(side_by_side(self.restore_button, self.forget_button))
        self.recovery.hide()

    # -- rows, in the order of the work -----------------------------------------------------

    def add_run(self) -> None:
        """Refine and Cancel, how far it is, what becomes of the mask."""
        self.add(
            self.mask_label,
            side_by_side(self.refine_button, self.cancel_button),
            self.progress,
            side_by_side(self.accept_button, self.discard_button),
            self.save_button,
            self.overwrite_box,
        )

    def add_doubt(self) -> None:
        """How sure the mask is, and where a look helps."""
        self.add(self.doubt_label, side_by_side(self.doubt_box, self.doubt_button))

    def add_ends(self) -> None:
        """What opens on demand, and the foot."""
        self.add(self.settings, self.measures, self.record, self.recovery)
        self.end()
