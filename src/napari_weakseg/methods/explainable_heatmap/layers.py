"""What the three networks are built of, for 2D and 3D alike: the kernel's length says which.

Tensors are (case, channel, axes...), with the axes in the order of the volume's array; nothing is ever transposed.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

Sizes = tuple[int, ...]


def level_geometry(spacing: Sequence[float], depth: int) -> tuple[tuple[Sizes, ...], tuple[Sizes, ...]]:
    """Kernels of each resolution and steps between them, for voxels that need not be cubes.

    Axes whose voxels are more than twice as long as the shortest are left alone (kernel 1, step 1) until the others have
    caught up, so that a kernel spans about the same distance along every axis.

    Parameters
    ----------
    spacing : sequence of float
        Voxel size per axis, any unit; equal sizes in 2D.
    depth : int
        Number of resolutions.

    Returns
    -------
    kernels : tuple of tuple of int
        One per resolution, of 3 and 1.
    steps : tuple of tuple of int
        `depth` - 1 of them, of 2 and 1.
    """
    sizes = [float(size) for size in spacing]
    kernels: list[Sizes] = []
    steps: list[Sizes] = []
    for _ in range(depth):
        near = [size <= 2 * min(sizes) for size in sizes]
        kernels.append(tuple(3 if close else 1 for close in near))
        steps.append(tuple(2 if close else 1 for close in near))
        sizes = [size * step for size, step in zip(sizes, steps[-1], strict=True)]
    return tuple(kernels), tuple(steps[:-1])


def convolution(
    inputs: int, outputs: int, kernel: Sizes, *, stride: Sizes | int = 1, mode: str = "zeros", bias: bool = True
) -> nn.Module:
    """A convolution that keeps the size (for stride 1), in as many dimensions as `kernel` has."""
    kind: Any = {2: nn.Conv2d, 3: nn.Conv3d}[len(kernel)]
    padding = tuple(size // 2 for size in kernel)
    made: nn.Module = kind(inputs, outputs, kernel, stride=stride, padding=padding, padding_mode=mode, bias=bias)
    return made


def batch_norm(channels: int, dimensions: int) -> nn.Module:
    """Batch normalisation of 2D or 3D maps."""
    return nn.BatchNorm2d(channels) if dimensions == 2 else nn.BatchNorm3d(channels)


def instance_norm(channels: int, dimensions: int) -> nn.Module:
    """Instance normalisation without learnt scale, of 2D or 3D maps."""
    return nn.InstanceNorm2d(channels) if dimensions == 2 else nn.InstanceNorm3d(channels)


def channel_dropout(share: float, dimensions: int) -> nn.Module:
    """Dropout of whole feature maps.

    Raises
    ------
    ValueError
        A share of 1, which a flag ``True`` would become: nothing would be learnt behind it.
    """
    if isinstance(share, bool) or not 0 <= share < 1:
        raise ValueError(f"the share of dropped channels is a number from 0 to below 1, not {share!r}")
    return nn.Dropout2d(share) if dimensions == 2 else nn.Dropout3d(share)


def conv_relu(inputs: int, outputs: int, kernel: Sizes, *, norm: bool) -> nn.Sequential:
    """Convolution, batch norm where asked for, ReLU."""
    parts = [convolution(inputs, outputs, kernel, bias=not norm)]
    if norm:
        parts.append(batch_norm(outputs, len(kernel)))
    return nn.Sequential(*parts, nn.ReLU())


def double_conv(inputs: int, outputs: int, kernel: Sizes, *, norm: bool = False) -> nn.Sequential:
    """DC of the paper: twice convolution and ReLU."""
    return nn.Sequential(*conv_relu(inputs, outputs, kernel, norm=norm), *conv_relu(outputs, outputs, kernel, norm=norm))


def mean_pool(step: Sizes) -> nn.Module:
    """Average pooling by `step` voxels per axis."""
    kind: Any = {2: nn.AvgPool2d, 3: nn.AvgPool3d}[len(step)]
    made: nn.Module = kind(step)
    return made


def transposed(inputs: int, outputs: int, step: Sizes) -> nn.Module:
    """A transposed convolution that grows maps by `step` voxels per axis, blocks side by side."""
    kind: Any = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[len(step)]
    made: nn.Module = kind(inputs, outputs, step, stride=step)
    return made


def sinc_resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Fourier interpolation of (B, C, axes...) to `size`: `scipy.signal.resample` along every axis.

    The spectrum is padded with zeros (or cut), so the border is periodic, and voxel 0 stays at voxel 0.
    """
    out = maps.float()
    for axis, new in enumerate(size, start=2):
        old = out.shape[axis]
        if new == old:
            continue
        spectrum = torch.fft.rfft(out, dim=axis)
        shared = min(old, new)
        kept = spectrum.narrow(axis, 0, shared // 2 + 1)
        if shared % 2 == 0:  # the highest shared frequency stands for a pair of which a half belongs here
            factor = torch.ones(shared // 2 + 1, dtype=out.dtype, device=out.device)
            factor[-1] = 0.5 if new > old else 2.0
            kept = kept * factor.reshape(-1, *[1] * (out.ndim - axis - 1))
        # irfft itself pads the spectrum up to n // 2 + 1 frequencies
        out = torch.fft.irfft(kept, n=new, dim=axis) * (new / old)
    return out.to(maps.dtype)


def resize(maps: Tensor, size: Sequence[int], how: str) -> Tensor:
    """Interpolate (B, C, axes...) to `size`, linearly between voxel centres (``bilinear``) or by ``sinc``."""
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    if how == "sinc":
        return sinc_resize(maps, size)
    mode = "bilinear" if maps.ndim == 4 else "trilinear"
    return functional.interpolate(maps, size=tuple(size), mode=mode, align_corners=False)


class Grow(nn.Module):
    """Maps to the next finer resolution with fewer channels (GP-UNet).

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    step : tuple of int
        Growth per axis.
    how : {"bilinear", "sinc", "transposed"}
        Interpolation and a 1x1 convolution, or a transposed convolution.

    Notes
    -----
    The 1x1 convolution is done before the interpolation: both are linear and neither changes a constant, so the order does
    not matter, and this one has less to compute.
    """

    def __init__(self, inputs: int, outputs: int, step: Sizes, how: str) -> None:
        super().__init__()
        self.step, self.how = step, how
        single = (1,) * len(step)
        self.layer = transposed(inputs, outputs, step) if how == "transposed" else convolution(inputs, outputs, single)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, inputs, axes...) to (B, outputs, finer axes...)."""
        grown: Tensor = self.layer(maps)
        if self.how == "transposed":
            return grown
        return resize(grown, [n * s for n, s in zip(maps.shape[2:], self.step, strict=True)], self.how)


def space_to_depth(maps: Tensor, step: Sizes) -> Tensor:
    """Blocks of `step` voxels become channels: (B, C, axes...) to (B, C * prod(step), shorter axes...)."""
    count, size = len(step), [n // s for n, s in zip(maps.shape[2:], step, strict=True)]
    split = [part for pair in zip(size, step, strict=True) for part in pair]
    blocks = maps.reshape(*maps.shape[:2], *split)
    order = [0, 1, *range(3, 3 + 2 * count, 2), *range(2, 2 + 2 * count, 2)]
    return blocks.permute(order).reshape(maps.shape[0], maps.shape[1] * prod(step), *size)


def depth_to_space(maps: Tensor, step: Sizes) -> Tensor:
    """Undo `space_to_depth`."""
    count, size = len(step), maps.shape[2:]
    channels = maps.shape[1] // prod(step)
    blocks = maps.reshape(maps.shape[0], channels, *step, *size)
    order = [0, 1, *[axis for n in range(count) for axis in (2 + count + n, 2 + n)]]
    return blocks.permute(order).reshape(maps.shape[0], channels, *[n * s for n, s in zip(size, step, strict=True)])


def start_weights(network: nn.Module) -> None:
    """He's start for every convolution: variance 2 / fan-in (1 where the kernel is a single voxel), bias 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            single = prod(module.kernel_size) == 1
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear" if single else "relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def start_as_copies(layer: nn.Module, step: Sizes) -> None:
    """ICNR: the filters that become one block of voxels start equal, so that `depth_to_space` begins as plain repetition.

    To be done after `start_weights`, which would undo it.
    """
    weight = layer.weight
    if not isinstance(weight, Tensor):
        raise TypeError("only a convolution can start as copies")
    with torch.no_grad():
        weight.copy_(weight[:: prod(step)].repeat_interleave(prod(step), dim=0))
