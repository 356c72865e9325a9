"""GP-UNet, GP-ShuffleUNet and GP-ReconResNet: image in, logits and full-resolution heatmaps out.

All three are a trunk (`features`, at input resolution) and the head of `pooling`. They are the paper's in 2D; in 3D they are
ours. `width` 64 gives the published number of parameters.

References
----------
Chatterjee et al., arXiv 2206.05148, and the authors' code; traps of that code that are avoided here are listed in the
project's documentation, ``docs/methods/explainable_heatmap.md``.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...errors import RecipeError
from .classifier import ExplainableClassifier, Plan
from .layers import (
    Grow,
    Sizes,
    batch_norm,
    channel_dropout,
    conv_relu,
    convolution,
    depth_to_space,
    double_conv,
    instance_norm,
    level_geometry,
    mean_pool,
    resize,
    space_to_depth,
    start_as_copies,
    start_weights,
    transposed,
)
from .pooling import PooledHead, Pooling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from . import ExplainableHeatmapRecipe


class GPUNet(ExplainableClassifier):
    """GP-UNet: double convolutions, average pooling, dropout in the middle, concatenated skips.

    Parameters
    ----------
    plan : Plan
        Widths (64, 128, 256) as published.
    upsampling : {"bilinear", "sinc", "transposed"}
        How maps grow.
    """

    def __init__(self, plan: Plan, upsampling: str) -> None:
        super().__init__(plan)
        widths, kernels, steps = plan.widths, plan.kernels, plan.steps
        self.upsampling = upsampling
        self.down = _encoder(plan)
        self.pool = nn.ModuleList([mean_pool(step) for step in steps])
        self.dropout = channel_dropout(plan.dropout, plan.dimensions)
        levels = range(len(steps))
        self.grow = nn.ModuleList([Grow(widths[n + 1], widths[n], steps[n], upsampling) for n in levels])
        self.up = nn.ModuleList([double_conv(2 * widths[n], widths[n], kernels[n], norm=plan.norm) for n in levels])
        start_weights(self)

    @property
    def halo(self) -> Sizes | None:
        if self.upsampling == "sinc":
            return None
        last = len(self.steps)
        convolutions = [(level, 4) for level in range(last)] + [(last, 2)]
        return self._reach(convolutions, interpolated=self.upsampling == "bilinear")

    @property
    def deepest(self) -> str:
        return f"down.{len(self.steps)}"

    def trunk(self, images: Tensor) -> Tensor:
        maps: Tensor = self.down[0](images)
        skips: list[Tensor] = []
        for pool, block in zip(self.pool, self.down[1:], strict=True):
            skips.append(maps)
            maps = block(pool(maps))
        maps = self.dropout(maps)
        for level in reversed(range(len(skips))):
            maps = self.up[level](torch.cat([skips[level], self.grow[level](maps)], dim=1))
        return maps


class Wave(nn.Module):
    """Four parallel convolutions with ReLU on the same maps (GP-ShuffleUNet)."""

    def __init__(self, channels: int, kernel: Sizes, *, norm: bool) -> None:
        super().__init__()
        self.branches = nn.ModuleList([conv_relu(channels, channels, kernel, norm=norm) for _ in range(4)])

    def forward(self, maps: Tensor) -> list[Tensor]:
        """(B, C, axes...) to four of the same shape."""
        return [branch(maps) for branch in self.branches]


class ShuffleDown(nn.Module):
    """Convolution, space to depth, and two convolutions with batch norm that bring the channels back."""

    def __init__(self, channels: int, fine: Sizes, coarse: Sizes, step: Sizes) -> None:
        super().__init__()
        self.step = step
        self.before = convolution(channels, channels, fine)
        self.after = nn.Sequential(
            convolution(channels * prod(step), channels, coarse),
            batch_norm(channels, len(step)),
            nn.ReLU(),
            convolution(channels, channels, coarse),
            batch_norm(channels, len(step)),
            nn.ReLU(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, axes...) to (B, C, coarser axes...)."""
        coarse: Tensor = self.after(space_to_depth(self.before(maps), self.step))
        return coarse


