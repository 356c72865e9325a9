"""The fast convolution gives what torch's own gives, and steps aside where it cannot be used."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from napari_weakseg.networks.convolution import Convolution


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (2, 2, 0), (1, 1, 0)])
def test_it_agrees_with_torch_and_shares_its_weights(kernel, stride, padding):
    plain = nn.Conv3d(4, 6, kernel, stride=stride, padding=padding)
    fast = Convolution(4, 6, kernel, stride=stride, padding=padding)
    fast.load_state_dict(plain.state_dict())
    x = torch.randn(1, 4, 8, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(fast(x), plain(x), rtol=1e-4, atol=1e-5)


def test_learning_and_other_types_take_the_usual_path():
    fast = Convolution(4, 6, 3, padding="same")
    x = torch.randn(1, 4, 8, 8, 8)
    fast(x).sum().backward()
    assert fast.weight.grad is not None
    with torch.inference_mode():
        assert fast(x).shape == (1, 6, 8, 8, 8)
        assert fast.double()(x.double()).dtype == torch.float64
