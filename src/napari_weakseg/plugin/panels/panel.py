"""What every dock widget does in the same way: its image, its keys while it is seen, its sentences, and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from ...io.names import file_name
from ..layers import images_in
from ..report import note_lines, notes_on
from ..workers import sentence
from .parts import set_choices

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import napari.viewer
    from napari.layers import Layer

    from ...volume import Volume


class Panel(QWidget):
    """A dock widget: a view in it, keys while it is seen, one sentence at a time, an end when the dock is closed.

    Parameters
    ----------
    viewer : napari viewer
        Given by napari.
    view : Column
        Its widgets.
    """

    _in_view: ClassVar[list[Panel]] = []  # the latest last: two panels may use the same key

    def __init__(self, viewer: napari.viewer.Viewer, view: Any) -> None:
        super().__init__()
        self.viewer = viewer
        self.view = view
        self.keys: dict[str, Callable[[], None]] = {}
        self._message = ""
        self._listened: list[tuple[Any, Any]] = []
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(view)
        self.setMinimumWidth(300)

    # -- what a panel adds -----------------------------------------------------------------

    def refresh(self) -> None:
        """Draw the panel from the state; nothing is kept in widgets but settings."""
        raise NotImplementedError

    def stop(self) -> None:
        """End what runs in the background: the dock was closed, or another image was chosen."""

    # -- keys and the end ------------------------------------------------------------------

    def listen(self, emitter: Any, slot: Any) -> None:
        """Connect for as long as the dock is open; connecting twice is once."""
        if not any(known is emitter and own == slot for known, own in self._listened):
            emitter.connect(slot)
            self._listened.append((emitter, slot))

    def showEvent(self, event: Any) -> None:
        """Keys work while the panel is seen."""
        super().showEvent(event)
        if self not in self._in_view:
            self._in_view.append(self)
        for key, action in self.keys.items():
            self._bind(key, action)

    def hideEvent(self, event: Any) -> None:
        """And go back when it is not, to the panel that had them before or to nobody; closing the dock ends what runs."""
        super().hideEvent(event)
        if event.spontaneous():
            return  # the whole window was put away for a while
        if self in self._in_view:
            self._in_view.remove(self)
        others = [panel for panel in self._in_view if panel.viewer.keymap is self.viewer.keymap]
        for key in self.keys:
            self._bind(key, next((other.keys[key] for other in reversed(others) if key in other.keys), None))
        QTimer.singleShot(0, self._stop_if_closed)

    def _bind(self, key: str, action: Callable[[], None] | None) -> None:
        self.viewer.bind_key(key, None if action is None else lambda _viewer: action(), overwrite=True)

    def _stop_if_closed(self) -> None:
        """Closing the dock takes the panel out of it: what runs ends, and nothing is listened to any more."""
        if self.parent() is None:
            self.stop()
            for emitter, slot in self._listened:
                emitter.disconnect(slot)
            self._listened.clear()

    # -- sentences and dialogs -------------------------------------------------------------

    def say(self, words: str) -> None:
        """Show one sentence."""
        self._message = words[:1].upper() + words[1:]
        self.refresh()

    def failed(self, error: Exception) -> None:
        """Say in a sentence what went wrong in the background."""
        self.say(sentence(error, "it did not work", "nothing is lost"))

    def show_message(self, words: str) -> None:
        """Draw the sentence; its place is free where there is none."""
        self.view.message.setText(words)
        self.view.message.setVisible(bool(words))

    def ask_where_to_write(self, what: str, image: str, end: str, then: Callable[[str], None]) -> None:
        """Open the dialog for a NIfTI file called after an image; it blocks nothing."""
        name = f"{file_name(image, fallback='image')}_{end}.nii.gz"
        dialog = QFileDialog(self, f"Save {what}", name, "NIfTI (*.nii.gz *.nii)")
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setFileMode(QFileDialog.FileMode.AnyFile)
        dialog.fileSelected.connect(then)
        dialog.open()

    def ask_for_folder(self, title: str, start: Path | None, then: Callable[[str], None]) -> None:
        """Open the dialog for a folder; it blocks nothing."""
        dialog = QFileDialog(self, title, "" if start is None else str(start))
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setOption(QFileDialog.Option.ShowDirsOnly, True)
        dialog.fileSelected.connect(then)
        dialog.open()

    def ask_for_file(self, title: str, kinds: str, then: Callable[[str], None]) -> None:
        """Open the dialog for a file that exists; it blocks nothing."""
        dialog = QFileDialog(self, title, "", kinds)
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.fileSelected.connect(then)
        dialog.open()


class ImagePanel(Panel):
    """A panel that works on one image of the viewer; its view has `image_box`, `image_info`, `message` and `notes`.

    Parameters
    ----------
    viewer : napari viewer
        Given by napari.
    view : Column
        Its widgets.
    """

    def __init__(self, viewer: napari.viewer.Viewer, view: Any) -> None:
        super().__init__(viewer, view)
        self.image: Layer | None = None  # the chosen one, also where it cannot be used
        view.image_box.activated.connect(lambda row: self.choose_image(view.image_box.itemData(row)))
        layers = viewer.layers.events
        for emitter in (layers.inserted, layers.removed, layers.reordered):
            self.listen(emitter, self._layers_changed)

    def work_on(self, image: Layer | None) -> None:
        """Take this image, or none; what ran on another was stopped."""
        raise NotImplementedError

    def dropped(self) -> str:
        """The chosen image is no longer in the viewer: what is to be said of it."""
        return ""

    def choose_image(self, image: Layer | None) -> None:
        """Work on this image."""
        self.stop()
        self._message = ""
        self.image = image  # known before layers come and go
        self.work_on(image)
        if image is not None:
            self.listen(image.events.name, self._renamed)
        self.refresh()

    def images_changed(self) -> None:
        """Fill the list of images; choose one where none is chosen."""
        images = images_in(self.viewer)
        if self.image is None and images:
            self.choose_image(images[-1])
        else:
            self.refresh()

    def _layers_changed(self, event: Any = None) -> None:
        if self.image is not None and self.image not in self.viewer.layers:
            words = self.dropped()
            self.choose_image(None)
            self._message = words
        self.images_changed()

    def _renamed(self, event: Any = None) -> None:
        self.refresh()

    def show_image(self, info: str, volume: Volume | None) -> None:
        """Draw the list of images, what is said of the chosen one, and what is odd about it."""
        images = images_in(self.viewer)
        row = next((n for n, image in enumerate(images) if self.image is not None and image == self.image), -1)
        set_choices(self.view.image_box, [(image.name, image, "") for image in images], row)
        self.view.image_info.setText(info)
        notes = () if volume is None else notes_on(volume)
        self.view.notes.setText(note_lines(notes))
        self.view.notes.setVisible(bool(notes))
