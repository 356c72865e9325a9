"""What the command line shows: results on stdout, everything else on stderr, bars only in a terminal."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .io.names import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .method import Step

_PLAIN_EVERY = 5.0  # seconds between two lines of progress in a pipe


class Screen:
    """Both streams of one command; made anew per call, so that redirected streams are honoured."""

    def __init__(self) -> None:
        self.out = Console(highlight=False, markup=False, soft_wrap=True)
        self.err = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

    def result(self, text: str) -> None:
        """One line of the answer, on stdout."""
        self.out.print(one_line(text))

    def document(self, text: str) -> None:
        """An answer of several lines, on stdout as it is."""
        self.out.file.write(text + "\n")

    def note(self, text: str) -> None:
        """One line on stderr that starts with ``note:``."""
        self.err.print(f"note: {one_line(text)}")

    def error(self, text: str) -> None:
        """One line on stderr that says why there is no result."""
        self.err.print(f"weakseg: {one_line(text)}")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
        """Rows on stdout: a table in a terminal, tab-separated lines in a pipe."""
        if not self.out.is_terminal:
            for row in (columns, *rows):
                self.out.file.write("\t".join(map(one_line, row)) + "\n")  # rich would turn tabs into spaces
            return
        table = Table(title=title or None, title_justify="left")
        for number, column in enumerate(columns):
            numbers = all(row[number][:1] in "-0123456789" for row in rows)
            table.add_column(column, justify="right" if numbers else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(one_line, row))
        self.out.print(table, soft_wrap=False)

    @contextmanager
    def progress(self) -> Iterator[Callable[[Step], None]]:
        """A function that takes the steps of a fit and shows how far it is."""
        if not self.err.is_terminal:
            yield _PlainProgress(self)
            return
        columns = (
            TextColumn("{task.description:<24}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.err, transient=True) as bar:
            task = bar.add_task("start", total=1.0)
            yield lambda step: bar.update(task, description=_words(step), completed=step.progress)


class _PlainProgress:
    """Progress as lines: each new stage, then at most one every few seconds."""

    def __init__(self, screen: Screen) -> None:
        self.screen, self.stage, self.last = screen, "", 0.0

    def __call__(self, step: Step) -> None:
        now = time.monotonic()
        if step.stage != self.stage or now - self.last >= _PLAIN_EVERY:
            self.stage, self.last = step.stage, now
            self.screen.err.print(f"{_words(step)}, {step.progress:.0%}")


def _words(step: Step) -> str:
    return step.stage if step.total <= 1 else f"{step.stage} {step.index}/{step.total}"
