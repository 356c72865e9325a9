"""The U-Net of the stroke methods, plain: adversarial gating adds its gates to it, partial cross-entropy trains it as it is."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

LEVELS = 4
MULTIPLE = 2**LEVELS
"""Sides of what goes in are multiples of it, see `padded`."""

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
NORMALISATION = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def _unit(
    inputs: int, outputs: int, kernel: int, dimensions: int, momentum: float, *, activation: bool = True
) -> nn.Sequential:
    """Convolution, batch normalisation (eps 1e-3, as published) and ReLU."""
    layers: list[nn.Module] = [
        CONVOLUTION[dimensions](inputs, outputs, kernel, padding=kernel // 2),
        NORMALISATION[dimensions](outputs, eps=1e-3, momentum=momentum),
    ]
    return nn.Sequential(*layers, nn.ReLU()) if activation else nn.Sequential(*layers)


class UpLevel(nn.Module):
    """One level of the decoder: doubles the resolution and joins the encoder's features.

    Parameters
    ----------
    inputs, outputs : int
        Channels of the coarser level and of this one.
    """

    def __init__(self, inputs: int, outputs: int, dimensions: int, momentum: float) -> None:
        super().__init__()
        self.grow = _unit(inputs, outputs, 3, dimensions, momentum, activation=False)
        self.join = _unit(2 * outputs, outputs, 3, dimensions, momentum)
        self.refine = _unit(outputs, outputs, 3, dimensions, momentum)

    def forward(self, x: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        """Features g of this level, and h that a gate is computed from."""
        up = self.grow(functional.interpolate(x, scale_factor=2, mode="nearest"))
        hidden = self.join(torch.cat([up, skip], dim=1))
        return self.refine(hidden), hidden


class SliceUNet(nn.Module):
    """U-Net with four levels, in 2D or 3D.

    Parameters
    ----------
    inputs, classes : int
        Channels in; classes out, the background first.
    filters : int
        Channels at full resolution; doubled at each coarser one (published: 32).
    dimensions : int
        2 or 3.
    momentum : float
        Share of a batch in the running means of batch normalisation (published: 0.01).

    References
    ----------
    The segmentor of Valvano et al., IEEE TMI 40(8), 2021, without its gates; constants of the authors' code.
    """

    def __init__(self, inputs: int, classes: int, filters: int = 32, *, dimensions: int = 2, momentum: float = 0.1) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.widths = tuple(filters * 2**level for level in range(LEVELS + 1))
        sizes = [inputs, *self.widths]
        self.down = nn.ModuleList(
            nn.Sequential(
                _unit(sizes[level], sizes[level + 1], 3, dimensions, momentum),
                _unit(sizes[level + 1], sizes[level + 1], 3, dimensions, momentum),
            )
            for level in range(LEVELS)
        )
        deep = self.widths[-1]
        self.bottom = nn.Sequential(
            _unit(self.widths[-2], deep, 1, dimensions, momentum), _unit(deep, deep, 1, dimensions, momentum)
        )
        self.up = nn.ModuleList(
            UpLevel(self.widths[level + 1], self.widths[level], dimensions, momentum) for level in range(LEVELS)
        )
        self.head = CONVOLUTION[dimensions](filters, classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # a processor's convolutions take a third less time where the channels of a pixel lie together
        self.to(memory_format=torch.channels_last if dimensions == 2 else torch.channels_last_3d)  # type: ignore[call-overload]

    def gated(self, level: int, features: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        """What leaves decoder level `level` (0 = full resolution), and the attention there; here there is none."""
        return features, None

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Logits (B, classes, ...) and the attention of each level, fine to coarse (none in the plain network).

        Parameters
        ----------
        x : Tensor, shape (B, inputs, H, W) or (B, inputs, D, H, W)
            Sides are multiples of `MULTIPLE`.
        """
        pool = functional.max_pool2d if self.dimensions == 2 else functional.max_pool3d
        skips: list[Tensor] = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = pool(x, 2)
        x = self.bottom(x)
        attentions: list[Tensor] = []
        for level in reversed(range(LEVELS)):
            x, attention = self.gated(level, *self.up[level](x, skips[level]))
            if attention is not None:
                attentions.insert(0, attention)
        return self.head(x), tuple(attentions)


def padded(x: Tensor) -> tuple[Tensor, tuple[slice, ...]]:
    """Repeat the far edges until every side is a multiple of `MULTIPLE`; the index undoes it on (B, C, ...)."""
    sides = x.shape[2:]
    missing: list[int] = []
    for side in reversed(sides):
        missing += [0, -side % MULTIPLE]
    back = (slice(None), slice(None), *(slice(0, side) for side in sides))
    return (functional.pad(x, missing, mode="replicate") if any(missing) else x), back
