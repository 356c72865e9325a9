"""The body's own other side: an input that shows what one side has more of than the other.

A lesion is mostly on one side, and what is bright by nature on both. The mirror plane is found per volume, from the image
alone: the turn and shift at which the mean slice is most like its mirror image.

Only the excess of one sign is shown. With the other side itself (or the difference) as an input, a classifier does as well
and points at the wrong place: a lesion makes *its mirror image* look odd too, and an image-level label does not care.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from .images import Images

SIDE = 48
"""Length of the longer side on which the plane is looked for."""

TURNS, SHIFTS = 10, 0.12
"""Largest turn (degrees) and shift (share of half the image) of the plane."""

BLUR = 5
"""Pixels over which the other side is averaged: two sides are never alike to the pixel."""


def with_excess(images: Images, axis: int | None, sign: str) -> Images:
    """Images with what each side has more (``brighter``) or less (``darker``) than the other as further channels.

    As they are where `axis` is None (there is no mirror plane) or `sign` is ``"off"``.
    """
    if axis is None or sign == "off":
        return images
    difference = images.tensor.float() - mirrored(images.tensor, axis).float()
    excess = difference.clamp_min(0) if sign == "brighter" else (-difference).clamp_min(0)
    return replace(images, tensor=torch.cat([images.tensor, excess.half()]))


def mirrored(images: Tensor, axis: int) -> Tensor:
    """The other side of images (C, slices, height, width) whose mirror plane is about across `axis` (0 height, 1 width).

    Returns
    -------
    Tensor
        Of the same shape and type: at each pixel what lies at its mirror image's place, slightly blurred.
    """
    turn, shift = _plane(images.float().mean(dim=(0, 1)), axis)
    slices = images.float().flatten(0, 1)[:, None]
    seen = _reflected(slices, axis, turn, shift)
    seen = functional.avg_pool2d(seen, BLUR, stride=1, padding=BLUR // 2, count_include_pad=False)
    return seen[:, 0].reshape(images.shape).to(images.dtype)


def _reflected(batch: Tensor, axis: int, turn: float, shift: float) -> Tensor:
    """A batch (B, 1, H, W) reflected at a line through the centre, turned by `turn` and moved by `shift` across `axis`."""
    height, width = batch.shape[2:]
    # reflection at a line whose normal has the angle `turn` from the axis: x -> x - 2 (x.n - s) n, in pixels
    normal = (math.cos(turn), math.sin(turn)) if axis == 0 else (math.sin(turn), math.cos(turn))
    ny, nx = normal
    half = (height / 2, width / 2)
    offset = 2 * shift * half[axis]
    rows = [
        [1 - 2 * nx * nx, -2 * nx * ny * half[0] / half[1], offset * nx / half[1]],
        [-2 * nx * ny * half[1] / half[0], 1 - 2 * ny * ny, offset * ny / half[0]],
    ]
    theta = torch.tensor(rows, dtype=batch.dtype, device=batch.device).expand(len(batch), 2, 3)
    return functional.grid_sample(
        batch, functional.affine_grid(theta, list(batch.shape), align_corners=False), align_corners=False
    )


def _plane(mean: Tensor, axis: int) -> tuple[float, float]:
    """Turn (rad) and shift of the mirror plane of one slice (height, width)."""
    scale = min(1.0, SIDE / max(mean.shape))
    size = [max(8, round(n * scale)) for n in mean.shape]
    small = functional.interpolate(mean[None, None], size=size, mode="bilinear", antialias=True, align_corners=False)
    small = small - small.mean()
    best, found = -math.inf, (0.0, 0.0)
    for degrees in range(-TURNS, TURNS + 1, 2):
        for step in range(-6, 7):
            turn, shift = math.radians(degrees), SHIFTS * step / 6
            other = _reflected(small, axis, turn, shift)
            likeness = float((small * other).sum() / (small.norm() * other.norm()).clamp_min(1e-12))
            if likeness > best + 1e-6:
                best, found = likeness, (turn, shift)
    return found
