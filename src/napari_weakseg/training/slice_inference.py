"""Slices to masks for every method that learns slices from strokes, and the first mask where nothing was learnt yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from ..arrays.largest_component import largest_component
from ..arrays.scribbles import foreground_of, stroke_notes
from ..arrays.structure_masks import structure_masks
from ..errors import DataError, PromptError
from ..method import Preview, Result
from ..networks.joined_first_mask import learned_first_mask
from ..networks.slice_unet import MULTIPLE, padded
from ..prompts import BACKGROUND_STROKE
from .devices import has_fast_bfloat16, pick_device
from .inference import with_fallback
from .stacks import Cut, Frame, check_thickness

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from ..case import Case
    from ..method import Weights
    from ..prompts import Structure
    from .inference import Sizes
    from .slice_recipe import SliceRecipe

Segmented = tuple[Tensor, tuple[Tensor, ...]]

LEAST = np.float32(1e-3)
"""No probability weighs more against a class than this."""

APART = "{} voxels apart from the rest were left out: where strokes were drawn, the structures hang together."

_LAST: WeakKeyDictionary[Case, tuple[tuple[int, ...], NDArray[np.float32]]] = WeakKeyDictionary()
"""The first mask of a case that is still in use: fitting, previews and predicting ask for the same."""


def forward(network: nn.Module, images: Tensor) -> Segmented:
    """Logits as float32, and attentions; in bfloat16 where that is faster."""
    kind = images.device.type
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=has_fast_bfloat16(kind)):
        logits, attentions = network(images)
    return logits.float(), attentions


def predict_slices(case: Case, weights: Weights, new_segmentor: Callable[[Mapping[str, Any]], nn.Module]) -> Result:
    """Segment one case; weights without tensors give the first mask from the case's own strokes.

    What the user has marked keeps its mark.

    Parameters
    ----------
    case, weights
        As `napari_weakseg.method.Method.predict` takes them.
    new_segmentor : callable
        Builds the network from the weights' meta.

    Returns
    -------
    Result
        With the maps ``"probability <structure>"``, ``"uncertainty"`` (1 minus the largest probability) and, where the network
        has gates, ``"attention 1/1"`` to ``"attention 1/8"``.

    Raises
    ------
    DataError, PromptError
        Weights for other channels, damaged ones, or a first mask without strokes.
    """
    recipe: Any = weights.recipe
    notes = tuple(weights.meta.get("notes", ()))
    if case.scribbles is not None and recipe.supervision == "marks":
        said = stroke_notes(case.scribbles.labels, case.volume.spacing)
        notes += tuple(note for note in said if note not in notes)
    if not weights.tensors:
        return _result(case, weights.structures, first_maps(case, weights.structures), {}, notes)
    meta = checked_meta(weights)
    if len(case.channels) != meta["channels"]:
        raise DataError(
            f"{case.id} has {len(case.channels)} channels and the network learnt from {meta['channels']}; give the same."
        )
    device, device_note = pick_device(recipe.device)
    notes += (device_note,) if device_note and device_note not in notes else ()
    segmentor = new_segmentor(meta).to(device)
    load({"segmentor": segmentor}, weights)
    frame = Frame(int(meta["slice_axis"]), float(meta["grid_spacing"]))
    maps, attentions, device_note = segmented(segmentor, case, frame, int(meta["classes"]), recipe, device)
    maps = with_first_mask(maps, case, weights.structures, recipe, sum(weights.meta.get("steps", ())))
    names = [f"attention 1/{2**level}" for level in range(len(attentions))]
    notes += (device_note,) if device_note else ()
    together = bool(meta.get("one_component", False))
    gates = dict(zip(names, attentions, strict=True))
    return _result(case, weights.structures, maps, gates, notes, together=together)


def _result(
    case: Case,
    structures: tuple[Structure, ...],
    maps: NDArray[np.float32],
    more: Mapping[str, Any],
    notes: tuple[str, ...],
    *,
    together: bool = False,
) -> Result:
    values = np.array([0, *(structure.value for structure in structures)], dtype=np.uint8)
    labels = values[maps.argmax(axis=0)]
    if together:
        drawn = None if case.scribbles is None else foreground_of(case.scribbles.labels)
        apart = (labels != 0) & ~largest_component(labels, drawn)
        labels[apart] = 0
        notes += (APART.format(int(apart.sum())),) if apart.any() else ()
    if case.scribbles is not None:
        strokes = case.scribbles.labels
        labels = np.where(strokes == 0, labels, np.where(strokes == BACKGROUND_STROKE, 0, strokes)).astype(np.uint8)
    shown = {f"probability {structure.name}": maps[index + 1] for index, structure in enumerate(structures)}
    doubt = 1 - maps.max(axis=0)
    if not labels.any():
        notes += ("the mask is empty: nothing was found.",)
    return Result(
        case.volume.with_array(labels),
        structures,
        {**shown, "uncertainty": doubt, **more},
        {"doubt": float(doubt.mean())},
        {},
        notes,
    )


def checked_meta(weights: Weights) -> Mapping[str, Any]:
    """The weights' description, with everything in range that a network is built from.

    Raises
    ------
    DataError
    """
    meta = weights.meta
    ranges = {"channels": (1, 64), "classes": (2, 255), "filters": (2, 256), "slice_axis": (0, 2), "grid_spacing": (0, 100)}
    try:
        good = all(low <= float(meta[name]) <= high for name, (low, high) in ranges.items())
        good &= all(16 <= int(side) <= 1024 for side in meta["window"])
        good &= meta["dimensions"] in ("2D", "3D") and int(meta["classes"]) == len(weights.structures) + 1
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"the weights lack what a network is built from ({error}); train again.") from error
    if not good:
        raise DataError("the weights describe a network that cannot be built; train again.")
    return meta


def load(modules: Mapping[str, nn.Module], weights: Weights) -> None:
    """Give modules their tensors; one that the weights do not have keeps its own.

    Raises
    ------
    DataError
        Tensors of another network.
    """
    for name, module in modules.items():
        start = f"{name}."
        own = {key[len(start) :]: torch.from_numpy(np.array(v)) for key, v in weights.tensors.items() if key.startswith(start)}
        expected = module.state_dict()
        if not own and name != "segmentor":
            continue
        if set(own) != set(expected) or any(own[key].shape != value.shape for key, value in expected.items()):
            raise DataError("the weights are those of another network (channels, structures or filters differ); train anew.")
        module.load_state_dict(own)


def segmented(
    segmentor: nn.Module, case: Case, frame: Frame, classes: int, recipe: SliceRecipe, device: torch.device
) -> tuple[NDArray[np.float32], NDArray[np.float32], str]:
    """Class probabilities (K, I, J, K') and the gates' openings (levels, I, J, K') on the volume's grid, and a note.

    The note says that memory ran out, and what was done about it.
    """
    cut = Cut(case.volume, frame)
    check_thickness(cut, case, recipe)
    image = np.stack([cut.image(channel.array) for channel in case.channels.values()])
    maps, note = stack_maps(segmentor, image, recipe, device)
    back = cut.back(maps)
    return back[:classes], back[classes:], note


@torch.inference_mode()
def stack_maps(
    segmentor: nn.Module, image: NDArray[np.float32], recipe: SliceRecipe, device: torch.device
) -> tuple[Tensor, str]:
    """Class probabilities and the gates' openings (S, K + levels, H, W) of a stack (C, S, H, W), and a note as `segmented`."""
    segmentor.eval()
    seen = torch.from_numpy(image)
    flat = recipe.dimensions == "2D"
    whole, sides = (_slices, (recipe.batch,)) if flat else (_volumes, recipe.window)

    def run(where: torch.device, window: Sizes) -> Tensor:
        return whole(segmentor.to(where), seen, window, where)

    least, multiple = ((1,), 1) if flat else ((MULTIPLE,) * 3, MULTIPLE)
    maps, notes = with_fallback(run, device, sides, smallest=least, multiple=multiple)
    segmentor.to(device)
    return maps, " ".join(notes)


def _outputs(segmentor: nn.Module, images: Tensor) -> Tensor:
    """Probabilities (B, K, ...), and behind them how far each gate is open at full resolution (B, levels, ...)."""
    x, back = padded(images)
    logits, attentions = forward(segmentor, x)
    open_share = [1 - attention[:, :1].float() for attention in attentions]
    grown = [
        nn.functional.interpolate(one, x.shape[2:], mode="bilinear" if x.ndim == 4 else "trilinear", align_corners=False)
        for one in open_share
    ]
    return torch.cat([logits.softmax(1), *grown], dim=1)[back]


def _slices(segmentor: nn.Module, image: Tensor, window: Sizes, device: torch.device) -> Tensor:
    """(C, S, H, W) to maps (S, M, H, W), some slices at a time."""
    parts = torch.split(image.movedim(1, 0), window[0])
    return torch.cat([_outputs(segmentor, part.to(device)).cpu() for part in parts])


def _volumes(segmentor: nn.Module, image: Tensor, window: Sizes, device: torch.device) -> Tensor:
    """(C, S, H, W) to maps (S, M, H, W), by a sliding window, at best as large as in training."""
    from monai.inferers import sliding_window_inference

    def outputs(part: Tensor) -> Tensor:
        return _outputs(segmentor, part)

    # two windows at a time: a batch of one takes the CPU's slow convolution
    maps: Tensor = sliding_window_inference(
        image[None],
        window,
        2,
        outputs,
        overlap=0.25,
        mode="gaussian",
        padding_mode="replicate",
        sw_device=device,
        device="cpu",
    )
    return maps[0].movedim(1, 0)


def first_maps(case: Case, structures: tuple[Structure, ...]) -> NDArray[np.float32]:
    """Class probabilities (K, I, J, K') from the case's own strokes, the background first.

    Raises
    ------
    PromptError
        It has none.
    """
    if case.scribbles is None:
        raise PromptError(f"{case.id} has no strokes; draw some, or give trained weights.")
    values = tuple(structure.value for structure in structures)
    known = _LAST.get(case)
    if known is None or known[0] != values:
        volume, strokes = case.volume, case.scribbles.checked(case.volume).labels
        maps = np.zeros((len(values) + 1, *volume.shape), dtype=np.float32)
        maps[0] = 1
        if np.isin(strokes, values).any():
            images = [channel.array for channel in case.channels.values()]
            part, window = structure_masks(images, strokes, volume.spacing, values, learned_first_mask)
            maps[(slice(None), *window)] = part
        maps.setflags(write=False)
        known = _LAST[case] = (values, maps)
    return known[1]


def with_first_mask(
    maps: NDArray[np.float32], case: Case, structures: tuple[Structure, ...], recipe: SliceRecipe, steps: int
) -> NDArray[np.float32]:
    """The network's probabilities joined with the first mask of the case's own strokes, if it has some.

    The mean of the logits, in which the first mask counts for ``recipe.first_share`` and, before half of the recipe's steps
    are done, for more: at the beginning a network knows nothing, and says it with certainty.
    """
    if case.scribbles is None or recipe.first_share == 0 or recipe.supervision != "marks":
        return maps
    share = np.float32(1 - (1 - recipe.first_share) * min(1.0, 2 * steps / recipe.steps))
    first = first_maps(case, structures)
    logits = (1 - share) * np.log(np.maximum(maps, LEAST)) + share * np.log(np.maximum(first, LEAST))
    joined = np.exp(logits)
    return np.asarray(joined / joined.sum(axis=0), dtype=np.float32)


def as_preview(maps: NDArray[np.float32], case: Case, structures: tuple[Structure, ...]) -> Preview:
    """Class probabilities as a preview, whose threshold of 0.5 then means: more probable than the background.

    p_c / (p_c + p_0) is above 0.5 just there, and puts the structures in the same order as p_c does.
    """
    share = maps[1:] / np.maximum(maps[1:] + maps[:1], 1e-12)
    return Preview(share.astype(np.float32), (0, 0, 0), case.volume.shape, structures, case=case.id)
