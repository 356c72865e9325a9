"""What a method is, and what goes in and comes out of it: `Method`, `Card`, `Step`, `Weights`, `Checkpoints`, `Result`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from numpy.typing import NDArray

    from .case import Case
    from .prompts import Structure
    from .recipe import Recipe
    from .volume import Volume


@dataclass(frozen=True)
class Card:
    """What is said of a method before anything heavy is imported.

    Parameters
    ----------
    name : str
        Name in the register, on the command line and in records.
    title : str
        What it is called in a panel: the task, not the method.
    prompts : tuple of str
        Of ``"extreme_points"``, ``"scribbles"``, ``"image_label"``: marks that it takes.
    paper, doi : str
        Citation and DOI of the publication; empty for a baseline.
    dimensions : str
        ``"2D"``, ``"3D"`` or ``"2D, 3D"``.
    learns_unmarked : bool
        Whether cases without marks may take part in a training, beside others that have some.
    learns_masks : bool
        Whether ``fit`` takes ``unpaired_masks``: masks of other patients.
    corrects : bool
        Whether strokes may correct an earlier mask (``case.previous``).
    """

    name: str
    title: str
    prompts: tuple[str, ...]
    paper: str = ""
    doi: str = ""
    dimensions: str = "3D"
    learns_unmarked: bool = False
    learns_masks: bool = False
    corrects: bool = False


@dataclass(frozen=True, eq=False)
class Preview:
    """Probabilities on a box of the volume; outside it they are 0.

    Parameters
    ----------
    probability : ndarray, shape (C, i, j, k), float32
        One map per structure, in the order of `structures`.
    start : tuple of int
        Voxel index of the box's first voxel.
    shape : tuple of int
        Shape (I, J, K) of the whole volume.
    structures : tuple of Structure
        What the maps are of.
    threshold : float
        A voxel above it belongs to the structure that is most probable there.
    case : str
        Id of the case that it is of, where a fit has many.
    """

    probability: NDArray[np.float32]
    start: tuple[int, int, int]
    shape: tuple[int, int, int]
    structures: tuple[Structure, ...]
    threshold: float = 0.5
    case: str = ""

    @property
    def window(self) -> tuple[slice, slice, slice]:
        """The box as an index into the volume."""
        i, j, k = (slice(s, s + n) for s, n in zip(self.start, self.probability.shape[1:], strict=True))
        return i, j, k

    def box_labels(self) -> NDArray[np.uint8]:
        """The mask on the box: each voxel's most probable structure if above `threshold`, else 0."""
        best = self.probability.argmax(axis=0)
        values = np.array([structure.value for structure in self.structures], dtype=np.uint8)
        return np.where(self.probability.max(axis=0) > self.threshold, values[best], 0).astype(np.uint8)

    def labels(self) -> NDArray[np.uint8]:
        """The mask on the whole volume, shape (I, J, K)."""
        full = np.zeros(self.shape, dtype=np.uint8)
        full[self.window] = self.box_labels()
        return full

    def on_volume(self, structure: int = 0) -> NDArray[np.float32]:
        """One structure's probability on the whole volume, shape (I, J, K)."""
        full = np.zeros(self.shape, dtype=np.float32)
        full[self.window] = self.probability[structure]
        return full


@dataclass(frozen=True, eq=False)
class Step:
    """One yield of `Method.fit`: where it stands.

    Parameters
    ----------
    stage : str
        For example ``"first mask"``, ``"train"``, ``"propagate"``, ``"retrain"``.
    index, total : int
        Step of this stage, counted from 1, and how many there are to be.
    scores : dict of str to float
        Losses and the like.
    preview : Preview or None
        A mask to show; None in most steps. The first step always has one.
    progress : float
        Share of the whole fit that is done, 0 to 1.
    note : str
        One sentence for the user, for example that the device was changed.
    """

    stage: str
    index: int
    total: int
    scores: Mapping[str, float] = field(default_factory=dict)
    preview: Preview | None = None
    progress: float = 0.0
    note: str = ""