class GPShuffleUNet(ExplainableClassifier):
    """GP-ShuffleUNet: voxels are shuffled into channels and back, and four waves cross at every level.

    Widths (64, 128, 256, 512) as published. Nothing is interpolated.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        widths, kernels, steps, norm = plan.widths, plan.kernels, plan.steps, plan.norm
        levels = range(len(steps))
        self.encode = _encoder(plan)
        self.wave_down = nn.ModuleList([Wave(widths[n], kernels[n], norm=norm) for n in levels])
        self.shrink = nn.ModuleList([ShuffleDown(widths[n], kernels[n], kernels[n + 1], steps[n]) for n in levels])
        self.dropout = channel_dropout(plan.dropout, plan.dimensions)
        self.widen = nn.ModuleList([convolution(widths[n + 1], widths[n] * prod(steps[n]), kernels[n + 1]) for n in levels])
        self.wave_up = nn.ModuleList([Wave(widths[n], kernels[n], norm=norm) for n in levels])
        self.decode = nn.ModuleList([double_conv(5 * widths[n], widths[n], kernels[n], norm=norm) for n in levels])
        start_weights(self)
        for layer, step in zip(self.widen, steps, strict=True):
            start_as_copies(layer, step)

    @property
    def halo(self) -> Sizes | None:
        last = len(self.steps)
        # down: encoder 2, wave 1, shrink 1 before and 2 after the shuffle; up: 1 before the shuffle, wave 1, decoder 2
        convolutions = [(level, 2 + 1 + 1 + 1 + 2) for level in range(last)]
        convolutions += [(level, 2 + 1) for level in range(1, last)] + [(last, 2 + 2 + 1)]
        return self._reach(convolutions, interpolated=False)

    @property
    def deepest(self) -> str:
        return f"encode.{len(self.steps)}"

    def trunk(self, images: Tensor) -> Tensor:
        maps: Tensor = self.encode[0](images)
        kept: list[tuple[Tensor, list[Tensor]]] = []
        for level in range(len(self.steps)):
            waves = self.wave_down[level](maps)
            kept.append((maps, waves))
            maps = self.encode[level + 1](self.shrink[level](waves[3]))
        maps = self.dropout(maps)
        for level in reversed(range(len(self.steps))):
            skip, waves = kept[level]
            risen = self.wave_up[level](depth_to_space(self.widen[level](maps), self.steps[level]))
            maps = self.decode[level](torch.cat([skip, *(a + b for a, b in zip(risen, waves, strict=True))], dim=1))
        return maps


class ResidualBlock(nn.Module):
    """x + [convolution, norm, PReLU, dropout, convolution, norm], with reflected borders (GP-ReconResNet)."""

    def __init__(self, channels: int, kernel: Sizes, norms: tuple[nn.Module, nn.Module], dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(channels, channels, kernel, mode="reflect"),
            norms[0],
            nn.PReLU(),
            channel_dropout(dropout, len(kernel)),
            convolution(channels, channels, kernel, mode="reflect"),
            norms[1],
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, axes...) to the same shape."""
        out: Tensor = maps + self.body(maps)
        return out


