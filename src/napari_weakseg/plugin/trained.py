"""A trained run as a panel needs it, without Qt or napari: what it is, what it takes, and its answer on one image."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError
from ..methods import get_method
from .explanation import Explanation
from .model_card import card_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from ..case import Case
    from ..method import Card, Weights


@dataclass(frozen=True, eq=False)
class Trained:
    """The weights of a run folder, and what is said of them.

    Parameters
    ----------
    folder : Path
        The run folder.
    weights : Weights
        What it has learnt.
    """

    folder: Path
    weights: Weights

    @classmethod
    def read(cls, folder: str | Path) -> Trained:
        """Read a run folder.

        Raises
        ------
        DataError
            No run, damaged, or of a newer version.
        """
        from ..io.runs import read_weights

        return cls(Path(folder), read_weights(folder))

    @classmethod
    def found_in(cls, folder: str | Path) -> list[Trained]:
        """The run of a folder, or all runs that lie in it, the newest first; those that have learnt nothing yet are left out.

        Raises
        ------
        DataError
            There is none.
        """
        folder = Path(folder)
        inner = [] if (folder / "recipe.json").is_file() or not folder.is_dir() else list(folder.iterdir())
        runs = []
        for path in sorted(
            (path for path in inner if (path / "recipe.json").is_file()), key=lambda path: -path.stat().st_mtime
        ):
            with contextlib.suppress(DataError):
                runs.append(cls.read(path))
        return runs or [cls.read(folder)]

    @property
    def name(self) -> str:
        """What the list of runs shows: the folder's own name."""
        return self.folder.name

    @property
    def card(self) -> Card:
        """Of the method that it was trained with."""
        return get_method(self.weights.method).card

    @property
    def channels(self) -> tuple[str, ...]:
        """Channels that it was trained on, in order."""
        return tuple(str(name) for name in self.weights.meta.get("channels", ())) or ("image",)

    @property
    def slice_axis(self) -> int:
        """Array axis along which slices are classified."""
        return int(self.weights.meta.get("slice_axis", 2))

    @property
    def about(self) -> str:
        """The model card: what it was trained on, how, when, and how good it is."""
        return card_of(self.folder, self.weights)

    def line(self) -> str:
        """One line: method, network, classes, what it learnt from."""
        meta, recipe = self.weights.meta, self.weights.recipe
        parts = [str(getattr(recipe, "network", "")).replace("_", " ") or self.card.title, f"preset {recipe.preset}"]
        classes = meta.get("image_classes", meta.get("classes", ()))
        if classes:
            parts.append(" / ".join(str(name) for name in classes))
        if meta.get("cases"):
            parts.append(f"{meta['cases']} cases")
        return " · ".join(part for part in parts if part)

    def steps(self, case: Case) -> Generator[str, None, Explanation]:
        """Run on one case: yields what it does, returns the explanation.

        Raises
        ------
        WeaksegError
            The run does not fit the image, or gives no heatmap.
        """
        if "image_label" not in self.card.prompts:
            raise DataError(f"{self.name} was not trained on image labels and has no heatmap; choose another run.")
        yield "reading the image"
        from ..api import segment

        yield "looking for the classes"
        result = segment(case, weights=self.weights)
        return Explanation(
            case.volume,
            result,
            self.slice_axis,
            bool(self.weights.meta.get("by_slice", True)),
            tuple(case.channels.values()),
            float(getattr(self.weights.recipe, "min_component", 0.0)),
        )
