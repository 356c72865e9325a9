"""The trained first-mask network as a function: image and marks in, probability out."""

from __future__ import annotations

import json
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..arrays.marks import CHANNELS, CONDITIONS, MarkedCube, marked_cube
from ..errors import DataError
from .first_mask import FirstMaskNet

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

FORMAT = 1
"""Version of the sidecar; weights of another version are refused."""

SHIPPED = Path(__file__).resolve().parent.parent / "models" / "first_mask.safetensors"
"""Where the package keeps its weights."""


class FirstMaskModel:
    """A network with its calibration.

    Parameters
    ----------
    net : FirstMaskNet
        In evaluation mode.
    temperature : float
        Logits are divided by it, fitted on generated validation volumes.
    digest : str
        SHA-256 of the weights' file, for the record of a result.
    """

    def __init__(self, net: FirstMaskNet, temperature: float = 1.0, digest: str = "") -> None:
        self.net = net.eval().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.temperature = temperature
        self.digest = digest

    def logits(self, cube: MarkedCube) -> NDArray[np.float32]:
        """Logits on the cube, before the temperature: the whole of it in one pass, see `Convolution`."""
        channels = torch.from_numpy(cube.channels)[None].contiguous(memory_format=torch.channels_last_3d)
        with torch.inference_mode():
            result: NDArray[np.float32] = self.net(channels, torch.from_numpy(cube.condition)[None])[0].numpy()
        return result

    def probability(self, cube: MarkedCube) -> NDArray[np.float32]:
        """Probability of the object on the voxels of `cube.frame.window`."""
        logits = cube.frame.from_cube(self.logits(cube)) / self.temperature
        return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float32)


def first_mask_learned(
    image: NDArray[Any],
    spacing: tuple[float, float, float],
    *,
    points: ArrayLike | None = None,
    strokes: NDArray[np.uint8] | None = None,
    previous: NDArray[Any] | None = None,
    model: FirstMaskModel | None = None,
) -> tuple[NDArray[np.float32], tuple[slice, slice, slice]]:
    """Probability of one object from any marks on it.

    Parameters
    ----------
    image : ndarray, shape (I, J, K)
        One channel.
    spacing : tuple of float
        Voxel size; only the ratios count, (1, 1, 1) where unknown.
    points : array, shape (N, 3), optional
        Up to six extreme points, voxel coordinates, any order.
    strokes : ndarray, shape (I, J, K), uint8, optional
        0 = not marked, 255 = background stroke, else this object.
    previous : ndarray, shape (I, J, K), optional
        Mask or probability that the strokes correct.
    model : FirstMaskModel, optional
        Default: the weights in the package, loaded once.

    Returns
    -------
    probability : ndarray, float32
        On the object's window.
    window : tuple of slice
        Where that window lies in the volume; outside it the probability is 0.

    Raises
    ------
    ValueError
        Nothing says where the object is.
    DataError
        The weights are missing or damaged.
    """
    chosen = read_first_mask_model() if model is None else model
    cube = marked_cube(image, spacing, points=points, strokes=strokes, previous=previous)
    return chosen.probability(cube), cube.frame.window


@lru_cache(maxsize=2)
def read_first_mask_model(path: Path = SHIPPED) -> FirstMaskModel:
    """Read weights and their sidecar; the file's hash is checked before anything is built from it.

    Raises
    ------
    DataError
        A file is missing, not of this version, or not the one that the sidecar describes.
    """
    from safetensors.torch import load

    sidecar = path.with_suffix(".json")
    if not path.exists() or not sidecar.exists():
        raise DataError(f"the weights {path.name} or their description are missing; install the package again.")
    try:
        card = json.loads(sidecar.read_text())
        widths = tuple(int(width) for width in card["widths"])
        temperature = float(card["temperature"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{sidecar.name} does not describe the weights beside it; install the package again.") from error
    data = path.read_bytes()
    digest = sha256(data).hexdigest()
    if card.get("format") != FORMAT or card.get("channels") != list(CHANNELS) or card.get("conditions") != list(CONDITIONS):
        raise DataError(f"{path.name} was made for another version of this package; use the weights that came with it.")
    if digest != card.get("sha256"):
        raise DataError(f"{path.name} is damaged: its hash is not the recorded one; install the package again.")
    if len(widths) != 4 or not all(4 <= width <= 512 for width in widths):
        raise DataError(f"{path.name} describes a network of widths {widths}, which cannot be built; use other weights.")
    net = FirstMaskNet(widths)
    net.load_state_dict({name: value.float() for name, value in load(data).items()})
    return FirstMaskModel(net, temperature, digest)


def write_first_mask_model(net: FirstMaskNet, path: Path, *, temperature: float, record: dict[str, Any]) -> Path:
    """Write weights as float16 with a sidecar that says what they are; `record` holds seed, settings, times, scores."""
    from safetensors.torch import save

    data = save({name: value.detach().cpu().half().contiguous() for name, value in net.state_dict().items()})
    card = {
        "format": FORMAT,
        "sha256": sha256(data).hexdigest(),
        "widths": list(net.widths),
        "parameters": sum(value.numel() for value in net.parameters()),
        "temperature": temperature,
        "channels": list(CHANNELS),
        "conditions": list(CONDITIONS),
        **record,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")
    return path
