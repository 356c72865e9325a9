"""What is said of a trained run before it is used."""

from __future__ import annotations

import json

import numpy as np
import pytest

import napari_weakseg.methods as methods
from fake_classifier import LESION, FakeClassifierRecipe
from napari_weakseg.errors import DataError
from napari_weakseg.io.runs import Run
from napari_weakseg.method import Step, Weights
from napari_weakseg.plugin.model_card import card_of, figures_of
from napari_weakseg.plugin.trained import Trained

FACTS = {
    "name": "balls",
    "channels": ["flair"],
    "image_classes": ["normal", "lesion"],
    "supervision": "marks",
    "split": {"fold": 1, "folds": 3, "seed": 0},
    "parts": {
        "training": [{"id": "anna_smith_1", "patient": 1}, {"id": "anna_smith_2", "patient": 1}],
        "validation": [],
        "testing": [{"id": "bob_jones", "patient": 2}],
    },
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "_modules", lambda: {"fake_classifier": "fake_classifier"})
    recipe = FakeClassifierRecipe()
    weights = Weights(
        "fake_classifier", recipe, (LESION,), {"done": np.array(6)}, {"device": "CPU, 2 threads", "seconds": 42.0}
    )
    with Run(tmp_path / "run_1") as made:
        made.begin(recipe, "fake_classifier", FACTS)
        made.log(Step("train", 1, 2, {"loss": 0.5}))
        made.log(Step("train", 2, 2, {"loss": 0.25, "accuracy": 0.9}))
        made.finish(weights)
    return Trained.read(tmp_path / "run_1")


def test_it_counts_and_names_nobody(run):
    lines = dict(line.split(": ", 1) for line in run.about.splitlines())
    assert lines["Learnt from"] == "cohort balls, 2 cases of 1 patients, channels flair"
    assert lines["Marks"] == "image label normal / lesion"
    assert lines["Held out"] == "1 cases of 1 patients, fold 1 of 3 by patient"
    assert lines["Settings"] == "preset laptop, seed 0"
    assert lines["Trained"].endswith("42 s, CPU, 2 threads")
    assert lines["Trained"][:2] == "20"
    assert lines["While training"] == "loss 0.25, accuracy 0.9"
    assert lines["Scored"].startswith("not yet")
    assert lines["Weights"].startswith("SHA-256 ")
    for secret in ("anna", "smith", "bob", str(run.folder), run.folder.parent.name):
        assert secret not in run.about


def test_scores_of_weakseg_evaluate_are_told(run):
    report = {
        "cohort": "balls",
        "part": "testing",
        "cases": [{"id": "bob_jones", "learnt_from": False}],
        "classification": {"classes": ["normal", "lesion"], "slices": {"f1": [0.99, 0.943], "auroc": [0.98, None]}},
        "summary": {"lesion": {"dice": {"median": 0.71}}},
    }
    (run.folder / "evaluation").mkdir()
    (run.folder / "evaluation" / "evaluation.json").write_text(json.dumps(report))
    assert "Scored: testing, 1 cases of cohort balls; F1 lesion 0.943 per slice; median Dice lesion 0.710" in run.about


@pytest.mark.parametrize("name", ["cohort.json", "log.txt", "metrics.csv", "weights.json"])
@pytest.mark.parametrize("content", [None, b"\xff\xfe broken", b"[1, 2]", b'{"parts": 3, "split": 4, "file": 5, "name": {}}'])
def test_what_is_missing_or_damaged_is_left_out(run, name, content):
    path = run.folder / name
    path.unlink() if content is None else path.write_bytes(content)
    assert "Settings: preset laptop" in card_of(run.folder, run.weights)


def test_figures_come_in_the_order_of_the_steps(run):
    assert figures_of(run.folder) == [(1, {"loss": 0.5}), (2, {"loss": 0.25, "accuracy": 0.9})]


def test_a_folder_of_runs_offers_all_that_have_learnt_something(run):
    begun = run.folder.with_name("run_2")
    begun.mkdir()
    (begun / "recipe.json").write_text("{}")
    assert [found.name for found in Trained.found_in(run.folder.parent)] == ["run_1"]
    assert [found.name for found in Trained.found_in(run.folder)] == ["run_1"]
    with pytest.raises(DataError):
        Trained.found_in(begun)
