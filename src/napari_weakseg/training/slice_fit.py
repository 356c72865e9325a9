"""Fit and predict of every method that learns slices from strokes: only the network and the step of the optimiser differ."""

from __future__ import annotations

import copy
import math
import time
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..arrays.largest_component import strokes_apart
from ..errors import DataError, PromptError
from ..method import Preview, Step, Weights
from ..networks.slice_unet import padded
from .devices import describe_device, pick_device
from .loop import train_steps
from .partial_losses import balanced_error, soft_cross_entropy_loss
from .slice_batches import SliceBatches
from .slice_inference import as_preview, first_maps, load, segmented, stack_maps, with_first_mask
from .slice_material import Material, gather
from .slice_recipe import learning_rate_at
from .stacks import structures_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from ..case import Case
    from ..method import Checkpoints
    from ..volume import Volume
    from .slice_batches import Batch
    from .slice_recipe import SliceRecipe
    from .stacks import Stack

CHECKS = 40
"""How often in a training the held-out strokes are looked at."""

CHOSEN_FROM = 0.5
"""Share of the steps after which weights may be chosen, as published: strokes alone would choose those from before the game."""

CHECKED_SLICES, CHECKED_STACKS = 64, 8

APART = 0.01
"""Structures hang together where no more than this share of the stroke voxels that were found lies apart from the rest."""

Place = tuple[int, int | slice]
"""A stack's number and which of its slices."""

NOT_YET = 1e30
LARGEST_GRADIENT = 12.0


class Learner(Protocol):
    """What a room brings.

    ``segmentor`` turns images into logits and attentions; ``modules`` and ``optimisers`` are all that training changes, the
    segmentor included; ``learn`` does one optimiser step on a batch and returns its figures.
    """

    @property
    def segmentor(self) -> nn.Module:
        """Images to logits and attentions."""
        ...

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """All networks in training."""
        ...

    @property
    def optimisers(self) -> Mapping[str, torch.optim.Optimizer]:
        """One per network."""
        ...

    def learn(self, batch: Batch) -> Mapping[str, float]:
        """One step."""
        ...


class Best(nn.Module):
    """The weights with the least loss on held-out strokes so far; a module, so that a checkpoint holds it."""

    def __init__(self, segmentor: nn.Module) -> None:
        super().__init__()
        self.error: Tensor
        self.register_buffer("error", torch.tensor(NOT_YET))
        for name, value in segmentor.state_dict().items():
            self.register_buffer(name.replace(".", "/"), value.detach().clone())

    def offer(self, error: float, segmentor: nn.Module) -> None:
        """Keep the segmentor's weights if `error` is not worse than before."""
        if error <= float(self.error):
            self.error.fill_(error)
            for name, value in segmentor.state_dict().items():
                self.get_buffer(name.replace(".", "/")).copy_(value)

    def weights(self) -> dict[str, Tensor]:
        """The kept weights under the segmentor's own names."""
        return {name.replace("/", "."): value for name, value in self.named_buffers() if name != "error"}


