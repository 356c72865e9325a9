"""Train the first-mask network on generated volumes: seeded, resumable, fed by processes of its own, on one device or more."""

from __future__ import annotations

import csv
import json
import os
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..arrays.marks import CHANNELS, marked_cube
from ..errors import MissingPackageError, RecipeError
from ..networks.first_mask import FirstMaskNet
from ..networks.first_mask_model import write_first_mask_model
from ..synthesis.scenes import random_case
from ..synthesis.user import random_marks
from .devices import has_fast_bfloat16

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VALIDATION_SEED = 10**9
"""First number of the seeds of generated volumes that are never trained on."""

WITHOUT_CLASSICAL = 0.15
"""Share of the cubes whose classical first mask is hidden, so that the network does not lean on it alone."""


@dataclass(frozen=True, kw_only=True)
class FirstMaskTraining:
    """Settings of one training run.

    Parameters
    ----------
    steps : int
        Optimiser steps in all; may be changed when a run is continued.
    batch : int
        Cubes per step, at least 2 (see `docs/performance`: batch 1 is many times slower per cube on a CPU).
    seed : int
        Decides weights, volumes and marks.
    widths : tuple of int
        Channels per resolution.
    rate : float
        Highest learning rate of AdamW; reached after `warm_up` steps, lowered linearly over the last `cool_down` share.
    averaging : float
        Decay of the running mean of the weights, which is what is used afterwards.
    workers : int
        Processes that generate volumes.
    checkpoint_every : int
        Steps between checkpoints and lines of the log.
    validation : int
        Generated volumes on which each checkpoint is scored.
    """

    steps: int = 4000
    batch: int = 4
    seed: int = 0
    widths: tuple[int, ...] = (16, 32, 64, 96)
    rate: float = 2e-3
    warm_up: int = 100
    cool_down: float = 0.35
    averaging: float = 0.995
    workers: int = 1
    checkpoint_every: int = 100
    validation: int = 16

    def rate_at(self, step: int) -> float:
        """Learning rate of one step."""
        start = self.steps * (1 - self.cool_down)
        falling = 1.0 if step < start else max(0.01, 1 - (step - start) / (self.steps - start))
        return self.rate * min(1.0, (step + 1) / self.warm_up) * falling


@dataclass(frozen=True)
class Progress:
    """State after a checkpoint: steps done, mean loss since the last one, Dice of the averaged weights on validation."""

    step: int
    loss: float
    dice: float
    seconds: float


