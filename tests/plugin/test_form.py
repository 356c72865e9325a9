"""Any recipe as a form."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from napari_weakseg.methods import list_methods, new_recipe
from napari_weakseg.plugin.form import RecipeForm
from napari_weakseg.recipe import Recipe, knob


@dataclass(frozen=True, kw_only=True)
class Rich(Recipe):
    """One knob of each kind."""

    PRESETS = {"laptop": {}, "paper": {"rate": 0.1, "rounds": 9}}  # noqa: RUF012

    rounds: int = knob(3, min=0, max=100, tooltip="Rounds", source="paper")
    rate: float = knob(3e-4, min=0.0, max=1.0, tooltip="Learning rate")
    shuffle: bool = knob(True, tooltip="Shuffle")
    patch: tuple[int, ...] = knob((32, 32, 16), min=1, max=512, unit="voxels", tooltip="Patch")
    limit: float | None = knob(None, tooltip="Limit", unit="mm")
    kind: str = knob("a", choices=("a", "b"), tooltip="Kind")
    secret: int = knob(1, tooltip="Not shown", hidden=True)


@pytest.fixture(autouse=True)
def application(qapp):
    """Widgets need a QApplication."""


def test_an_untouched_form_is_the_recipe():
    recipe = Rich()
    assert RecipeForm(recipe).recipe == recipe
    changed = Rich(patch=(8, 8, 8), limit=2.5, kind="b", rounds=7, secret=5)
    assert RecipeForm(changed).recipe == changed


def test_every_knob_but_hidden_ones_is_shown_with_unit_tooltip_and_source():
    form = RecipeForm(Rich())
    labels = {widget.name: widget.label for widget in form.container}
    assert "secret" not in labels
    assert labels["patch"] == "patch (voxels)"
    rounds = form.container["rounds"]
    assert rounds.tooltip == "Rounds [paper]"
    assert (rounds.min, rounds.max) == (0, 100)


def test_changing_a_widget_changes_the_recipe():
    form = RecipeForm(Rich())
    form.container["rounds"].value = 12
    form.container["limit"].value = "4"
    form.container["patch"].value = "16, 16, 8"
    assert form.recipe == Rich(rounds=12, limit=4.0, patch=(16, 16, 8))


def test_choosing_a_preset_fills_in_its_values():
    form = RecipeForm(Rich())
    form.container["preset"].value = "paper"
    assert form.recipe == Rich.from_preset("paper")


def test_a_value_that_is_none_is_refused_in_a_sentence():
    from napari_weakseg.errors import RecipeError

    form = RecipeForm(Rich())
    form.container["patch"].value = "large"
    with pytest.raises(RecipeError):
        _ = form.recipe


@pytest.mark.parametrize("name", [card.name for card in list_methods()])
def test_every_method_has_a_form(name):
    recipe = new_recipe(name)
    assert RecipeForm(recipe).recipe == recipe
