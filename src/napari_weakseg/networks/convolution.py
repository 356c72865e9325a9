"""A 3D convolution that keeps to the fast path of the CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Convolution(nn.Conv3d):
    """`torch.nn.Conv3d`, three times as fast for one small volume on a CPU when nothing is learnt.

    Notes
    -----
    For a batch of one with at most 20,480 places (not counting the last axis) torch picks its unoptimised convolution, at a
    fifteenth of oneDNN's speed (ATen, ``Convolution.cpp``, ``use_mkldnn``). Asking for oneDNN by name avoids that; values
    agree to about 1e-6. Weights have the names and shapes of ``Conv3d``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, H, W) to (B, C', D', H', W')."""
        padding = self.padding
        known = x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        if not known or isinstance(padding, str) or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        return torch.mkldnn_convolution(x, self.weight, self.bias, padding, self.stride, self.dilation, self.groups)