class GeneratedCubes(torch.utils.data.Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Cube number n of a seed: channels (float16), condition, and target with -1 where the volume ends.

    Parameters
    ----------
    seed : int
        First half of each volume's seed.
    numbers : range
        The second halves.
    """

    def __init__(self, seed: int, numbers: range) -> None:
        self.seed, self.numbers = seed, numbers

    def __len__(self) -> int:
        """Return the number of cubes."""
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Generate one cube; the same index gives the same cube in any process."""
        number = self.numbers[index]
        case = random_case((self.seed, number))
        marks = random_marks(np.random.default_rng((self.seed, number, 1)), case)
        cube = marked_cube(case.image, case.spacing, points=marks.points, strokes=marks.strokes, previous=marks.previous)
        if np.random.default_rng((self.seed, number, 2)).random() < WITHOUT_CLASSICAL:
            cube.channels[CHANNELS.index("classical first mask")] = 0
        target = np.where(cube.channels[-1] > 0, cube.frame.to_cube(case.mask), -1)
        return (
            torch.from_numpy(cube.channels.astype(np.float16)),
            torch.from_numpy(cube.condition),
            torch.from_numpy(target.astype(np.float16)),
        )


def first_mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice, per cube, over what lies inside the volume.

    Parameters
    ----------
    logits, target : Tensor, shape (B, D, H, W)
        The target holds shares in 0..1, and -1 where there is no volume.
    """
    valid = (target >= 0).to(logits.dtype)
    truth = target.clamp(min=0)
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, weight=valid, reduction="none")
    axes = (1, 2, 3)
    probability = torch.sigmoid(logits) * valid
    dice = (2 * (probability * truth).sum(axes) + 50) / (probability.sum(axes) + truth.sum(axes) + 50)
    return (entropy.sum(axes) / valid.sum(axes).clamp(min=1) + 1 - dice).mean()


def train_first_mask(folder: Path, settings: FirstMaskTraining, *, device: str = "cpu") -> Iterator[Progress]:
    """Train, or continue what `folder` holds.

    Parameters
    ----------
    folder : Path
        Gets ``checkpoint.safetensors`` (weights, their running mean, optimiser), ``settings.json`` and ``log.csv``;
        a run that was stopped continues at its last checkpoint.
    settings : FirstMaskTraining
        What to do; `widths` and `seed` must be those of the run that is continued.
    device : str
        Torch device. Under ``torchrun`` with several processes each takes its own device and its share of every batch
        (Lightning Fabric, extra ``cluster``); then this is not looked at.

    Yields
    ------
    Progress
        After each checkpoint; of several processes, the first alone writes and yields.

    Raises
    ------
    RecipeError
        The folder holds a run of another seed, batch or network, or one that is longer already; or a batch cannot be
        shared out equally.
    MissingPackageError
        Several processes without Lightning Fabric.
    """
    fabric = several_devices()
    rank, processes = (0, 1) if fabric is None else (fabric.global_rank, fabric.world_size)
    if settings.batch % processes:
        raise RecipeError(f"a batch of {settings.batch} cannot be shared by {processes} processes; choose a multiple of it.")
    device = device if fabric is None else str(fabric.device)
    folder.mkdir(parents=True, exist_ok=True)
    _check_same_run(folder, settings)
    torch.manual_seed(settings.seed)
    net = FirstMaskNet(settings.widths).to(device=device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(net.parameters(), lr=settings.rate, weight_decay=1e-2, betas=(0.9, 0.98))
    average = {name: value.detach().clone() for name, value in net.state_dict().items()}
    done = _resume(folder, net, optimiser, average)
    if done > settings.steps:
        raise RecipeError(
            f"{folder.name} holds a run of {done} steps already; ask for at least as many, or choose another folder."
        )
    if rank == 0:
        (folder / "settings.json").write_text(json.dumps(asdict(settings), indent=1))
    trained: Any = net
    if fabric is not None:
        fabric.barrier()
        trained, optimiser = fabric.setup(net, optimiser)
    cubes = GeneratedCubes(settings.seed, range(done * settings.batch + rank, settings.steps * settings.batch, processes))
    loader = torch.utils.data.DataLoader(
        cubes, settings.batch // processes, num_workers=settings.workers, prefetch_factor=6 if settings.workers else None
    )
    losses: list[float] = []
    began = time.monotonic()
    for step, batch in enumerate(loader, start=done):
        for group in optimiser.param_groups:
            group["lr"] = settings.rate_at(step)
        losses.append(_step(trained, optimiser, batch, device))
        decay = min(settings.averaging, (step + 1) / (step + 20))
        with torch.no_grad():
            for name, value in net.state_dict().items():
                average[name].lerp_(value, 1 - decay)
        if rank == 0 and ((step + 1) % settings.checkpoint_every == 0 or step + 1 == settings.steps):
            _save(folder, net, optimiser, average, step + 1)
            dice = validation_dice(settings.widths, average, device, settings.validation)
            progress = Progress(step + 1, float(np.mean(losses)), dice, time.monotonic() - began)
            _log(folder / "log.csv", progress)
            losses.clear()
            yield progress


def several_devices() -> Any:
    """Lightning Fabric where ``torchrun`` started several processes, else None.

    Raises
    ------
    MissingPackageError
        Several processes, and Fabric is not installed.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes < 2:
        return None
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        raise MissingPackageError(
            "training on several devices needs Lightning Fabric; install napari-weakseg[cluster] or start one process."
        ) from error
    here = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    fabric = Fabric(devices=here, num_nodes=processes // here, strategy="ddp")
    fabric.launch()
    return fabric


def _step(net: nn.Module, optimiser: torch.optim.Optimizer, batch: tuple[Tensor, Tensor, Tensor], device: str) -> float:
    """One step of the optimiser in bfloat16 where the processor is good at it; the loss is taken in float32."""
    channels, condition, target = (part.to(device) for part in batch)
    channels = channels.to(dtype=torch.float32, memory_format=torch.channels_last_3d)
    with torch.autocast(device.split(":")[0], dtype=torch.bfloat16, enabled=has_fast_bfloat16(device)):
        logits = net(channels, condition)
    loss = first_mask_loss(logits.float(), target.float())
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimiser.step()
    return float(loss.detach())


def validation_dice(widths: tuple[int, ...], weights: dict[str, Tensor], device: str = "cpu", count: int = 16) -> float:
    """Mean Dice on the cube over generated volumes that are never trained on."""
    scores: list[float] = []
    for logits, target in _validated(widths, weights, device, count):
        mask, truth = (logits > 0) & (target >= 0), target > 0.5
        both = (mask & truth).sum((1, 2, 3))
        scores += (2 * both / (mask.sum((1, 2, 3)) + truth.sum((1, 2, 3))).clamp(min=1)).tolist()
    return float(np.mean(scores))


def _validated(widths: tuple[int, ...], weights: dict[str, Tensor], device: str, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits and targets of generated validation volumes, four at a time, on the CPU."""
    net = FirstMaskNet(widths).to(device)
    net.load_state_dict(weights)
    net.eval()
    for channels, condition, target in torch.utils.data.DataLoader(GeneratedCubes(VALIDATION_SEED, range(count)), 4):
        with torch.inference_mode():
            yield net(channels.float().to(device), condition.to(device)).cpu(), target.float()


def fitted_temperature(widths: tuple[int, ...], weights: dict[str, Tensor], count: int = 64) -> float:
    """Temperature with the least cross-entropy over generated validation volumes, between 0.3 and 5.

    References
    ----------
    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.
    """
    temperatures = np.exp(np.linspace(np.log(0.3), np.log(5), 41))
    costs = np.zeros(len(temperatures))
    for logits, target in _validated(widths, weights, "cpu", count):
        inside = target >= 0
        known, truth = logits[inside], target[inside]
        costs += [float(functional.binary_cross_entropy_with_logits(known / t, truth)) for t in temperatures]
    return float(temperatures[costs.argmin()])


def export_first_mask(folder: Path, path: Path, *, temperature: float | None = None) -> Path:
    """Write what a training run has learnt so far as weights that `read_first_mask_model` takes.

    Parameters
    ----------
    folder : Path
        Of `train_first_mask`; the running mean of the weights at its last checkpoint is used.
    path : Path
        ``.safetensors`` file; a ``.json`` of the same name with settings, curve and seconds is written beside it.
    temperature : float, optional
        Default: fitted by `fitted_temperature`.
    """
    from safetensors.torch import load_file

    settings = json.loads((folder / "settings.json").read_text())
    widths = tuple(settings["widths"])
    tensors = load_file(folder / "checkpoint.safetensors")
    weights = {name[len("average.") :]: value for name, value in tensors.items() if name.startswith("average.")}
    net = FirstMaskNet(widths)
    net.load_state_dict(weights)
    with (folder / "log.csv").open(newline="") as file:
        curve = [[float(value) for value in row] for row in list(csv.reader(file))[1:]]
    record = {
        "training": settings | {"steps_done": int(tensors["step"]), "torch": torch.__version__},
        "curve": {"columns": ["step", "loss", "validation Dice", "seconds since (re)start"], "rows": curve},
    }
    chosen = fitted_temperature(widths, weights) if temperature is None else temperature
    return write_first_mask_model(net, path, temperature=chosen, record=record)


def _flat(net: FirstMaskNet, optimiser: torch.optim.Optimizer, average: dict[str, Tensor], step: int) -> dict[str, Tensor]:
    """Everything that continuing needs, as named tensors."""
    tensors = {f"net.{name}": value for name, value in net.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    for number, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": value for name, value in state.items()}
    tensors["step"] = torch.tensor(step)
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _save(folder: Path, net: FirstMaskNet, optimiser: torch.optim.Optimizer, average: dict[str, Tensor], step: int) -> None:
    """Write the checkpoint beside the old one, then replace it."""
    from safetensors.torch import save_file

    fresh = folder / "checkpoint.safetensors.new"
    save_file(_flat(net, optimiser, average, step), fresh)
    fresh.replace(folder / "checkpoint.safetensors")


def _check_same_run(folder: Path, settings: FirstMaskTraining) -> None:
    """Refuse to continue a run with what would make it another one."""
    path = folder / "settings.json"
    if not path.exists():
        return
    held = json.loads(path.read_text())
    for name in ("seed", "batch", "widths"):
        asked = getattr(settings, name)
        if held[name] != (list(asked) if isinstance(asked, tuple) else asked):
            raise RecipeError(
                f"{folder.name} holds a run with {name} {held[name]}; continue with that, or choose another folder."
            )


def _resume(folder: Path, net: FirstMaskNet, optimiser: torch.optim.Optimizer, average: dict[str, Tensor]) -> int:
    """Load the checkpoint if there is one; returns the steps done."""
    from safetensors.torch import load_file

    path = folder / "checkpoint.safetensors"
    if not path.exists():
        return 0
    tensors = load_file(path)
    net.load_state_dict({name[4:]: value for name, value in tensors.items() if name.startswith("net.")})
    for name in average:
        average[name].copy_(tensors[f"average.{name}"])
    state: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, number, part = name.split(".")
            state.setdefault(int(number), {})[part] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return int(tensors["step"])


def _log(path: Path, progress: Progress) -> None:
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(["step", "loss", "validation_dice", "seconds"])
        writer.writerow([progress.step, f"{progress.loss:.4f}", f"{progress.dice:.4f}", f"{progress.seconds:.1f}"])
