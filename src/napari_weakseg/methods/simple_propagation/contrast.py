"""Stage 1's contrastive loss: features of lesion voxels resemble each other, and not those of the background."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def draw_voxels(labels: Tensor, value: int, number: int, generator: torch.Generator) -> Tensor:
    """Flat indices of at most `number` random voxels with that label; padding and unlabelled voxels are never drawn.

    Parameters
    ----------
    labels : Tensor of int64, any shape
        Class per voxel.
    value : int
        Label to draw from.
    number : int
        How many at most; fewer where there are fewer.
    generator : torch.Generator
        On the CPU: the draw is the same on every device.
    """
    found = torch.nonzero(labels.reshape(-1) == value)[:, 0]
    order = torch.randperm(len(found), generator=generator)[:number].to(found.device)
    return found[order]


def contrastive_loss(positive: Tensor, negative: Tensor, *, temperature: float = 0.1) -> Tensor:
    r"""Pairwise contrast between lesion and background features.

    .. math:: s_{ij} = \sigma(\cos(x_i, x_j) / \tau), \quad
        L = \frac{1}{|P|} \sum_{(i,j) \in P} -\log s_{ij} [y_i = y_j = 1] - \log(1 - s_{ij}) [y_i \ne y_j]

    over the pairs i < j of which at least one is positive; negative pairs are left out.

    Parameters
    ----------
    positive, negative : Tensor, shape (N+, C), (N-, C)
        Features with their gradients.
    temperature : float
        tau.

    Returns
    -------
    Tensor, scalar
        0 where there is no pair.

    References
    ----------
    Zhong and Wang, SimPLe, MICCAI 2023. The authors' code takes the targets from fixed index blocks of 100, which is wrong
    as soon as fewer voxels are drawn; here they come from the labels of the drawn voxels.
    """
    positive, negative = functional.normalize(positive, dim=1), functional.normalize(negative, dim=1)
    upper = torch.triu_indices(len(positive), len(positive), offset=1, device=positive.device)
    same = (positive @ positive.T)[upper[0], upper[1]] / temperature
    mixed = (positive @ negative.T).reshape(-1) / temperature
    # -log sigma(z) = softplus(-z) and -log(1 - sigma(z)) = softplus(z), which do not overflow
    total = functional.softplus(-same).sum() + functional.softplus(mixed).sum()
    return total / max(1, len(same) + len(mixed))
