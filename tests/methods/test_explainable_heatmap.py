"""Training and prediction of the explainable classifiers, on volumes with a bright blob or without."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_weakseg.case import Case
from napari_weakseg.errors import DataError, PromptError
from napari_weakseg.methods import get_method, new_recipe
from napari_weakseg.methods.explainable_heatmap import explaining
from napari_weakseg.prompts import ImageLabel
from napari_weakseg.volume import Volume

ROOM = get_method("explainable_heatmap")
CLASSES = ("normal", "lesion")


def head(seed, *, slices=6, lesion=True, channels=1, per="slice", value=1, size=32):
    """A grey disc with air around it; where it has a lesion, a bright blob in some neighbouring slices."""
    rng = np.random.default_rng(seed)
    i, j = np.mgrid[:size, :size]
    disc = (i - size / 2) ** 2 + (j - size / 2) ** 2 < (0.42 * size) ** 2
    image = np.repeat((100.0 * disc)[:, :, None], slices, axis=2) + rng.normal(0, 4, (size, size, slices))
    mask = np.zeros(image.shape, dtype=np.uint8)
    if lesion:
        first = int(rng.integers(1, slices - 3))
        centre = rng.uniform(0.35 * size, 0.65 * size, 2)
        mask[..., first : first + 3] = value * ((i - centre[0]) ** 2 + (j - centre[1]) ** 2 < 3.2**2)[:, :, None]
    image = image + np.where(mask == 2, -70.0, np.where(mask == 1, 90.0, 0.0))
    label = tuple(int(mask[..., k].max()) for k in range(slices)) if per == "slice" else int(mask.max())
    volumes = {"flair": Volume(image.astype(np.float32), name="head")}
    for n in range(1, channels):
        volumes[f"other {n}"] = Volume(rng.normal(100, 5, image.shape).astype(np.float32), name="head")
    classes = CLASSES if value == 1 else (*CLASSES, "hole")
    return Case(f"case {seed}", volumes, image_label=ImageLabel(classes, label), reference=Volume(mask, name="mask"))


def recipe(**changes):
    small = {
        "width": 4,
        "depth": 2,
        "working_size": 32,
        "epochs": 30,
        "batch": 12,
        "device": "cpu",
        "preview_seconds": 0,
        "averaging": 0.9,
    }
    return new_recipe("explainable_heatmap", **{"learning_rate": 5e-3, "dropout": 0.0, **small, **changes})


def train(cases, how, **more):
    fit = ROOM.fit(cases, how, **more)
    seen = []
    while True:
        try:
            seen.append(next(fit))
        except StopIteration as end:
            return end.value, seen


@pytest.fixture(scope="module")
def trained():
    cases = [head(n, lesion=n % 3 > 0) for n in range(8)]
    return train(cases, recipe())


def test_slice_labels_teach_where(trained):
    weights, seen = trained
    assert seen[0].preview is not None
    assert not seen[0].preview.labels().any()
    right = total = 0
    overlaps, hits = [], []
    for n in range(20, 24):
        case = head(n)
        result = ROOM.predict(case, weights)
        shown = result.tables["slice probabilities"].argmax(axis=1) == 1
        truth = np.array(case.image_label.label)
        right, total = right + int((shown == truth).sum()), total + len(truth)
        mask = case.reference.array > 0
        heatmap = result.maps["heatmap lesion"]
        hits.append(mask[np.unravel_index(heatmap.argmax(), mask.shape)])
        overlaps.append((mask & (result.labels == 1)).sum() / (mask | (result.labels == 1)).sum())
        assert heatmap[mask].mean() > heatmap[~mask].mean() + 0.5
        assert not result.labels[:, :, ~shown].any()
        assert not result.maps["heatmap mask"][:, :, ~shown].any()
    assert right / total > 0.8
    assert np.mean(hits) >= 0.5
    assert np.median(overlaps) > 0.4


def test_decision_points_add_up_to_the_logits_and_lie_in_the_body(trained):
    weights, _ = trained
    case = head(21)
    result = ROOM.predict(case, weights)
    points, bias = result.tables["decision points lesion"], result.tables["decision bias lesion"]
    assert points.shape[1] == 5
    for k in range(case.volume.shape[2]):
        total = bias[0] + points[points[:, 2] == k, 3].sum()
        assert total == pytest.approx(result.tables["slice logits"][k, 1], abs=1e-4)


def test_the_head_is_centred(trained):
    weights, _ = trained
    assert np.abs(weights.tensors["head.classify.weight"].sum(axis=0)).max() < 1e-5
    result = ROOM.predict(head(22), weights)
    assert np.abs(result.tables["slice logits"].sum(axis=1)).max() < 1e-4


class Kept:
    """Checkpoints in memory; every `every` steps, and a kill after `kill` saves."""

    def __init__(self, every: int = 5) -> None:
        self.states, self.every, self.asked = [], every, 0

    def latest(self):
        return self.states[-1] if self.states else None

    def due(self):
        self.asked += 1
        return self.asked % self.every == 0

    def save(self, state):
        self.states.append(state)


def test_a_resumed_training_is_the_unbroken_one():
    cases, how = [head(n) for n in range(3)], recipe(epochs=8, batch=6, dropout=0.2)
    unbroken, steps = train(cases, how, checkpoints=Kept())
    kept = Kept()
    broken = ROOM.fit(cases, how, checkpoints=kept)
    for _ in range(12):
        next(broken)
    broken.close()
    assert kept.states
    begun = int(kept.states[-1].meta["index"])
    assert kept.states[-1].meta["stage"] == "train"
    resumed, rest = train(cases, how, checkpoints=kept)
    losses = [step.scores["loss"] for step in steps if "loss" in step.scores]
    again = [step.scores["loss"] for step in rest if "loss" in step.scores]
    assert again == losses[-len(again) :]
    assert len(again) == len(losses) - begun
    assert all(np.array_equal(unbroken.tensors[name], value) for name, value in resumed.tensors.items())
    assert resumed.meta["thresholds"] == unbroken.meta["thresholds"]


class OneByOne:
    """Lazy cases that count how often each is read."""

    def __init__(self, cases):
        self.cases, self.read = cases, []

    def __len__(self):
        return len(self.cases)

    def __getitem__(self, index):
        self.read.append(index)
        return self.cases[index]

    def fingerprint(self, index):
        return self.cases[index].image_sha256

    @property
    def ids(self):
        return tuple(case.id for case in self.cases)

    @property
    def image_labels(self):
        return tuple(case.image_label for case in self.cases)


@pytest.mark.parametrize("supervision", ["marks", "masks"])
def test_a_cohort_larger_than_memory_learns_the_same(tmp_path, monkeypatch, supervision):
    cases = [head(n) for n in range(3)]
    how = recipe(epochs=4, supervision=supervision, self_training=0.5)
    wanted, _ = train(cases, how, validation=cases[:1])
    little = 9000  # bytes; one case takes 12 kB
    monkeypatch.setattr("napari_weakseg.methods.explainable_heatmap.training.default_memory", lambda: little)
    monkeypatch.setattr("napari_weakseg.training.cache.default_folder", lambda: tmp_path / "prepared")
    lazy = OneByOne(cases)
    weights, seen = train(lazy, how, validation=cases[:1])
    assert all(np.array_equal(wanted.tensors[name], value) for name, value in weights.tensors.items())
    assert weights.meta["thresholds"] == wanted.meta["thresholds"]
    assert "up to 0.0 MB of memory" in next(step.note for step in seen if step.stage == "prepare")
    assert lazy.read.count(0) <= 3  # its grid for the first mask, its channels, and once to prepare it
    assert lazy.read.count(1) == 1
    assert list((tmp_path / "prepared").iterdir())


def test_a_disk_that_holds_too_little_is_noted(tmp_path, monkeypatch):
    cases = [head(n) for n in range(2)]
    monkeypatch.setattr("napari_weakseg.methods.explainable_heatmap.training.default_memory", lambda: 0)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("napari_weakseg.training.cache.default_folder", lambda: tmp_path / "file" / "prepared")
    weights, _ = train(cases, recipe(epochs=1))
    assert sum("made anew" in note for note in weights.meta["notes"]) == 1


def test_a_checkpoint_predicts():
    kept = Kept()
    train([head(n) for n in range(3)], recipe(epochs=2), checkpoints=kept)
    result = ROOM.predict(head(9), kept.states[0].weights)
    assert result.labels.shape == head(9).volume.shape


def test_validation_is_shown_and_changes_nothing():
    cases, how = [head(n) for n in range(3)], recipe(epochs=4)
    alone, _ = train(cases, how)
    watched, steps = train(cases, how, validation=[head(7), head(8)])
    assert any("validation loss" in step.scores for step in steps)
    assert all(np.array_equal(alone.tensors[name], value) for name, value in watched.tensors.items())


def test_three_classes_and_two_channels():
    cases = [head(n, value=1 + n % 2, channels=2) for n in range(8)]
    cases = [replace(c, image_label=ImageLabel((*CLASSES, "hole"), c.image_label.label)) for c in cases]
    weights, _ = train(cases, recipe(epochs=30, symmetry="off", pooling="top"))
    assert [s.name for s in weights.structures] == ["lesion", "hole"]
    right = total = 0
    for n in range(30, 34):
        case = head(n, value=1 + n % 2, channels=2)
        result = ROOM.predict(case, weights)
        assert {"heatmap lesion", "heatmap hole", "heatmap mask"} == set(result.maps)
        assert set(np.unique(result.labels)) <= {0, 1, 2}
        shown = result.tables["slice probabilities"].argmax(axis=1)
        right, total = right + int((shown == case.reference.array.max(axis=(0, 1))).sum()), total + len(shown)
        assert result.scores["probability normal"] + result.scores["probability hole"] <= 1 + 1e-6
    assert right / total >= 0.7
    with pytest.raises(DataError, match="other 1"):
        ROOM.predict(Case("x", {"flair": case.channels["flair"], "t1": case.channels["flair"]}), weights)


@pytest.mark.parametrize("dimensions", ["2D", "3D"])
def test_labels_per_volume(dimensions):
    cases = [head(n, per="volume", lesion=n % 2 == 0, size=24) for n in range(6)]
    weights, _ = train(
        cases, recipe(dimensions=dimensions, epochs=30, batch=4, working_size=24, symmetry="off", learning_rate=1e-2)
    )
    results = [ROOM.predict(head(n, lesion=n % 2 == 0, size=24), weights) for n in range(20, 26)]
    sure = [result.scores["probability lesion"] for result in results]
    assert min(sure[0::2]) > max(sure[1::2])
    for result in results:
        points, bias = result.tables["decision points lesion"], result.tables["decision bias lesion"]
        logit = bias[0] + points[:, 3].sum()
        probability = 1 / (1 + np.exp(-2 * logit))  # centred: the two logits are opposite
        assert result.scores["probability lesion"] == pytest.approx(probability, abs=1e-4)
        assert result.tables["slice probabilities"].shape == (6, 2)
        assert result.labels.any() == (result.scores["probability lesion"] > 0.5)


def test_labels_per_slice_in_3d():
    cases = [head(n, slices=9, size=24) for n in range(4)]
    weights, _ = train(cases, recipe(dimensions="3D", epochs=30, batch=2, working_size=24, learning_rate=1e-2))
    case = head(11, slices=9, size=24)
    result = ROOM.predict(case, weights)
    truth = np.array(case.image_label.label)
    sure = result.tables["slice probabilities"][:, 1]
    assert sure[truth == 1].mean() > sure[truth == 0].mean() + 0.3


@pytest.mark.parametrize("network", ["gp_shuffleunet", "gp_reconresnet"])
def test_the_other_networks_train_and_predict(network):
    weights, steps = train([head(n) for n in range(3)], recipe(network=network, epochs=1, blocks=1))
    assert ROOM.predict(head(9), weights).maps["heatmap lesion"].shape == (32, 32, 6)
    assert np.isfinite([step.scores["loss"] for step in steps if step.scores]).all()


def test_the_paper_s_preset_runs():
    how = new_recipe(
        "explainable_heatmap", "paper", width=4, epochs=1, batch=4, accumulation=2, device="cpu", preview_seconds=0
    )
    weights, _ = train([head(n) for n in range(2)], how)
    result = ROOM.predict(head(9), weights)
    assert result.maps["heatmap lesion"].shape == (32, 32, 6)
    assert np.allclose(result.tables["slice probabilities"].sum(axis=1), 1)


def test_full_supervision_reads_the_masks():
    cases = [head(n) for n in range(4)]
    weights, _ = train(cases, recipe(supervision="masks", epochs=30, symmetry="off"))
    case = head(9)
    result = ROOM.predict(case, weights)
    mask = case.reference.array > 0
    assert result.maps["heatmap lesion"][mask].mean() > result.maps["heatmap lesion"][~mask].mean()
    with pytest.raises(DataError, match="no reference mask"):
        train([replace(case, reference=None) for case in cases], recipe(supervision="masks"))
    other = [replace(case, reference=case.reference.with_array(case.reference.array * np.uint8(2))) for case in cases]
    with pytest.raises(DataError, match="holds the value 2, but the image classes are normal, lesion"):
        train(other, recipe(supervision="masks"))


def test_a_preview_shows_where_it_looks():
    _, steps = train([head(n) for n in range(2)], recipe(epochs=2, preview_seconds=1e-6))
    shown = [step.preview for step in steps[1:] if step.preview is not None]
    assert shown
    assert shown[0].probability.shape == (1, 32, 32, 6)
    assert 0 <= shown[0].probability.min() <= shown[0].probability.max() <= 1


# -- faults -----------------------------------------------------------------------------------------------------------


def test_cases_that_cannot_be_learnt_from_are_refused_by_name():
    good = head(1)
    other = replace(good, id="b", image_label=ImageLabel(("a", "b"), good.image_label.label))
    volume = replace(good, id="c", image_label=ImageLabel(CLASSES, 1))
    short = replace(good, id="e", image_label=ImageLabel(CLASSES, (0, 1)))
    for cases, error, words in (
        ([], DataError, "no case"),
        ([good, replace(good, id="d", image_label=None)], PromptError, "case d has no image-level label"),
        ([good, other], PromptError, "case b has other classes"),
        ([good, volume], PromptError, "case c is labelled by volume or by slice"),
        ([head(1, lesion=False)], PromptError, "no training image is labelled lesion"),
        ([good, short], PromptError, "2 labels for 6 slices"),
    ):
        with pytest.raises(error, match=words) as caught:
            train(cases, recipe())
        assert len(str(caught.value).split()) <= 30


def test_a_loss_that_is_no_number_keeps_the_last_good_weights(monkeypatch):
    from napari_weakseg.methods.explainable_heatmap.learner import Learner

    real, calls = Learner._slices, []

    def diverging(self, rows):
        calls.append(rows)
        loss, right = real(self, rows)
        return (float("nan"), right) if len(calls) > 4 else (loss, right)

    monkeypatch.setattr(Learner, "_slices", diverging)
    weights, steps = train([head(n) for n in range(2)], recipe(epochs=9))
    assert any("not finite" in step.note for step in steps)
    assert any("not finite" in note for note in weights.meta["notes"])
    assert all(np.isfinite(value).all() for value in weights.tensors.values())


def test_time_that_runs_out_is_said(trained):
    weights, _ = train([head(n) for n in range(2)], recipe(max_seconds=0.0, epochs=50))
    assert any("time ran out" in note for note in weights.meta["notes"])


def test_memory_that_runs_out_while_predicting_is_noted(trained, monkeypatch):
    from napari_weakseg.methods.explainable_heatmap import inference

    weights, _ = trained
    case = head(20)
    wanted = ROOM.predict(case, weights)
    real, calls = inference.explained, []

    def short_of_memory(*arguments, **options):
        calls.append(options["window"])
        if max(options["window"]) > 16:
            raise torch.OutOfMemoryError("no room")
        return real(*arguments, **options)

    monkeypatch.setattr(inference, "explained", short_of_memory)
    monkeypatch.setattr(explaining, "SMALLEST", 16)
    result = ROOM.predict(case, weights)
    assert calls == [(6, 32, 32), (3, 32, 32), (1, 32, 32), (1, 16, 32), (1, 16, 16)]
    assert any("windows of 1 x 16 x 16 instead of 6 x 32 x 32" in note for note in result.notes)
    assert np.abs(result.maps["heatmap lesion"] - wanted.maps["heatmap lesion"]).max() < 0.05


@pytest.mark.parametrize("pooling", ["max", "top", "log-sum-exp"])
@pytest.mark.parametrize("dimensions", ["2D", "3D"])
def test_windows_within_slices_decide_as_the_whole_does(pooling, dimensions):
    torch.manual_seed(0)
    how = recipe(pooling=pooling, dimensions=dimensions, context=0, depth=2)
    meta = {"inputs": 1, "classes": CLASSES, "spacing": (1.0, 1.0, 1.0), "by_slice": dimensions == "2D"}
    net = explaining.network_of(how, meta)
    images = torch.rand(1, 12, 37, 42)
    cpu = torch.device("cpu")
    whole = explaining.explained(net, images, how, meta, cpu, window=(12, 37, 42), points=True)
    parts = explaining.explained(net, images, how, meta, cpu, window=(2, 8, 12), points=True)
    assert (whole.heatmaps - parts.heatmaps).abs().max() < 1e-5
    assert (whole.logits - parts.logits).abs().max() < 1e-5
    assert np.allclose(parts.points[0].logits, parts.logits[0].numpy(), atol=1e-5)


def test_weights_that_do_not_fit_are_refused(trained):
    weights, _ = trained
    for broken, words in (
        (replace(weights, tensors={}), "do not fit"),
        (replace(weights, recipe=weights.recipe.changed(width=5)), "do not fit"),
        (replace(weights, meta={k: v for k, v in weights.meta.items() if k != "classes"}), "classes"),
    ):
        with pytest.raises(DataError, match=words):
            ROOM.predict(head(20), broken)


@pytest.mark.parametrize("shape", [(5, 7, 9), (1, 30, 6), (30, 30, 1)])
def test_odd_shapes_go_in_and_come_out(trained, shape):
    weights, _ = trained
    array = np.random.default_rng(0).normal(100, 20, shape)
    array[0, 0, 0] = np.nan
    result = ROOM.predict(Case("odd", {"flair": Volume(array)}), weights)
    assert result.labels.shape == shape
    assert np.isfinite(result.maps["heatmap lesion"]).all()


def test_weights_survive_the_disk(trained, tmp_path):
    from napari_weakseg.io.weights import read_weights, write_weights

    weights, _ = trained
    again = read_weights(write_weights(weights, tmp_path / "w.safetensors"))
    case = head(23)
    before, after = ROOM.predict(case, weights), ROOM.predict(case, again)
    assert np.array_equal(before.labels, after.labels)
    assert before.scores == after.scores


def test_the_expected_memory_is_what_was_measured():
    case = Case("a", {"flair": Volume(np.zeros((256, 256, 60), np.uint8))})
    thin = Case("a", {"flair": Volume(np.zeros((256, 256, 24), np.uint8))})
    assert ROOM.working_memory(case, new_recipe("explainable_heatmap")) == pytest.approx(316e6, rel=0.25)
    assert ROOM.working_memory(thin, new_recipe("explainable_heatmap", "paper")) == pytest.approx(734e6, rel=0.25)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("slice_axis", "x"),
        ("slice_axis", 3),
        ("classes", 2),
        ("channels", [5]),
        ("spacing", [1, "a", 1]),
        ("spacing", [1e9, 1, 1]),
        ("inputs", 10**9),
        ("by_slice", "yes"),
        ("mirror", 7),
        ("chain", {"first": [1]}),
        ("thresholds", [None]),
    ],
)
def test_weights_that_say_something_odd_of_themselves_are_refused(key, value):
    from napari_weakseg.methods.explainable_heatmap.inference import network_from

    weights, _ = train([head(n) for n in range(2)], recipe(max_seconds=0.0, sequence=0.5))
    assert network_from(weights)
    with pytest.raises(DataError, match="something odd"):
        network_from(replace(weights, meta={**weights.meta, key: value}))
