"""What every registered method promises, checked for each; a new method file is under test without a line written here."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re

import pytest

from napari_weakseg.errors import RecipeError
from napari_weakseg.methods import get_method, list_methods, new_recipe
from napari_weakseg.recipe import PRESETS

NAMES = [card.name for card in list_methods()]
MARKS = {"extreme_points", "scribbles", "image_label"}


@pytest.fixture(params=NAMES)
def room(request):
    return get_method(request.param)


def test_the_default_method_is_there():
    assert get_method().card.name in NAMES


def test_an_unknown_name_lists_those_that_exist():
    with pytest.raises(RecipeError, match="nothing") as caught:
        get_method("nothing")
    assert all(name in str(caught.value) for name in NAMES)


def test_card(room):
    card = room.card
    assert get_method(card.name) is room
    assert card.title
    assert card.prompts
    assert set(card.prompts) <= MARKS
    assert set(card.dimensions.split(", ")) <= {"2D", "3D"}
    assert not card.doi or re.fullmatch(r"10\.\d{4,}/\S+", card.doi)
    assert bool(card.paper) or not card.doi


def test_fit_is_a_generator_and_both_verbs_take_what_they_should(room):
    returned = str(inspect.signature(room.fit).return_annotation)
    assert inspect.isgeneratorfunction(room.fit) or returned.startswith(("Generator", "collections.abc.Generator"))
    assert list(inspect.signature(room.fit).parameters)[:3] == ["cases", "recipe", "weights"]
    assert set(list(inspect.signature(room.fit).parameters)[3:]) >= {"validation", "checkpoints"}
    assert list(inspect.signature(room.predict).parameters)[:2] == ["case", "weights"]


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_survive_json(room, preset):
    recipe = new_recipe(room.card.name, preset)
    assert recipe.preset == preset
    again = room.recipe_class.from_json(json.loads(json.dumps(recipe.to_json(), allow_nan=False)))
    assert again == recipe


def test_the_defaults_are_the_laptop_s(room):
    assert room.recipe_class() == new_recipe(room.card.name, "laptop")


def test_every_knob_says_what_it_does_and_where_its_default_is_from(room):
    for field in dataclasses.fields(room.recipe_class):
        assert field.metadata["tooltip"], field.name
        assert len(field.metadata["tooltip"]) <= 160, field.name
        assert re.match(r"ours|paper|authors' code", field.metadata["source"]), field.name
        assert field.metadata["unit"] in ("", "mm", "s", "voxels"), field.name


def test_unknown_and_impossible_settings_are_refused(room):
    with pytest.raises(RecipeError, match="no_such_knob"):
        new_recipe(room.card.name, no_such_knob=1)
    with pytest.raises(RecipeError, match="seed"):
        new_recipe(room.card.name, seed=-1)
    with pytest.raises(RecipeError, match="preset"):
        new_recipe(room.card.name, "cluster")


def test_knobs_can_be_given_as_text(room):
    """The command line has nothing but text."""
    recipe = new_recipe(room.card.name)
    texts = {}
    for name, value in recipe.to_json().items():
        if value is not None and name != "preset":
            texts[name] = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    assert new_recipe(room.card.name, **texts) == recipe


@pytest.mark.parametrize("name", NAMES)
def test_the_first_mask_alone(name, blob, blob_points):
    """Zero seconds: one step with a preview, and the result is that preview."""
    import napari_weakseg as ws
    from napari_weakseg.arrays.metrics import dice

    if "extreme_points" not in get_method(name).card.prompts:
        pytest.skip("needs other marks than extreme points")
    seen = []
    recipe = new_recipe(name, max_seconds=0, device="cpu")
    result = ws.segment(blob[0], blob_points, method=name, recipe=recipe, on_step=seen.append)
    previews = [step.preview for step in seen if step.preview is not None]
    assert seen[0].preview is not None
    assert (result.labels == previews[-1].labels()).all()
    assert dice(result.labels, blob[1].array) > 0.7
    json.dumps(result.record, allow_nan=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_short_run_can_be_replayed(name, blob, blob_points):
    import napari_weakseg as ws

    if "extreme_points" not in get_method(name).card.prompts:
        pytest.skip("needs other marks than extreme points")
    result = ws.segment(blob[0], blob_points, method=name, recipe=new_recipe(name, max_seconds=2, device="cpu", seed=1))
    again = ws.replay(json.loads(json.dumps(result.record)), blob[0])
    assert again.mask.sha256 == result.mask.sha256
