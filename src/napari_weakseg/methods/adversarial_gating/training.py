"""The two games: gates against a discriminator that knows real masks (MAAG), or gates against their own prediction (PyAG)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from ...errors import RecipeError
from ...training.partial_losses import partial_cross_entropy_loss, weighted_partial_cross_entropy_loss
from ...training.slice_fit import descend, fit_slices, with_weak_labels
from ...training.slice_inference import forward
from . import AdversarialGatingRecipe, card
from .adversary import Discriminator, discriminator_loss, generator_loss, real_pyramid
from .gates import GatedUNet, pyramid
from .losses import consistency_loss, dynamic_weight

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from ...case import Case
    from ...method import Checkpoints, Step, Weights
    from ...recipe import Recipe
    from ...training.slice_batches import Batch
    from ...training.slice_material import Material
    from ...volume import Volume

WITHOUT_MASKS = "there are no unpaired masks: the gates learn from the prediction itself (PyAG)."
WITH_MASKS = "unpaired masks ({}) teach the gates what shapes are real (MAAG): they must be of the same structures and view."
NO_GAME = (
    "the training ended after {} steps, before the game with the unpaired masks: they have taught nothing; give it more time."
)


def new_segmentor(channels: int, classes: int, recipe: AdversarialGatingRecipe) -> GatedUNet:
    """The segmentor of a recipe."""
    return GatedUNet(channels, classes, recipe.filters, dimensions=int(recipe.dimensions[0]), momentum=recipe.momentum)


def new_discriminator(structures: int, recipe: AdversarialGatingRecipe) -> Discriminator:
    """The discriminator of a recipe."""
    return Discriminator(
        structures,
        recipe.discriminator_filters,
        head=recipe.head,
        noise=recipe.input_noise,
        label_noise=recipe.label_noise,
    )


def game_began(recipe: AdversarialGatingRecipe, done: int) -> bool:
    """Whether a step of the game was among the first `done`: strokes alone come first (``warm_up``)."""
    return done > recipe.warm_up * recipe.steps


class Game:
    """MAAG: one step of the discriminator, then one of the segmentor on strokes and game together.

    The published training minimises L_sup = w L_S + 0.1 L_D' over *both* networks, which pushes the segmentor towards masks
    that the discriminator calls false, against its own goal. Here what is judged in L_D' is detached: it trains the
    discriminator and, with ``balance="published"``, sets w. Each network has its own optimiser and sees one summed loss per
    step.

    L_D' falls when the discriminator wins, and the strokes then count for less and less just when the game teaches least;
    with ``balance="game"`` the segmentor's own part of the game sets w, which rises then.
    """

    def __init__(self, segmentor: GatedUNet, discriminator: Discriminator, recipe: AdversarialGatingRecipe) -> None:
        self.segmentor: nn.Module = segmentor
        self.discriminator, self.recipe = discriminator, recipe
        self.on_strokes = weighted_partial_cross_entropy_loss if recipe.class_weights else partial_cross_entropy_loss
        self.modules: dict[str, nn.Module] = {"segmentor": segmentor, "discriminator": discriminator}
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.Adam(module.parameters(), lr=recipe.learning_rate) for name, module in self.modules.items()
        }

    def learn(self, batch: Batch) -> Mapping[str, float]:
        """One step of each network."""
        assert batch.masks is not None
        recipe = self.recipe
        if batch.progress < recipe.warm_up:
            logits, _ = forward(self.segmentor, batch.images)
            supervised = with_weak_labels(self.on_strokes(logits, batch.labels), logits, batch, recipe)
            descend(supervised, self.optimisers["segmentor"])
            return _scores(cross_entropy=supervised)
        logits, attentions = forward(self.segmentor, torch.cat([batch.images, batch.others]))
        shown = pyramid(logits.softmax(1), attentions)
        count = len(shown[0]) // 2  # as many other windows as marked ones; in 3D their slices
        marked, others = [level[:count].detach() for level in shown], [level[count:] for level in shown]

        self.discriminator.train().requires_grad_(True)
        real = self.discriminator(real_pyramid(batch.masks, soften=recipe.soften))
        fake = self.discriminator([level.detach() for level in others])
        on_others = discriminator_loss(real, fake)
        on_marked = discriminator_loss(real, self.discriminator(marked))
        descend(recipe.adversarial_weight * on_others + recipe.marked_weight * on_marked, self.optimisers["discriminator"])

        self.discriminator.requires_grad_(False)
        game = generator_loss(self.discriminator(others))
        seen = logits[: len(batch.images)]
        supervised = with_weak_labels(self.on_strokes(seen, batch.labels), seen, batch, recipe)
        other = game if recipe.balance == "game" else on_marked
        weight = dynamic_weight(other, supervised, limit=recipe.largest_weight)
        descend(weight * supervised + recipe.adversarial_weight * game, self.optimisers["segmentor"])
        self.discriminator.requires_grad_(True)
        return _scores(
            cross_entropy=supervised,
            weight=weight,
            discriminator=on_others,
            game=game,
            real_score=real.mean(),
            fake_score=fake.mean(),
        )


class SelfConsistency:
    """PyAG: strokes and the gates' agreement with the prediction as one summed loss, all windows taking part in the second."""

    def __init__(self, segmentor: GatedUNet, recipe: AdversarialGatingRecipe) -> None:
        self.segmentor: nn.Module = segmentor
        self.recipe = recipe
        self.modules: dict[str, nn.Module] = {"segmentor": segmentor}
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "segmentor": torch.optim.Adam(segmentor.parameters(), lr=recipe.learning_rate)
        }

    def learn(self, batch: Batch) -> Mapping[str, float]:
        """One step."""
        logits, attentions = forward(self.segmentor, torch.cat([batch.images, batch.others]))
        consistency = consistency_loss(logits.softmax(1), attentions)
        seen = logits[: len(batch.images)]
        supervised = with_weak_labels(partial_cross_entropy_loss(seen, batch.labels), seen, batch, self.recipe)
        weight = dynamic_weight(consistency, supervised, limit=self.recipe.largest_weight)
        loss = weight * supervised + self.recipe.consistency_weight * consistency
        descend(loss, self.optimisers["segmentor"])
        return _scores(cross_entropy=supervised, weight=weight, consistency=consistency)


