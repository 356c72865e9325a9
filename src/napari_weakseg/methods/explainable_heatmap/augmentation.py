"""Training images, changed at random: flips, small turns and scales, brightness; or the published set."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterable

TURN, STRETCH, ASPECT, SHIFT = 0.3, 0.18, 0.1, 0.1
"""Light set: largest rotation (rad), log of scale and of aspect, shift (share of half the image)."""

GAMMA, GAIN, FIELD, NOISE = 0.25, 0.2, 0.1, 0.05
"""Light set: largest log of gamma and of gain, deviation of the bias field's logarithm, largest deviation of the noise."""

ALIKE = 0.7
"""Correlation of the mean image with its mirror image from which on images may be flipped along an axis."""


def augmented(images: Tensor, how: str, mirror: int | None, masks: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """A batch (B, channels..., height, width), every image changed in its own way; draws from torch's random state.

    Parameters
    ----------
    images : Tensor
        Intensities of 0 and above; all axes between the first and the last two are changed alike.
    how : {"none", "light", "paper"}
        See the recipe.
    mirror : int or None
        Axis (0 height, 1 width) along which ``light`` flips, see `mirror_axis`.
    masks : Tensor of int, shape (B, ..., height, width), optional
        Moved with the images.
    """
    if how == "none":
        return images, masks
    batch = images.flatten(1, -3)
    number, like = len(batch), {"device": batch.device, "dtype": batch.dtype}

    def within(limit: float, *shape: int) -> Tensor:
        return (2 * torch.rand(number, *shape, **like) - 1) * limit  # type: ignore[call-overload, no-any-return]

    turn = within(math.radians(330.0) if how == "paper" else TURN)
    flips = torch.ones(number, 2, **like)  # type: ignore[call-overload]
    for axis in (0, 1):
        if how == "paper" or axis == mirror:
            flips[:, axis] = torch.sign(within(1.0) + 1e-9)
    scale = torch.ones(number, 2, **like)  # type: ignore[call-overload]
    shift = torch.zeros(number, 2, **like)  # type: ignore[call-overload]
    if how == "light":
        size, aspect = within(STRETCH), within(ASPECT)
        scale = torch.exp(torch.stack([size + aspect / 2, size - aspect / 2], dim=1))
        shift = within(SHIFT, 2)
    # affine_grid speaks of (x, y) = (width, height) in units of half the image, so pixels that are no squares turn as squares
    height, width = batch.shape[2:]
    cos, sin = torch.cos(turn), torch.sin(turn)
    rows = [
        torch.stack([cos * scale[:, 1], -sin * scale[:, 0] * height / width, shift[:, 1]], dim=1) * flips[:, 1:],
        torch.stack([sin * scale[:, 1] * width / height, cos * scale[:, 0], shift[:, 0]], dim=1) * flips[:, :1],
    ]
    grid = functional.affine_grid(torch.stack(rows, dim=1), list(batch.shape), align_corners=False)
    batch = functional.grid_sample(batch, grid, mode="bilinear", align_corners=False)
    if masks is not None:
        planes = masks.reshape(number, -1, height, width).to(batch.dtype)
        moved = functional.grid_sample(planes, grid, mode="nearest", align_corners=False)
        masks = moved.round().to(masks.dtype).reshape(masks.shape)
    if how == "light":
        gamma, gain = torch.exp(within(GAMMA, 1, 1, 1)), torch.exp(within(GAIN, 1, 1, 1))
        coarse = FIELD * torch.randn(number, 1, 3, 3, **like)  # type: ignore[call-overload]
        field = functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
        batch = batch.clamp_min(1e-4) ** gamma * gain * torch.exp(field)
        deviation = NOISE * torch.rand(number, 1, 1, 1, **like)  # type: ignore[call-overload]
        batch = batch + deviation * torch.randn_like(batch)
    return batch.reshape(images.shape), masks


def mirror_axis(images: Iterable[Tensor]) -> int | None:
    """The axis (0 height, 1 width) along which bodies look most like their mirror image; None if they do along neither.

    Parameters
    ----------
    images : iterable of Tensor, shape (..., height, width)
        One per case, looked at one by one; those of another size than the first are left out.
    """
    pairs: tuple[list[Tensor], list[Tensor]] = ([], [])
    size: torch.Size | None = None
    for image in images:
        size = image.shape[-2:] if size is None else size
        if image.shape[-2:] == size:
            mean = image.float().flatten(0, -3).mean(dim=0)
            for axis in (0, 1):
                pairs[axis].append(torch.corrcoef(torch.stack([mean.flatten(), mean.flip(axis).flatten()]))[0, 1])
    found = [float(torch.stack(part).nan_to_num(0).mean()) for part in pairs]
    best = max((0, 1), key=lambda axis: found[axis])
    return best if found[best] >= ALIKE else None
