"""SimPLe as published: a network that sees the image alone learns from many marked cases in three stages."""

from __future__ import annotations

import copy
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import DataError, GeometryError, PromptError
from ...method import Preview, Result, Step, Weights
from ...networks.unet import UNet
from ...prompts import Structure, distinct
from ...training.cache import PreparedCases
from ...training.devices import describe_device, has_fast_bfloat16, pick_device
from ...training.loop import restore_module, train_steps
from ...training.partial_losses import IGNORE, partial_cross_entropy_loss
from . import LARGEST_PATCH, SimplePropagationRecipe, card
from .contrast import contrastive_loss, draw_voxels
from .first_masks import first_masks, merged, result_of
from .propagation import propagated
from .volumes import Grid, padded_patch, pseudo_volume, spacing_of, varied, whole_volume, z_scored

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from numpy.typing import NDArray

    from ...case import Case
    from ...method import Checkpoints

PREPARED_VERSION = 2
"""Goes up when what `VolumeLearner.prepare` makes of a case changes."""

SMALLEST_PATCH = 8
"""Voxels along an axis that the knob allows; where volumes have fewer, patches are padded."""

STAGES = ("train", "propagate", "retrain")
SHARES = {"train": 0.5, "propagate": 0.1, "retrain": 0.4}
"""Shares of the time budget."""


