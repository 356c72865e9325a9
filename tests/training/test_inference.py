"""Windows over a volume: the same as in one pass, and smaller ones when memory runs out."""

from __future__ import annotations

import pytest
import torch

from napari_weakseg.errors import DataError
from napari_weakseg.methods import new_recipe
from napari_weakseg.methods.explainable_heatmap.networks import build_network
from napari_weakseg.training.inference import Window, is_out_of_memory, sliding_window, smaller_windows, with_fallback

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("length", [4, 12, 30, 200])
def test_windows_give_the_same_map_as_one_pass(length):
    torch.manual_seed(0)
    recipe = new_recipe("explainable_heatmap", dimensions="3D", width=2, depth=2)
    net = build_network(recipe, inputs=1, classes=2, spacing=(1, 1, 1)).eval()
    image = torch.randn(1, 62, 7, 10)
    count = []

    def predict(part: torch.Tensor, place: Window) -> torch.Tensor:
        count.append(place)
        return net.explain(part).heatmap

    with torch.no_grad():
        whole = net.explain(image[None]).heatmap[0]
        mapped = sliding_window(predict, image, (length, 7, 10), halo=net.halo, stride=net.stride)
    assert (mapped - whole).abs().max() < 1e-5
    assert len(count) > 1 or length + 2 * net.halo[0] >= 62
    assert all(place.start[0] % net.stride[0] == 0 for place in count)


@pytest.mark.parametrize("window", [(1, 5, 4), (2, 5, 4), (8, 5, 4), (3, 2, 2)])
def test_without_halo_every_voxel_is_seen_once(window):
    image = torch.rand(2, 7, 5, 4)
    assert torch.equal(sliding_window(lambda part, place: part * 2, image, window), image * 2)


def out_of_memory_first(failures: int, error: BaseException, used: list):
    def run(device: torch.device, window: tuple[int, ...]) -> str:
        used.append((device.type, window))
        if len(used) <= failures:
            raise error
        return "done"

    return run


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA"), MemoryError(), RuntimeError("DefaultCPUAllocator: no room")])
@pytest.mark.parametrize(
    ("failures", "used", "word"),
    [
        (0, [("cuda", (2, 64, 48))], None),
        (1, [("cuda", (2, 64, 48)), ("cuda", (1, 64, 48))], "windows of 1 x 64 x 48 instead of 2 x 64 x 48"),
        (3, [*(("cuda", s) for s in ((2, 64, 48), (1, 64, 48), (1, 32, 48), (1, 32, 32)))], "windows of 1 x 32 x 32"),
        (4, [*(("cuda", s) for s in ((2, 64, 48), (1, 64, 48), (1, 32, 48), (1, 32, 32))), ("cpu", (2, 64, 48))], "the CPU"),
    ],
)
def test_memory_running_out_leads_to_smaller_windows_then_to_the_cpu(monkeypatch, error, failures, used, word):
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    tried: list = []
    value, notes = with_fallback(out_of_memory_first(failures, error, tried), GPU, (2, 64, 48), smallest=(1, 32, 32))
    assert value == "done"
    assert tried == used
    assert (word in notes[0]) if word else not notes


def test_windows_shrink_along_the_slices_first_and_keep_what_a_network_needs():
    assert list(smaller_windows((6,), (1,))) == [(3,), (1,)]
    assert list(smaller_windows((8, 40, 80), (8, 16, 16), 8)) == [(8, 40, 40), (8, 16, 40), (8, 16, 16)]
    assert list(smaller_windows((8, 8), (8, 8))) == []


def test_when_nothing_fits_it_says_so_with_the_number():
    with pytest.raises(DataError, match="about 100 MiB") as caught:
        with_fallback(out_of_memory_first(99, MemoryError(), []), CPU, (4,), needed=100 * 2**20)
    assert len(str(caught.value).split()) <= 30


def test_other_errors_are_not_taken_for_missing_memory():
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes"):
        with_fallback(out_of_memory_first(1, RuntimeError("shapes"), []), CPU, (4,))


def test_the_cpu_s_own_allocator_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**52)
    assert is_out_of_memory(caught.value)
