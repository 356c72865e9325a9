"""What a classifier says of one volume and why, without Qt or napari: scores, slices, heatmaps, and the places that decided."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..arrays.body import body_mask
from ..arrays.heatmaps import multi_otsu, threshold_at, where_predicted
from ..errors import DataError
from ..prompts import Structure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..method import Result
    from ..volume import FloatArray, Volume

HEATMAP, PROBABILITY, THRESHOLD, POINTS, BIAS, SLICES = (
    "heatmap ",
    "probability ",
    "threshold ",
    "decision points ",
    "decision bias ",
    "slice probabilities",
)
MOST_POINTS = 2000
"""More decision points than this are not drawn: only the heaviest, and it is said."""


@dataclass(frozen=True, eq=False)
class Decision:
    """Places whose contributions, with the bias, add up to a class's score.

    Parameters
    ----------
    voxels : ndarray, shape (N, 3)
        Voxel index (i, j, k) of each.
    contributions : ndarray, shape (N,)
        What each adds to the score (the logit).
    channels : ndarray, shape (N,), int
        The network's feature map that each belongs to.
    bias : float
        What the score starts from.
    """

    voxels: FloatArray
    contributions: FloatArray
    channels: NDArray[np.int64]
    bias: float

    @property
    def score(self) -> float:
        """Bias and all contributions: the logit that the network gives to the class."""
        return self.bias + float(self.contributions.sum())

    def part(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Decision:
        """Some of the places."""
        return Decision(self.voxels[rows], self.contributions[rows], self.channels[rows], self.bias)

    def heaviest(self, count: int = MOST_POINTS) -> Decision:
        """The places that count most."""
        if len(self.contributions) <= count:
            return self
        return self.part(np.sort(np.argsort(-np.abs(self.contributions), kind="stable")[:count]))


@dataclass(frozen=True, eq=False)
class Explanation:
    """A classifier's `Result` on one volume, as the viewer shows it.

    Parameters
    ----------
    volume : Volume
        The image it was made on.
    result : Result
        With ``heatmap <class>`` among its maps and ``probability <class>`` among its scores.
    slice_axis : int
        Array axis along which slices were classified.
    by_slice : bool
        Whether each slice was judged by itself; else the volume was, also where every slice has a probability.
    channels : tuple of Volume
        All that the classifier saw, for a boundary on the image; default `volume` alone.
    min_component : float
        Components below so many mm³ are no part of a mask, as in the run's recipe.

    Raises
    ------
    DataError
        The result holds no heatmap: the run is not one of a classifier.
    """

    volume: Volume
    result: Result
    slice_axis: int = 2
    by_slice: bool = True
    channels: tuple[Volume, ...] = ()
    min_component: float = 0.0
    _ranges: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.mapped:
            raise DataError("this run gives no heatmap: choose the folder of a classifier that was trained on image labels.")

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes that have a score, in the run's order; those of the heatmaps where there are no scores."""
        scored = tuple(name.removeprefix(PROBABILITY) for name in self.result.scores if name.startswith(PROBABILITY))
        return scored or tuple(name.removeprefix(HEATMAP) for name in self.result.maps if name.startswith(HEATMAP))

    @property
    def mapped(self) -> tuple[str, ...]:
        """Classes that have a heatmap."""
        return tuple(name for name in self.classes if HEATMAP + name in self.result.maps)

    @property
    def foreground(self) -> tuple[str, ...]:
        """Classes that a mask is drawn of: those with a structure, else all but the first, which stands for "nothing there"."""
        named = {structure.name for structure in self.result.structures}
        drawn = tuple(name for name in self.mapped if name in named)
        return drawn or tuple(name for name in self.mapped if name != self.classes[0]) or self.mapped

    @property
    def first_choice(self) -> str:
        """The class to show first: the most probable one that a mask is drawn of."""
        return max(self.foreground, key=self.probability)

    def probability(self, name: str) -> float:
        """Probability of a class in the volume."""
        return float(self.result.scores.get(PROBABILITY + name, np.nan))

    @cached_property
    def slices(self) -> NDArray[np.float32] | None:
        """Probabilities (slices, classes) in file order; None where the volume was classified as a whole."""
        table = self.result.tables.get(SLICES)
        if table is None or table.shape != (self.volume.shape[self.slice_axis], len(self.classes)):
            return None
        return np.asarray(table, dtype=np.float32)

    def slices_of(self, name: str) -> NDArray[np.float32] | None:
        """Probability of a class in each slice."""
        return None if self.slices is None else self.slices[:, self.classes.index(name)]

    def predicted(self, name: str) -> NDArray[np.bool_]:
        """Per slice along `slice_axis`: whether the class is the most probable one there."""
        if self.judged_by_slice and self.slices is not None:
            return np.asarray(self.slices.argmax(axis=1) == self.classes.index(name))
        best = max(self.classes, key=self.probability)
        return np.full(self.volume.shape[self.slice_axis], name == best)

    @property
    def judged_by_slice(self) -> bool:
        """Whether there is a decision for every slice."""
        return self.by_slice and self.slices is not None

    @cached_property
    def body(self) -> NDArray[np.bool_]:
        """Voxels of the body: nothing is drawn in the air around it."""
        return body_mask(self.volume.array)

    def heatmap(self, name: str) -> NDArray[np.float32]:
        """What the decision was made from, shape (I, J, K): the network's own map, not scaled."""
        return np.asarray(self.result.maps[HEATMAP + name], dtype=np.float32)

    def allowed(self, name: str) -> NDArray[np.bool_]:
        """Voxels of the body in slices where the class is predicted: nothing is drawn elsewhere."""
        return where_predicted(self.volume.shape, self.predicted(name), slice_axis=self.slice_axis, inside=self.body)

    def threshold(self, name: str) -> float:
        """The threshold to begin with: the run's own, else multi-Otsu's where the class is predicted."""
        own = self.result.scores.get(THRESHOLD + name)
        if own is not None and np.isfinite(own):
            return float(own)
        allowed = self.allowed(name)
        return threshold_at(multi_otsu(self.heatmap(name), allowed if allowed.any() else None))

    def range_of(self, name: str) -> tuple[float, float]:
        """Between which thresholds a slider moves: the heatmap's median and its maximum."""
        if name not in self._ranges:
            heat = self.heatmap(name).ravel()
            finite = heat[np.isfinite(heat)]
            low, high = (float(np.median(finite)), float(finite.max())) if finite.size else (0.0, 1.0)
            self._ranges[name] = (low, high) if high > low else (low, low + 1.0)
        return self._ranges[name]

    def structure(self, name: str) -> Structure:
        """The structure that stands for a class in masks."""
        for structure in self.result.structures:
            if structure.name == name:
                return structure
        if len(self.result.structures) == 1 == len(self.foreground):
            return self.result.structures[0]
        return Structure(name, 1 + self.foreground.index(name) if name in self.foreground else 254)

    def decision(self, name: str, index: int | None = None) -> Decision | None:
        """The places that decided on a class, in one slice or in all; None where the run does not say.

        Parameters
        ----------
        name : str
            The class.
        index : int, optional
            Slice along `slice_axis`, for a network that judges slice by slice: then bias and contributions add up to that
            slice's score.
        """
        table = self.result.tables.get(POINTS + name)
        if table is None:
            return None
        table = np.asarray(table, dtype=np.float64).reshape(-1, 5)
        if index is not None and self.judged_by_slice:
            table = table[np.round(table[:, self.slice_axis]) == index]
        bias = float(np.asarray(self.result.tables.get(BIAS + name, 0.0), dtype=np.float64).ravel()[0])
        return Decision(table[:, :3], table[:, 3], table[:, 4].astype(np.int64), bias)

    def best_slice(self, name: str) -> int:
        """The slice to look at first: the most probable one, else the one with the heatmap's maximum."""
        probabilities = self.slices_of(name)
        heat = self.heatmap(name)
        if probabilities is None:
            return int(np.unravel_index(int(np.nanargmax(heat)), heat.shape)[self.slice_axis])
        others = tuple(axis for axis in range(3) if axis != self.slice_axis)
        sure = probabilities >= probabilities.max() - 1e-3
        return int(np.argmax(np.where(sure, heat.max(axis=others), -np.inf)))