class VolumeLearner:
    """Network, prepared cases and labels of one fit.

    Parameters
    ----------
    cases : sequence of Case
        Lazy or in memory.
    structures : tuple of Structure
        Classes behind the background.
    recipe : SimplePropagationRecipe
        With `patch` and `grid_spacing` resolved.
    device : torch.device
        Where the network is.
    folder : Path
        For the labels of the last stage.
    channels : tuple of str
        What the network sees; first masks are drawn on the first.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        structures: tuple[Structure, ...],
        recipe: SimplePropagationRecipe,
        device: torch.device,
        folder: Path,
        channels: tuple[str, ...] = ("image",),
    ) -> None:
        self.cases, self.structures, self.recipe, self.device, self.folder = cases, structures, recipe, device, folder
        self.channels = channels
        knobs = (
            "supervision", "grid_spacing", "first_mask", "pseudo_mask", "rounds", "beta", "crop_margin", "ring",
            "sure_inside", "sure_outside",
        )  # fmt: skip
        settings = {name: recipe.to_json()[name] for name in knobs}
        settings |= {"version": PREPARED_VERSION, "values": [structure.value for structure in structures]}
        self.prepared = PreparedCases(cases, self.prepare, settings=settings)
        self.made_by: dict[str, str] = {}
        self.relabelled: dict[int, NDArray[np.int8]] = {}
        torch.manual_seed(recipe.seed)
        self.network = self.fresh()
        self.average = copy.deepcopy(self.network)

    def fresh(self) -> nn.Module:
        """A network that has learnt nothing."""
        return UNet(len(self.channels), len(self.structures) + 1, self.recipe.widths).to(self.device)

    def prepare(self, case: Case) -> Mapping[str, NDArray[Any]]:
        """Image, labels, box and first mask on the network's grid."""
        grid = Grid.of(case.volume, self.recipe.grid_spacing)
        image = z_scored(case.in_order(self.channels), grid)
        if self.recipe.supervision == "masks":
            if case.reference is None:
                raise PromptError(f"{case.id} has no reference mask; full supervision needs one for every case.")
            mask = np.zeros(case.volume.shape, dtype=np.int8)
            for place, structure in enumerate(self.structures, start=1):
                mask[case.reference.array == structure.value] = place
            return {"image": image, "labels": grid.there(mask, order=0)}
        first = first_masks(case, self.recipe)
        self.made_by = self.made_by or first.made_by
        labels, box, probability = pseudo_volume(first, case.volume, self.structures)
        near = np.stack([grid.there(part, order=1) for part in probability]).astype(np.float16)
        return {"image": image, "labels": grid.there(labels, order=0), "box": grid.there(box, order=0), "first": near}

    def labels(self, place: int) -> NDArray[np.int8]:
        """What a case is learnt from now."""
        return self.relabelled.get(place, self.prepared[place]["labels"])

    def patches(self) -> tuple[Tensor, Tensor]:
        """Half around lesion voxels, then half around background: (2 B, C, d, h, w) and labels (2 B, d, h, w)."""
        drawn = []
        for number in range(2 * self.recipe.batch):
            place = int(torch.randint(len(self.prepared), (1,)))
            image, labels = (torch.from_numpy(np.array(a)) for a in (self.prepared[place]["image"], self.labels(place)))
            drawn.append(padded_patch(image, labels.long(), self.recipe.patch, number < self.recipe.batch))
        images, known = (torch.stack(part).to(self.device) for part in zip(*drawn, strict=True))
        return varied(images, known) if self.recipe.augment else (images, known)

    def loss(self, stage: str) -> tuple[Tensor, dict[str, float]]:
        """The loss of one step (equations L1, L2 of the paper; stage 3 has the cross-entropy alone)."""
        recipe, half = self.recipe, self.recipe.batch
        image, labels = self.patches()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=has_fast_bfloat16(self.device.type)):
            logits, features = self.network(image)
        logits, features = logits.float(), features[:half].float()
        around = partial_cross_entropy_loss(logits[:half], labels[:half])
        loss = around + partial_cross_entropy_loss(logits[half:], labels[half:])
        scores = {"cross-entropy": float(loss.detach())}
        if stage == "retrain" or recipe.supervision == "masks":
            return loss, scores
        flat, labels = features.movedim(1, -1).reshape(-1, features.shape[1]), labels[:half]
        generator = torch.default_generator
        contrasts, votes_in = 0.0, 0.0
        for value in range(1, len(self.structures) + 1):
            drawn = draw_voxels(labels, value, recipe.voxels, generator)
            if stage == "train":
                others = draw_voxels(labels, 0, recipe.voxels, generator)
                contrast = contrastive_loss(flat[drawn], flat[others], temperature=recipe.temperature)
                loss = loss + contrast
                contrasts += float(contrast.detach())
            else:
                free = torch.nonzero(labels.reshape(-1) == IGNORE)[:, 0]
                votes = propagated(
                    flat[free].detach(), flat[drawn].detach(), similarity=recipe.similarity, agreement=recipe.agreement
                )
                voted = torch.full_like(labels.reshape(-1), IGNORE)
                voted[free[votes]] = value
                loss = loss + recipe.propagation_weight * partial_cross_entropy_loss(logits[:half], voted.reshape(labels.shape))
                votes_in += float(votes.float().mean()) if len(votes) else 0.0
        return loss, {**scores, **({"contrast": contrasts} if stage == "train" else {"voted": votes_in})}

    @torch.no_grad()
    def follow(self, index: int) -> None:
        """Move the running mean of the weights towards those of now."""
        keep = min(self.recipe.averaging, (1 + index) / (10 + index)) if self.recipe.averaging else 0.0
        for mean, now in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(now, 1 - keep)

    def probabilities(self, image: NDArray[np.float32], network: nn.Module | None = None) -> NDArray[np.float32]:
        """Class probabilities without the background, shape (C, d, h, w), on the grid."""
        chosen = self.average if network is None else network
        part = torch.from_numpy(np.array(image))
        return whole_volume(chosen, part, self.recipe.patch, self.device, multiple=_coarsest(self.recipe))[0][1:]

    def relabel(self, teacher: nn.Module) -> Generator[Step, None, int]:
        """Labels of the last stage: what the teacher finds, inside the box; returns how many cases keep their old ones.

        Published is the teacher alone; `first_share` mixes the first mask in, which knows the case's own points.
        """
        kept, share = 0, self.recipe.first_share
        for place in range(len(self.prepared)):
            arrays = self.prepared[place]
            found = (1 - share) * self.probabilities(arrays["image"], teacher) + share * arrays["first"].astype(np.float32)
            labels = (np.where(found.max(axis=0) > 0.5, found.argmax(axis=0) + 1, 0) * arrays["box"]).astype(np.int8)
            if labels.any():
                path = self.folder / f"{place}.npy"  # mapped: a cohort may be larger than memory
                np.save(path, labels)
                self.relabelled[place] = np.load(path, mmap_mode="r")
            else:
                kept += 1
            yield Step("relabel", place + 1, len(self.prepared))
        return kept


def fit(
    cases: Sequence[Case],
    recipe: SimplePropagationRecipe,
    weights: Weights | None = None,
    *,
    checkpoints: Checkpoints | None = None,
) -> Generator[Step, None, Weights]:
    """See `napari_weakseg.methods.simple_propagation.fit`; `recipe.marks` is False."""
    if not len(cases):
        raise DataError("there is no case to learn from; give at least one volume with points.")
    structures, recipe, start = yield from _surveyed(cases, recipe)
    device, note = pick_device(recipe.device)
    notes = [note] if note else []
    with tempfile.TemporaryDirectory(prefix="weakseg-") as folder:
        learner = VolumeLearner(cases, structures, recipe, device, Path(folder), tuple(cases[0].channels))
        yield Step("prepare", 0, len(cases), note=learner.prepared.bounds, preview=start)
        for place in range(len(cases)):
            learner.prepared[place]  # made now, in the order of the cases
            yield Step("prepare", place + 1, len(cases))
        notes += learner.prepared.notes
        if weights is not None and weights.tensors:
            learner.network.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in weights.tensors.items()})
            learner.average.load_state_dict(learner.network.state_dict())
        return (yield from _stages(learner, checkpoints, notes, cases[0]))


