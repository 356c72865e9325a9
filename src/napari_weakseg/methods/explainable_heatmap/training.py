"""Image labels to weights: not there yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from ...case import Case
    from ...method import Step, Weights
    from ...recipe import Recipe


def fit(
    cases: Sequence[Case],
    recipe: Recipe,
    weights: Weights | None = None,
    *,
    validation: Sequence[Case] = (),
    checkpoints: Any = None,
) -> Generator[Step, None, Weights]:
    """Refuse: training is being built."""
    raise RecipeError("explainable_heatmap cannot be trained in this version yet; use another method.")
