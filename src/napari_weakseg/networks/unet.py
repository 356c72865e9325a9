"""The 3D U-Net of SimPLe: logits, and the full-resolution features in front of the head."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence


def _block(inputs: int, outputs: int, kernel: tuple[int, int, int], stride: int = 1) -> nn.Sequential:
    """Twice (convolution, LeakyReLU 0.01, instance norm): the norm comes after the activation, as published."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, kernel, stride=stride, padding=padding),
        nn.LeakyReLU(0.01),
        nn.InstanceNorm3d(outputs, affine=True),
        nn.Conv3d(outputs, outputs, kernel, padding=padding),
        nn.LeakyReLU(0.01),
        nn.InstanceNorm3d(outputs, affine=True),
    )


class UNet(nn.Module):
    """U-Net with strided downsampling and transposed upsampling.

    Parameters
    ----------
    inputs, outputs : int
        Channels in, classes out (background included).
    widths : sequence of int
        Channels per resolution, fine to coarse; sides of the input are divisible by ``2 ** (len(widths) - 1)``.

    References
    ----------
    Zhong and Wang, SimPLe, MICCAI 2023; constants of the authors' code: widths 16 to 256, first block 1 x 3 x 3.
    """

    def __init__(self, inputs: int = 1, outputs: int = 2, widths: Sequence[int] = (16, 32, 64, 128, 256)) -> None:
        super().__init__()
        self.widths = tuple(widths)
        pairs = list(itertools.pairwise(widths))
        self.first = _block(inputs, widths[0], (1, 3, 3))
        self.down = nn.ModuleList([_block(fine, coarse, (3, 3, 3), stride=2) for fine, coarse in pairs])
        self.up = nn.ModuleList([nn.ConvTranspose3d(coarse, fine, 2, stride=2, bias=False) for fine, coarse in pairs])
        self.join = nn.ModuleList([_block(2 * fine, fine, (3, 3, 3)) for fine, _ in pairs])
        self.head = nn.Conv3d(widths[0], outputs, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, inputs, D, H, W) to logits (B, outputs, D, H, W) and features (B, widths[0], D, H, W)."""
        skips = [self.first(x)]
        for block in self.down:
            skips.append(block(skips[-1]))
        x = skips.pop()
        for level in reversed(range(len(self.up))):
            x = self.join[level](torch.cat([skips[level], self.up[level](x)], dim=1))
        return self.head(x), x
