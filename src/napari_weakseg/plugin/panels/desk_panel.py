"""A panel that makes masks of one image: its buttons and keys, saving in the background, and work that was not saved."""

from __future__ import annotations

import contextlib
import importlib
import time
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from ...errors import WeaksegError
from ..edits import purge
from ..workers import in_background, sentence
from .panel import ImagePanel

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari.viewer
    from qtpy.QtWidgets import QAbstractButton

    from ..export import Save, WriteStrokes
    from ..image_desk import ImageDesk
    from .mask_view import MaskView


class DeskPanel(ImagePanel):
    """What such panels do alike with the work on one image.

    Parameters
    ----------
    viewer : napari viewer
        Given by napari.
    view : MaskView
        Its widgets.
    desk : ImageDesk
        The work.
    """

    view: MaskView

    def __init__(self, viewer: napari.viewer.Viewer, view: MaskView, desk: ImageDesk) -> None:
        super().__init__(viewer, view)
        self._desk = desk
        self._saving = False
        self._autosave = QTimer(self)  # a stroke in the mask is written down when the hand rests
        self._autosave.setSingleShot(True)
        self._autosave.setInterval(300)
        self._autosave.timeout.connect(desk.write_mask_down)
        view.restore_button.clicked.connect(self.restore)
        view.forget_button.clicked.connect(self._forget)
        purge()
        in_background(_warm_up)

    def wire(self, actions: dict[str, tuple[QAbstractButton, Callable[[], Any]]], keys: dict[str, str]) -> None:
        """Connect each action to its button and its key."""
        for button, action in actions.values():
            button.clicked.connect(lambda _=False, act=action: act())
        self.keys = {key: actions[name][1] for name, key in keys.items() if name in actions}

    # -- the image -------------------------------------------------------------------------

    def identify(self) -> None:
        """Find out which image this is, for the work on it that was not saved."""
        layers = self._desk.layers
        if layers is not None:
            volume = layers.volume
            in_background(lambda: volume.sha256, lambda sha: self._identified(layers, sha))

    def _identified(self, layers: Any, sha256: str) -> None:
        if self._desk.layers is layers:
            self._desk.identify(sha256)
            self.refresh()

    # -- saving ----------------------------------------------------------------------------

    def listen_to_mask(self) -> None:
        """Strokes that the user paints into the mask are kept too."""
        mask = None if self._desk.layers is None else self._desk.layers.find("mask")
        if mask is not None:
            self.listen(mask.events.paint, self._painted)

    def _painted(self, event: Any = None) -> None:
        self._autosave.start()

    def ask_where_to_save(self) -> None:
        """Open the file dialog; it blocks nothing."""
        if self._saving:
            self.say("the mask is being saved; wait until that has ended.")
        elif self._desk.layers is None or self._desk.layers.find("mask") is None:
            self.say("there is no mask yet; accept one first.")
        else:
            self.ask_where_to_write("mask", self._desk.layers.image.name, "mask", self.save_to)

    def save_to(self, path: str) -> None:
        """Write the mask and its record in the background; the button is off until they are written."""
        self.write_in_background(lambda: self._desk.save(path), self._desk.saved)

    def write_in_background(self, prepared: Callable[[], Any], then: Callable[[Any], None] | None = None) -> None:
        """Write what `prepared` gives; nothing else is written meanwhile."""
        if self._saving:
            return
        try:
            save: Save | WriteStrokes = prepared()
        except WeaksegError as error:
            self.say(str(error))
            return
        self._saving = True
        in_background(save.write, lambda words: self._saved(words, save, then), self._not_saved)
        self.say("saving…")

    def _saved(self, words: str, save: Any, then: Callable[[Any], None] | None) -> None:
        self._saving = False
        if then is not None:
            then(save)
        self.say(words)

    def _not_saved(self, error: Exception) -> None:
        self._saving = False
        self.say(sentence(error, "nothing was saved", "it is still here, save it elsewhere"))

    # -- what was not saved ----------------------------------------------------------------

    def restore(self) -> None:
        """Bring back the work of a session that was not saved."""
        self._desk.restore()
        self.listen_to_mask()

    def _forget(self) -> None:
        self._desk.forget()
        self.refresh()

    def show_history(self) -> None:
        """Draw what can be undone, saved and brought back."""
        view, desk = self.view, self._desk
        view.undo_button.setEnabled(desk.layers is not None and bool(desk.history.past))
        view.redo_button.setEnabled(desk.layers is not None and bool(desk.history.future))
        if desk.history.past:
            view.undo_button.setToolTip(f"Undo: {desk.history.past[-1].title}")
        view.save_button.setEnabled(not self._saving and desk.layers is not None and desk.layers.find("mask") is not None)
        found = desk.recovered
        view.recovery.setVisible(found is not None)
        if found is not None:
            when = time.strftime("%d %b %H:%M", time.localtime(found.written))
            view.recovery_label.setText(f"Unsaved work on this image from {when} was found.")


def _warm_up() -> None:
    """Load what the first run would otherwise wait for."""
    with contextlib.suppress(ImportError):
        importlib.import_module("napari_weakseg.training.devices").warm_up()
