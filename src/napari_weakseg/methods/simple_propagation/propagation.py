"""Stage 2: unlabelled voxels whose features resemble nearly all of the drawn lesion voxels are voted into the lesion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 65536
"""Voxels per matrix product, so that memory stays bounded."""


def propagated(features: Tensor, positive: Tensor, *, similarity: float = 0.96, agreement: float = 0.96) -> Tensor:
    r"""Which voxels the drawn lesion voxels vote in.

    .. math:: \mathrm{votes}(u) = \sum_p [\cos(x_u, x_p) > \lambda], \quad
        \hat y(u) = 1 \text{ if } \mathrm{votes}(u) / n > \alpha

    Parameters
    ----------
    features : Tensor, shape (U, C)
        Of unlabelled voxels, detached.
    positive : Tensor, shape (n, C)
        Of the drawn lesion voxels, detached; n may be below the number asked for.
    similarity : float
        lambda.
    agreement : float
        alpha, as a share: the authors' code compares with a fixed count of 96, which fewer than 97 voxels never reach.

    Returns
    -------
    Tensor of bool, shape (U,)
        All False without drawn voxels.
    """
    if len(positive) == 0 or len(features) == 0:
        return features.new_zeros(len(features)).bool()
    drawn = functional.normalize(positive, dim=1).T
    voted = features.new_zeros(len(features)).bool()
    for start in range(0, len(features), CHUNK):
        part = functional.normalize(features[start : start + CHUNK], dim=1) @ drawn
        voted[start : start + CHUNK] = (part > similarity).float().mean(dim=1) > agreement
    return voted
