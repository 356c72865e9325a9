"""`Run`: a training on disk, which a kill at any moment leaves fit to go on."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..errors import DataError, RecipeError, WeaksegError
from ..method import TrainingState
from . import run_figures as figures
from .atomic import check_writable, sweep, write_atomically
from .generations import read_generation, write_generation
from .lock import lock
from .names import shown
from .records import read_record, write_record
from .weights import FIELDS, READ_NOTE, UNFINISHED, describe, from_description, read_weights, recipe_of, write_weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from ..method import Step, Weights
    from ..recipe import Recipe

__all__ = ["Run", "read_weights", "write_weights"]

FREE_AT_START = 64 * 2**20
"""Bytes that must be free before a run begins; the first checkpoint, written before the first step, gives the real figure."""

SAVE_SHARE = 0.03
"""Share of the time that saving may take."""

PICTURES, PICTURE_EVERY = 12, 60.0
"""So many pictures of previews are kept, and so many seconds lie between two."""

MAY_CHANGE = frozenset({"max_seconds", "device", "preview_seconds"})
"""Knobs that a run may be resumed with other values of: they do not decide what is learnt in a step."""

_STANDING = {"stage": "", "index": 0, "total": 0, "finished": {}}
"""What weights say of a training that has not come to its end."""

_STATE_FIELDS = FIELDS | {"state"}


class Run:
    """A run folder: recipe, cohort, weights and state in two generations, figures, log.

    It is the `napari_weakseg.method.Checkpoints` of a fit. Use it as a context manager: it is locked between `begin` and
    the end of the block, and a killed process's lock ends with the process.

    Parameters
    ----------
    folder : path
        Made by `begin`; nothing is written before.
    every_seconds : float
        Time between two checkpoints; more where saving would take over 3 % of it.

    Notes
    -----
    Files: ``recipe.json``, ``cohort.json`` (hashes and the split), ``weights.safetensors`` + ``.json``, ``state.safetensors``
    + ``.json`` (what training goes on from), each of the two also as ``.previous``, ``metrics.csv``, ``curves.png``,
    ``previews/`` (a few small pictures), ``log.txt``. Every file is replaced as a whole. A pair counts only where the
    description names the hash of the tensors, and at each instant of a save one such pair is there.
    """

    def __init__(self, folder: str | os.PathLike[str], *, every_seconds: float = 30.0) -> None:
        self.folder = Path(folder)
        self.every_seconds = every_seconds
        self.notes: list[str] = []
        self._rows: list[dict[str, Any]] = []
        self._lines: list[str] = []
        self._lock: int | None = None
        self._saved_at = time.monotonic()
        self._cost = 0.0
        self._pictured_at = -PICTURE_EVERY

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # -- beginning and end ----------------------------------------------------------------------------------------------

    def reserve(self) -> None:
        """Make sure that the folder can be written and that no other process trains into it; `begin` does it too.

        Raises
        ------
        DataError
            It cannot be written, has too little room, or is in use.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise DataError(f"{shown(self.folder)} is a file; name a folder for the run.")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise DataError(
                f"the folder {shown(self.folder)} cannot be made; choose another place or change its rights."
            ) from error
        check_writable(self.folder / "weights.safetensors")
        if free < FREE_AT_START:
            raise DataError(
                f"the disk of {shown(self.folder)} has {free / 1e6:.0f} MB free; free some space or choose another."
            )
        self._take_lock()

    def begun(self) -> tuple[str, Recipe] | None:
        """Method and recipe of the run that the folder holds; None where it holds none.

        Raises
        ------
        DataError, RecipeError
            They cannot be read, or are of a newer version.
        """
        held = self.folder / "recipe.json"
        if not held.is_file():
            return None
        data = read_record(held)
        if not isinstance(data.get("recipe"), dict):
            raise DataError(f"the recipe.json of {shown(self.folder)} is damaged; begin a new run in another folder.")
        return recipe_of(str(data.get("method")), data["recipe"])

    def check(self, recipe: Recipe, method: str, cohort: Mapping[str, Any], *, resume: bool = False) -> None:
        """Find out whether `begin` would refuse, as far as that is known without the cases' hashes.

        Raises
        ------
        DataError, RecipeError
            As `begin`.
        """
        name = shown(self.folder)
        if (self.folder / "recipe.json").exists():
            if not resume:
                raise DataError(f"{name} holds a run already; resume it (--resume) or choose another folder.")
            self._check_same(read_record(self.folder / "recipe.json"), recipe, method, cohort)
            return
        others = sorted(path.name for path in self.folder.iterdir() if not path.name.startswith((".", "run.lock")))
        if others and not {"cohort.json"}.issuperset(others):
            raise DataError(f"the folder {name} is not empty and holds no run; choose an empty or new one.")

    def begin(self, recipe: Recipe, method: str, cohort: Mapping[str, Any], *, resume: bool = False) -> None:
        """Make the folder ready, or make sure that what it holds is the run that is to go on.

        Parameters
        ----------
        recipe : Recipe
            Settings of the training.
        method : str
            Its name in the register.
        cohort : dict
            What was learnt from, as JSON values without paths: see `napari_weakseg.cohorts.split_facts`.
        resume : bool
            True goes on with the run in the folder, and begins one where there is none.

        Raises
        ------
        DataError, RecipeError
            The folder cannot be written or has too little room, another process trains into it, it holds another run, or
            a run that was not to be resumed.
        """
        if self._lock is None:
            self.reserve()
        try:
            self._settle(recipe, method, cohort, resume=resume)
        except WeaksegError:
            self.close()
            raise

    def _settle(self, recipe: Recipe, method: str, cohort: Mapping[str, Any], *, resume: bool) -> None:
        """Write what a run begins with, or take up what was begun."""
        sweep(self.folder)
        self.check(recipe, method, cohort, resume=resume)
        held = self.folder / "recipe.json"
        if held.exists():
            self._check_same_files(cohort)
            self._read_log()
        else:
            # recipe.json comes last: with it the folder is a run
            write_record({"run": uuid.uuid4().hex, **cohort}, self.folder / "cohort.json")
            write_record({"method": method, "recipe": recipe.to_json()}, held)
        self._say(
            f"{'resumed' if self._rows or self._lines else 'begun'}: {method}, preset {recipe.preset}, seed {recipe.seed}"
        )

    def finish(self, weights: Weights) -> None:
        """Keep the final weights, and draw the curves."""
        write_generation(self.folder, "weights", weights.tensors, describe(weights))
        self._say(f"done: {', '.join(f'{stage} {count}' for stage, count in self._counts().items())}")
        self.keep_notes(weights.meta.get("notes", ()))
        self._write_log()
        try:
            if (picture := figures.curves_of(self._rows)) is not None:
                write_atomically(self.folder / "curves.png", picture)
        except DataError as error:  # the weights are safe: a picture never ends a run
            self.keep_notes([str(error)])

    def close(self) -> None:
        """Let another process train into the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # -- checkpoints ----------------------------------------------------------------------------------------------------

    def latest(self) -> TrainingState | None:
        """The newest whole state; a damaged one is noted, and the one before it is taken.

        Raises
        ------
        DataError
            There are states and none of them can be used.
        """
        found = read_generation(self.folder, "state", _STATE_FIELDS)
        if found is None:
            return None
        description, tensors, name = found
        self._tell_which(name)
        inner = {key[8:]: value for key, value in tensors.items() if key.startswith("weights.")}
        state = {key[6:]: value for key, value in tensors.items() if key.startswith("state.")}
        weights = from_description({**description, "kind": "weights"}, inner, name)
        return TrainingState(weights, state, dict(description["state"]))

    def due(self) -> bool:
        """Whether it is time to save again."""
        return time.monotonic() - self._saved_at >= max(
            self.every_seconds, self._cost / SAVE_SHARE if self.every_seconds else 0
        )

    def save(self, state: TrainingState) -> None:
        """Keep the state, the weights and the figures up to now; the generation before stays.

        Raises
        ------
        DataError
            The disk is full or gone; what was there before is unchanged.
        """
        began = time.monotonic()
        past = {state.meta.get("stage"), *state.meta.get("finished", {})}
        self._rows = [row for row in self._rows if row["stage"] in past]  # an earlier stage that goes on: later ones are over
        self._write_log()  # first: figures beyond the state are dropped on resuming, missing ones could not be made up
        tensors = {f"weights.{key}": value for key, value in state.weights.tensors.items()}
        tensors |= {f"state.{key}": value for key, value in state.tensors.items()}
        description = {**describe(state.weights), "kind": "state", "state": dict(state.meta)}
        size = write_generation(self.folder, "state", tensors, description)
        standing = {key: state.meta.get(key, default) for key, default in _STANDING.items()}
        unfinished = replace(state.weights, meta={**state.weights.meta, UNFINISHED: standing})
        write_generation(self.folder, "weights", unfinished.tensors, describe(unfinished))
        free = shutil.disk_usage(self.folder).free
        if free < 2 * size:
            raise DataError(
                f"the disk of {shown(self.folder)} has {free / 1e6:.0f} MB left; a checkpoint takes {2 * size / 1e6:.0f}: "
                "free some space and resume."
            )
        self._saved_at = time.monotonic()
        self._cost = self._saved_at - began

    def weights(self) -> Weights:
        """The newest whole weights.

        Raises
        ------
        DataError
            There are none, or all are damaged.
        """
        found = read_generation(self.folder, "weights", FIELDS)
        if found is None:
            raise DataError(f"{shown(self.folder)} holds no weights; train first, or choose another run.")
        description, tensors, name = found
        note = self._tell_which(name)
        weights = from_description(description, tensors, name)
        return replace(weights, meta={**weights.meta, READ_NOTE: note}) if note else weights

    def cohort(self) -> dict[str, Any]:
        """What the run learnt from and how it was split: the facts given to `begin`."""
        path = self.folder / "cohort.json"
        if not path.is_file():
            raise DataError(f"{shown(self.folder)} is no run folder (no cohort.json); name the folder given to training.")
        return read_record(path)

    # -- figures --------------------------------------------------------------------------------------------------------

    def log(self, step: Step) -> None:
        """Take the figures of a step; they are written with the next checkpoint."""
        if step.scores:
            self._rows.append({"stage": step.stage, "step": step.index, **{k: float(v) for k, v in step.scores.items()}})
        if step.note:
            self._say(f"{step.stage} {step.index}: {step.note}")

    def picture_of(self, step: Step) -> Path | None:
        """Where a picture of the step's preview belongs, or None where it is too early for one; the oldest but the first go."""
        if step.preview is None or time.monotonic() - self._pictured_at < PICTURE_EVERY:
            return None
        self._pictured_at = time.monotonic()
        folder = self.folder / "previews"
        try:
            folder.mkdir(exist_ok=True)
            for path in sorted(folder.glob("*.png"))[1 : 2 - PICTURES]:
                path.unlink(missing_ok=True)
        except OSError:  # a file in its place, or a disk that is gone: a picture never ends a run
            return None
        number = max((int(path.name[:4]) for path in folder.glob("[0-9][0-9][0-9][0-9]_*.png")), default=0) + 1
        return folder / f"{number:04d}_{step.stage.replace(' ', '_')}_{step.index}.png"

    def keep_notes(self, notes: Iterable[str]) -> None:
        """Put sentences into the log."""
        for note in notes:
            self._say(f"note: {note}")

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of ``metrics.csv`` so far: stage, step, and the figures of that step."""
        return list(self._rows)

    def _tell_which(self, name: str) -> str:
        """Note that it was the generation before."""
        if ".previous" not in name:
            return ""
        note = f"the newest {name.partition('.')[0]} of {shown(self.folder)} is damaged; the generation before it is used."
        self.notes = [*dict.fromkeys([*self.notes, note])]
        return note

    def _say(self, text: str) -> None:
        self._lines.append(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}")
        self._write_log()

    def _write_log(self) -> None:
        write_atomically(self.folder / "metrics.csv", figures.table_of(self._rows))
        write_atomically(self.folder / "log.txt", "".join(f"{line}\n" for line in self._lines).encode())

    def _read_log(self) -> None:
        """Take up log and figures; rows beyond the state that training goes on from are made again."""
        state = read_generation(self.folder, "state", _STATE_FIELDS)
        if state is not None:
            self._tell_which(state[2])
        meta = dict(state[0]["state"]) if state is not None else {}
        finished, stage, index = meta.get("finished", {}), meta.get("stage"), int(meta.get("index", 0))
        rows: figures.Rows = []
        try:
            if state is not None:
                rows = figures.rows_of((self.folder / "metrics.csv").read_text(encoding="utf-8"))
            self._lines = (self.folder / "log.txt").read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError, TypeError):
            rows = []
            self.notes.append("the figures of the run so far cannot be read; they begin anew.")
        self._rows = [
            row for row in rows if int(row["step"]) <= (index if row["stage"] == stage else finished.get(row["stage"], 0))
        ]

    def _counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for row in self._rows:
            counts[row["stage"]] = max(counts.get(row["stage"], 0), int(row["step"]))
        return counts

    # -- files ----------------------------------------------------------------------------------------------------------

    def _take_lock(self) -> None:
        """Keep other processes out; a kill ends the lock too."""
        self._lock = lock(self.folder / "run.lock")

    def _check_same(self, held: Mapping[str, Any], recipe: Recipe, method: str, cohort: Mapping[str, Any]) -> None:
        """Refuse to go on with what would make it another run."""
        name = shown(self.folder)
        if held.get("method") != method:
            raise RecipeError(f"{name} is a run of {held.get('method')!r}, not {method!r}; choose another folder.")
        before, now = dict(held.get("recipe") or {}), json.loads(json.dumps(recipe.to_json()))
        for knob in sorted((set(before) | set(now)) - MAY_CHANGE):
            if before.get(knob) != now.get(knob):
                raise RecipeError(
                    f"{name} was begun with {knob} {before.get(knob)!r}, not {now.get(knob)!r}; "
                    "resume with the same settings or choose another folder."
                )
        known, given = self.cohort(), json.loads(json.dumps(cohort))
        if _names_of(known) != _names_of(given):
            raise DataError(f"{name} was begun with other cases or another split; give the same ones or choose another folder.")

    def _check_same_files(self, cohort: Mapping[str, Any]) -> None:
        """Refuse to go on with other hashes."""
        known, given = self.cohort(), json.loads(json.dumps(cohort))
        pairs = [pair for part, entries in known["parts"].items() for pair in zip(entries, given["parts"][part], strict=True)]
        same = all(before[key] == now.get(key) for before, now in pairs for key in before)  # earlier versions kept fewer
        if not same or known.get("unpaired_masks") != given.get("unpaired_masks"):
            raise DataError(
                f"images, marks or masks of the cohort changed since {shown(self.folder)} was begun; "
                "restore them or begin a new run in another folder."
            )


def _names_of(cohort: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Part to the ids in it."""
    return {part: [entry.get("id") for entry in entries] for part, entries in dict(cohort.get("parts") or {}).items()}
