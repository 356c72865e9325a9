"""What the three classifiers share: any image size, the head on full-resolution features, and how far a feature sees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import ceil, prod
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .layers import Sizes
    from .pooling import PooledHead


class Explanation(NamedTuple):
    """Logits (B, K), heatmaps (B, K, axes...) and last features (B, C, axes...) of a batch."""

    logits: Tensor
    heatmap: Tensor
    features: Tensor


@dataclass(frozen=True, eq=False)
class Plan:
    """What the three networks are built from alike.

    Parameters
    ----------
    inputs : int
        Channels of the image.
    widths : tuple of int
        Channels per resolution, fine to coarse.
    head : PooledHead
        What turns features into logits and heatmaps.
    kernels, steps : tuple of tuple of int
        See `layers.level_geometry`.
    dropout : float
        Share of channels that are dropped in training, below 1.
    norm : bool
        Batch norm before every activation (ours).
    """

    inputs: int
    widths: tuple[int, ...]
    head: PooledHead
    kernels: tuple[Sizes, ...]
    steps: tuple[Sizes, ...]
    dropout: float
    norm: bool

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return len(self.kernels[0])

    @property
    def below(self) -> tuple[int, ...]:
        """What comes into each resolution on the way down."""
        return (self.inputs, *self.widths[:-1])


class ExplainableClassifier(nn.Module, ABC):
    """A trunk whose features have the image's own resolution, and the pooled head on them."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.head = plan.head
        self.kernels, self.steps = plan.kernels, plan.steps

    @property
    def stride(self) -> Sizes:
        """Voxels per axis of the coarsest resolution's voxel: tiles begin at multiples of it."""
        return tuple(prod(steps) for steps in zip(*self.steps, strict=True))

    @property
    @abstractmethod
    def halo(self) -> Sizes | None:
        """Voxels per axis, a multiple of `stride`, beyond which nothing of the image reaches a feature.

        None where every voxel reaches every feature (instance norm, sinc interpolation): such an image is seen whole.
        """

    @property
    @abstractmethod
    def deepest(self) -> str:
        """Name of the module that gives the coarsest features, as in `named_modules`."""

    @abstractmethod
    def trunk(self, images: Tensor) -> Tensor:
        """Features of images whose axes are multiples of `stride`."""

    def padded_size(self, size: Sequence[int]) -> list[int]:
        """What an image of that size is grown to at its far ends, so that every resolution has whole voxels."""
        return [max(2 * step, step * ceil(n / step)) for n, step in zip(size, self.stride, strict=True)]

    def features(self, images: Tensor) -> Tensor:
        """Images (B, inputs, axes...) of any size to features (B, C, axes...) of the same size.

        What the coarser resolutions need beyond the upper borders is the border repeated, and is cut off again.
        """
        size = images.shape[2:]
        missing = [new - old for new, old in zip(self.padded_size(size), size, strict=True)]
        if any(missing):
            images = functional.pad(images, [n for new in reversed(missing) for n in (0, new)], mode="replicate")
        features = self.trunk(images)
        for axis, n in enumerate(size, start=2):
            features = features.narrow(axis, 0, n)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, inputs, axes...) to logits (B, K), in training and in evaluation."""
        logits: Tensor = self.head(self.features(images))
        return logits

    def explain(self, images: Tensor) -> Explanation:
        """Logits with the heatmaps and features that they come from."""
        features = self.features(images)
        return Explanation(self.head(features), self.head.heatmap(features), features)

    def _reach(self, convolutions: Sequence[tuple[int, int]], interpolated: bool) -> Sizes:
        """Halo of a trunk.

        Parameters
        ----------
        convolutions : sequence of (level, number)
            How many convolutions in a row are done at each resolution, down and up again.
        interpolated : bool
            Whether a finer voxel looks at its coarse voxel's neighbours.
        """
        halo = []
        for axis, stride in enumerate(self.stride):
            scale = [prod(step[axis] for step in self.steps[:level]) for level in range(len(self.kernels))]
            reach = stride - 1  # to the far side of the coarsest voxel
            reach += sum(count * (self.kernels[level][axis] // 2) * scale[level] for level, count in convolutions)
            if interpolated:
                reach += sum(scale[level + 1] for level, step in enumerate(self.steps) if step[axis] > 1)
            halo.append(stride * ceil(reach / stride))
        return tuple(halo)
