"""`train_steps`: the loop around every room's optimiser step, which a kill, a NaN or a cancel does not spoil."""

from __future__ import annotations

import math
import time
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..method import Step, TrainingState

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from numpy.typing import NDArray
    from torch import nn

    from ..method import Checkpoints, Preview, Weights

KEEP_EVERY = 50
"""Steps between two copies in memory of the last good state, which a step that is not finite goes back to."""

CUT = "cut."
"""What the names of tensors begin with that belong to an earlier stage, which ran out of time."""

Tensors = dict[str, torch.Tensor]


def train_steps(
    *,
    stage: str,
    total: int,
    step: Callable[[int], Mapping[str, float]],
    modules: Mapping[str, nn.Module],
    optimisers: Mapping[str, torch.optim.Optimizer],
    weights_now: Callable[[], Weights],
    checkpoints: Checkpoints | None = None,
    seed: int = 0,
    max_seconds: float = math.inf,
    stop_after: int | None = None,
    preview: Callable[[int], Preview | None] | None = None,
    note: str = "",
    notes: list[str] | None = None,
    share: tuple[float, float] = (0.0, 1.0),
) -> Generator[Step, None, int]:
    """Run one stage of a training.

    Torch is seeded with (seed, stage, index) before each step: a run that was killed and resumed gives the same losses as
    an unbroken one, if `step` draws its batch from these alone. A generator that is closed saves what it has learnt. A stage
    that ran out of time counts as finished, but a run that is resumed with more time goes on in it.

    Parameters
    ----------
    stage : str
        Its name; different from those of the other stages of this fit. One that `checkpoints` says is finished is skipped.
    total : int
        Steps of the stage.
    step : callable
        Gets the index from 0 and does one optimiser step (forward, backward, clipping, learning rate); returns its
        figures. One that is not finite ends the stage.
    modules, optimisers : dict
        All that changes in training, by name: saved and restored.
    weights_now : callable
        What predicting would need at this moment.
    checkpoints : Checkpoints, optional
        Gets the state when due and at the end; its latest one is where the stage goes on.
    seed : int
        Of every draw.
    max_seconds : float
        The stage ends after this time, that of earlier parts of the same run included.
    stop_after : int, optional
        Number of steps that a record says were done; it overrides `max_seconds`.
    preview : callable, optional
        Gets the number of steps done; a mask to show, or None.
    note : str
        Goes with the first step.
    notes : list of str, optional
        Gets the sentence that says why a stage ended early.
    share : (begin, end)
        Part of the whole fit that this stage is, for `Step.progress`.

    Yields
    ------
    Step
        After each optimiser step.

    Returns
    -------
    int
        Steps whose effect is in the modules.
    """
    state = checkpoints.latest() if checkpoints is not None else None
    limit = total if stop_after is None else min(total, stop_after)
    finished = dict(state.meta.get("finished", {})) if state is not None else {}
    cut, again = _cut_short(state), False
    if cut is not None and cut.meta["stage"] == stage:
        again = stage in finished and cut.meta["index"] < limit and cut.meta["seconds"] < max_seconds
        if again:
            state, finished = cut, dict(cut.meta["finished"])
        cut = None
    if stage in finished:
        if state is not None and state.meta.get("stage") == stage:
            _restore(state, modules, optimisers)
        return int(finished[stage])
    done, spent = 0, 0.0
    if state is not None and state.meta.get("stage") == stage:
        _restore(state, modules, optimisers)
        done, spent = int(state.meta["index"]), float(state.meta["seconds"])
    began = time.monotonic() - spent

    def save(*, ended: bool, out_of_time: bool = False) -> None:
        if checkpoints is None or not _all_finite(modules):
            return
        meta = {
            "stage": stage,
            "index": done,
            "total": total,
            "seconds": time.monotonic() - began,
            "finished": {**finished, stage: done} if ended else finished,
            "rates": {name: [group["lr"] for group in value.param_groups] for name, value in optimisers.items()},
        }
        tensors = {name: value.cpu().numpy() for name, value in _copy(modules, optimisers).items()}
        if cut is not None:  # a later stage: the state that more time would go on from comes along
            meta["cut"] = dict(cut.meta)
            tensors |= {f"{CUT}{name}": value for name, value in cut.tensors.items()}
        elif out_of_time:
            meta["cut"] = {**meta, "finished": finished}
        checkpoints.save(TrainingState(weights_now(), tensors, meta))

    if state is None or again:
        save(ended=False)  # a disk that is too small is found now, not hours later
    good: tuple[int, Tensors] | None = None
    while done < limit and (stop_after is not None or time.monotonic() - began <= max_seconds):
        candidate = _copy(modules, optimisers) if good is None or done - good[0] >= KEEP_EVERY else None
        seed_torch(seed, stage, done)
        scores = {name: float(value) for name, value in step(done).items()}
        if not all(math.isfinite(value) for value in scores.values()):
            reason = (
                f"the loss of '{stage}' was not finite in step {done + 1}: training stopped with the last good weights; "
                "lower the learning rate."
            )
            done = _back(modules, optimisers, good if good is not None else (done, candidate or {}))
            if notes is not None:
                notes.append(reason)
            save(ended=True)
            yield Step(stage, done, total, {}, progress=share[1], note=reason)
            return done
        if candidate is not None:  # a finite loss says that the state before this step was good
            good = (done, candidate)
        done += 1
        shown = preview(done) if preview is not None else None
        progress = share[0] + (share[1] - share[0]) * done / total
        try:
            yield Step(stage, done, total, scores, shown, progress, note)
        except GeneratorExit:  # stopped, or whoever drove it failed: this step is whole
            save(ended=done >= limit)
            raise
        note = ""
        if checkpoints is not None and done < limit and checkpoints.due():
            save(ended=False)  # after the yield: whoever logs the steps has this one
    save(ended=True, out_of_time=done < limit)
    return done


