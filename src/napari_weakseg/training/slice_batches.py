"""Windows of slices for training: marked ones, any ones, and unpaired masks, each drawn from (seed, step) alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from ..networks.slice_unet import MULTIPLE
from .partial_losses import IGNORE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .slice_recipe import SliceRecipe
    from .stacks import Stack

ANYWHERE = 0.2
"""Share of the windows that lie anywhere in the slice, so that what is far from the structures is seen as well."""


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step learns from; in 3D every array has a depth in front of its height.

    Parameters
    ----------
    images : Tensor, shape (B, C, H, W), float32
        Windows that hold marks.
    labels : Tensor, shape (B, H, W), int64
        Class, or `IGNORE`.
    others : Tensor, shape (B, C, H, W), float32
        Windows of any slices, marked or not.
    masks : Tensor, shape (B', K, H, W), float32, or None
        One-hot slices of unpaired masks, background first; they belong to no image of the batch.
    progress : float
        Share of the training that lies behind.
    first : Tensor, shape (B, K, H, W), float32, or None
        The first mask's probabilities on the marked windows, where it is learnt from; 0 in the padding.
    """

    images: torch.Tensor
    labels: torch.Tensor
    others: torch.Tensor
    masks: torch.Tensor | None
    progress: float = 1.0
    first: torch.Tensor | None = None


