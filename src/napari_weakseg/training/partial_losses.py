"""Losses over the voxels that carry a label, and over no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

IGNORE = -1
"""Label of a voxel that supervises nothing: unlabelled, or padding. Never 0, which is the background."""


def partial_cross_entropy_loss(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Mean cross-entropy over the labelled voxels; 0, with a gradient of 0, where there are none.

    .. math:: L = -\frac{1}{\max(1, |\Omega_s|)} \sum_{i \in \Omega_s} \log p_{i, y_i}

    Parameters
    ----------
    logits : Tensor, shape (B, K, D, H, W)
        Before the softmax.
    labels : Tensor of int64, shape (B, D, H, W)
        Class, or `IGNORE`.

    Notes
    -----
    ``torch.nn.CrossEntropyLoss(ignore_index=...)`` divides by the number of labelled voxels and is NaN without any, which
    destroys the weights.
    """
    total = functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)