def _cut_short(state: TrainingState | None) -> TrainingState | None:
    """The state in which the first stage that ran out of time ended; None where none did."""
    if state is None or "cut" not in state.meta:
        return None
    meta = dict(state.meta["cut"])
    if meta["stage"] == state.meta.get("stage"):
        return TrainingState(state.weights, state.tensors, meta)
    tensors = {name[len(CUT) :]: value for name, value in state.tensors.items() if name.startswith(CUT)}
    return TrainingState(state.weights, tensors, meta)


def seed_torch(seed: int, stage: str, index: int) -> None:
    """Seed torch for one step, so that its draws depend on nothing that happened before."""
    entropy = np.random.SeedSequence((seed, zlib.crc32(stage.encode()), index))
    torch.manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1)))


def restore_module(state: TrainingState, name: str, module: nn.Module) -> None:
    """Give `module` the values that it had under `name` in `modules` when `state` was saved."""
    _load_module(module, f"module.{name}.", {key: _tensor(value) for key, value in state.tensors.items()})


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


def _flat(modules: Mapping[str, nn.Module], optimisers: Mapping[str, torch.optim.Optimizer]) -> Tensors:
    """Everything by name; what an optimiser has not made yet is absent."""
    tensors = {f"module.{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for name, optimiser in optimisers.items():
        for number, held in optimiser.state_dict()["state"].items():
            for key, value in held.items():
                if value is not None:
                    tensors[f"optimiser.{name}.{number}.{key}"] = torch.as_tensor(value)
    return tensors


def _copy(modules: Mapping[str, nn.Module], optimisers: Mapping[str, torch.optim.Optimizer]) -> Tensors:
    return {name: value.detach().clone() for name, value in _flat(modules, optimisers).items()}


def _restore(state: TrainingState, modules: Mapping[str, nn.Module], optimisers: Mapping[str, torch.optim.Optimizer]) -> None:
    _load(modules, optimisers, {name: _tensor(value) for name, value in state.tensors.items()})
    for name, optimiser in optimisers.items():
        for group, rate in zip(optimiser.param_groups, state.meta["rates"][name], strict=True):
            group["lr"] = rate


def _back(modules: Mapping[str, nn.Module], optimisers: Mapping[str, torch.optim.Optimizer], good: tuple[int, Tensors]) -> int:
    _load(modules, optimisers, good[1])
    return good[0]


def _load(modules: Mapping[str, nn.Module], optimisers: Mapping[str, torch.optim.Optimizer], tensors: Tensors) -> None:
    for name, module in modules.items():
        _load_module(module, f"module.{name}.", tensors)
    for name, optimiser in optimisers.items():
        held: dict[int, Tensors] = {}
        start = f"optimiser.{name}."
        for key, value in tensors.items():
            if key.startswith(start):
                number, part = key[len(start) :].split(".", 1)
                held.setdefault(int(number), {})[part] = value.clone()
        optimiser.load_state_dict({"state": held, "param_groups": optimiser.state_dict()["param_groups"]})


def _load_module(module: nn.Module, start: str, tensors: Tensors) -> None:
    module.load_state_dict({key[len(start) :]: value for key, value in tensors.items() if key.startswith(start)})


def _all_finite(modules: Mapping[str, nn.Module]) -> bool:
    return all(
        bool(torch.isfinite(value).all())
        for module in modules.values()
        for value in module.state_dict().values()
        if value.is_floating_point()
    )
