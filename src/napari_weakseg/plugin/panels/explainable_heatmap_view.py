"""The widgets of the explainable heatmap panel: how it looks. It knows nothing of napari and speaks by Qt's signals."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QSlider, QWidget

from ..heatmap_layers import COLOURS
from .parts import (
    RESEARCH_USE,
    Column,
    ProgressLine,
    button,
    combo,
    fold,
    line,
    named,
    rows_of,
    selectable,
    side_by_side,
    small,
    text,
)
from .plots import ScoreBars, SlicePlot

STEPS = 1000
NOTE = "The map is the network's own decision, not a diagnosis."


class View(Column):
    """The panel's widgets; `explainable_heatmap.ExplainableHeatmapPanel` gives them their meaning."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._build_choices()
        self._build_answer()
        self._build_mask()
        self.record_label = selectable()
        self.record = fold("Record", self.record_label)
        self.add(self.record)
        self.end(f"{NOTE} {RESEARCH_USE}")

    def _build_choices(self) -> None:
        self.run_box = combo("The trained run")
        self.run_button = small("…", "Choose the folder of a trained run")
        self.run_info, self.card_label = text(), selectable()
        self.card = fold("Model card", self.card_label)
        self.image_box = combo("The volume to classify")
        self.image_info = text()
        self.start_button = button("Run", "Classify this image and show what decided")
        self.cancel_button = button("Cancel", "Stop waiting for the answer")
        self.progress = ProgressLine()
        self.add(
            named(
                ("Model", self.run_box, self.run_button),
                ("", self.run_info, None),
            ),
            self.card,
            named(("Image", self.image_box, None), ("", self.image_info, None)),
            side_by_side(self.start_button, self.cancel_button),
            self.progress,
        )

    def _build_answer(self) -> None:
        self.answer = QWidget()
        rows = rows_of(self.answer)
        self.scores = ScoreBars()
        self.slices_label, self.slices = text(), SlicePlot()
        self.decision_box = QCheckBox("Decision points")
        self.decision_box.setToolTip("The places that decided: orange raises the score, blue lowers it; larger counts more")
        self.decision_label = text()
        for widget in (line(), self.scores, self.slices_label, self.slices, self.decision_box, self.decision_label):
            rows.addWidget(widget)
        self.add(self.answer)

    def _build_mask(self) -> None:
        self.masking = QWidget()
        rows = rows_of(self.masking)
        self.opacity, self.threshold = QSlider(Qt.Orientation.Horizontal), QSlider(Qt.Orientation.Horizontal)
        self.opacity.setRange(0, 100)
        self.opacity.setToolTip("How strongly the heatmap covers the image")
        self.threshold.setRange(0, STEPS)
        self.threshold.setPageStep(STEPS // 50)
        self.threshold.setToolTip("What lies above is in the mask; slices where the class is not predicted stay empty")
        self.colour_box = combo("Colours of the heatmap")
        self.colour_box.addItems(COLOURS)
        self.automatic_button = small("auto", "Back to the automatic threshold (multi-Otsu)")
        self.mask_label = text()
        self.refine_button = button("Refine boundary", "Find the boundary on the image: the sure core becomes seeds")
        self.prompts_button = button("Use as prompts", "Six extreme points of this mask, for the panel Extreme points")
        self.accept_button = button("Accept", "Write what is shown into the mask, where it can be corrected")
        self.save_mask_button = button("Save mask…", "Write the mask as NIfTI, with a record of how it was made")
        self.save_heatmap_button = button("Save heatmap…", "Write the heatmap as NIfTI (float32), on the image's own grid")
        rows.addWidget(line())
        sliders = (("Heatmap", self.opacity, self.colour_box), ("Threshold", self.threshold, self.automatic_button))
        rows.addLayout(named(*sliders))
        rows.addWidget(self.mask_label)
        rows.addLayout(side_by_side(self.refine_button, self.accept_button))
        rows.addWidget(self.prompts_button)
        rows.addLayout(side_by_side(self.save_mask_button, self.save_heatmap_button))
        self.add(self.masking)