class SliceBatches:
    """The three streams.

    Parameters
    ----------
    stacks : sequence of Stack
        Cases, marked or not.
    masks : sequence of Stack
        Unpaired masks: slices with structures only.
    classes : int
        Background included.
    recipe : SliceRecipe
    device : torch.device

    Attributes
    ----------
    window : tuple of int
        Sides of what is drawn: the recipe's, or less where every slice is smaller.
    """

    def __init__(
        self, stacks: Sequence[Stack], masks: Sequence[Stack], classes: int, recipe: SliceRecipe, device: torch.device
    ) -> None:
        self.stacks, self.masks, self.classes, self.recipe, self.device = stacks, masks, classes, recipe, device
        self.marked = [(n, s) for n, stack in enumerate(stacks) for s in stack.marked_slices()]
        self.any = [(n, s) for n, stack in enumerate(stacks) for s in stack.filled_slices()] or self.marked
        self.real = [(n, s) for n, stack in enumerate(masks) for s in range(len(stack.labels))]
        self.window = _fitting([stack.labels.shape for stack in stacks], recipe)

    def draw(self, step: int) -> Batch:
        """The batch of step `step`: the same whenever it is asked for."""
        recipe = self.recipe
        rng = np.random.default_rng((recipe.seed, 1, step))
        marked = [self._window(self.stacks[n], s, rng) for n, s in self._turn(self.marked, 2, step)]
        others = [self._window(self.stacks[n], s, rng, labels=False) for n, s in self._turn(self.any, 3, step)]
        images = self._changed(torch.stack([window[0] for window in marked]), rng)
        labels = torch.stack([window[1] for window in marked])
        first = [window[2] for window in marked if window[2] is not None]
        free = self._changed(torch.stack([window[0] for window in others]), rng)
        masks = None
        if self.real:
            count = recipe.batch if recipe.dimensions == "2D" else recipe.batch * self.window[0]
            drawn = [self._window(self.masks[n], s, rng, depth=1)[1] for n, s in self._turn(self.real, 4, step, count)]
            real = (
                torch.stack(drawn).clamp(min=0).flatten(0, 1) if recipe.dimensions == "3D" else torch.stack(drawn).clamp(min=0)
            )
            masks = functional.one_hot(real, self.classes).movedim(-1, 1).float().to(self.device)
        return Batch(
            images.to(self.device),
            labels.to(self.device),
            free.to(self.device),
            masks,
            step / recipe.steps,
            torch.stack(first).to(self.device) if len(first) == len(marked) else None,
        )

    def _turn(self, places: list[tuple[int, int]], stream: int, step: int, count: int | None = None) -> list[tuple[int, int]]:
        """The next places of a stream that goes through all of them in a new order each time."""
        count = self.recipe.batch if count is None else count
        taken = []
        for position in range(step * count, (step + 1) * count):
            epoch, offset = divmod(position, len(places))
            taken.append(places[_order(self.recipe.seed, stream, epoch, len(places))[offset]])
        return taken

    def _window(
        self, stack: Stack, index: int, rng: np.random.Generator, *, labels: bool = True, depth: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """A turned, shifted, scaled window of the stack around slice `index`: image (C, [D,] ...), labels, first mask.

        Beyond the slice the image goes on as at its edge, and nothing is labelled: padding never supervises.
        """
        *deep, height, width = self.window
        thickness = (deep[0] if depth is None else depth) if deep else 1
        first = index - int(rng.integers(thickness))
        rows = np.arange(first, first + thickness)
        inside = torch.from_numpy((rows >= 0) & (rows < len(stack.labels)))
        rows = rows.clip(0, len(stack.labels) - 1)
        grid = self._grid(stack, (height, width), rng).expand(thickness, -1, -1, -1)
        seen = torch.from_numpy(stack.image[:, rows]).movedim(0, 1)
        image = functional.grid_sample(seen, grid, padding_mode="border", align_corners=False)
        if labels:
            code = torch.from_numpy(stack.labels[rows]).float()[:, None] + 1  # so that what lies outside, 0, is not labelled
            sampled = functional.grid_sample(code, grid, mode="nearest", padding_mode="zeros", align_corners=False)
            label = (sampled[:, 0].round().long() - 1).where(inside[:, None, None], torch.tensor(IGNORE))
        else:
            label = torch.full((thickness, height, width), IGNORE)
        weak = None
        if labels and stack.first is not None:
            known = torch.from_numpy(stack.first[:, rows].astype(np.float32)).movedim(0, 1)
            weak = functional.grid_sample(known, grid, padding_mode="zeros", align_corners=False) * inside[:, None, None, None]
        if deep:
            return image.movedim(0, 1), label, None if weak is None else weak.movedim(0, 1)
        return image[0], label[0], None if weak is None else weak[0]

    def _grid(self, stack: Stack, window: tuple[int, int], rng: np.random.Generator) -> torch.Tensor:
        """Where in the slice each pixel of the window lies, (1, H, W, 2) in grid_sample's coordinates."""
        recipe = self.recipe
        height, width = stack.labels.shape[1:]
        box = None if rng.random() < ANYWHERE else stack.box
        low_high = (0, height, 0, width) if box is None else box
        centre = [
            _centre(low_high[2 * axis], low_high[2 * axis + 1], window[axis], (height, width)[axis], recipe.shift, rng)
            for axis in range(2)
        ]
        angle = np.deg2rad(rng.uniform(-recipe.rotation, recipe.rotation))
        scale = 1 + rng.uniform(-recipe.scale, recipe.scale)
        rows = (torch.arange(window[0], dtype=torch.float32) - (window[0] - 1) / 2) * scale
        columns = (torch.arange(window[1], dtype=torch.float32) - (window[1] - 1) / 2) * scale
        cos, sin = float(np.cos(angle)), float(np.sin(angle))
        y = centre[0] + cos * rows[:, None] - sin * columns
        x = centre[1] + sin * rows[:, None] + cos * columns
        return torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)[None]

    def _changed(self, images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Contrast, brightness and noise, each image by itself."""
        recipe = self.recipe
        shape = (len(images), *(1 for _ in images.shape[1:]))
        contrast = torch.from_numpy(rng.uniform(1 - recipe.contrast, 1 + recipe.contrast, shape)).float()
        brightness = torch.from_numpy(rng.uniform(-recipe.noise, recipe.noise, shape)).float()
        return images * contrast + brightness + recipe.noise * torch.from_numpy(rng.standard_normal(images.shape, np.float32))


def _fitting(shapes: Sequence[tuple[int, ...]], recipe: SliceRecipe) -> tuple[int, ...]:
    """The recipe's window, no larger than what the largest stack (S, H, W) needs: padding teaches nothing and takes time."""
    depth = max(shape[0] for shape in shapes)
    side = max(max(shape[1:]) for shape in shapes)
    wanted = (side, side) if recipe.dimensions == "2D" else (depth, side, side)
    return tuple(min(own, -(-most // MULTIPLE) * MULTIPLE) for own, most in zip(recipe.window, wanted, strict=True))


def _centre(low: int, high: int, side: int, length: int, shift: float, rng: np.random.Generator) -> float:
    """Centre of a window of `side` pixels that holds [low, high) if it can, as far as it can inside [0, length)."""
    if side >= length:
        centre = (length - 1) / 2
    else:
        begin, end = max(0, high - side), min(low, length - side)
        if begin > end:  # the box is larger than the window, or nothing says where to look
            begin, end = min(low, length - side), max(0, high - side)
        centre = rng.uniform(begin, end) + (side - 1) / 2
    return float(centre + rng.uniform(-shift, shift) * min(side, length))


@lru_cache(maxsize=16)
def _order(seed: int, stream: int, epoch: int, count: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng((seed, stream, epoch)).permutation(count).tolist())
