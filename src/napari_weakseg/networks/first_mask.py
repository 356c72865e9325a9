"""A small residual 3D U-Net that turns marks and image into a first mask.

It sees a cube on which the box of the marks always lies at the same place (`napari_weakseg.arrays.marks`), so that
one set of weights serves every size and voxel shape. What does not vary over the cube (voxel shape, which marks are there)
shifts and scales the channels of every block instead of filling planes of the input.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from .convolution import Convolution

INPUT_CHANNELS = 15
CONDITIONS = 10


def _normalisation(channels: int) -> nn.GroupNorm:
    """Group normalisation with four channels per group: the same at batch 1 and batch 8."""
    return nn.GroupNorm(max(1, channels // 4), channels)


class ConditionedBlock(nn.Module):
    """Two 3x3x3 convolutions with a shortcut; the conditions scale and shift in between.

    Parameters
    ----------
    inputs, outputs : int
        Channels in and out.
    conditions : int
        Length of the embedded condition vector.
    """

    def __init__(self, inputs: int, outputs: int, conditions: int) -> None:
        super().__init__()
        self.first = Convolution(inputs, outputs, 3, padding=1, bias=False)
        self.first_norm = _normalisation(outputs)
        self.film = nn.Linear(conditions, 2 * outputs)
        self.second = Convolution(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = _normalisation(outputs)
        self.shortcut = nn.Identity() if inputs == outputs else Convolution(inputs, outputs, 1, bias=False)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, inputs, D, H, W) and (B, conditions) to (B, outputs, D, H, W)."""
        scale, shift = self.film(condition)[:, :, None, None, None].chunk(2, dim=1)
        hidden = functional.silu(torch.addcmul(shift, self.first_norm(self.first(x)), 1 + scale))
        hidden = self.second_norm(self.second(hidden))
        return functional.silu(hidden + self.shortcut(x))


class FirstMaskNet(nn.Module):
    """Residual U-Net: full, half, quarter and eighth resolution; upsampling by interpolation.

    Parameters
    ----------
    widths : tuple of int
        Channels per resolution, fine to coarse.
    inputs : int
        Channels of the cube, see `napari_weakseg.arrays.marks`.
    conditions : int
        Length of the vector that describes the whole cube.

    Notes
    -----
    No transposed convolutions: on a CPU they run at a tenth of the speed of a convolution.
    """

    def __init__(
        self, widths: tuple[int, ...] = (16, 32, 64, 96), inputs: int = INPUT_CHANNELS, conditions: int = CONDITIONS
    ) -> None:
        super().__init__()
        self.widths = tuple(widths)
        embedded = 32
        self.embed = nn.Sequential(nn.Linear(conditions, embedded), nn.SiLU())
        self.down = nn.ModuleList(
            [ConditionedBlock(inputs, widths[0], embedded)] + [ConditionedBlock(wide, wide, embedded) for wide in widths[1:]]
        )
        self.shrink = nn.ModuleList([Convolution(fine, coarse, 2, stride=2, bias=False) for fine, coarse in pairwise(widths)])
        self.narrow = nn.ModuleList([Convolution(coarse, fine, 1, bias=False) for fine, coarse in pairwise(widths)])
        self.up = nn.ModuleList([ConditionedBlock(2 * fine, fine, embedded) for fine in widths[:-1]])
        self.head = Convolution(widths[0], 1, 1)

    def features(self, x: Tensor, condition: Tensor) -> Tensor:
        """What the head sees.

        Parameters
        ----------
        x : Tensor, shape (B, inputs, D, H, W)
            Cube; sides divisible by 8.
        condition : Tensor, shape (B, conditions)
            Description of the whole cube.

        Returns
        -------
        Tensor, shape (B, widths[0], D, H, W)
        """
        embedded = self.embed(condition)
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else self.shrink[level - 1](x), embedded)
            skips.append(x)
        for level in reversed(range(len(self.up))):
            coarse = functional.interpolate(self.narrow[level](x), scale_factor=2, mode="trilinear", align_corners=False)
            x = self.up[level](torch.cat([skips[level], coarse], dim=1), embedded)
        return x

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Logits of the mask, shape (B, D, H, W); arguments as in `features`."""
        logits: Tensor = self.head(self.features(x, condition))[:, 0]
        return logits
