"""The explainable heatmap panel: choose a run, look at what decided, move the threshold, save. It wires the parts together."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from ...errors import WeaksegError
from ...io.names import file_name
from ..heatmap_desk import HeatmapDesk
from ..prompting import give_points
from ..report import amount, decision_line, size_line
from ..trained import Trained
from ..workers import Task, in_background
from .explainable_heatmap_view import STEPS, View
from .panel import ImagePanel
from .parts import set_choices

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

    from ..explanation import Explanation
    from ..heatmap_desk import Writing


class ExplainableHeatmapPanel(ImagePanel):
    """Dock widget **Explainable heatmap**.

    Parameters
    ----------
    viewer : napari viewer
        Given by napari.
    """

    view: View

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer, View())
        self.desk = HeatmapDesk(viewer)
        self.runs: list[Trained] = []
        self.trained: Trained | None = None
        self.task: Task | None = None
        self._busy = ""  # what is going on besides a run: saving, finding the boundary
        self._started = 0.0
        self._connect()
        self.images_changed()

    # -- wires -----------------------------------------------------------------------------

    def _connect(self) -> None:
        view = self.view
        view.run_button.clicked.connect(self.ask_for_run)
        view.run_box.activated.connect(lambda row: self.choose_run(self.runs[row]))
        view.start_button.clicked.connect(self.start)
        view.cancel_button.clicked.connect(self.cancel)
        view.scores.chosen.connect(self.choose_class)
        view.slices.clicked.connect(self.desk.go_to)
        view.decision_box.toggled.connect(self._decision_toggled)
        view.opacity.valueChanged.connect(self._opacity_moved)
        view.colour_box.activated.connect(self._colour_chosen)
        view.threshold.valueChanged.connect(self._threshold_moved)
        view.automatic_button.clicked.connect(self.automatic)
        view.refine_button.clicked.connect(self.refine)
        view.prompts_button.clicked.connect(self.use_as_prompts)
        view.accept_button.clicked.connect(lambda: self.say(self.desk.accept()))
        view.save_mask_button.clicked.connect(lambda: self._ask_where("mask", "mask", self.save_mask_to))
        view.save_heatmap_button.clicked.connect(
            lambda: self._ask_where("heatmap", f"heatmap_{file_name(self.desk.chosen, fallback='class')}", self.save_heatmap_to)
        )
        self.listen(self.viewer.dims.events.current_step, self._slice_changed)
        self.listen(self.viewer.dims.events.order, self._slice_changed)

    # -- image and run ---------------------------------------------------------------------

    def work_on(self, image: Layer | None) -> None:
        """Take this image; what was shown of another stays in its layers."""
        self.desk.choose_image(image)

    def open_run(self, folder: str) -> None:
        """Read a run folder, or a folder of runs, and choose the newest in it."""
        try:
            found = Trained.found_in(folder)
        except WeaksegError as error:
            self.say(str(error))
            return
        known = {run.folder for run in found}
        self.runs = [*(run for run in self.runs if run.folder not in known), *found]
        self.choose_run(found[0])

    def ask_for_run(self) -> None:
        """Open the folder dialog where the last run lies; it blocks nothing."""
        place = None if self.trained is None else self.trained.folder.parent
        self.ask_for_folder("Choose the folder of a trained run", place, self.open_run)

    def choose_run(self, trained: Trained) -> None:
        """Take this run for the next answer."""
        self.trained, self._message = trained, ""
        self.view.card_label.setText(trained.about)
        self.refresh()

    # -- running ---------------------------------------------------------------------------

    def start(self) -> None:
        """Classify the image in the background."""
        if self.task is not None:
            return
        if self.trained is None:
            self.say("choose the folder of a trained run first.")
            return
        try:
            case = self.desk.case(self.trained.channels)
        except WeaksegError as error:
            self.say(str(error))
            return
        layers = self.desk.layers
        steps = self.trained.steps(case)
        self.task = Task(
            "the classification",
            steps,
            progressed=lambda words: self.view.progress.show_news(words, 0.0),
            done=lambda explanation: self._done(explanation, layers),
            failed=self.say,
            ended=self._ended,
        )
        self._message, self._started = "", time.monotonic()
        self.task.start()
        self.view.progress.show_news("starting…", 0.0)
        self.refresh()

    def cancel(self) -> None:
        """Stop waiting for the answer."""
        if self.task is not None and not self.task.cancelled:
            self.task.cancel()
            self.say("cancelled; what was shown before is kept.")

    def stop(self) -> None:
        """End what runs without a word."""
        if self.task is not None:
            self.task.cancel()

    def _done(self, explanation: Explanation, layers: Any) -> None:
        if self.desk.layers is not layers:
            return  # another image was chosen meanwhile
        self.desk.show(explanation)
        took = time.monotonic() - self._started
        notes = f" {explanation.result.notes[0]}" if explanation.result.notes else ""
        self.say(f"classified in {took:.1f} s.{notes}")

    def _ended(self, task: Task) -> None:
        if self.task is task:
            self.task = None
        self.refresh()

    # -- looking ---------------------------------------------------------------------------

    def choose_class(self, name: str) -> None:
        """Look at another class."""
        explanation = self.desk.explanation
        if explanation is None or name == self.desk.chosen:
            return
        if name not in explanation.mapped:
            self.say(f"the run has no heatmap of {name}.")
            return
        self.desk.choose_class(name)
        self.refresh()

    def _slice_changed(self, event: Any = None) -> None:
        if self.desk.explanation is not None:
            self.view.slices.show_current(self.desk.slice_shown())
            self._show_decision()

    def _decision_toggled(self, shown: bool) -> None:
        self.desk.show_decision(shown)
        self._show_decision()

    def _heatmap_layer(self) -> Any:
        return None if self.desk.layers is None else self.desk.layers.heatmap(self.desk.chosen)

    def _opacity_moved(self, value: int) -> None:
        layer = self._heatmap_layer()
        if layer is not None:
            layer.opacity = value / 100

    def _colour_chosen(self, row: int) -> None:
        layer = self._heatmap_layer()
        if layer is not None:
            layer.colormap = self.view.colour_box.itemText(row)

    def _threshold_moved(self, value: int) -> None:
        if self.desk.explanation is None:
            return
        low, high = self.desk.explanation.range_of(self.desk.chosen)
        self.desk.set_threshold(low + value / STEPS * (high - low))
        self._show_mask_line()

    def automatic(self) -> None:
        """Back to the automatic threshold."""
        if self.desk.explanation is not None:
            self.desk.set_threshold(self.desk.automatic[self.desk.chosen])
            self.refresh()

    # -- using -----------------------------------------------------------------------------

    def refine(self) -> None:
        """Find the mask's boundary on the image, in the background."""
        if self.desk.explanation is None or self._busy:
            return
        work, name = self.desk.boundary(), self.desk.chosen
        explanation = self.desk.explanation
        self._busy = "finding the boundary…"

        def found(mask: Any) -> None:
            self._busy = ""
            if self.desk.explanation is explanation and self.desk.chosen == name:
                self.desk.show_refined(mask)
                self._message = ""
            self.refresh()

        in_background(work, found, self.failed)
        self.refresh()

    def use_as_prompts(self) -> None:
        """Give the mask's extreme points to the panel of that name, which opens where it is closed."""
        try:
            six = self.desk.prompts()
        except WeaksegError as error:
            self.say(str(error))
            return
        assert self.desk.layers is not None
        _, panel = self.viewer.window.add_plugin_dock_widget("napari-weakseg", "Extreme points (SimPLe)")
        give_points(panel, self.desk.layers.image, six)
        self.say("six points were placed: correct them in the panel Extreme points, or refine there.")

    def _ask_where(self, what: str, end: str, then: Any) -> None:
        if self.desk.layers is not None and self.desk.explanation is not None and not self._busy:
            self.ask_where_to_write(what, self.desk.layers.image.name, end, then)

    def save_mask_to(self, path: str) -> None:
        """Write the mask and its record in the background."""
        self._save(lambda: self.desk.save_mask(path))

    def save_heatmap_to(self, path: str) -> None:
        """Write the chosen class's heatmap and its record in the background."""
        self._save(lambda: self.desk.save_heatmap(path))

    def _save(self, prepared: Any) -> None:
        try:
            writing: Writing = prepared()
        except WeaksegError as error:
            self.say(str(error))
            return
        self._busy = "saving…"
        in_background(writing.write, self._saved, self.failed)
        self.refresh()

    def _saved(self, words: str) -> None:
        self._busy = ""
        self.say(words)

    def failed(self, error: Exception) -> None:
        """Say in a sentence what went wrong in the background."""
        self._busy = ""
        super().failed(error)

    # -- what is seen ----------------------------------------------------------------------

    def refresh(self) -> None:
        """Draw the panel from the state."""
        view, desk = self.view, self.desk
        volume = None if desk.layers is None else desk.layers.volume
        self.show_image(desk.problem if volume is None else size_line(volume), volume)
        row = next((n for n, run in enumerate(self.runs) if run is self.trained), -1)
        set_choices(view.run_box, [(run.name, run.name, "") for run in self.runs], row)
        view.run_info.setText("no run chosen" if self.trained is None else self.trained.line())
        view.card.setVisible(self.trained is not None)
        running = self.task is not None and not self.task.cancelled
        view.start_button.setEnabled(self.task is None and self.trained is not None and volume is not None)
        view.cancel_button.setEnabled(running)
        if not running:
            words = self._busy or ("stopping…" if self.task is not None else "")
            view.progress.show_news(words, 0.0 if self._busy else None)
        self._show_answer()
        self.show_message(self._message)

    def _show_answer(self) -> None:
        view, desk = self.view, self.desk
        explanation = desk.explanation
        view.answer.setVisible(explanation is not None)
        view.masking.setVisible(explanation is not None)
        view.record.setVisible(explanation is not None)
        if explanation is None:
            return
        view.scores.show_scores({name: explanation.probability(name) for name in explanation.classes}, desk.chosen)
        slices = explanation.slices_of(desk.chosen)
        predicted = explanation.predicted(desk.chosen)
        view.slices.setVisible(slices is not None)
        if slices is not None:
            view.slices.show_slices(slices, ["#E69F00" if here else "#56B4E9" for here in predicted])
            view.slices.show_current(desk.slice_shown())
        count = f"{int(predicted.sum())} of {len(predicted)} slices" if slices is not None else "judged as a whole"
        view.slices_label.setText(f"{desk.chosen}: {count}; click one to go there" if slices is not None else count)
        layer = self._heatmap_layer()
        if layer is not None:
            view.colour_box.setCurrentText(layer.colormap.name)
        for slider, value in (
            (view.opacity, 100 * layer.opacity if layer is not None else 70),
            (view.threshold, self._place()),
        ):
            slider.blockSignals(True)
            slider.setValue(round(value))
            slider.blockSignals(False)
        for control in (view.refine_button, view.save_mask_button, view.save_heatmap_button):
            control.setEnabled(not self._busy)
        self._show_mask_line()
        self._show_decision()
        if view.record.isExpanded():
            view.record_label.setText(json.dumps(desk.record(), indent=1, default=str)[:4000])

    def _place(self) -> float:
        assert self.desk.explanation is not None
        low, high = self.desk.explanation.range_of(self.desk.chosen)
        return STEPS * (self.desk.threshold - low) / (high - low)

    def _show_mask_line(self) -> None:
        desk = self.desk
        assert desk.layers is not None
        voxels, slices = desk.size()
        way = "boundary from the image" if desk.refined else f"threshold {desk.threshold:.3g}"
        way += " (automatic)" if not desk.refined and desk.threshold == desk.automatic[desk.chosen] else ""
        found = f"{amount(voxels, desk.layers.volume)} on {slices} slices" if voxels else "nothing above it"
        self.view.mask_label.setText(f"{way}: {found}")
        self.view.accept_button.setEnabled(voxels > 0)
        self.view.prompts_button.setEnabled(voxels > 0)

    def _show_decision(self) -> None:
        shown = self.desk.decision_shown
        self.view.decision_box.blockSignals(True)
        self.view.decision_box.setChecked(shown)
        self.view.decision_box.blockSignals(False)
        self.view.decision_label.setVisible(shown)
        if shown:
            self.view.decision_label.setText(decision_line(self.desk))
