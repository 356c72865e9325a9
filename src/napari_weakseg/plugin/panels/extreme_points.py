"""The extreme points panel: six clicks, a first mask, a refined one, a saved file. It wires the parts together."""

from __future__ import annotations

import contextlib
import importlib
import time
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from ...errors import WeaksegError
from ...io.names import file_name
from ...methods import DEFAULT, get_method
from ...prompts import BACKGROUND_STROKE
from ..companions import other_channels, short_name
from ..edits import purge
from ..form import RecipeForm
from ..layers import KEY
from ..proposals import FIRST, REFINED, Proposal
from ..report import doubt_line, expected_line, image_line, mask_line, measures, notes_on, positions, progress_line, record_text
from ..session import Job, ObjectKey, box_size
from ..workbench import Workbench
from ..workers import Listener, Progress, Run, in_background
from .extreme_points_view import KEYS, View
from .parts import set_choices

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

    from ..export import Save

_ORDER = {"L": 0, "R": 1, "A": 2, "P": 3, "S": 4, "I": 5}


class ExtremePointsPanel(QWidget):
    """Dock widget **Extreme points (SimPLe)**.

    Parameters
    ----------
    viewer : napari viewer
        Given by napari.
    method : str
        Name in the register of the method that fits.
    """

    def __init__(self, viewer: napari.viewer.Viewer, method: str = DEFAULT) -> None:
        super().__init__()
        self.viewer = viewer
        room = get_method(method)
        recipe = room.recipe_class()
        self._takes_strokes = "scribbles" in room.card.prompts
        self.bench = Workbench(viewer, method, recipe)
        self.run: Run | None = None
        self._after_run = ""  # "first" where a first mask waits for the run to end
        self._saving = False
        self._message = ""
        self._progress: Progress | None = None
        self._started = 0.0
        self._shown_image: Layer | None = None
        self._listened: list[tuple[Any, Any]] = []
        self.view = View()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.view)
        self.setMinimumWidth(300)
        self.form = RecipeForm(recipe)
        self.view.settings.addWidget(self.form.native)
        self._autosave = QTimer(self)  # a stroke in the mask is written down when the hand rests
        self._autosave.setSingleShot(True)
        self._autosave.setInterval(300)
        self._autosave.timeout.connect(self.bench.write_mask_down)
        self._connect()
        purge()
        self.images_changed()
        in_background(_warm_up)

    # -- wires -----------------------------------------------------------------------------

    def _connect(self) -> None:
        view = self.view
        self._actions = {
            "undo": self.undo,
            "redo": self.redo,
            "jump": self.jump_next,
            "next_object": lambda: self._act("begin an object", self.bench.document.add_object()),
            "refine": self.refine,
            "cancel": self.cancel,
            "accept": self.accept,
            "discard": self.discard,
            "save": self.ask_where_to_save,
            "points_mode": self.place_points,
            "object_stroke": self.draw_on_object,
            "background_stroke": self.draw_on_background,
            "next_doubt": self.look_next,
        }
        buttons = {
            "undo": view.undo_button,
            "redo": view.redo_button,
            "jump": view.jump_button,
            "next_object": view.object_add,
            "refine": view.refine_button,
            "cancel": view.cancel_button,
            "accept": view.accept_button,
            "discard": view.discard_button,
            "save": view.save_button,
            "points_mode": view.points_mode,
            "object_stroke": view.object_stroke,
            "background_stroke": view.background_stroke,
            "next_doubt": view.doubt_button,
        }
        for name, button in buttons.items():
            button.clicked.connect(lambda _=False, action=self._actions[name]: action())
        view.direction_clicked.connect(self.bench.jump)
        view.image_box.activated.connect(lambda row: self.choose_image(view.image_box.itemData(row)))
        view.channels_box.toggled.connect(self.bench.use_channels)
        view.doubt_box.toggled.connect(self._show_doubt)
        view.structure_box.activated.connect(lambda row: self._look(ObjectKey(view.structure_box.itemData(row), 1)))
        view.structure_box.lineEdit().editingFinished.connect(self._rename_structure)
        view.structure_add.clicked.connect(lambda: self._act("add a structure", self.bench.document.add_structure()))
        view.object_box.activated.connect(lambda row: self._look(view.object_box.itemData(row)))
        view.restore_button.clicked.connect(self._restore)
        view.forget_button.clicked.connect(self._forget)
        layers = self.viewer.layers.events
        for emitter in (layers.inserted, layers.removed, layers.reordered):
            self._listen(emitter, self._layers_changed)
        self._listen(self.viewer.layers.selection.events.active, self._tool_changed)

    def _listen(self, emitter: Any, slot: Any) -> None:
        emitter.connect(slot)
        self._listened.append((emitter, slot))

    def showEvent(self, event: Any) -> None:
        """Keys work while the panel is seen."""
        super().showEvent(event)
        for name, key in KEYS.items():
            self.viewer.bind_key(key, self._on_key(name), overwrite=True)

    def hideEvent(self, event: Any) -> None:
        """And are given back when it is not."""
        super().hideEvent(event)
        if not event.spontaneous():
            for key in KEYS.values():
                self.viewer.bind_key(key, None, overwrite=True)
            QTimer.singleShot(0, self._stop_if_closed)

    def _stop_if_closed(self) -> None:
        """Closing the dock takes the panel out of it: a run ends, and nothing is listened to any more."""
        if self.parent() is None:
            self._stop_run()
            for emitter, slot in self._listened:
                emitter.disconnect(slot)
            self._listened.clear()

    def _on_key(self, name: str) -> Any:
        def pressed(_viewer: Any) -> None:
            self._actions[name]()

        return pressed

    # -- image and layers ------------------------------------------------------------------

    def _layers_changed(self, event: Any = None) -> None:
        """An image came or went, or a layer of ours was removed by the user."""
        if self._shown_image is not None and self._shown_image not in self.viewer.layers:
            dropped = self.run is not None and self.run.stage == REFINED
            self.choose_image(None)
            self._message = "The image was removed, so its run was dropped." if dropped else ""
        self.images_changed()
        if self.bench.layers is not None and self.bench.layers.find("points") is None:
            QTimer.singleShot(0, self._draw_points_again)

    def _draw_points_again(self) -> None:
        """The points layer was removed by hand: the points are still the user's work."""
        layers = self.bench.layers
        if layers is not None and layers.image in self.viewer.layers and layers.find("points") is None:
            self.bench.draw()
            self._listen_to_points()

    def images_changed(self) -> None:
        """Fill the list of images; choose one where none is chosen."""
        images = self._images()
        chosen = None if self.bench.layers is None else self.bench.layers.image
        if chosen is None and images and not self.bench.session.problem:
            self.choose_image(images[-1])
            return
        self.refresh()

    def _images(self) -> list[Layer]:
        from napari.layers import Image

        return [x for x in self.viewer.layers if isinstance(x, Image) and x.metadata.get(KEY, {}).get("role") != "map"]

    def choose_image(self, image: Layer | None) -> None:
        """Work on this image."""
        self._stop_run()
        self._message = ""
        self.bench.choose_image(image)
        self._shown_image = image
        if self.bench.layers is not None:
            layers = self.bench.layers
            self._listen_to_points()
            self._listen(layers.image.events.name, self._renamed)
            volume = layers.volume
            in_background(lambda: volume.sha256, lambda sha: self._identified(layers, sha))
        self.refresh()

    def _listen_to_points(self) -> None:
        if self.bench.layers is not None:
            points = self.bench.layers.points(self.bench.document)
            points.events.data.disconnect(self._points_changed)
            self._listen(points.events.data, self._points_changed)

    def _renamed(self, event: Any = None) -> None:
        self.refresh()

    def _identified(self, layers: Any, sha256: str) -> None:
        if self.bench.layers is layers:
            self.bench.identify(sha256)
            self.refresh()

    def _listen_to_mask(self) -> None:
        """Strokes that the user paints into the mask are kept too."""
        mask = None if self.bench.layers is None else self.bench.layers.find("mask")
        if mask is not None and not any(emitter is mask.events.paint for emitter, _ in self._listened):
            self._listen(mask.events.paint, self._painted)

    def _painted(self, event: Any = None) -> None:
        self._autosave.start()

    # -- marks -----------------------------------------------------------------------------

    def _points_changed(self, event: Any) -> None:
        if self.bench.writing or getattr(event.action, "value", "").endswith("ing"):
            return  # our own drawing, or napari is about to do what it will report again
        QTimer.singleShot(0, self.take_points)  # napari is still in the middle of its own change

    def take_points(self) -> None:
        """Take over what was done in the points layer."""
        try:
            complete = self.bench.points_changed()
        except WeaksegError as error:
            self._say(str(error))
            return
        self._message = ""
        if complete:
            self.first_mask()
        self.refresh()

    def _act(self, title: str, document: Any) -> None:
        if self.bench.layers is not None:
            self.bench.act(title, document)
        self.refresh()

    def _look(self, key: ObjectKey) -> None:
        self.bench.look(key)
        self.refresh()

    def _rename_structure(self) -> None:
        document = self.bench.document
        value, name = document.current.structure, self.view.structure_box.currentText().strip()
        if name and name not in {structure.name for structure in document.structures}:
            self._act("rename a structure", document.rename_structure(value, name))

    def undo(self) -> None:
        """Take the last action back."""
        self._replayed("undone", self.bench.undo())

    def redo(self) -> None:
        """Do again what was undone."""
        self._replayed("done again", self.bench.redo())

    def _replayed(self, word: str, title: str) -> None:
        document, layers = self.bench.document, self.bench.layers
        self._say(f"{word}: {title}." if title else "there is nothing more to take back or to do again.")
        open_now = layers is not None and document.current in self.bench.open_objects()
        if open_now and not any(document.current in proposal.objects for proposal in self.bench.proposals):
            self.first_mask()
        self.refresh()

    def jump_next(self) -> None:
        """Go where the next missing point can be clicked."""
        missing = self.bench.missing()
        if missing:
            self.bench.jump(missing[0])

    # -- strokes and doubt -----------------------------------------------------------------

    def place_points(self) -> None:
        """The mouse places extreme points."""
        if self.bench.layers is not None:
            points = self.bench.layers.points(self.bench.document)
            self.viewer.layers.selection.active = points
            points.mode = "add"
        self._tool_changed()

    def draw_on_object(self) -> None:
        """The mouse draws strokes on the current object."""
        self._draw(self.bench.document.current.structure)

    def draw_on_background(self) -> None:
        """The mouse draws strokes on what does not belong to the object."""
        self._draw(BACKGROUND_STROKE)

    def _draw(self, code: int) -> None:
        if self.bench.layers is not None and self._takes_strokes:
            strokes = self.bench.layers.strokes(self.bench.document)
            if not any(emitter is strokes.events.paint for emitter, _ in self._listened):
                self._listen(strokes.events.paint, self._stroke_drawn)
            strokes.visible = True
            self.viewer.layers.selection.active = strokes
            strokes.selected_label = code
            strokes.mode = "paint"
        self._tool_changed()

    def _tool_changed(self, event: Any = None) -> None:
        """Show what the mouse does now: the layers know it."""
        layers, view = self.bench.layers, self.view
        active = self.viewer.layers.selection.active
        drawn = layers is not None and active is not None and active == layers.find("scribbles")
        code = active.selected_label if drawn and active is not None else 0
        points = layers is not None and active is not None and active == layers.find("points")
        for toggle, on in (
            (view.points_mode, points),
            (view.object_stroke, drawn and code not in (0, BACKGROUND_STROKE)),
            (view.background_stroke, drawn and code == BACKGROUND_STROKE),
        ):
            toggle.setChecked(bool(on))
            toggle.setEnabled(layers is not None)
            toggle.setVisible(self._takes_strokes)

    def _stroke_drawn(self, event: Any = None) -> None:
        if not self.bench.writing:
            QTimer.singleShot(0, self.take_strokes)  # napari is still in the middle of its own change

    def take_strokes(self) -> None:
        """Take over what was drawn; the mask follows."""
        self._message = ""
        if self.bench.strokes_changed():
            self.first_mask()
        elif self.bench.document.strokes and self.run is None:
            self._message = "Draw on the object first: nothing says where it is."
        self.refresh()

    def _show_doubt(self, on: bool) -> None:
        self.bench.shows_doubt = on
        self.bench.draw_doubt()

    def look_next(self) -> None:
        """Go where a look helps most."""
        if self.bench.next_doubt() is None:
            self._say("there is no doubt to look at; make a mask first.")

    # -- runs ------------------------------------------------------------------------------

    def first_mask(self) -> None:
        """Make the current object's first mask in the background."""
        if self.run is not None:
            self._after_run = "first"
            if self.run.stage == FIRST or not self.run.still_of(self.bench.document):
                self.run.cancel()  # nobody waits for a mask of marks that have changed
            return
        job = self.bench.job(first=True)
        if isinstance(job, Job):
            self._start(Run(job, self._listener(), FIRST))

    def refine(self) -> None:
        """Learn from the points of every complete object."""
        if self.run is not None:
            if self.run.stage == FIRST and not self.run.cancelled:
                self._after_run = "refine"
            return
        try:
            self.bench.set_recipe(self.form.recipe)
        except WeaksegError as error:
            self._say(str(error))
            return
        job = self.bench.job(first=False)
        if isinstance(job, Job):
            self._start(Run(job, self._listener()))
        else:
            self._say(job[0].sentence)

    def _listener(self) -> Listener:
        return Listener(self._progressed, self._done, self._failed, self._ended)

    def _start(self, run: Run) -> None:
        self.run, self._progress, self._started = run, None, time.monotonic()
        self._message = ""
        run.start()
        self.refresh()

    def _progressed(self, progress: Progress) -> None:
        self._progress = progress
        if progress.note:
            self._message = progress.note
        if progress.proposal is not None and self.run is not None:
            self._propose(progress.proposal)
        self._show_run()

    def _done(self, proposal: Proposal) -> None:
        if proposal.notes:
            self._message = proposal.notes[0]
        self._propose(proposal)
        self.refresh()

    def _propose(self, proposal: Proposal) -> None:
        """Show it where all its objects still have the points that the run saw."""
        assert self.run is not None
        if self.bench.layers is None:
            return
        if self.run.still_of(self.bench.document):
            self.bench.propose(proposal)
        self._show_mask_line()

    def _failed(self, sentence: str) -> None:
        self._say(sentence)

    def cancel(self) -> None:
        """Stop now; the last good mask stays."""
        if self.run is not None and not self.run.cancelled:
            self.run.cancel()
            self._after_run = ""
            self._say("cancelled; the last good mask is kept.")
        self.refresh()

    def _stop_run(self) -> None:
        self._after_run = ""
        if self.run is not None:
            self.run.cancel()

    def _ended(self, run: Run) -> None:
        if self.run is run:
            self.run, self._progress = None, None
            following, self._after_run = self._after_run, ""
            if following:
                {"first": self.first_mask, "refine": self.refine}[following]()
        self.refresh()

    # -- masks -----------------------------------------------------------------------------

    def accept(self) -> None:
        """Write what is shown into the mask."""
        self._stop_run()
        self._say(self.bench.accept(overwrite=self.view.overwrite_box.isChecked()))
        self._listen_to_mask()

    def discard(self) -> None:
        """Take the proposal away."""
        self._stop_run()
        self.bench.discard()
        self.refresh()

    def ask_where_to_save(self) -> None:
        """Open the file dialog; it blocks nothing."""
        if self._saving:
            self._say("the mask is being saved; wait until that has ended.")
            return
        if self.bench.layers is None or self.bench.layers.find("mask") is None:
            self._say("there is no mask yet; accept one first.")
            return
        name = f"{file_name(self.bench.layers.image.name, fallback='image')}_mask.nii.gz"
        dialog = QFileDialog(self, "Save mask", name, "NIfTI (*.nii.gz *.nii)")
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setFileMode(QFileDialog.FileMode.AnyFile)
        dialog.fileSelected.connect(self.save_to)
        dialog.open()

    def save_to(self, path: str) -> None:
        """Write the mask and its record in the background; the button is off until they are written."""
        if self._saving:
            return
        try:
            save = self.bench.save(path)
        except WeaksegError as error:
            self._say(str(error))
            return
        self._saving = True
        in_background(save.write, lambda words: self._saved(words, save), self._not_saved)
        self._say("saving…")

    def _saved(self, words: str, save: Save) -> None:
        self._saving = False
        self.bench.saved(save)
        self._say(words)

    def _not_saved(self, error: Exception) -> None:
        self._saving = False
        failed = f"the mask was not saved ({type(error).__name__}); it is still here, save it elsewhere; the log says more."
        self._say(str(error) if isinstance(error, WeaksegError) else failed)

    def _restore(self) -> None:
        self.bench.restore()
        self._listen_to_mask()
        self._replayed("restored", "the work that was not saved")

    def _forget(self) -> None:
        self.bench.forget()
        self.refresh()

    # -- what is seen ----------------------------------------------------------------------

    def _say(self, sentence: str) -> None:
        self._message = sentence[:1].upper() + sentence[1:]
        self.refresh()

    def refresh(self) -> None:
        """Draw the panel from the state; nothing is kept in widgets but the settings."""
        self._show_choices()
        self._show_points()
        self._show_run()
        self._show_mask_line()
        self._tool_changed()
        self._show_notes()

    def _show_choices(self) -> None:
        view, bench = self.view, self.bench
        images = self._images()
        chosen = self._shown_image
        row = next((n for n, image in enumerate(images) if chosen is not None and image == chosen), 0)
        set_choices(view.image_box, [(image.name, image, "") for image in images], row if images else -1)
        view.image_info.setText(image_line(bench.session))
        others = other_channels(self.viewer, bench.layers.image, bench.layers.volume) if bench.layers is not None else ()
        view.channels_box.setVisible(bool(others))
        document = bench.document
        values = [structure.value for structure in document.structures]
        if not view.structure_box.lineEdit().hasFocus():
            entries = [(s.name, s.value, s.colour) for s in document.structures]
            set_choices(view.structure_box, entries, values.index(document.current.structure))
        numbers = document.numbers_of(document.current.structure)
        keys = [ObjectKey(document.current.structure, number) for number in numbers]
        done = ["  ✓" if key in document.finished else "" for key in keys]
        entries_of = [
            (f"{n} of {len(keys)}{mark}", key, "") for n, (key, mark) in enumerate(zip(keys, done, strict=True), start=1)
        ]
        set_choices(view.object_box, entries_of, keys.index(document.current))

    def _show_points(self) -> None:
        view, bench = self.view, self.bench
        usable = bench.layers is not None
        if bench.layers is not None:
            volume = bench.layers.volume
            words = bench.names()
            missing = set(bench.missing())
            places = positions(bench.document, volume)
            names = [(n, short_name(words[n]), f"{words[n]}{places.get(n, '')}") for n in range(6) if volume.shape[n // 2] > 1]
            names.sort(key=lambda entry: _ORDER.get(entry[1], entry[0]))
            view.set_directions(names, {n for n, _, _ in names if n not in missing})
            view.box_label.setText(box_size(bench.document, volume))
        view.hint.setText(self._hint())
        view.undo_button.setEnabled(usable and bool(bench.history.past))
        view.redo_button.setEnabled(usable and bool(bench.history.future))
        view.jump_button.setEnabled(usable and bool(bench.missing()))
        if bench.history.past:
            view.undo_button.setToolTip(f"Undo: {bench.history.past[-1].title}")
        for button in (view.object_add, view.structure_add):
            button.setEnabled(usable)

    def _hint(self) -> str:
        problems = self.bench.job(first=True)
        if isinstance(problems, Job):
            return "All points are there. Drag one to correct it, or refine the mask."
        words = problems[0].sentence
        return words[:1].upper() + words[1:]

    def _show_run(self) -> None:
        view, run = self.view, self.run
        running = run is not None and not run.cancelled
        ready = bool(self.bench.open_objects())
        view.refine_button.setEnabled(ready and (run is None or run.stage == FIRST))
        view.cancel_button.setEnabled(running)
        elapsed = time.monotonic() - self._started
        view.stage_label.setText(progress_line(run, self._progress, elapsed) or (self._expected() if ready else ""))
        share = self._progress.share if self._progress is not None and running else 0.0
        view.bar.setRange(0, 1000 if not running or share > 0 else 0)
        view.bar.setValue(int(1000 * share))

    def _expected(self) -> str:
        """Time, memory and device of a run, said before it starts."""
        job = self.bench.job(first=False)
        try:
            return expected_line(self.form.recipe, job) if isinstance(job, Job) else ""
        except WeaksegError as error:
            return str(error)

    def _show_mask_line(self) -> None:
        view, bench = self.view, self.bench
        standing = bench.standing()
        view.mask_label.setText(mask_line(standing, bench))
        view.accept_button.setEnabled(bool(standing))
        view.discard_button.setEnabled(bool(bench.proposals))
        view.save_button.setEnabled(not self._saving and bench.layers is not None and bench.layers.find("mask") is not None)
        view.doubt_label.setText(doubt_line(bench.doubted()))
        view.doubt_button.setEnabled(bench.doubted() is not None)
        if view.measures.isExpanded():
            view.measures_label.setText(measures(bench))
        if view.record.isExpanded():
            view.record_label.setText(record_text(standing, bench))

    def _show_notes(self) -> None:
        view, bench = self.view, self.bench
        view.message.setText(self._message)
        view.message.setVisible(bool(self._message))
        notes = () if bench.layers is None else notes_on(bench.layers.volume)
        view.notes.setText("\n".join(f"Note: {note}" for note in notes))
        view.notes.setVisible(bool(notes))
        found = bench.recovered
        view.recovery.setVisible(found is not None)
        if found is not None:
            when = time.strftime("%d %b %H:%M", time.localtime(found.written))
            view.recovery_label.setText(f"Unsaved work on this image from {when} was found.")


def _warm_up() -> None:
    """Load what the first run would otherwise wait for."""
    with contextlib.suppress(ImportError):
        importlib.import_module("napari_weakseg.training.devices").warm_up()
