"""Gates, discriminator, losses against figures worked out by hand; one short game; both forms end to end."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_weakseg.arrays.metrics import dice
from napari_weakseg.case import Case
from napari_weakseg.errors import DataError, PromptError, RecipeError
from napari_weakseg.method import Weights
from napari_weakseg.methods import new_recipe
from napari_weakseg.methods.adversarial_gating import fit, inference, predict
from napari_weakseg.methods.adversarial_gating.adversary import (
    Discriminator,
    discriminator_loss,
    generator_loss,
    real_pyramid,
)
from napari_weakseg.methods.adversarial_gating.gates import GatedUNet, pyramid
from napari_weakseg.methods.adversarial_gating.losses import consistency_loss, dynamic_weight
from napari_weakseg.methods.adversarial_gating.training import Game, SelfConsistency, new_discriminator, new_segmentor
from napari_weakseg.prompts import Scribbles, Structure
from napari_weakseg.training.partial_losses import IGNORE
from napari_weakseg.training.slice_batches import Batch
from napari_weakseg.training.slice_recipe import learning_rate_at
from napari_weakseg.volume import Volume
from toy_cohort import STRUCTURES, toy_case, toy_masks

TINY = {"filters": 4, "size": 32, "batch": 2, "device": "cpu", "discriminator_filters": 4, "max_seconds": 1e6}
TINY |= {"first_weight": 0, "first_share": 0, "field": 2.5}


def drained(generator):
    """All steps, and what the generator returns."""
    steps = []
    while True:
        try:
            steps.append(next(generator))
        except StopIteration as finished:
            return steps, finished.value


def recipe_of(**changes):
    return new_recipe("adversarial_gating", **{**TINY, **changes})


# -- equations ----------------------------------------------------------------------------------------------------------


def test_a_gate_multiplies_by_one_minus_the_background():
    """With all weights of a gate 0 and biases log(1, 3) over two classes, a = (1/4, 3/4) and the features shrink to 3/4."""
    net = GatedUNet(1, 2, 4)
    gate = net.gates[0]
    torch.nn.init.zeros_(gate.weight)
    with torch.no_grad():
        gate.bias.copy_(torch.tensor([0.0, math.log(3.0)]))
    features = torch.ones(1, 4, 16, 16)
    out, attention = net.gated(0, features, torch.randn(1, 4, 16, 16))
    torch.testing.assert_close(out, 0.75 * features)
    torch.testing.assert_close(attention[0, :, 3, 3], torch.tensor([0.25, 0.75]))


def test_every_level_is_gated_and_a_closed_gate_lets_nothing_through():
    net = GatedUNet(2, 3, 4).eval()
    logits, attentions = net(torch.randn(1, 2, 32, 48))
    assert logits.shape == (1, 3, 32, 48)
    assert [tuple(a.shape) for a in attentions] == [(1, 3, 32 // f, 48 // f) for f in (1, 2, 4, 8)]
    with torch.no_grad():
        for gate in net.gates:
            gate.weight.zero_()
            gate.bias.copy_(torch.tensor([100.0, 0.0, 0.0]))
        closed = net(torch.randn(1, 2, 32, 48))[0]
    torch.testing.assert_close(closed, net.head.bias.reshape(1, 3, 1, 1).expand_as(closed).detach())


def test_the_published_sizes():
    """401,409 weights in the discriminator's last layer; 32, 64, 128, 256 and 512 channels in the segmentor."""
    assert sum(p.numel() for p in Discriminator(3, 32, head=28).head.parameters()) == 401_409
    assert GatedUNet(1, 4, 32).widths == (32, 64, 128, 256, 512)


