"""The errors that a user may see.

Each carries one sentence: what is wrong, with the file's base name, and what to do. None derives from `RuntimeError`,
because generator workers of superqt swallow that one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class WeaksegError(Exception):
    """Base of every error that this package raises on purpose."""


class GeometryError(WeaksegError):
    """Two things do not lie on the same grid, or a grid is unusable."""


class PromptError(WeaksegError):
    """Points, strokes or image-level labels that cannot be used."""


class RecipeError(WeaksegError):
    """A setting outside its range, or one that the method does not have."""


class DataError(WeaksegError):
    """A file that is damaged, ambiguous or not what its name says."""


class CohortFaults(DataError):
    """Cases of a cohort cannot be used: all that was found, not the first alone.

    Parameters
    ----------
    faults : sequence of str
        One sentence each.
    where : str
        What they are in, for the text: the first fault, and how many more there are.
    """

    def __init__(self, faults: Sequence[str], *, where: str = "") -> None:
        more = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
        super().__init__(f"{where}: {faults[0]}{more}" if where else f"{faults[0]}{more}")
        self.faults = tuple(faults)


class MissingPackageError(WeaksegError):
    """An optional package is needed and not installed."""


class Ask(WeaksegError):
    """Input with more than one reading: the user has to choose, nothing is guessed.

    Parameters
    ----------
    message : str
        One sentence that says what is ambiguous.
    argument : str
        Keyword argument (in the console) or option (on the command line, with ``--`` in front) that answers it.
    choices : tuple of str
        The answers that are possible; empty where any value of the right kind is.
    """

    def __init__(self, message: str, *, argument: str, choices: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.argument = argument
        self.choices = choices