def _surveyed(
    cases: Sequence[Case], recipe: SimplePropagationRecipe
) -> Generator[Step, None, tuple[tuple[Structure, ...], SimplePropagationRecipe, Preview | None]]:
    """Structures, and a grid and a patch that suit the data where the recipe leaves them open."""
    steps: list[tuple[float, ...]] = []
    sizes: list[tuple[int, ...]] = []
    found: dict[int, Structure] = {}
    names: tuple[str, ...] = ()
    for place in range(len(cases)):
        case = cases[place]
        steps.append(spacing_of(case.volume) if case.volume.spacing_known else ())
        sizes.append(Grid.of(case.volume, ()).turned)
        if names and tuple(case.channels) != names:
            raise DataError(f"{case.id} has the channels {', '.join(case.channels)}, others {', '.join(names)}; give the same.")
        names = tuple(case.channels)
        found |= {structure.value: structure for structure in case.structures}
        if case.reference is not None and not case.structures:
            found |= {int(v): found.get(int(v), Structure(f"label {v}", int(v))) for v in np.unique(case.reference.array) if v}
    if len({bool(step) for step in steps}) > 1:
        raise GeometryError("the spacing of some cases is unknown and of others not; a network needs one kind alone.")
    structures = distinct(found[value] for value in sorted(found))
    start = None
    if recipe.supervision == "marks":
        first = cases[0]
        start = replace(merged(first_masks(first, recipe).masks, first.volume, structures), case=first.id)
        yield Step("first mask", 1, 1, preview=start)
    own = tuple(np.median(steps, axis=0).round(4).tolist())
    spacing = recipe.grid_spacing or own
    patch = recipe.patch
    if not patch:
        shapes = np.array(sizes) * (np.array(steps) / np.array(spacing) if own and spacing else 1)
        stride = _coarsest(recipe)
        wanted = np.ceil(np.percentile(shapes, 75, axis=0) / stride) * stride
        least = max(stride, SMALLEST_PATCH)
        patch = tuple(int(max(least, min(side, most))) for side, most in zip(wanted, LARGEST_PATCH, strict=True))
    return structures, recipe.changed(grid_spacing=spacing, patch=patch), start


def _coarsest(recipe: SimplePropagationRecipe) -> int:
    """Voxels that one of the U-Net's coarsest resolution spans."""
    return int(2 ** (len(recipe.widths) - 1))


def _stages(
    learner: VolumeLearner, checkpoints: Checkpoints | None, notes: list[str], shown: Case
) -> Generator[Step, None, Weights]:
    """The three trainings in order; with full masks the first one alone, with the steps of all."""
    recipe = learner.recipe
    totals = {"train": recipe.steps_train, "propagate": recipe.steps_propagate, "retrain": recipe.steps_retrain}
    if recipe.supervision == "masks":
        totals = {"train": sum(totals.values()), "propagate": 0, "retrain": 0}
    done: dict[str, int] = {}
    end, teacher = 0.0, learner.average
    began = time.monotonic()

    def weights_now() -> Weights:
        tensors = {name: value.detach().cpu().numpy() for name, value in learner.average.state_dict().items()}
        meta = {
            "device": describe_device(learner.device),
            "notes": list(notes),
            "channels": len(learner.channels),
            "channel_names": list(learner.channels),
            "classes": len(learner.structures) + 1,
            "steps": [done.get(stage, 0) for stage in STAGES],
            "seconds": round(time.monotonic() - began, 1),
            "first_mask": learner.made_by,
            "cases": len(learner.cases),
        }
        return Weights(card.name, recipe, learner.structures, tensors, meta)

    for number, stage in enumerate(STAGES):
        if not totals[stage]:
            continue
        modules: dict[str, nn.Module] = {"network": learner.network, "average": learner.average}
        if stage == "retrain":
            teacher = copy.deepcopy(learner.average)
            state = checkpoints.latest() if checkpoints is not None else None
            if state is not None and state.meta.get("stage") == stage:
                restore_module(state, "teacher", teacher)
            kept = yield from learner.relabel(teacher)
            if kept:
                notes.append(f"the second stage found nothing in {kept} cases; they kept their first labels.")
            if recipe.fresh:
                torch.manual_seed(recipe.seed + 1)
                learner.network.load_state_dict(learner.fresh().state_dict())
            modules["teacher"] = teacher
        if stage != "train" and not (stage == "retrain" and recipe.fresh):
            learner.network.load_state_dict(learner.average.state_dict())
        rate = recipe.learning_rate_propagate if stage == "propagate" else recipe.learning_rate
        optimiser = _optimiser(learner.network, recipe, rate)
        begin, end = end, end + totals[stage] / sum(totals.values())
        before = len(notes)
        done[stage] = yield from train_steps(
            stage=stage,
            total=totals[stage],
            step=_step(learner, stage, optimiser, rate, totals[stage]),
            modules=modules,
            optimisers={"optimiser": optimiser},
            weights_now=weights_now,
            checkpoints=checkpoints,
            seed=recipe.seed,
            max_seconds=recipe.max_seconds * (1.0 if recipe.supervision == "masks" else SHARES[stage]),
            stop_after=recipe.stop_after[number] if recipe.stop_after else None,
            preview=_previews(learner, shown),
            notes=notes,
            share=(begin, end),
        )
        if len(notes) > before:  # the loss was not finite
            break
    weights = weights_now()
    finished = recipe.changed(stop_after=tuple(done.get(stage, 0) for stage in STAGES))
    return Weights(weights.method, finished, weights.structures, weights.tensors, weights.meta)