@pytest.mark.parametrize("shape", [(16, 16), (32, 48), (80, 64)])
def test_the_discriminator_judges_any_size(shape):
    height, width = shape
    judge = Discriminator(2, 4, head=4)
    levels = [torch.rand(3, 2, height // f, width // f) for f in (1, 2, 4, 8)]
    assert judge(levels).shape == (3,)


def test_label_noise_turns_the_answer_and_not_the_gradient():
    levels = [torch.rand(2, 1, 32 // f, 32 // f) for f in (1, 2, 4, 8)]
    judge = Discriminator(1, 4, head=2, noise=0.0, label_noise=0.0)
    plain = judge(levels)
    judge.zero_grad()
    plain.sum().backward()
    wanted = judge.head.weight.grad.clone()
    judge.label_noise = 1.0
    for scale in judge.scales:
        scale.parametrizations.weight[0].eval()  # no further power iteration between the two calls
    judge.zero_grad()
    turned = judge(levels)
    torch.testing.assert_close(turned, -plain, rtol=1e-3, atol=1e-4)
    turned.sum().backward()
    torch.testing.assert_close(judge.head.weight.grad, wanted, rtol=1e-3, atol=1e-4)


def test_noise_acts_in_training_only():
    levels = [torch.rand(2, 1, 16 // f, 16 // f) for f in (1, 2, 4, 8)]
    judge = Discriminator(1, 4, head=2, noise=0.5, label_noise=0.5).eval()
    torch.testing.assert_close(judge(levels), judge(levels))


def test_adversarial_losses():
    real, fake = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 2.0])
    assert discriminator_loss(real, fake).item() == pytest.approx(0.5 * (0 + 1) / 2 + 0.5 * (0 + 9) / 2)
    assert generator_loss(fake).item() == pytest.approx(0.5 * (4 + 1) / 2)


def test_dynamic_weight_is_the_ratio_bounded_and_without_gradient():
    other, supervised = torch.tensor(0.5, requires_grad=True), torch.tensor(0.25, requires_grad=True)
    weight = dynamic_weight(other, supervised, limit=100)
    assert weight.item() == pytest.approx(2.0)
    assert not weight.requires_grad
    assert dynamic_weight(other, torch.tensor(0.0), limit=100).item() == 100


def test_the_scale_of_the_supervised_loss_cancels():
    """The gradient of w L_S is L_o grad log L_S."""
    x = torch.tensor(2.0, requires_grad=True)
    gradients = []
    for factor in (1.0, 1000.0):
        loss = factor * x.square()
        (dynamic_weight(torch.tensor(3.0), loss, limit=1e9) * loss).backward()
        gradients.append(x.grad.item())
        x.grad = None
    assert gradients[0] == pytest.approx(gradients[1])
    assert gradients[0] == pytest.approx(3.0 * 2 / 2.0)


def test_consistency_of_a_tiny_pair():
    """Probability 1 for the structure everywhere, attention 1/2: Dice 2 * n/2 / (n/2 + n) = 2/3 at each of the three levels."""
    probability = torch.zeros(1, 2, 16, 16)
    probability[:, 1] = 1
    attentions = tuple(torch.full((1, 2, 16 // f, 16 // f), 0.5, requires_grad=True) for f in (1, 2, 4, 8))
    loss = consistency_loss(probability, attentions)
    assert loss.item() == pytest.approx(1 / 3, abs=1e-6)
    loss.backward()
    assert attentions[0].grad is None
    assert all(a.grad is not None for a in attentions[1:])


def test_consistency_gives_the_prediction_no_gradient():
    probability = torch.rand(1, 2, 16, 16, requires_grad=True)
    attentions = tuple(torch.rand(1, 2, 16 // f, 16 // f, requires_grad=True) for f in (1, 2, 4, 8))
    consistency_loss(probability, attentions).backward()
    assert probability.grad is None


def test_real_masks_are_resized_with_aligned_corners_and_softened():
    masks = torch.zeros(1, 2, 16, 16)
    masks[:, 0] = 1
    masks[:, :, 0, 0] = torch.tensor([0.0, 1.0])
    levels = real_pyramid(masks)
    assert [tuple(level.shape) for level in levels] == [(1, 1, 16 // f, 16 // f) for f in (1, 2, 4, 8)]
    assert all(level[0, 0, 0, 0].item() == pytest.approx(1.0) for level in levels)  # corners stay where they are
    soft = real_pyramid(masks, soften=0.2)[0]
    assert soft[0, 0, 0, 0].item() == pytest.approx(0.9)
    assert soft[0, 0, 5, 5].item() == pytest.approx(0.1)


def test_what_the_discriminator_sees():
    p = torch.rand(2, 3, 32, 32)
    attentions = tuple(torch.rand(2, 3, 32 // f, 32 // f) for f in (1, 2, 4, 8))
    levels = pyramid(p, attentions)
    torch.testing.assert_close(levels[0], p[:, 1:])
    torch.testing.assert_close(levels[1], attentions[1][:, 1:])
    volume = pyramid(torch.rand(2, 3, 16, 32, 32), tuple(torch.rand(2, 3, 16 // f, 32 // f, 32 // f) for f in (1, 2, 4, 8)))
    assert [tuple(level.shape) for level in volume] == [(32, 2, 32 // f, 32 // f) for f in (1, 2, 4, 8)]


# -- traps --------------------------------------------------------------------------------------------------------------


def test_the_learning_rate_is_never_zero():
    for preset in ("laptop", "paper"):
        recipe = new_recipe("adversarial_gating", preset)
        rates = [learning_rate_at(step, recipe) for step in range(0, recipe.steps, max(1, recipe.cycle // 40))]
        assert min(rates) > 0.03 * recipe.learning_rate
        assert max(rates) <= recipe.learning_rate * (1 + 1e-9)
    paper = new_recipe("adversarial_gating", "paper")
    assert learning_rate_at(paper.cycle // 2, paper) == pytest.approx(1e-4, rel=0.01)
    assert learning_rate_at(paper.cycle, paper) == pytest.approx(1e-5, rel=0.01)


def a_batch(recipe, *, classes=3):
    generator = torch.Generator().manual_seed(1)
    side = recipe.window[-1]
    images = torch.randn(2, 1, side, side, generator=generator)
    labels = torch.full((2, side, side), IGNORE)
    labels[:, 4:6, 4:20] = 1
    labels[:, 20:22, 4:20] = 0
    masks = torch.nn.functional.one_hot(torch.randint(classes, (2, side, side), generator=generator), classes)
    return Batch(images, labels, torch.randn(2, 1, side, side, generator=generator), masks.movedim(-1, 1).float())


def test_the_discriminator_s_own_loss_never_pushes_the_segmentor():
    """Without supervision and game the segmentor's weights stay: what is judged in L_D and L_D' is detached."""
    torch.manual_seed(0)
    recipe = recipe_of(adversarial_weight=0.0, marked_weight=1.0)
    segmentor = new_segmentor(1, 3, recipe)
    game = Game(segmentor, new_discriminator(2, recipe), recipe)
    before = [p.detach().clone() for p in segmentor.parameters()]
    judge = [p.detach().clone() for p in game.discriminator.parameters()]
    batch = a_batch(recipe)
    game.learn(Batch(batch.images, torch.full_like(batch.labels, IGNORE), batch.others, batch.masks))
    assert all(torch.equal(a, b) for a, b in zip(before, segmentor.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(judge, game.discriminator.parameters(), strict=True))


def test_the_game_moves_the_segmentor_towards_masks_that_pass_for_real():
    """With the discriminator frozen, playing alone raises its opinion of the segmentor's masks."""
    torch.manual_seed(0)
    recipe = recipe_of(marked_weight=0.0, adversarial_weight=1.0, input_noise=0.0, label_noise=0.0, learning_rate=2e-3)
    game = Game(new_segmentor(1, 3, recipe), new_discriminator(2, recipe), recipe)
    for group in game.optimisers["discriminator"].param_groups:
        group["lr"] = 0.0
    batch = a_batch(recipe)
    unlabelled = Batch(batch.images, torch.full_like(batch.labels, IGNORE), batch.others, batch.masks)
    figures = [game.learn(unlabelled)["game"] for _ in range(15)]
    assert figures[-1] < figures[0]


def test_before_the_game_strokes_alone_move_the_segmentor():
    recipe = recipe_of(warm_up=0.5)
    torch.manual_seed(0)
    game = Game(new_segmentor(1, 3, recipe), new_discriminator(2, recipe), recipe)
    before = [value.clone() for value in game.discriminator.parameters()]
    labels = torch.full((2, 32, 32), IGNORE)
    labels[:, 4, 4:12] = 1
    masks = torch.zeros(2, 3, 32, 32)
    masks[:, 0] = 1
    images = torch.randn(2, 1, 32, 32)
    early = game.learn(Batch(images, labels, images, masks, progress=0.49))
    assert set(early) == {"cross entropy"}
    assert all(torch.equal(old, new) for old, new in zip(before, game.discriminator.parameters(), strict=True))
    assert "game" in game.learn(Batch(images, labels, images, masks, progress=0.5))


def test_unlabelled_voxels_supervise_nothing():
    recipe = recipe_of(consistency_weight=0.0)
    learner = SelfConsistency(new_segmentor(1, 3, recipe), recipe)
    batch = a_batch(recipe)
    scores = learner.learn(Batch(batch.images, torch.full_like(batch.labels, IGNORE), batch.others, None))
    assert scores["cross entropy"] == 0


def test_maag_without_masks_is_refused_and_the_form_is_said():
    with pytest.raises(RecipeError, match="MAAG needs unpaired masks"):
        drained(fit([toy_case(0)], recipe_of(form="MAAG", steps=1)))
    steps, weights = drained(fit([toy_case(0)], recipe_of(steps=1)))
    assert "PyAG" in steps[0].note
    assert weights.meta["form"] == "PyAG"
    steps, weights = drained(fit([toy_case(0)], recipe_of(steps=1), unpaired_masks=toy_masks(2)))
    assert "MAAG" in steps[0].note
    assert weights.meta["form"] == "MAAG"


def test_a_mask_that_is_not_unpaired_is_named():
    case = toy_case(0)
    own = case.reference
    _, weights = drained(fit([case], recipe_of(steps=1), unpaired_masks=[own, *toy_masks(1)]))
    assert any("not unpaired" in note and "case_0" in note for note in weights.meta["notes"])


def test_bad_input_is_refused():
    case = toy_case(0)
    with pytest.raises(DataError, match="no case"):
        drained(fit([], recipe_of(steps=1)))
    with pytest.raises(PromptError, match="strokes"):
        drained(fit([toy_case(0, strokes=False)], recipe_of(steps=1)))
    with pytest.raises(DataError, match="channels"):
        drained(fit([case, toy_case(1, channels=("a", "b"))], recipe_of(steps=1)))
    with pytest.raises(DataError, match="label 7"):
        strange = case.volume.with_array(np.full(case.volume.shape, 7, np.uint8), name="strange")
        drained(fit([case], recipe_of(steps=1), unpaired_masks=[strange]))
    with pytest.raises(RecipeError, match="2D"):
        drained(fit([case], recipe_of(steps=1, dimensions="3D")))
    with pytest.raises(DataError, match="no full mask"):
        bare = Case("bare", case.channels, scribbles=case.scribbles)
        drained(fit([bare], recipe_of(steps=1, supervision="masks")))


# -- end to end ---------------------------------------------------------------------------------------------------------


def test_zero_seconds_give_the_first_mask_alone():
    case = toy_case(0)
    steps, weights = drained(fit([case], recipe_of(max_seconds=0)))
    assert len(steps) == 1
    assert not weights.tensors
    result = predict(case, weights)
    assert (result.labels == steps[0].preview.labels()).mean() > 0.99  # the strokes themselves are kept in the result
    assert dice(result.labels > 0, case.reference.array > 0) > 0.7
    with pytest.raises(PromptError, match="strokes"):
        predict(toy_case(1, strokes=False), weights)


def test_consistency_alone_closes_the_gates_outside_the_prediction():
    probability = torch.zeros(1, 2, 16, 16)
    probability[:, 1, 4:12, 4:12] = 1
    probability[:, 0] = 1 - probability[:, 1]
    logits = [torch.zeros(1, 2, 16 // f, 16 // f, requires_grad=True) for f in (1, 2, 4, 8)]
    optimiser = torch.optim.Adam(logits, lr=0.2)
    for _ in range(60):
        optimiser.zero_grad()
        consistency_loss(probability, tuple(x.softmax(1) for x in logits)).backward()
        optimiser.step()
    opening = logits[1].softmax(1)[0, 1]
    assert opening[3:5, 3:5].min() > 0.9
    assert opening[0].max() < 0.1


def cohort():
    """Four cases with strokes and one without."""
    return [*(toy_case(n) for n in range(4)), toy_case(7, strokes=False)]


def test_a_short_game_with_masks_of_others_learns_and_the_gates_close_outside():
    recipe = recipe_of(
        batch=4, filters=6, steps=160, stop_after=(160,), learning_rate=2e-3, preview_seconds=0, warm_up=0, class_weights=True
    )
    steps, weights = drained(fit(cohort(), recipe, unpaired_masks=toy_masks()))
    gap = np.array([step.scores["real score"] - step.scores["fake score"] for step in steps if step.scores])
    assert gap[:2].mean() < 0.8 * gap[-60:].mean()  # the discriminator learns to tell masks from predictions
    unseen = toy_case(20, strokes=False)
    result = predict(unseen, weights)
    inside = unseen.reference.array > 0
    assert dice(result.labels > 0, inside) > 0.6  # a short game ends a little elsewhere with every number of threads
    opening = [result.maps[f"attention 1/{f}"] for f in (1, 2, 4, 8)]
    gaps = [float(a[inside].mean() - a[~inside].mean()) for a in opening]
    assert min(gaps) > -0.05
    assert min(gaps[2:]) > 0.05  # the coarse gates, which the discriminator sees, close outside
    assert max(gaps[2:]) > 0.2
    assert float(opening[3][~inside].mean()) < 0.3
    doubt = result.tables["discriminator doubt"]
    assert doubt.shape == (unseen.volume.shape[2],)
    assert ((doubt >= 0) & (doubt <= 1)).all()


def test_a_short_training_without_masks_learns():
    recipe = recipe_of(batch=4, filters=6, steps=100, stop_after=(100,), learning_rate=5e-3, preview_seconds=0)
    _, weights = drained(fit(cohort(), recipe))
    unseen = toy_case(20, strokes=False)
    result = predict(unseen, weights)
    assert dice(result.labels == 1, unseen.reference.array == 1) > 0.75
    assert set(result.maps) >= {"probability ring", "probability core", "uncertainty", "attention 1/1", "attention 1/8"}
    assert "discriminator doubt" not in result.tables


def test_3d_with_both_forms():
    cases = [cube_case(n) for n in range(2)]
    masks = [case.reference for case in (cube_case(5), cube_case(6))]
    for form, unpaired in (("MAAG", masks), ("PyAG", ())):
        recipe = recipe_of(dimensions="3D", size=16, steps=2)
        steps, weights = drained(fit(cases, recipe, unpaired_masks=unpaired))
        assert weights.meta["form"] == form
        assert all(np.isfinite(list(step.scores.values())).all() for step in steps)
        result = predict(cube_case(9), weights)
        assert result.labels.shape == (20, 20, 20)


def cube_case(number):
    """A ring in an isotropic cube, strokes in slices along the last axis."""
    case = toy_case(number)
    part = (slice(6, 26), slice(6, 26), [0, 1, 2, 3] * 5)
    image = Volume(case.volume.array[part], np.eye(4), "cube")
    labels = case.scribbles.labels[part].copy()
    labels[..., 1::2] = 0
    return Case(
        f"cube_{number}",
        {"image": image},
        scribbles=Scribbles(labels, STRUCTURES),
        reference=image.with_array(case.reference.array[part]),
    )


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been():
    cases, masks = [toy_case(0)], toy_masks(2)
    whole, weights = drained(fit(cases, recipe_of(steps=6), unpaired_masks=masks))
    kept = Memory()
    list_of_steps, _ = drained(fit(cases, recipe_of(steps=6, stop_after=(3,)), checkpoints=kept, unpaired_masks=masks))
    kept.reopen()
    rest, again = drained(fit(cases, recipe_of(steps=6), checkpoints=kept, unpaired_masks=masks))
    losses = [step.scores["cross entropy"] for step in whole if step.scores]
    assert [step.scores["cross entropy"] for step in [*list_of_steps, *rest] if step.scores] == losses
    for name, value in weights.tensors.items():
        np.testing.assert_array_equal(value, again.tensors[name], err_msg=name)


class Memory:
    """Checkpoints in memory."""

    def __init__(self):
        self.state = None

    def latest(self):
        return self.state

    def due(self):
        return True

    def save(self, state):
        self.state = state

    def reopen(self):
        """As if the run had been killed before it was told that the stage is over."""
        from dataclasses import replace

        self.state = replace(self.state, meta={**self.state.meta, "finished": {}})


def test_earlier_weights_are_where_a_fit_begins():
    cases = [toy_case(0)]
    _, first = drained(fit(cases, recipe_of(steps=3)))
    _, second = drained(fit(cases, recipe_of(steps=1, learning_rate=0.0), first))
    name = "segmentor.head.weight"
    np.testing.assert_array_equal(first.tensors[name], second.tensors[name])
    with pytest.raises(DataError, match="another network"):
        drained(fit(cases, recipe_of(steps=1, filters=6), first))


def test_weights_of_other_channels_are_refused():
    _, weights = drained(fit([toy_case(0, channels=("a", "b"))], recipe_of(steps=1)))
    assert predict(toy_case(1, channels=("a", "b")), weights).labels.shape == (32, 32, 4)
    with pytest.raises(DataError, match="1 channels"):
        predict(toy_case(1), weights)


def test_through_the_api():
    import napari_weakseg as ws

    case = toy_case(0)
    result = ws.segment(case.volume, case.scribbles, method="adversarial_gating", recipe=recipe_of(steps=2))
    assert any("PyAG" in note for note in result.notes)
    strokes = case.scribbles.labels
    assert (result.labels[strokes == 255] == 0).all()
    assert (result.labels[(strokes > 0) & (strokes < 255)] == strokes[(strokes > 0) & (strokes < 255)]).all()


def test_the_discriminator_is_shown_every_structure_of_a_mask(monkeypatch):
    """The slices as one-hot masks, the 130th structure among them; the slice that it scores highest has no doubt."""
    shown = []

    class Judge(torch.nn.Module):
        def forward(self, levels):
            shown.append(levels[0])
            return levels[0][:, 129].sum((1, 2))

    monkeypatch.setattr(inference, "new_discriminator", lambda structures, recipe: Judge())
    structures = tuple(Structure(f"part {value}", value) for value in range(1, 131))
    labels = np.zeros((20, 20, 3), dtype=np.uint8)
    labels[5:9, 5:9, 1], labels[5:7, 5:7, 2], labels[12:14, 5:9, :] = 130, 130, 1
    meta = {"classes": 131, "slice_axis": 2, "grid_spacing": 0.0, "window": [32, 32]}
    weights = Weights("adversarial_gating", recipe_of(soften=0), structures, {}, meta)
    doubt = inference.discriminator_doubt(Volume(labels, np.eye(4), "mask"), weights)
    seen = torch.cat(shown)
    assert seen.shape == (3, 130, 32, 32)
    assert seen[:, 129].sum((1, 2)).tolist() == [0, 16, 4]
    np.testing.assert_allclose(doubt, [1, 0, 0.75])
