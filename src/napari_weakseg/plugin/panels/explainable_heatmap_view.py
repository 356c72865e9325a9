"""The widgets of the explainable heatmap panel: how it looks. It knows nothing of napari and speaks by Qt's signals."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QGridLayout, QLabel, QProgressBar, QSlider, QVBoxLayout, QWidget

from ..heatmap_layers import COLOURS
from .parts import RESEARCH_USE, button, combo, fold, line, research_use, scrolled, side_by_side, small, text
from .plots import ScoreBars, SlicePlot

STEPS = 1000
NOTE = "The map is the network's own decision, not a diagnosis."


class View(QWidget):
    """The panel's widgets; `explainable_heatmap.ExplainableHeatmapPanel` gives them their meaning."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        inner = QWidget()
        self._rows = QVBoxLayout(inner)
        self._rows.setContentsMargins(8, 6, 8, 6)
        self._rows.setSpacing(5)
        self._build_choices()
        self._build_answer()
        self._build_mask()
        self.record_label = text()
        self.record_label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.record = fold("Record", self.record_label)
        self.message, self.notes = text(), text()
        for widget in (self.record, self.message, self.notes, research_use(f"{NOTE} {RESEARCH_USE}")):
            self._rows.addWidget(widget)
        self._rows.addStretch(1)
        scrolled(self, inner)

    def _build_choices(self) -> None:
        self.run_box = combo("The trained run")
        self.run_button = small("…", "Choose the folder of a trained run")
        self.run_info = text()
        self.image_box = combo("The volume to classify")
        self.image_info = text()
        grid = QGridLayout()
        grid.setColumnStretch(1, 1)
        grid.setSpacing(5)
        grid.addWidget(QLabel("Model"), 0, 0)
        grid.addWidget(self.run_box, 0, 1)
        grid.addWidget(self.run_button, 0, 2)
        grid.addWidget(self.run_info, 1, 1, 1, 2)
        grid.addWidget(QLabel("Image"), 2, 0)
        grid.addWidget(self.image_box, 2, 1, 1, 2)
        grid.addWidget(self.image_info, 3, 1, 1, 2)
        self.start_button = button("Run", "Classify this image and show what decided")
        self.cancel_button = button("Cancel", "Stop waiting for the answer")
        self.stage_label = text()
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(self.fontMetrics().height() // 2 + 2)
        self._rows.addLayout(grid)
        self._rows.addLayout(side_by_side(self.start_button, self.cancel_button))
        self._rows.addWidget(self.stage_label)
        self._rows.addWidget(self.bar)

    def _build_answer(self) -> None:
        self.answer = QWidget()
        rows = QVBoxLayout(self.answer)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(5)
        self.scores = ScoreBars()
        self.slices_label, self.slices = text(), SlicePlot()
        self.decision_box = QCheckBox("Decision points")
        self.decision_box.setToolTip("The places that decided: orange raises the score, blue lowers it; larger counts more")
        self.decision_label = text()
        for widget in (line(), self.scores, self.slices_label, self.slices, self.decision_box, self.decision_label):
            rows.addWidget(widget)
        self._rows.addWidget(self.answer)

    def _build_mask(self) -> None:
        self.masking = QWidget()
        rows = QVBoxLayout(self.masking)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(5)
        self.opacity, self.threshold = QSlider(Qt.Orientation.Horizontal), QSlider(Qt.Orientation.Horizontal)
        self.opacity.setRange(0, 100)
        self.opacity.setToolTip("How strongly the heatmap covers the image")
        self.threshold.setRange(0, STEPS)
        self.threshold.setPageStep(STEPS // 50)
        self.threshold.setToolTip("What lies above is in the mask; slices where the class is not predicted stay empty")
        self.colour_box = combo("Colours of the heatmap")
        self.colour_box.addItems(COLOURS)
        self.automatic_button = small("auto", "Back to the automatic threshold (multi-Otsu)")
        grid = QGridLayout()
        grid.setColumnStretch(1, 1)
        grid.setSpacing(5)
        grid.addWidget(QLabel("Heatmap"), 0, 0)
        grid.addWidget(self.opacity, 0, 1)
        grid.addWidget(self.colour_box, 0, 2)
        grid.addWidget(QLabel("Threshold"), 1, 0)
        grid.addWidget(self.threshold, 1, 1)
        grid.addWidget(self.automatic_button, 1, 2)
        self.mask_label = text()
        self.refine_button = button("Refine boundary", "Find the boundary on the image: the sure core becomes seeds")
        self.prompts_button = button("Use as prompts", "Six extreme points of this mask, for the panel Extreme points")
        self.accept_button = button("Accept", "Write what is shown into the mask, where it can be corrected")
        self.save_mask_button = button("Save mask…", "Write the mask as NIfTI, with a record of how it was made")
        self.save_heatmap_button = button("Save heatmap…", "Write the heatmap as NIfTI (float32), on the image's own grid")
        rows.addWidget(line())
        rows.addLayout(grid)
        rows.addWidget(self.mask_label)
        rows.addLayout(side_by_side(self.refine_button, self.accept_button))
        rows.addWidget(self.prompts_button)
        rows.addLayout(side_by_side(self.save_mask_button, self.save_heatmap_button))
        self._rows.addWidget(self.masking)
