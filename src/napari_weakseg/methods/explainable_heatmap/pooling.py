r"""The head that all three networks share: pool each feature map to one number, then weigh the numbers.

With :math:`f_c(p)` the last features at input resolution, :math:`W, b` a 1x1 convolution and P the pooling,

.. math:: z_k = b_k + \sum_c W_{kc}\, P(f_c), \qquad H_k(p) = b_k + \sum_c W_{kc} f_c(p).

The logits z decide; the heatmap H is what is left when the pooling is taken out, on the image's own grid. Because the pooling
comes first, z is *not* the peak of H: the channels have their maxima at different places. What does hold exactly is that z is
a sum over places, one per channel for max pooling: `decision_points`.

References
----------
Chatterjee et al., arXiv 2206.05148, and the authors' code (max pooling). Mean of the largest and log-sum-exp are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from numpy.typing import NDArray

KINDS = ("max", "top", "log-sum-exp")


@dataclass(frozen=True)
class Pooling:
    r"""A feature map to one number.

    Parameters
    ----------
    kind : {"max", "top", "log-sum-exp"}
        The maximum, as published; the mean of the largest values; or :math:`\tfrac1r \log \tfrac1{|Ω|} \sum_p e^{r f(p)}`.
    share : float
        For ``top``: share of the voxels that are averaged, at least one voxel.
    sharpness : float
        For ``log-sum-exp``: r. Large r is close to the maximum, small r to the mean.
    """

    kind: str = "max"
    share: float = 0.01
    sharpness: float = 5.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"pooling is one of {', '.join(KINDS)}, not {self.kind!r}")
        if not 0 <= self.share <= 1 or not self.sharpness > 0:
            raise ValueError("the share of voxels lies between 0 and 1, the sharpness above 0")

    def count(self, voxels: int) -> int:
        """How many of `voxels` values ``top`` averages (1 for ``max``)."""
        return 1 if self.kind == "max" else max(1, min(voxels, round(self.share * voxels)))

    def __call__(self, features: Tensor) -> Tensor:
        """Features (B, C, spatial...) to (B, C)."""
        flat = features.flatten(2)
        voxels = flat.shape[2]
        if self.kind == "max":
            return flat.max(dim=2).values  # not amax: its gradient is shared among equals, this one goes to one place
        if self.kind == "top":
            return flat.topk(self.count(voxels), dim=2, sorted=False).values.mean(dim=2)
        return (torch.logsumexp(self.sharpness * flat, dim=2) - math.log(voxels)) / self.sharpness

    def shares(self, features: Tensor) -> Tensor:
        r"""How much each voxel counts, features (B, C, spatial...) to the same shape; sums to 1 over each map.

        One at the maximum; 1/q at each of the q largest; the softmax :math:`s(p) \propto e^{r f(p)}`, which is the gradient of
        the pooled value in all three cases.
        """
        flat = features.flatten(2)
        if self.kind == "log-sum-exp":
            return torch.softmax(self.sharpness * flat, dim=2).view_as(features)
        count = self.count(flat.shape[2])
        places = flat.topk(count, dim=2).indices if count > 1 else flat.argmax(dim=2, keepdim=True)
        return torch.zeros_like(flat).scatter_(2, places, 1 / count).view_as(features)


class PooledHead(nn.Module):
    """Pooling, then the 1x1 convolution that turns pooled features into logits.

    Parameters
    ----------
    channels, classes : int
        Feature maps in, logits out.
    pooling : Pooling
        What of each map counts.

    Notes
    -----
    No activation: softmax and the like belong to the caller. The 1x1 convolution is kept as a linear layer, since on one
    pooled voxel both are the same and this one serves 2D and 3D.
    """

    def __init__(self, channels: int, classes: int, pooling: Pooling | None = None) -> None:
        super().__init__()
        self.pooling = Pooling() if pooling is None else pooling
        self.classify = nn.Linear(channels, classes)
        nn.init.zeros_(self.classify.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, spatial...) to logits (B, K)."""
        logits: Tensor = self.classify(self.pooling(features))
        return logits

    def heatmap(self, features: Tensor) -> Tensor:
        """Features (B, C, spatial...) to heatmaps (B, K, spatial...), without interpolation."""
        flat: Tensor = self.classify.weight @ features.flatten(2) + self.classify.bias[:, None]
        return flat.reshape(len(features), -1, *features.shape[2:])

    @torch.no_grad()
    def centre(self) -> None:
        """Take out what all classes share: probabilities stay as they are, and a heatmap shows what *parts* its class.

        Softmax does not change when one number is added to all logits, so training leaves the mean of the rows of W and of b
        where chance put it, and a heatmap would show that as well.
        """
        for part in (self.classify.weight, self.classify.bias):
            part.sub_(part.mean(dim=0, keepdim=True))

    def contributions(self, features: Tensor) -> Tensor:
        r"""Maps (B, K, spatial...) that add up to the logit minus its bias, for every pooling.

        :math:`A_k(p) = \sum_c W_{kc}\, s_c(p)\, P(f_c)` with s the `Pooling.shares`. For max pooling it is 0 except at the
        decision points.
        """
        shares = self.pooling.shares(features).flatten(2) * self.pooling(features)[:, :, None]
        maps: Tensor = self.classify.weight @ shares
        return maps.reshape(len(features), -1, *features.shape[2:])


