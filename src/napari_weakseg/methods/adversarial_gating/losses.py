"""The dynamic weight that joins supervision and game, and the self-consistency that replaces the game without masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def dynamic_weight(other: Tensor, supervised: Tensor, *, limit: float) -> Tensor:
    r"""Weight of the supervised loss, without a gradient: :math:`w = |\mathrm{sg}(L_o / \max(L_S, 10^{-6}))|`, at most `limit`.

    The gradient of :math:`w L_S` is :math:`L_o \nabla \log L_S`: it is as large as the other loss, whatever the scale of
    :math:`L_S`. As published w grows without bound when :math:`L_S` goes to 0; hence the limit.

    Parameters
    ----------
    other : Tensor, scalar
        The adversarial loss (MAAG) or the consistency loss (PyAG).
    supervised : Tensor, scalar
        The partial cross-entropy.
    limit : float
        Largest weight.
    """
    ratio = (other / supervised.clamp(min=1e-6)).abs().detach()
    return torch.clamp(ratio, max=limit)


def consistency_loss(probability: Tensor, attentions: tuple[Tensor, ...]) -> Tensor:
    r"""How far the gates are from the network's own prediction, which teaches them where no unpaired masks do.

    .. math:: L = \frac13 \sum_{r = 1/2, 1/4, 1/8} 1 - \mathrm{Dice}(a^r_{1..}, \mathrm{sg}(p \downarrow r)_{1..})

    with the soft Dice per image, foreground classes pooled, smoothing 1e-12.

    Parameters
    ----------
    probability : Tensor, shape (B, classes, ...)
        At full resolution; it gets no gradient from here.
    attentions : tuple of Tensor
        As `GatedUNet` returns them, fine to coarse; the first is at full resolution and not used.

    References
    ----------
    Valvano et al., "Self-supervised Multi-scale Consistency for Weakly Supervised Segmentation Learning", DART 2021, arXiv
    2108.11900; constants of the authors' code.
    """
    target = probability.detach()
    mode = "bilinear" if probability.ndim == 4 else "trilinear"
    losses = []
    for attention in attentions[1:]:
        own = attention[:, 1:].flatten(1)
        wanted = functional.interpolate(target, size=attention.shape[2:], mode=mode, align_corners=False)[:, 1:].flatten(1)
        overlap = 2 * (own * wanted).sum(1) + 1e-12
        losses.append(1 - overlap / (own.sum(1) + wanted.sum(1) + 1e-12))
    return torch.stack(losses).mean()
