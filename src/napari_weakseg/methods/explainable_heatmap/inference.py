"""Weights to scores, heatmaps and a mask: not there yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import RecipeError

if TYPE_CHECKING:
    from ...case import Case
    from ...method import Result, Weights


def predict(case: Case, weights: Weights) -> Result:
    """Refuse: prediction is being built."""
    raise RecipeError("explainable_heatmap cannot segment in this version yet; use another method.")