@dataclass(frozen=True, eq=False)
class DecisionPoints:
    """Where a decision was made: ``bias + contributions.sum(axis=1) + rest`` are the logits.

    Parameters
    ----------
    places : ndarray, shape (N, D), int64
        Voxel of each point on the network's grid.
    channels : ndarray, shape (N,), int64
        Feature map that it belongs to.
    contributions : ndarray, shape (K, N), float64
        What it adds to each class's logit.
    bias : ndarray, shape (K,), float64
        What each logit starts from.
    rest : ndarray, shape (K,), float64
        What lies elsewhere: 0 for ``max`` and ``top``; for ``log-sum-exp`` every voxel counts and only the heaviest are here.
    """

    places: NDArray[np.int64]
    channels: NDArray[np.int64]
    contributions: NDArray[np.float64]
    bias: NDArray[np.float64]
    rest: NDArray[np.float64]

    @property
    def logits(self) -> NDArray[np.float64]:
        """The logits that the points add up to, shape (K,)."""
        total: NDArray[np.float64] = self.bias + self.contributions.sum(axis=1) + self.rest
        return total

    def table(self, label: int, *, slice_axis: int | None = None, slice_index: int = 0) -> NDArray[np.float64]:
        """One class's points as rows (i, j, k, contribution, channel), shape (N, 5).

        Parameters
        ----------
        label : int
            Number of the class.
        slice_axis, slice_index : int
            For 2D points: the array axis that the slices are stacked along, and the slice's number.
        """
        places = self.places if slice_axis is None else np.insert(self.places, slice_axis, slice_index, axis=1)
        table: NDArray[np.float64] = np.empty((len(places), 5))
        table[:, :3], table[:, 3], table[:, 4] = places, self.contributions[label], self.channels
        return table


def decision_points(features: Tensor, head: PooledHead, *, heaviest: int = 1) -> DecisionPoints:
    r"""The places whose features the logits of one image are made of.

    Parameters
    ----------
    features : Tensor, shape (C, spatial...)
        Last features of one image.
    head : PooledHead
        Its weights and pooling.
    heaviest : int
        For ``log-sum-exp``: how many places per channel are named; what the others add is in `rest`.

    Returns
    -------
    DecisionPoints
        With ``max`` one place per channel, :math:`z_k = b_k + \sum_c W_{kc} f_c(p_c^*)`; with ``top`` q places per channel
        that add :math:`W_{kc} f_c(p)/q` each; with ``log-sum-exp`` places that add :math:`W_{kc} s_c(p) P(f_c)`, with s the
        `Pooling.shares`.
    """
    pooling, shape = head.pooling, features.shape[1:]
    flat = features.detach().flatten(1)
    if pooling.kind == "log-sum-exp":
        shares, found = pooling.shares(features[None].detach())[0].flatten(1).topk(min(heaviest, flat.shape[1]), dim=1)
        values = shares.double() * pooling(features[None].detach().double())[0, :, None]
    elif pooling.kind == "top":
        values, found = flat.topk(pooling.count(flat.shape[1]), dim=1)
        values = values.double() / values.shape[1]
    else:
        values, found = flat.max(dim=1, keepdim=True)
    return _points(values.double(), found, shape, head, features if pooling.kind == "log-sum-exp" else None)


