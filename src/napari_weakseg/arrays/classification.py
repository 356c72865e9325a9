"""How well guessed classes fit the true ones: AUROC, F1, balanced accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def auroc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Chance that a positive scores above a negative, ties counted half; nan without either.

    Parameters
    ----------
    scores : array, shape (N,)
        Higher is more likely positive.
    positive : array of bool, shape (N,)
        What is to score high.
    """
    from scipy.stats import rankdata

    value, truth = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    yes, no = int(truth.sum()), int((~truth).sum())
    if not yes or not no:
        return float("nan")
    return float((rankdata(value)[truth].sum() - yes * (yes + 1) / 2) / (yes * no))


def class_scores(probability: NDArray[Any], truth: NDArray[Any]) -> dict[str, Any]:
    """Figures of a classifier; those that are undefined are nan.

    Parameters
    ----------
    probability : ndarray, shape (N, C)
        Per case or slice; the most probable class is the guess.
    truth : ndarray of int, shape (N,)
        Its class.

    Returns
    -------
    dict
        ``f1``, ``auroc`` (one class against the rest) and ``count``, each a list per class; ``macro_f1``,
        ``balanced_accuracy`` and ``accuracy``. F1 of a class that is neither there nor guessed is nan.
    """
    guess, classes = probability.argmax(axis=1), range(probability.shape[1])
    f1, recall = [], []
    for number in classes:
        hit = int(((guess == number) & (truth == number)).sum())
        total = int((guess == number).sum() + (truth == number).sum())
        f1.append(2 * hit / total if total else float("nan"))
        recall.append(hit / int((truth == number).sum()) if (truth == number).any() else float("nan"))
    present = [value for value in recall if value == value]
    return {
        "f1": f1,
        "auroc": [auroc(probability[:, number], truth == number) for number in classes],
        "count": [int((truth == number).sum()) for number in classes],
        "macro_f1": float(np.nanmean(f1)) if len(truth) else float("nan"),
        "balanced_accuracy": float(np.mean(present)) if present else float("nan"),
        "accuracy": float((guess == truth).mean()) if len(truth) else float("nan"),
    }
