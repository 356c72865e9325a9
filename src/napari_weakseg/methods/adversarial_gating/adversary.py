"""The discriminator that judges masks at four scales, its losses, and the noise that keeps it from winning too soon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

if TYPE_CHECKING:
    from collections.abc import Sequence

SQUEEZED = 13
"""Channels that a level is squeezed to before the next scale joins it (authors' code)."""


class Discriminator(nn.Module):
    r"""Multi-scale discriminator: about 1 for masks that could be real, about -1 for others.

    With :math:`y_0 .. y_3` at full, 1/2, 1/4 and 1/8 resolution,

    .. math::

        t_0 = \mathrm{LeakyReLU}_{0.2}(\mathrm{conv}_{4, \downarrow 2}(y_0 + N(0, 0.2^2))), \quad
        q_i = \sigma(\mathrm{conv}_1(t_{i-1})), \quad
        t_i = \tanh(\mathrm{conv}^{SN}_{4}(\mathrm{concat}(q_i, y_i))), \quad
        D = \mathrm{linear}(t_3)

    with strides 2, 2, 1 for i = 1, 2, 3; SN: spectral norm.

    Parameters
    ----------
    structures : int
        Foreground channels of the masks.
    filters : int
        Of the first convolution; 4, 8 and 16 times as many follow (published: 32).
    head : int
        Side of the grid that the last map is averaged to before the linear layer, so that any image size is judged. At
        the published 224 x 224 pixels 28 changes nothing.
    noise : float
        Standard deviation of what is added to the full-resolution input, in training only.
    label_noise : float
        Probability per call that the answer changes its sign while its gradient passes unchanged, in training only.

    References
    ----------
    Valvano et al., IEEE TMI 2021, section III; constants, strides and activations of the authors' code (its text says leaky
    ReLU where the code has tanh: the code is followed).
    """

    def __init__(
        self, structures: int, filters: int = 32, *, head: int = 28, noise: float = 0.2, label_noise: float = 0.1
    ) -> None:
        super().__init__()
        self.noise, self.label_noise, self.head_side = noise, label_noise, head
        widths = (filters, 4 * filters, 8 * filters, 16 * filters)
        self.first = nn.Conv2d(structures, widths[0], 4, stride=2, padding=1)
        self.squeeze = nn.ModuleList(nn.Conv2d(width, SQUEEZED, 1) for width in widths[:-1])
        convolutions = [
            nn.Conv2d(SQUEEZED + structures, width, 4, stride=stride)
            for width, stride in zip(widths[1:], (2, 2, 1), strict=True)
        ]
        for module in (self.first, *self.squeeze, *convolutions):
            nn.init.kaiming_normal_(module.weight, nonlinearity="leaky_relu", a=0.2)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
        self.scales = nn.ModuleList(spectral_norm(convolution) for convolution in convolutions)
        self.head = nn.Linear(widths[-1] * head * head, 1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """One score per mask.

        Parameters
        ----------
        levels : four Tensors, shapes (B, structures, H, W) to (B, structures, H / 8, W / 8)
            Foreground channels, see `gates.pyramid` and `real_pyramid`; H and W are multiples of 8.

        Returns
        -------
        Tensor, shape (B,)
        """
        full = levels[0]
        if self.training and self.noise > 0:
            full = full + self.noise * torch.randn_like(full)
        t = functional.leaky_relu(self.first(full), 0.2)
        for squeeze, scale, level in zip(self.squeeze, self.scales, levels[1:], strict=True):
            joined = torch.cat([squeeze(t).sigmoid(), level], dim=1)
            around = (1, 1, 1, 1) if scale.stride == (2, 2) else (1, 2, 1, 2)  # half the side, or the same
            t = scale(functional.pad(joined, around)).tanh()
        score: Tensor = self.head(functional.adaptive_avg_pool2d(t, self.head_side).flatten(1))[:, 0]
        if self.training and self.label_noise > 0 and torch.rand(()) < self.label_noise:
            score = score - 2 * score.detach()
        return score


def real_pyramid(masks: Tensor, *, soften: float = 0.0) -> list[Tensor]:
    """Real masks as the discriminator sees them: one-hot at full resolution, resized bilinearly (corners aligned) below.

    Parameters
    ----------
    masks : Tensor, shape (B, classes, H, W)
        One-hot, the background first.
    soften : float
        Share of each voxel that is spread evenly over the classes, so that sharpness alone gives no real mask away.
    """
    soft = masks * (1 - soften) + soften / masks.shape[1]
    levels = [soft[:, 1:]]
    for factor in (2, 4, 8):
        size = (masks.shape[2] // factor, masks.shape[3] // factor)
        levels.append(functional.interpolate(levels[0], size=size, mode="bilinear", align_corners=True))
    return levels


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    r"""Least squares with targets 1 and -1: :math:`\tfrac12 E(D(m) - 1)^2 + \tfrac12 E(D(\hat m) + 1)^2`."""
    return 0.5 * (real - 1).square().mean() + 0.5 * (fake + 1).square().mean()


def generator_loss(fake: Tensor) -> Tensor:
    r"""What the segmentor is punished with for masks that are not taken for real: :math:`\tfrac12 E(D(\hat m) - 1)^2`."""
    return 0.5 * (fake - 1).square().mean()
