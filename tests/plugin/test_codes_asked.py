"""What a user says of the values of strokes from elsewhere, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from napari_weakseg.errors import PromptError
from napari_weakseg.plugin.scribble_codes import BACKGROUND, KNOWN, STRUCTURE, UNMARKED, CodesQuestion
from napari_weakseg.prompts import Structure


@pytest.fixture
def question():
    array = np.zeros((10, 10, 4), dtype=np.int16)
    array[:3, 0, 0], array[:4, 1, 0], array[:5, 2, 0] = 1, 2, 255
    return CodesQuestion.about("strokes", array)


def test_the_values_are_counted(question):
    assert question.counts == {0: 388, 1: 3, 2: 4, 255: 5}
    assert question.share(0) == pytest.approx(0.97)


def test_a_known_table_answers_for_every_value(question):
    ours = question.meanings(next(iter(KNOWN)))
    assert ours == {0: UNMARKED, 1: STRUCTURE, 2: STRUCTURE, 255: BACKGROUND}
    scribbles = question.answered(ours, known=(Structure("RV", 1),))
    assert [structure.name for structure in scribbles.structures] == ["RV", "structure 2"]
    assert (scribbles.labels == 255).sum() == 5


def test_tables_of_codes_are_those_of_their_data_sets():
    stated = {name.split()[0].strip(","): codes for name, codes in KNOWN.items()}
    assert stated == {"this": (255, 0), "ACDC": (0, 4), "Prostatex": (0, 255)}


def test_any_answer_may_be_given(question):
    scribbles = question.answered({0: UNMARKED, 1: BACKGROUND, 2: STRUCTURE, 255: UNMARKED} | {255: BACKGROUND, 1: STRUCTURE})
    assert set(np.unique(scribbles.labels)) == {0, 1, 2, 255}


@pytest.mark.parametrize(
    ("meanings", "words"),
    [
        ({0: UNMARKED, 1: STRUCTURE, 2: STRUCTURE}, "say what the value 255"),
        ({0: UNMARKED, 1: BACKGROUND, 2: STRUCTURE, 255: BACKGROUND}, "cannot both mean background"),
        ({0: BACKGROUND, 1: STRUCTURE, 2: STRUCTURE, 255: UNMARKED}, "marks 97 %"),
        ({0: UNMARKED, 1: STRUCTURE, 2: STRUCTURE, 255: STRUCTURE}, "holds the code 255"),
    ],
)
def test_answers_that_cannot_be_are_refused_in_a_sentence(question, meanings, words):
    with pytest.raises(PromptError, match=words) as caught:
        question.answered(meanings)
    assert len(str(caught.value).split()) <= 30


def test_what_cannot_hold_strokes_is_refused():
    with pytest.raises(PromptError, match="value 3 alone"):
        CodesQuestion.about("mask", np.full((4, 4, 4), 3))
    with pytest.raises(PromptError, match="strokes have a few"):
        CodesQuestion.about("atlas", np.arange(125).reshape(5, 5, 5))
