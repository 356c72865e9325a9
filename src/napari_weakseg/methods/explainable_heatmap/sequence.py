r"""Slices of a volume are a sequence: what lies between two abnormal slices is seldom normal.

A hidden Markov chain over the slices' classes, learnt by counting in the training labels alone. The emission of slice k is the
network's softmax, which was trained on balanced classes and so is proportional to the likelihood, raised to a power
:math:`\tau \le 1`, since neighbouring slices are much alike and their errors, too. The marginals (forward and backward pass)
are the probabilities that decide; the logits, and the decision points that add up to them, stay those of the slice.

References
----------
Rabiner, Proc. IEEE 77:257 (1989), equations 19 to 27. Its use here, and the power, are ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def learnt_chain(labels: Sequence[Sequence[int]], classes: int) -> dict[str, list[Any]]:
    """Shares of the classes at the ends of volumes and of the steps between neighbouring slices, every count begun at 1.

    Returns
    -------
    dict
        JSON values: ``"first"`` and ``"last"`` (K), ``"steps"`` (K, K; rows add up to 1).
    """
    first, last, steps = np.ones(classes), np.ones(classes), np.ones((classes, classes))
    for sequence in labels:
        values = np.asarray(sequence, dtype=np.int64)
        first[values[0]] += 1
        last[values[-1]] += 1
        np.add.at(steps, (values[:-1], values[1:]), 1)
    steps /= steps.sum(axis=1, keepdims=True)
    return {"first": (first / first.sum()).tolist(), "last": (last / last.sum()).tolist(), "steps": steps.tolist()}


def in_sequence(logits: NDArray[np.floating[Any]], chain: dict[str, list[Any]], power: float) -> NDArray[np.float64]:
    """Class probabilities of each slice, given all slices.

    Parameters
    ----------
    logits : ndarray, shape (slices, K)
        Of a network trained on balanced classes.
    chain : dict
        See `learnt_chain`.
    power : float
        0 < τ <= 1.

    Returns
    -------
    ndarray, shape (slices, K)
        Rows add up to 1.
    """
    steps = np.asarray(chain["steps"], dtype=np.float64)
    scaled = power * np.asarray(logits, dtype=np.float64)
    emission = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    # an end is reached with the share of classes at ends, relative to what the chain itself would expect there
    usual = np.linalg.matrix_power(steps, 1000)[0]
    forward, backward = np.empty_like(emission), np.empty_like(emission)
    forward[0] = np.asarray(chain["first"]) * emission[0]
    backward[-1] = np.asarray(chain["last"]) / usual
    for k in range(1, len(emission)):
        forward[k - 1] /= forward[k - 1].sum()
        forward[k] = (forward[k - 1] @ steps) * emission[k]
    for k in range(len(emission) - 2, -1, -1):
        backward[k + 1] /= backward[k + 1].sum()
        backward[k] = steps @ (emission[k + 1] * backward[k + 1])
    joint = forward * backward
    return np.asarray(joint / joint.sum(axis=1, keepdims=True))