def _points(values: Tensor, found: Tensor, shape: torch.Size, head: PooledHead, features: Tensor | None) -> DecisionPoints:
    """Values (C, q) found at flat places (C, q) of maps of that shape; `features` where something may be left over."""
    weight, bias = (part.detach().double().cpu() for part in (head.classify.weight, head.classify.bias))
    contributions = (weight[:, :, None] * values.cpu()).flatten(1).numpy()
    rest = np.zeros(len(bias))
    if features is not None:
        pooled = head.pooling(features[None].detach().double())[0].cpu()
        rest = (weight @ pooled).numpy() - contributions.sum(axis=1)
    places = np.stack(np.unravel_index(found.cpu().numpy().ravel(), tuple(shape)), axis=1).astype(np.int64)
    channels = np.repeat(np.arange(len(found)), found.shape[1]).astype(np.int64)
    return DecisionPoints(places, channels, contributions, bias.numpy(), rest)


@dataclass
class TiledPooling:
    """The pooled features of an image that is seen tile by tile: the same as those of the whole, for every pooling.

    Exact where the features do not depend on the tile: `add` only what lies further from the tile's inner borders than the
    network's `halo`, each voxel once. Tiles begin at multiples of the network's `stride`.

    Parameters
    ----------
    head : PooledHead
        Its pooling is carried out.
    shape : tuple of int
        Size of the whole image.
    """

    head: PooledHead
    shape: tuple[int, ...]
    _values: Tensor | None = field(default=None, init=False)
    _places: Tensor | None = field(default=None, init=False)

    def add(self, features: Tensor, start: tuple[int, ...]) -> None:
        """Take in features (C, tile...) whose first voxel lies at `start` in the image."""
        flat = features.detach().flatten(1)
        pooling = self.head.pooling
        if pooling.kind == "log-sum-exp":
            part = torch.logsumexp(pooling.sharpness * flat.double(), dim=1)
            self._values = part if self._values is None else torch.logaddexp(self._values, part)
            return
        count = pooling.count(math.prod(self.shape))
        values, found = flat.topk(min(count, flat.shape[1]), dim=1)
        inside = np.unravel_index(found.cpu().numpy(), tuple(features.shape[1:]))
        moved = tuple(axis + first for axis, first in zip(inside, start, strict=True))
        places = torch.from_numpy(np.ravel_multi_index(moved, self.shape)).to(found.device)
        if self._values is not None and self._places is not None:
            values, places = torch.cat([self._values, values], dim=1), torch.cat([self._places, places], dim=1)
            values, best = values.topk(min(count, values.shape[1]), dim=1)
            places = places.gather(1, best)
        self._values, self._places = values, places

    def pooled(self) -> Tensor:
        """The pooled features, shape (C,)."""
        if self._values is None:
            raise ValueError("no tile was added")
        if self._places is None:
            return (self._values - math.log(math.prod(self.shape))) / self.head.pooling.sharpness
        return self._values.mean(dim=1)

    def logits(self) -> Tensor:
        """Logits of the whole image, shape (K,)."""
        pooled = self.pooled().to(self.head.classify.weight.dtype)
        logits: Tensor = self.head.classify(pooled)
        return logits

    def points(self) -> DecisionPoints:
        """Decision points of the whole image; with ``log-sum-exp`` there are none, and all is `rest`."""
        values = self.pooled()[:, None].double()
        if self._places is not None and self._values is not None:
            values = self._values.double() / self._values.shape[1]
            return _points(values, self._places, torch.Size(self.shape), self.head, None)
        weight, bias = (part.detach().double().cpu() for part in (self.head.classify.weight, self.head.classify.bias))
        empty = np.zeros(0, dtype=np.int64)
        rest = (weight @ values[:, 0].cpu()).numpy()
        return DecisionPoints(np.zeros((0, len(self.shape)), np.int64), empty, np.zeros((len(bias), 0)), bias.numpy(), rest)