class GPReconResNet(ExplainableClassifier):
    """GP-ReconResNet: strided convolutions, residual blocks at the coarsest resolution, no skips.

    Widths (64, 128, 256) and 14 `blocks` as published. The plan's `norm` exchanges the published instance norm for batch norm.
    In 3D the last instance norm is left out: it would make every feature relative to its own volume, right in front of the
    pooling.
    """

    def __init__(self, plan: Plan, *, blocks: int, upsampling: str) -> None:
        super().__init__(plan)
        widths, kernels, steps, norm = plan.widths, plan.kernels, plan.steps, plan.norm
        self.upsampling, self.norm, self.blocks = upsampling, norm, blocks
        dimensions, last = plan.dimensions, len(steps)

        def normalised(channels: int) -> nn.Module:
            return batch_norm(channels, dimensions) if norm else instance_norm(channels, dimensions)

        wide = tuple(7 if size == 3 else 1 for size in kernels[0])
        self.stem = nn.Sequential(convolution(plan.inputs, widths[0], wide, mode="reflect"), normalised(widths[0]), nn.PReLU())
        self.down = nn.ModuleList(
            nn.Sequential(
                convolution(widths[n], widths[n + 1], kernels[n], stride=steps[n]), normalised(widths[n + 1]), nn.PReLU()
            )
            for n in range(last)
        )
        deep = widths[-1]
        self.middle = nn.Sequential(
            *[ResidualBlock(deep, kernels[-1], (normalised(deep), normalised(deep)), plan.dropout) for _ in range(blocks)]
        )
        self.grow = nn.ModuleList(
            transposed(widths[n + 1], widths[n + 1], steps[n]) for n in range(last if upsampling == "transposed" else 0)
        )
        self.up = nn.ModuleList(
            nn.Sequential(
                convolution(widths[n + 1], widths[n], kernels[n], mode="reflect"),
                nn.Identity() if n == 0 and dimensions == 3 and not norm else normalised(widths[n]),
                nn.PReLU(),
            )
            for n in range(last)
        )
        start_weights(self)

    @property
    def halo(self) -> Sizes | None:
        if not self.norm or self.upsampling == "sinc":
            return None
        last = len(self.steps)
        convolutions = [(0, 3), *((level, 2) for level in range(last)), (last, 2 * self.blocks)]  # the 7 wide stem counts as 3
        return self._reach(convolutions, interpolated=self.upsampling == "bilinear")

    @property
    def deepest(self) -> str:
        return "middle"

    def trunk(self, images: Tensor) -> Tensor:
        maps: Tensor = self.stem(images)
        sizes: list[torch.Size] = []
        for layer in self.down:
            sizes.append(maps.shape[2:])
            maps = layer(maps)
        maps = self.middle(maps)
        for level in reversed(range(len(sizes))):
            grown = self.grow[level](maps) if self.grow else resize(maps, sizes[level], self.upsampling)
            maps = self.up[level](grown)
        return maps


def build_network(
    recipe: ExplainableHeatmapRecipe, *, inputs: int, classes: int, spacing: Sequence[float] | None = None
) -> ExplainableClassifier:
    """The recipe's network, with starting weights from torch's own random state.

    Parameters
    ----------
    recipe : ExplainableHeatmapRecipe
        Network, dimensions, widths, pooling and so on.
    inputs, classes : int
        Channels of the image, and classes (two at least).
    spacing : sequence of three floats, optional
        For 3D: voxel size per axis of the images that the network will see, default cubes.

    Raises
    ------
    RecipeError
        A network that cannot be built, or one of absurd size.
    """
    dimensions = 2 if recipe.dimensions == "2D" else 3
    depth = recipe.depth or (4 if recipe.network == "gp_shuffleunet" else 3)
    widths = [recipe.width * 2**level for level in range(depth)]
    if not 1 <= inputs <= 64 or not 2 <= classes <= 1000 or widths[-1] > 4096:
        raise RecipeError(
            f"a network with {inputs} channels, {classes} classes and {widths[-1]} features cannot be built; "
            "give 1 to 64, 2 to 1000 and at most 4096."
        )
    sizes = (1.0,) * dimensions if spacing is None or dimensions == 2 else tuple(spacing)
    if len(sizes) != dimensions or not all(0 < size < 1e4 for size in sizes):
        raise RecipeError(f"the voxel size {sizes} of the network is not {dimensions} positive lengths; check the weights.")
    kernels, steps = level_geometry(sizes, depth)
    head = PooledHead(widths[0], classes, Pooling(recipe.pooling, recipe.pooling_share, recipe.pooling_sharpness))
    plan = Plan(inputs, tuple(widths), head, kernels, steps, recipe.dropout, recipe.normalisation == "batch")
    if recipe.network == "gp_unet":
        return GPUNet(plan, recipe.upsampling)
    if recipe.network == "gp_shuffleunet":
        return GPShuffleUNet(plan)
    return GPReconResNet(plan, blocks=recipe.blocks, upsampling=recipe.upsampling)


def _encoder(plan: Plan) -> nn.ModuleList:
    """A double convolution for each resolution."""
    sizes = zip(plan.below, plan.widths, plan.kernels, strict=True)
    return nn.ModuleList([double_conv(a, b, kernel, norm=plan.norm) for a, b, kernel in sizes])
