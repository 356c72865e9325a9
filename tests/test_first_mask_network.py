"""The conditioned network: shapes, seeds, learning, resuming, and weights that are checked before use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_weakseg.errors import DataError, MissingPackageError
from napari_weakseg.networks.first_mask import CONDITIONS, INPUT_CHANNELS, FirstMaskNet
from napari_weakseg.networks.first_mask_model import (
    first_mask_learned,
    read_first_mask_model,
    write_first_mask_model,
)
from napari_weakseg.training.first_mask import (
    FirstMaskTraining,
    GeneratedCubes,
    export_first_mask,
    first_mask_loss,
    fitted_temperature,
    several_devices,
    train_first_mask,
)

TINY = (4, 4, 4, 4)


def test_the_network_takes_what_the_marks_give() -> None:
    from napari_weakseg.arrays import marks

    assert len(marks.CHANNELS) == INPUT_CHANNELS
    assert len(marks.CONDITIONS) == CONDITIONS


def test_logits_have_the_shape_of_the_cube_and_every_weight_gets_a_gradient() -> None:
    net = FirstMaskNet(TINY)
    logits = net(torch.randn(2, INPUT_CHANNELS, 16, 16, 16), torch.randn(2, CONDITIONS))
    assert logits.shape == (2, 16, 16, 16)
    logits.square().mean().backward()
    missing = [name for name, value in net.named_parameters() if value.grad is None]
    assert not missing


def test_the_loss_ignores_what_lies_outside_and_rewards_the_right_mask() -> None:
    target = torch.zeros(1, 8, 8, 8)
    target[:, 2:6, 2:6, 2:6] = 1
    target[:, 7] = -1
    right = torch.where(target == 1, 9.0, -9.0)
    spoiled = right.clone()
    spoiled[:, 7] = 50
    assert float(first_mask_loss(right, target)) == pytest.approx(float(first_mask_loss(spoiled, target)), abs=1e-6)
    assert float(first_mask_loss(right, target)) < 0.05 < float(first_mask_loss(-right, target))


def test_a_generated_cube_is_the_same_whenever_it_is_asked_for() -> None:
    first, second = GeneratedCubes(3, range(4))[2], GeneratedCubes(3, range(2, 4))[0]
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
    assert first[0].shape[0] == INPUT_CHANNELS


@pytest.mark.slow
def test_a_stopped_training_continues_to_the_same_weights(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    settings = FirstMaskTraining(steps=2, batch=2, widths=TINY, workers=0, checkpoint_every=1, warm_up=1, validation=1)
    whole = list(train_first_mask(tmp_path / "whole", settings))
    assert [progress.step for progress in whole] == [1, 2]
    stopped = train_first_mask(tmp_path / "parts", settings)
    assert next(stopped).step == 1
    stopped.close()
    assert [progress.step for progress in train_first_mask(tmp_path / "parts", settings)] == [2]
    one, other = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "parts"))
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-3, atol=1e-5)
    assert (tmp_path / "parts" / "log.csv").read_text().count("\n") == 3
    model = read_first_mask_model(export_first_mask(tmp_path / "parts", tmp_path / "net.safetensors", temperature=1.0))
    torch.testing.assert_close(model.net.head.weight, other["average.head.weight"], rtol=1e-2, atol=1e-3)
    assert json.loads((tmp_path / "net.json").read_text())["training"]["steps_done"] == 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="gloo under torchrun needs libuv, which Windows builds of torch lack")
def test_two_processes_that_share_every_batch_learn_what_one_learns(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    pytest.importorskip("lightning_fabric", reason="lightning-fabric (extra 'cluster') is not installed")
    settings = "steps=2, batch=2, widths=(4, 4, 8, 8), workers=0, checkpoint_every=2, warm_up=1, validation=1"
    script = tmp_path / "train.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom napari_weakseg.training.first_mask import *\n"
        f"print(list(train_first_mask(Path(sys.argv[1]), FirstMaskTraining({settings}))))\n"
    )
    one = [sys.executable, str(script), str(tmp_path / "one")]
    two = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
        str(tmp_path / "two"),
    ]
    for command in (one, two):
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
    first, second = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("one", "two"))
    for name, value in first.items():
        if name.startswith("average."):
            torch.testing.assert_close(value, second[name], rtol=5e-2, atol=5e-3)


def test_several_processes_without_fabric_are_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(MissingPackageError, match=r"napari-weakseg\[cluster\]"):
        several_devices()


def test_a_network_that_knows_nothing_is_made_unsure() -> None:
    torch.manual_seed(0)
    net = FirstMaskNet(TINY)
    net.head.weight.data *= 30
    assert fitted_temperature(TINY, net.state_dict(), count=2) == pytest.approx(5)


def _written(folder: Path) -> Path:
    torch.manual_seed(0)
    return write_first_mask_model(FirstMaskNet(TINY), folder / "net.safetensors", temperature=1.5, record={"seed": 0})


def test_weights_come_back_as_written_and_give_a_probability_on_the_window(tmp_path: Path) -> None:
    model = read_first_mask_model(_written(tmp_path))
    assert model.temperature == 1.5
    image = np.random.default_rng(0).normal(size=(20, 30, 12))
    points = [(5, 10, 6), (14, 10, 6), (9, 5, 6), (9, 20, 6), (9, 10, 3), (9, 10, 9)]
    probability, window = first_mask_learned(image, (1.0, 1.0, 2.0), points=points, model=model)
    assert probability.shape == image[window].shape
    assert 0 <= probability.min() <= probability.max() <= 1


@pytest.mark.parametrize("fault", ["missing", "damaged", "version", "widths"])
def test_weights_that_are_not_what_they_say_are_refused_in_one_sentence(tmp_path: Path, fault: str) -> None:
    path = _written(tmp_path)
    sidecar = path.with_suffix(".json")
    card = json.loads(sidecar.read_text())
    if fault == "missing":
        path.unlink()
    elif fault == "damaged":
        path.write_bytes(path.read_bytes()[:-1] + b"\x00\x01")
    else:
        sidecar.write_text(json.dumps(card | ({"format": 99} if fault == "version" else {"widths": [4, 4, 4, 10**6]})))
    with pytest.raises(DataError) as caught:
        read_first_mask_model(path)
    assert str(tmp_path) not in str(caught.value)
    assert len(str(caught.value).split()) <= 30
