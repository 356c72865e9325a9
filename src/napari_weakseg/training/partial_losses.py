"""Losses over the voxels that carry a label, and over no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
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


def weighted_partial_cross_entropy_loss(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Partial cross-entropy in which every class counts the same, however few voxels of it are marked.

    .. math::

        L = -\frac1n \sum_i \sum_c \frac{n}{n_c} y_{ic} \log p_{ic}
          = \sum_{c: n_c > 0} \mathrm{mean}_{i: y_i = c} (-\log p_{ic})

    with :math:`n_c` labelled voxels of class c in the batch and :math:`n = \sum_c n_c`.

    Parameters
    ----------
    logits : Tensor, shape (B, K, ...)
        Before the softmax.
    labels : Tensor of int64, shape (B, ...)
        Class, or `IGNORE`.

    Returns
    -------
    Tensor, scalar
        0, with a gradient of 0, without a label.

    References
    ----------
    Valvano et al., IEEE TMI 2021; authors' code, which divides by all voxels of the batch instead of the labelled ones. With
    the dynamic weight, which divides by this loss, the factor between the two cancels.
    """
    classes = logits.shape[1]
    each = functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none").reshape(-1)
    flat = labels.reshape(-1)
    known = flat != IGNORE
    counts = torch.bincount(flat[known], minlength=classes)
    weights = 1 / counts.clamp(min=1).to(each.dtype)
    return (each * weights[flat.clamp(min=0)] * known).sum()


def soft_cross_entropy_loss(logits: Tensor, targets: Tensor) -> Tensor:
    r"""Mean cross-entropy against probabilities, :math:`-\frac1n \sum_i \sum_c q_{ic} \log p_{ic}`, where there are some.

    Parameters
    ----------
    logits, targets : Tensor, shape (B, K, ...)
        Before the softmax; probabilities that sum to 1, or all 0 where nothing is known (padding).
    """
    total = -(targets * logits.log_softmax(1)).sum()
    return total / (targets.sum(1) > 0).sum().clamp(min=1)


def balanced_error(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of 1 - p over the labelled voxels of each class, and how many these are; both of shape (K,).

    For choosing weights on strokes that were held out: unlike the cross-entropy it does not explode where the network is sure.
    """
    classes = logits.shape[1]
    flat = labels.reshape(-1)
    known = flat != IGNORE
    p = logits.softmax(1).movedim(1, -1).reshape(-1, classes)[known]
    y = flat[known]
    errors = 1 - p.gather(1, y[:, None])[:, 0]
    sums = torch.zeros(classes, dtype=errors.dtype, device=errors.device).index_add_(0, y, errors)
    return sums, torch.bincount(y, minlength=classes)
