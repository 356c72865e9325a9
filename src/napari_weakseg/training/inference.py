"""Networks over whole volumes: window by window (MONAI's), exact at the seams, and smaller when memory runs out."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor

from ..errors import DataError
from .devices import has_fast_bfloat16

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Sizes = tuple[int, ...]
Corner = tuple[int, ...]
T = TypeVar("T")


@dataclass(frozen=True)
class Window:
    """One window of an image, as a predictor sees it.

    Parameters
    ----------
    start : tuple of int
        First voxel of the window in the image.
    valid : tuple of slice
        The part of the window, in its own indices, whose values do not depend on where the window was cut.
    """

    start: Corner
    valid: tuple[slice, ...]


def mixed_precision(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Half precision where it is faster: float16 on CUDA, bfloat16 on processors that have it; else nothing."""
    dtype = torch.bfloat16 if device.type == "cpu" else torch.float16
    enabled = device.type == "cuda" or (device.type == "cpu" and has_fast_bfloat16("cpu"))
    return torch.autocast(device.type, dtype=dtype, enabled=enabled) if device.type != "mps" else contextlib.nullcontext()


def sliding_window(
    predict: Callable[[Tensor, Window], Tensor],
    image: Tensor,
    window: Sizes,
    *,
    halo: Sizes | None = None,
    stride: Sizes | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Carry out a network on an image, window by window.

    Parameters
    ----------
    predict : callable
        Gets a window (1, C, axes...) on the device and its place; returns maps (1, K, axes...) of the window's size.
    image : Tensor, shape (C, axes...)
        On the CPU.
    window : tuple of int
        Size of a window without its halo; as large as the image or larger gives one pass.
    halo : tuple of int, optional
        Voxels per axis that the network looks beyond a voxel; default 0.
    stride : tuple of int, optional
        Windows begin at multiples of it; default 1.
    device : torch.device, optional
        Where `predict` runs; default the CPU. Windows are moved one by one.

    Returns
    -------
    Tensor, shape (K, axes...), float32
        On the CPU; the same as in one pass, if `halo` and `stride` are the network's.
    """
    from monai.inferers import sliding_window_inference

    size = tuple(image.shape[1:])
    halo, stride = halo or (0,) * len(size), stride or (1,) * len(size)
    step = [max(s, w // s * s) for w, s in zip(window, stride, strict=True)]
    roi = [n if w >= n else min(n, w + 2 * h) for n, w, h in zip(size, step, halo, strict=True)]
    # so that the last window, too, begins at a multiple of the stride; what is added is cut off before anyone sees it
    extra = [0 if r >= n else -(n - r) % w for n, r, w in zip(size, roi, step, strict=True)]
    padded = torch.nn.functional.pad(image[None], [n for more in reversed(extra) for n in (0, more)])
    everything = (slice(None), slice(None))

    def windowed(part: Tensor, places: Sequence[Sequence[slice]]) -> Tensor:
        start = tuple(int(place.start) for place in places[0][2:])
        seen = [min(r, n - first) for r, n, first in zip(roi, size, start, strict=True)]
        valid = tuple(
            slice(0 if first == 0 else inner, s if first + s >= n else s - inner)
            for first, s, n, inner in zip(start, seen, size, halo, strict=True)
        )
        maps = predict(part[(*everything, *(slice(0, n) for n in seen))], Window(start, valid)).float()
        out = torch.zeros((1, maps.shape[1] + 1, *roi), device=maps.device)
        inside = (*everything, *valid)
        out[:, :-1][inside] = maps[inside]
        out[:, -1:][inside] = 1
        return out

    summed = cast(
        "Tensor",
        sliding_window_inference(
            padded,
            roi,
            1,
            windowed,
            # a little less than the halo's share, since the step is found by rounding down
            overlap=[0.0 if r in (n, w) else (r - w) / r - 1e-6 for n, r, w in zip(size, roi, step, strict=True)],
            sw_device=device or torch.device("cpu"),
            device=torch.device("cpu"),
            with_coord=True,
        ),
    )[0][(slice(None), *(slice(0, n) for n in size))]
    return summed[:-1] / summed[-1:]


def with_fallback(
    run: Callable[[torch.device, Sizes], T],
    device: torch.device,
    window: Sizes,
    *,
    smallest: Sizes | None = None,
    multiple: int = 1,
    needed: int = 0,
) -> tuple[T, tuple[str, ...]]:
    """Do something that may need too much memory: as asked, then with smaller windows, then on the CPU.

    Parameters
    ----------
    run : callable
        Gets the device and the size of the window.
    device : torch.device
        Where it is to run.
    window, smallest : tuple of int
        Size at the beginning, and the least that can be tried, default 1 along each axis; see `smaller_windows`.
    multiple : int
        What the sides of smaller windows are multiples of.
    needed : int
        Bytes that were expected, for the refusal.

    Returns
    -------
    value
        What `run` returned.
    notes : tuple of str
        What was changed, a sentence each; empty if nothing was.

    Raises
    ------
    DataError
        It does not fit on the CPU with the smallest window either.
    """
    windows = (window, *smaller_windows(window, smallest or (1,) * len(window), multiple))
    devices = [device] if device.type == "cpu" else [device, torch.device("cpu")]
    for where in devices:
        for size in windows:
            try:
                value = run(where, size)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            else:
                return value, _notes(device, where, window, size)
            if where.type == "cuda":
                torch.cuda.empty_cache()
    words = f" (about {needed / 2**20:.0f} MiB were expected)" if needed else ""
    raise DataError(f"memory ran out even with the smallest window on the CPU{words}; close other programs or crop the image.")


def smaller_windows(window: Sizes, smallest: Sizes, multiple: int = 1) -> Iterator[Sizes]:
    """Smaller and smaller windows: half as many slices (the first axis) until `smallest`, then half of the longest side."""
    size = list(window)
    while True:
        axis = 0 if size[0] > smallest[0] else max(range(len(size)), key=lambda n: size[n] / smallest[n])
        if size[axis] <= smallest[axis]:
            return
        size[axis] = max(smallest[axis], size[axis] // 2 // multiple * multiple)
        yield tuple(size)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: torch's CPU allocator has no class of its own for it."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def _notes(wanted: torch.device, used: torch.device, window: Sizes, size: Sizes) -> tuple[str, ...]:
    notes = [f"memory ran out on {wanted.type.upper()}; the CPU was used."] if used.type != wanted.type else []
    if size != window:
        now, before = (" x ".join(map(str, sides)) for sides in (size, window))
        unit = "voxels" if len(size) > 1 else "slices"
        notes.append(f"memory ran out; the image was seen in windows of {now} instead of {before} {unit}.")
    return tuple(notes)