def _optimiser(network: nn.Module, recipe: SimplePropagationRecipe, rate: float) -> torch.optim.Optimizer:
    """Adam, or SGD as published."""
    if recipe.optimiser == "adam":
        return torch.optim.Adam(network.parameters(), lr=rate, weight_decay=1e-5)
    return torch.optim.SGD(network.parameters(), lr=rate, momentum=0.99, nesterov=True, weight_decay=1e-4)


def _step(
    learner: VolumeLearner, stage: str, optimiser: torch.optim.Optimizer, rate: float, total: int
) -> Callable[[int], Mapping[str, float]]:
    """One optimiser step as `train_steps` calls it; its draws depend on torch's seed alone."""

    def step(index: int) -> Mapping[str, float]:
        for group in optimiser.param_groups:
            group["lr"] = rate * max(0.0, 1 - index / total) ** 0.9
        optimiser.zero_grad(set_to_none=True)
        loss, scores = learner.loss(stage)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(learner.network.parameters(), 12.0)
        optimiser.step()
        learner.follow(index)
        return {"loss": float(loss.detach()), **scores}

    return step


def _previews(learner: VolumeLearner, case: Case) -> Callable[[int], Preview | None]:
    """What the network says of the first case, now and then."""
    last = time.monotonic()

    def preview(done: int) -> Preview | None:
        nonlocal last
        if not learner.recipe.preview_seconds or time.monotonic() - last < learner.recipe.preview_seconds:
            return None
        last = time.monotonic()
        found = learner.probabilities(learner.prepared[0]["image"], learner.average)
        return _on_volume(found, case, learner.structures, learner.recipe)

    return preview


def _on_volume(
    found: NDArray[np.float32], case: Case, structures: tuple[Structure, ...], recipe: SimplePropagationRecipe
) -> Preview:
    """Probabilities of the network's grid on the volume's own."""
    grid = Grid.of(case.volume, recipe.grid_spacing)
    return Preview(np.stack([grid.back(part) for part in found]), (0, 0, 0), case.volume.shape, structures, case=case.id)


def predict(case: Case, weights: Weights) -> Result:
    """See `napari_weakseg.methods.simple_propagation.predict`; `recipe.marks` is False: marks are not looked at."""
    recipe = cast("SimplePropagationRecipe", weights.recipe)
    channels = tuple(weights.meta.get("channel_names", ("image",)))
    if len(case.channels) != len(channels):
        raise DataError(
            f"this network reads {', '.join(channels)} and {case.id} has {', '.join(case.channels)}; give those it learnt from."
        )
    device, note = pick_device(recipe.device)
    network = UNet(len(channels), len(weights.structures) + 1, recipe.widths)
    try:
        network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.tensors.items()})
    except RuntimeError as error:  # torch's way to say that names or shapes differ
        raise DataError("these weights do not fit the network that they describe; use weights that training wrote.") from error
    network.to(device)
    image = torch.from_numpy(z_scored(case.in_order(channels), Grid.of(case.volume, recipe.grid_spacing)))
    found, changed = whole_volume(network, image, recipe.patch, device, multiple=_coarsest(recipe))
    notes = (*weights.meta.get("notes", ()), *([note] if note else []), *changed)
    return result_of(_on_volume(found[1:], case, weights.structures, recipe), case, weights.structures, notes)
