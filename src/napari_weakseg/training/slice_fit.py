"""Fit and predict of every method that learns slices from strokes: only the network and the step of the optimiser differ."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..arrays.scribbles import held_out_strokes
from ..errors import DataError, PromptError
from ..method import Preview, Step, Weights
from ..networks.slice_unet import padded
from ..prompts import BACKGROUND_STROKE
from .devices import describe_device, pick_device
from .loop import train_steps
from .partial_losses import IGNORE, balanced_error
from .slice_batches import SliceBatches
from .slice_inference import as_preview, first_maps, load, segmented
from .slice_recipe import learning_rate_at
from .stacks import Frame, Stack, frame_of, mask_stack, stack_of, structures_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from ..case import Case
    from ..method import Checkpoints
    from ..prompts import Structure
    from ..volume import Volume
    from .slice_batches import Batch
    from .slice_recipe import SliceRecipe

CHECKS = 40
"""How often in a training the held-out strokes are looked at."""

CHECKED_SLICES = 64
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


@dataclass(frozen=True, eq=False)
class Material:
    """All that a training learns from.

    Parameters
    ----------
    structures : tuple of Structure
    channels : int
    frame : Frame
    stacks, checked, masks : list of Stack
        To learn from, to choose the weights by, and of unpaired masks.
    notes : list of str
    """

    structures: tuple[Structure, ...]
    channels: int
    frame: Frame
    stacks: list[Stack]
    checked: list[Stack]
    masks: list[Stack]
    notes: list[str]

    @property
    def classes(self) -> int:
        """Structures and the background."""
        return len(self.structures) + 1


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


def gather(cases: Sequence[Case], validation: Sequence[Case], masks: Sequence[Volume], recipe: SliceRecipe) -> Material:
    """Cut all cases into slices; whole strokes are held out where the recipe asks for it and no validation case has strokes.

    Raises
    ------
    DataError, PromptError, RecipeError
        No case, cases with different channels, nothing marked, or unusable masks.
    """
    if not cases:
        raise DataError("there is no case to learn from; give at least one volume with strokes.")
    structures = structures_of(cases, recipe)
    few = [cases[n] for n in np.unique(np.linspace(0, len(cases) - 1, 12).astype(int))]
    frame = frame_of(few, structures, recipe)
    stacks, names = [], None
    for case in cases:
        own = tuple(case.channels)
        if names is not None and len(own) != len(names):
            raise DataError(f"{case.id} has {len(own)} channels and others have {len(names)}; give each case the same.")
        names = names or own
        stacks.append(stack_of(case, frame, structures, recipe))
    notes: list[str] = []
    checked = [stack for case in validation if _is_marked(stack := stack_of(case, frame, structures, recipe))]
    if not any(_is_marked(stack) for stack in stacks):
        raise PromptError("no case has strokes; draw some on each structure and on the background.")
    if not checked and recipe.hold_out > 0:
        stacks, checked = _held_out(stacks, recipe)
    counts = sum((torch.bincount(s.labels.flatten().long() + 1, minlength=len(structures) + 2) for s in stacks), torch.zeros(1))
    for place, name in enumerate(("the background", *(structure.name for structure in structures))):
        if counts[place + 1] == 0:
            notes.append(f"no stroke marks {name}: the network cannot learn it; draw some.")
    real = [made for mask in masks if (made := mask_stack(mask, frame, structures)) is not None]
    if len(real) < len(masks):
        notes.append(f"{len(masks) - len(real)} unpaired masks are empty and were left out.")
    for mask in masks:
        if paired := _belongs_to(mask, cases):
            notes.append(
                f"the mask {mask.name} fits the strokes of {paired}: it is not unpaired; leave it out for a fair figure."
            )
    return Material(structures, len(names or ()), frame, stacks, checked, real, notes)


def _is_marked(stack: Stack) -> bool:
    return bool((stack.labels != IGNORE).any())


def _held_out(stacks: list[Stack], recipe: SliceRecipe) -> tuple[list[Stack], list[Stack]]:
    """Training stacks without some of the strokes, and stacks with these alone."""
    kept, checked = [], []
    for number, stack in enumerate(stacks):
        labels = stack.labels.numpy()
        out = held_out_strokes(labels, recipe.hold_out, seed=(recipe.seed, number), unmarked=IGNORE)
        kept.append(Stack(stack.image, torch.from_numpy(np.where(out, np.int8(IGNORE), labels)), stack.name))
        checked.append(Stack(stack.image, torch.from_numpy(np.where(out, labels, np.int8(IGNORE))), stack.name))
    return kept, [stack for stack in checked if _is_marked(stack)]


def _belongs_to(mask: Volume, cases: Sequence[Case]) -> str:
    """The case whose grid and strokes a mask fits so well that it must be its own; empty if there is none."""
    for case in cases if isinstance(cases, list | tuple) else ():  # lazy ones would all be read once more
        if case.scribbles is None or not mask.same_grid(case.volume):
            continue
        strokes = case.scribbles.labels
        marked = strokes != 0
        wanted = np.where(strokes[marked] == BACKGROUND_STROKE, 0, strokes[marked])
        if (wanted > 0).sum() >= 20 and float((mask.array[marked] == wanted).mean()) > 0.99:
            return str(case.id)
    return ""


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
    note: str = "",
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
    note : str
        Goes with the first step and into the notes.
    """
    device, device_note = pick_device(recipe.device)
    yield Step("first mask", 1, 1, preview=_first_preview(cases, recipe), note=device_note or note)
    notes = [text for text in (note, device_note) if text]
    known: dict[str, Any] = {"device": describe_device(device), **(meta or {})}
    if recipe.max_seconds == 0:
        structures = structures_of(cases, recipe)
        return Weights(method, recipe, structures, {}, {**known, "notes": notes, "steps": ()})
    material = gather(cases, validation, unpaired_masks, recipe)
    notes += material.notes
    torch.manual_seed(recipe.seed)
    learner = new_learner(material, device)
    if weights is not None and weights.tensors:
        load(learner.modules, weights)
    batches = SliceBatches(material.stacks, material.masks, material.classes, recipe, device)
    if not batches.marked:
        raise PromptError("all strokes were held out; draw more, or set hold_out to 0.")
    best = Best(learner.segmentor)
    known |= {
        "channels": material.channels,
        "classes": material.classes,
        "filters": recipe.filters,
        "dimensions": recipe.dimensions,
        "slice_axis": material.frame.axis,
        "grid_spacing": material.frame.spacing,
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
        if material.checked and ((index + 1) % every == 0 or index + 1 == recipe.steps):
            error = stroke_error(learner.segmentor, material.checked, material.classes, recipe, device)
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
        about = {**known, "notes": list(notes), "steps": (done[0],), "seconds": time.monotonic() - began}
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
        return as_preview(maps, case, material.structures)

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
    return weights_now()


@torch.inference_mode()
def stroke_error(
    segmentor: nn.Module, stacks: Sequence[Stack], classes: int, recipe: SliceRecipe, device: torch.device
) -> float:
    """Mean over the classes of the mean of 1 - p on held-out strokes: the loss that weights are chosen by, never a mask's."""
    segmentor.eval()
    sums, counts = torch.zeros(classes), torch.zeros(classes)
    for image, labels in _checked_slices(stacks, recipe):
        x, back = padded(image[None].to(device))
        logits = segmentor(x)[0][back]
        error, count = balanced_error(logits.float().cpu(), labels[None].long())
        sums += error
        counts += count
    known = counts > 0
    return float((sums[known] / counts[known]).mean()) if known.any() else NOT_YET


def _checked_slices(stacks: Sequence[Stack], recipe: SliceRecipe) -> Iterator[tuple[Tensor, Tensor]]:
    """Slices with held-out strokes, evenly chosen, at most `CHECKED_SLICES`; in 3D whole stacks."""
    if recipe.dimensions == "3D":
        yield from ((stack.image, stack.labels) for stack in stacks[:8])
        return
    places = [(stack, s) for stack in stacks for s in torch.nonzero((stack.labels != IGNORE).flatten(1).any(1))[:, 0].tolist()]
    for n in np.unique(np.linspace(0, len(places) - 1, CHECKED_SLICES).astype(int)):
        stack, s = places[n]
        yield stack.image[:, s], stack.labels[s]


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