def _scores(**figures: Tensor) -> dict[str, float]:
    return {name.replace("_", " "): float(value.detach()) for name, value in figures.items()}


def form_of(recipe: AdversarialGatingRecipe, masks: int) -> tuple[str, str]:
    """Which form is trained, and the sentence that says so.

    Raises
    ------
    RecipeError
        MAAG is asked for and there are no unpaired masks.
    """
    if recipe.form == "MAAG" and masks == 0:
        raise RecipeError("MAAG needs unpaired masks: give complete masks of other patients, or choose form=PyAG.")
    if masks and recipe.form != "PyAG":
        return "MAAG", WITH_MASKS.format(masks)
    return "PyAG", WITHOUT_MASKS if masks == 0 else "PyAG was chosen: the unpaired masks are not used."


def fit(
    cases: Sequence[Case],
    recipe: Recipe,
    weights: Weights | None = None,
    *,
    validation: Sequence[Case] = (),
    checkpoints: Checkpoints | None = None,
    unpaired_masks: Sequence[Volume] = (),
) -> Generator[Step, None, Weights]:
    """See `napari_weakseg.methods.adversarial_gating.fit`."""
    settings = cast("AdversarialGatingRecipe", recipe)
    form, plan = form_of(settings, len(unpaired_masks)) if settings.max_seconds else ("", "")

    def note(done: int) -> str:
        return NO_GAME.format(done) if form == "MAAG" and done and not game_began(settings, done) else plan

    def new_learner(material: Material, device: torch.device) -> Game | SelfConsistency:
        segmentor = new_segmentor(material.channels, material.classes, settings).to(device)
        if form == "PyAG":
            return SelfConsistency(segmentor, settings)
        if not material.masks:
            raise RecipeError("no unpaired mask holds a structure: give complete masks of other patients, or choose form=PyAG.")
        return Game(segmentor, new_discriminator(material.classes - 1, settings).to(device), settings)

    return (
        yield from fit_slices(
            cases,
            settings,
            weights,
            method=card.name,
            new_learner=new_learner,
            validation=validation,
            checkpoints=checkpoints,
            unpaired_masks=unpaired_masks if form == "MAAG" else (),
            meta={"form": form, "unpaired_masks": len(unpaired_masks) if form == "MAAG" else 0},
            note=note,
        )
    )
