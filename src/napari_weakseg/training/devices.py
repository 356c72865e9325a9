"""Where networks run."""

from __future__ import annotations

import contextlib
import os
from functools import lru_cache
from pathlib import Path

import torch


def pick_device(wanted: str) -> tuple[torch.device, str]:
    """Choose the device, and say in a sentence if it is another one than was asked for.

    Parameters
    ----------
    wanted : str
        ``"auto"`` takes CUDA, then MPS, then the CPU.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if available[name])), ""
    if not available[wanted]:
        return torch.device("cpu"), f"{wanted} is not available on this machine; the CPU is used."
    return torch.device(wanted), ""


def describe_device(device: torch.device) -> str:
    """For a panel and a record: ``"CPU, 2 threads"`` or the accelerator's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' * (threads != 1)}" if device.type == "cpu" else device.type.upper()


@lru_cache(maxsize=4)
def has_fast_bfloat16(device: str) -> bool:
    """Whether bfloat16 is faster than float32 there: GPUs, and processors with their own instructions for it."""
    if not device.startswith("cpu"):
        return True
    capability = torch.backends.cpu.get_cpu_capability()
    flags = Path("/proc/cpuinfo")
    return str(capability) == "AVX512" and flags.exists() and "avx512_bf16" in flags.read_text()


def warm_up() -> None:
    """Pay, away from the first click and stroke, what they cost once: kernels, torch, the network, its optimisers' imports."""
    import numpy as np

    from ..arrays.first_mask import Window, first_mask
    from ..errors import DataError
    from ..networks.joined_first_mask import learned_first_mask

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    block = np.zeros((12, 12, 12), dtype=np.float32)
    block[3:9, 3:9, 3:9] = 1
    points = [[3, 6, 6], [8, 6, 6], [6, 3, 6], [6, 8, 6], [6, 6, 3], [6, 6, 8]]
    first_mask(block, Window.around(points, block.shape))
    with contextlib.suppress(DataError):  # damaged weights are told of when a mask is asked for
        learned_first_mask(block, (1, 1, 1), points=points)
        learned_first_mask(block, (1, 1, 1), strokes=(block > 0).astype(np.uint8), previous=block > 0)
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])