def descend(loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
    """One step down the gradient, whose norm is kept at `LARGEST_GRADIENT` at most."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], LARGEST_GRADIENT)
    optimiser.step()


def with_weak_labels(loss: Tensor, logits: Tensor, batch: Batch, recipe: SliceRecipe) -> Tensor:
    """The loss on the strokes and, where the first mask is learnt from, that on its probabilities."""
    if batch.first is None:
        return loss
    return loss + recipe.first_weight * soft_cross_entropy_loss(logits, batch.first)


def fit_slices(
    cases: Sequence[Case],
    recipe: SliceRecipe,
    weights: Weights | None,
    *,
    method: str,
    new_learner: Callable[[Material, torch.device], Learner],
    validation: Sequence[Case] = (),
    checkpoints: Checkpoints | None = None,
    unpaired_masks: Sequence[Volume] = (),
    meta: Mapping[str, Any] | None = None,
    note: Callable[[int], str] = lambda done: "",
) -> Generator[Step, None, Weights]:
    """Train; the first step shows the first mask of the first case with strokes.

    Parameters
    ----------
    cases, recipe, weights, validation, checkpoints
        As `napari_weakseg.method.Method.fit` takes them.
    method : str
        Name of the room.
    new_learner : callable
        Makes network and optimisers for the material.
    unpaired_masks : sequence of Volume
        Masks of other patients.
    meta : dict, optional
        Goes into the weights' meta.
    note : callable
        Gets the number of steps done; what goes with the first step, and into the notes of the weights.
    """
    device, device_note = pick_device(recipe.device)
    yield Step("first mask", 1, 1, preview=_first_preview(cases, recipe), note=device_note or note(0))
    notes = [device_note] if device_note else []
    known: dict[str, Any] = {"device": describe_device(device), **(meta or {})}
    if recipe.max_seconds == 0:
        structures = structures_of(cases, recipe)
        return Weights(method, recipe, structures, {}, {**known, "notes": notes, "steps": ()})
    material = yield from gather(cases, validation, unpaired_masks, recipe)
    notes += material.notes
    torch.manual_seed(recipe.seed)
    learner = new_learner(material, device)
    if weights is not None and weights.tensors:
        load(learner.modules, weights)
    batches = SliceBatches(material.stacks, material.masks, material.classes, recipe, device)
    if not batches.marked:
        raise PromptError("all strokes were held out; draw more, or set hold_out to 0.")
    checked = checked_slices(material.checked, recipe)
    best = Best(learner.segmentor)
    known |= {
        "channels": material.channels,
        "classes": material.classes,
        "filters": recipe.filters,
        "dimensions": recipe.dimensions,
        "slice_axis": material.frame.axis,
        "grid_spacing": material.frame.spacing,
        "window": list(batches.window),
    }
    began = time.monotonic()
    done = [0]

    def step(index: int) -> Mapping[str, float]:
        rate = learning_rate_at(index, recipe)
        for optimiser in learner.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = rate
        learner.segmentor.train()
        scores = dict(learner.learn(batches.draw(index)))
        done[0] = index + 1
        every = max(1, recipe.steps // CHECKS)
        if checked and ((index + 1) % every == 0 or index + 1 == recipe.steps):
            error = stroke_error(learner.segmentor, material.checked, checked, material.classes, device)
            if (index + 1) >= CHOSEN_FROM * recipe.steps:
                best.offer(error, learner.segmentor)
            scores["held-out strokes"] = error
        return scores

    def weights_now() -> Weights:
        tensors = {
            f"{name}.{key}": value for name, module in learner.modules.items() for key, value in module.state_dict().items()
        }
        chosen = float(best.error) < NOT_YET
        if chosen:
            tensors |= {f"segmentor.{key}": value for key, value in best.weights().items()}
        said = note(done[0])
        about = {
            **known,
            "notes": [said, *notes] if said else list(notes),
            "steps": (done[0],),
            "seconds": time.monotonic() - began,
        }
        if chosen:
            about["held_out_error"] = float(best.error)
        arrays = {name: value.detach().cpu().numpy().copy() for name, value in tensors.items()}
        return Weights(method, recipe.changed(stop_after=(done[0],)), material.structures, arrays, about)

    shown = [-math.inf]

    def preview(index: int) -> Preview | None:
        if not recipe.preview_seconds or time.monotonic() - shown[0] < recipe.preview_seconds:
            return None
        shown[0] = time.monotonic()
        case = _shown_case(cases)
        maps, _, _ = segmented(learner.segmentor, case, material.frame, material.classes, recipe, device)
        return as_preview(with_first_mask(maps, case, material.structures, recipe, index), case, material.structures)

    done[0] = yield from train_steps(
        stage="train",
        total=recipe.steps,
        step=step,
        modules={**learner.modules, "best": best},
        optimisers=learner.optimisers,
        weights_now=weights_now,
        checkpoints=checkpoints,
        seed=recipe.seed,
        max_seconds=recipe.max_seconds,
        stop_after=recipe.stop_after[0] if recipe.stop_after else None,
        preview=preview,
        notes=notes,
    )
    known["one_component"] = recipe.one_component == "yes" or (
        recipe.one_component == "auto" and hang_together(chosen_segmentor(learner, best), material, recipe, device)
    )
    return weights_now()


def chosen_segmentor(learner: Learner, best: Best) -> nn.Module:
    """The segmentor with the weights that were chosen, or the last ones."""
    segmentor = learner.segmentor
    if float(best.error) < NOT_YET:
        segmentor = copy.deepcopy(segmentor)
        segmentor.load_state_dict(best.weights())
    return segmentor


def hang_together(segmentor: nn.Module, material: Material, recipe: SliceRecipe, device: torch.device) -> bool:
    """Whether what the strokes mark lies in one component of what is found, on a few cases; no mask is read for that.

    Judged on the cases that weights are chosen by, or else on those learnt from, in whole slices.
    """
    stacks = material.checked if len(material.checked) else material.stacks
    places = [n for n in range(len(stacks)) if (stacks[n].labels > 0).any()]
    found = apart = 0
    for number in np.unique(np.linspace(0, len(places) - 1, CHECKED_STACKS).astype(int)) if places else ():
        stack = stacks[places[number]]
        maps, _ = stack_maps(segmentor, np.array(stack.image), recipe, device)  # a copy: what is prepared may be read-only
        labels = maps[:, : material.classes].argmax(dim=1).cpu().numpy()
        counted = strokes_apart(labels, stack.labels)
        found, apart = found + counted[0], apart + counted[1]
    return found > 0 and apart <= APART * found


@torch.inference_mode()
def stroke_error(
    segmentor: nn.Module, stacks: Sequence[Stack], places: Sequence[Place], classes: int, device: torch.device
) -> float:
    """Mean over the classes of the mean of 1 - p on held-out strokes: the loss that weights are chosen by, never a mask's."""
    segmentor.eval()
    sums, counts = torch.zeros(classes), torch.zeros(classes)
    for number, index in places:
        stack = stacks[number]
        image, labels = torch.from_numpy(np.array(stack.image[:, index])), torch.from_numpy(np.array(stack.labels[index]))
        x, back = padded(image[None].to(device))
        logits = segmentor(x)[0][back]
        error, count = balanced_error(logits.float().cpu(), labels[None].long())
        sums += error
        counts += count
    known = counts > 0
    return float((sums[known] / counts[known]).mean()) if known.any() else NOT_YET


def checked_slices(stacks: Sequence[Stack], recipe: SliceRecipe) -> list[Place]:
    """Stack and slice with held-out strokes, evenly chosen, at most `CHECKED_SLICES`; in 3D a few whole stacks."""
    if recipe.dimensions == "3D":
        return [(number, slice(None)) for number in range(min(CHECKED_STACKS, len(stacks)))]
    places = [(number, index) for number, stack in enumerate(stacks) for index in stack.marked_slices()]
    if not places:
        return []
    return [places[n] for n in np.unique(np.linspace(0, len(places) - 1, CHECKED_SLICES).astype(int))]


def _shown_case(cases: Sequence[Case]) -> Case:
    """The case that previews are of: the first with strokes, else the first."""
    return next((case for case in cases if case.scribbles is not None), cases[0])


def _first_preview(cases: Sequence[Case], recipe: SliceRecipe) -> Preview:
    if not cases:
        raise DataError("there is no case to learn from; give at least one volume with strokes.")
    case = _shown_case(cases)
    structures = structures_of([case], recipe)
    if case.scribbles is None:
        empty = np.zeros((len(structures), *case.volume.shape), dtype=np.float32)
        return Preview(empty, (0, 0, 0), case.volume.shape, structures)
    return as_preview(first_maps(case, structures), case, structures)
