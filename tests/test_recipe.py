"""`Recipe`: ranges, presets, JSON, and values that come as text."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import pytest

from napari_weakseg.errors import RecipeError
from napari_weakseg.recipe import Recipe, knob


@dataclass(frozen=True, kw_only=True)
class Toy(Recipe):
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"laptop": {}, "paper": {"steps": 900, "patch": (96, 96, 96)}}

    steps: int = knob(10, min=1, max=1000, tooltip="Number of steps", source="paper")
    rate: float = knob(0.1, min=0.0, max=1.0, tooltip="Learning rate")
    patch: tuple[int, ...] = knob((32, 32, 32), min=8, max=256, unit="voxels", tooltip="Patch size")
    flip: bool = knob(True, tooltip="Flip patches")
    norm: str = knob("group", choices=("group", "batch"), tooltip="Normalisation")
    limit: float | None = knob(None, min=0.0, tooltip="None for no limit")


def test_presets():
    assert Toy() == Toy.from_preset("laptop")
    assert Toy.from_preset("paper").steps == 900
    assert Toy.from_preset("paper", steps=5).steps == 5
    assert Toy.from_preset("paper", steps=5).patch == (96, 96, 96)
    with pytest.raises(RecipeError, match="no preset"):
        Toy.from_preset("desktop")


@pytest.mark.parametrize("preset", ["laptop", "paper"])
def test_json_round_trip(preset):
    import json

    recipe = Toy.from_preset(preset, rate=0.25, limit=3.5, seed=7)
    assert Toy.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_changed_keeps_the_rest():
    recipe = Toy.from_preset("paper", rate=0.5).changed(steps=3)
    assert (recipe.preset, recipe.steps, recipe.rate, recipe.patch) == ("paper", 3, 0.5, (96, 96, 96))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("steps", "12", 12),
        ("steps", 12.0, 12),
        ("rate", "0.5", 0.5),
        ("rate", 1, 1.0),
        ("patch", "16,32,64", (16, 32, 64)),
        ("patch", [16, 16, 16], (16, 16, 16)),
        ("flip", "no", False),
        ("flip", "True", True),
        ("limit", None, None),
        ("limit", "2", 2.0),
    ],
)
def test_values_as_text_or_from_json(name, text, value):
    got = getattr(Toy(**{name: text}), name)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("steps", 1001),
        ("steps", 1.5),
        ("steps", "many"),
        ("steps", None),
        ("rate", -0.1),
        ("rate", float("nan")),
        ("rate", float("inf")),
        ("steps", float("inf")),
        ("steps", float("nan")),
        ("patch", (32, 4, 32)),
        ("patch", "32,x"),
        ("patch", 5),
        ("flip", "perhaps"),
        ("norm", "instance"),
        ("limit", -1),
        ("seed", -1),
        ("device", "tpu"),
        ("preset", "desktop"),
    ],
)
def test_refused_values_name_the_knob(name, value):
    with pytest.raises(RecipeError, match=name):
        Toy(**{name: value})


def test_unknown_names():
    with pytest.raises(RecipeError, match="no setting 'stpes'"):
        Toy.from_preset("laptop", stpes=3)
    with pytest.raises(RecipeError, match="did you mean one of steps"):
        Toy.from_preset("laptop", stpes=3)
    with pytest.raises(RecipeError, match="no setting"):
        Toy.from_json({"preset": "laptop", "_target_": "os.system"})


def test_every_knob_says_what_it_does():
    for field in fields(Toy):
        assert field.metadata["tooltip"]
        assert set(field.metadata) == {"tooltip", "min", "max", "choices", "unit", "source", "hidden"}
