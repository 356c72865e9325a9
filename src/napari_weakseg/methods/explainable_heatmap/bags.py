r"""Learning from a label per volume: the volume is one bag, and its maxima are found exactly in bounded memory.

Two passes over windows of slices. The first, without gradient, finds the pooled features m of the whole volume, and the head
gives the loss :math:`L(W m + b)` with :math:`g_c = \partial L / \partial m_c`. The second runs the windows again, with
gradient, and sends :math:`\sum_c g_c \sum_p s_c(p) f_c(p)` backwards, where :math:`s_c(p) = \partial m_c / \partial f_c(p)`
is known from the first pass: that is the gradient of the loss, and windows in which all s are 0 need not be run.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...training.inference import mixed_precision
from .explaining import SLICES, with_neighbours
from .pooling import TiledPooling

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .classifier import ExplainableClassifier


def bag_loss(
    network: ExplainableClassifier,
    images: Tensor,
    truth: Tensor,
    class_weights: Tensor,
    *,
    context: int = 0,
    scale: float = 1.0,
    window: int = 0,
) -> tuple[float, Tensor]:
    """Loss of one volume's label; its gradient, divided by `scale`, is added to the network's.

    Norm layers run on their running statistics, and dropout is off, so that both passes see the same features; the
    statistics are moved by a further look at one window.

    Parameters
    ----------
    network : ExplainableClassifier
        2D (slices are seen one by one) or 3D.
    images : Tensor, shape (C, slices, H, W)
        On the CPU; windows are moved to the network's device.
    truth : Tensor, shape (1,)
        The volume's class.
    class_weights : Tensor, shape (K,)
        As for `torch.nn.functional.cross_entropy`; the weight stays in the loss (it would cancel in a mean over one).
    context : int
        Neighbouring slices as channels (2D).
    scale : float
        What the gradient is divided by.
    window : int
        Slices per pass without the halo; 0 for the usual number.

    Returns
    -------
    loss : float
    logits : Tensor, shape (K,)
    """
    seen = with_neighbours(images, context)
    flat = len(network.kernels[0]) == 2
    device = class_weights.device
    size = (seen.shape[1], seen.shape[2], seen.shape[3])
    network.eval()
    parts = list(_windows(network, size[0], window or (SLICES if flat else 4 * SLICES)))
    pool = TiledPooling(network.head, size)
    with torch.no_grad():
        for part in parts:
            pool.add(_features(network, seen, part, device), (part[0], 0, 0))
        pooled = pool.pooled().float()
    pooled.requires_grad_()
    logits = network.head.classify(pooled)
    loss = functional.cross_entropy(logits[None], truth) * class_weights[truth[0]]
    (loss / scale).backward()  # type: ignore[no-untyped-call]
    assert pooled.grad is not None
    points = pool.points()
    for part in parts:
        weight = _shares(network, pooled.detach(), points.places, points.channels, size, part)
        if weight is None:
            continue
        features = _features(network, seen, part, device)
        if network.head.pooling.kind == "log-sum-exp":
            r = network.head.pooling.sharpness
            weight = torch.exp(r * (features.detach() - pooled.detach()[:, None, None, None])) / math.prod(size)
        (pooled.grad[:, None, None, None] * weight.to(device) * features).sum().backward()  # type: ignore[no-untyped-call]
    network.train()
    if any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in network.modules()):
        with torch.no_grad():
            _features(network, seen, parts[int(torch.randint(len(parts), ()))], device)
    return float(loss.detach()), logits.detach()


def _windows(network: ExplainableClassifier, slices: int, length: int) -> Iterator[tuple[int, int, int, int]]:
    """Slices that each window is for, and those that it has to look at: (begin, end, first, last)."""
    if len(network.kernels[0]) == 2:
        halo, step = 0, length
    elif network.halo is None:
        halo, step = 0, slices
    else:
        halo, step = network.halo[0], max(network.stride[0], length // network.stride[0] * network.stride[0])
    for begin in range(0, slices, step):
        end = min(slices, begin + step)
        yield begin, end, max(0, begin - halo), min(slices, end + halo)


def _features(network: ExplainableClassifier, seen: Tensor, part: tuple[int, int, int, int], device: torch.device) -> Tensor:
    """Features (F, slices, H, W) of the slices that a window is for."""
    begin, end, first, last = part
    images = seen[:, first:last].to(device)
    with mixed_precision(device):
        if len(network.kernels[0]) == 2:
            features = network.features(images.transpose(0, 1)).transpose(0, 1)
        else:
            features = network.features(images[None])[0]
    return features[:, begin - first : end - first].float()


def _shares(
    network: ExplainableClassifier,
    pooled: Tensor,
    places: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    channels: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    size: tuple[int, int, int],
    part: tuple[int, int, int, int],
) -> Tensor | None:
    """What each voxel of a window counts in the pooled features, (F, slices, H, W); None where none does."""
    begin, end = part[:2]
    shape = (len(pooled), end - begin, *size[1:])
    if network.head.pooling.kind == "log-sum-exp":
        return torch.ones(1)
    inside = (places[:, 0] >= begin) & (places[:, 0] < end)
    if not inside.any():
        return None
    weight = torch.zeros(shape)
    rows = places[inside] - np.array([begin, 0, 0])
    count = network.head.pooling.count(math.prod(size))
    weight[channels[inside], rows[:, 0], rows[:, 1], rows[:, 2]] = 1 / count
    return weight