@dataclass(frozen=True, eq=False)
class Weights:
    """What a fit has learnt, as plain arrays.

    Parameters
    ----------
    method : str
        Name in the register.
    recipe : Recipe
        The recipe as it was carried out.
    structures : tuple of Structure
        The classes behind the background, in order.
    tensors : dict of str to ndarray
        Parameters and buffers by name.
    meta : dict
        JSON values: architecture id and arguments, steps done per stage, device, seconds, notes.
    """

    method: str
    recipe: Recipe
    structures: tuple[Structure, ...]
    tensors: Mapping[str, NDArray[Any]]
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class TrainingState:
    """All that a training needs to go on where it was, as plain arrays and JSON values.

    Parameters
    ----------
    weights : Weights
        What the training would return if it ended here: good enough to predict with.
    tensors : dict of str to ndarray
        Modules in training and their optimisers' moments, by name.
    meta : dict
        JSON values: stage, steps done in it and in the stages before, learning rates.
    """

    weights: Weights
    tensors: Mapping[str, NDArray[Any]]
    meta: Mapping[str, Any] = field(default_factory=dict)


class Checkpoints(Protocol):
    """Where a training leaves its state as it goes, so that a kill at any moment costs little.

    A fit saves when `due` says so, at the end of each stage, and when it is closed; a killed process skips the last one.
    """

    def latest(self) -> TrainingState | None:
        """The last good state, or None where the training is to begin."""
        ...

    def due(self) -> bool:
        """Whether enough was done since the last save."""
        ...

    def save(self, state: TrainingState) -> None:
        """Keep the state; the one before it stays until this one is safe."""
        ...


@dataclass(frozen=True, eq=False)
class Result:
    """A segmented volume.

    Parameters
    ----------
    mask : Volume
        Labels in the smallest exact unsigned type, on the volume's grid; 0 is background.
    structures : tuple of Structure
        What the labels mean.
    maps : dict of str to ndarray
        Further maps (I, J, K) float32: ``"probability <structure>"``, ``"uncertainty"``.
    scores : dict of str to float
        Figures that need no reference, for example the mean doubt.
    record : dict
        How it was made, without paths and patient data; `replay` makes the same mask from it.
    notes : tuple of str
        What the user should know of this result.
    tables : dict of str to ndarray
        What is no map: for classifiers ``"slice probabilities"`` (slices, classes) in file order, ``"decision points
        <class>"`` (N, 5) with i, j, k, contribution to the logit and channel, ``"decision bias <class>"`` (1,).
    """

    mask: Volume
    structures: tuple[Structure, ...]
    maps: Mapping[str, NDArray[np.floating[Any]]] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    tables: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def labels(self) -> NDArray[Any]:
        """The mask's voxels, shape (I, J, K)."""
        return self.mask.array


class Method(Protocol):
    """A room under ``methods/``: its module has these names.

    ``fit`` is a generator, so that one implementation serves the console, the command line and the panel: whoever
    drives it may stop at any yield. Its first yield has a preview. The return value of the generator is the `Weights`.
    """

    card: Card
    recipe_class: type[Recipe]

    def fit(
        self,
        cases: Sequence[Case],
        recipe: Recipe,
        weights: Weights | None = None,
        *,
        validation: Sequence[Case] = (),
        checkpoints: Checkpoints | None = None,
    ) -> Generator[Step, None, Weights]:
        """Learn from the marks of `cases`, from scratch or from `weights`.

        `validation` is for losses on marks that are shown beside the training's, never for choosing on masks. With
        `checkpoints` the state is saved as training goes, and its latest one is where it begins.
        """
        ...

    def predict(self, case: Case, weights: Weights) -> Result:
        """Segment one case; its own marks are used where the method can."""
        ...
