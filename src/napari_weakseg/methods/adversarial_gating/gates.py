"""The segmentor: a U-Net whose decoder levels are each multiplied by their own "some structure is here"."""

from __future__ import annotations

from torch import Tensor, nn

from ...networks.slice_unet import CONVOLUTION, LEVELS, SliceUNet


class GatedUNet(SliceUNet):
    r"""U-Net with an adversarial attention gate at every decoder level.

    At a level with hidden features h and refined features g,

    .. math:: a = \mathrm{softmax}(\mathrm{conv}_1(h)), \quad A = \sum_{c \ge 1} a_c = 1 - a_0, \quad \mathrm{out} = g A.

    Parameters
    ----------
    inputs, classes, filters, dimensions, momentum
        As in `SliceUNet`.

    References
    ----------
    G. Valvano, A. Leo, S. A. Tsaftaris, "Learning to Segment From Scribbles Using Multi-Scale Adversarial Attention Gates",
    IEEE TMI 40(8), 2021, section III; constants of the authors' code.
    """

    def __init__(self, inputs: int, classes: int, filters: int = 32, *, dimensions: int = 2, momentum: float = 0.1) -> None:
        super().__init__(inputs, classes, filters, dimensions=dimensions, momentum=momentum)
        gates = [CONVOLUTION[dimensions](self.widths[level], classes, 1) for level in range(LEVELS)]
        for gate in gates:
            nn.init.kaiming_normal_(gate.weight, nonlinearity="linear")
            if gate.bias is not None:
                nn.init.zeros_(gate.bias)
        self.gates = nn.ModuleList(gates)

    def gated(self, level: int, features: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Features times the gate, and the attention a (B, classes, ...) that the gate was made of."""
        attention = self.gates[level](hidden).float().softmax(1)
        return features * (1 - attention[:, :1]).to(features.dtype), attention


def pyramid(probability: Tensor, attentions: tuple[Tensor, ...]) -> list[Tensor]:
    """What the discriminator sees of a segmentation: foreground channels at full, 1/2, 1/4 and 1/8 resolution.

    The full-resolution gate's own attention is not shown: the probability takes its place. In 3D each slice along the first
    spatial axis becomes an image of its own, of which the coarser attentions have copies.

    Parameters
    ----------
    probability : Tensor, shape (B, classes, H, W) or (B, classes, D, H, W)
        After the softmax.
    attentions : tuple of Tensor
        As `GatedUNet` returns them, fine to coarse.
    """
    levels = [probability[:, 1:], *(attention[:, 1:] for attention in attentions[1:])]
    if probability.ndim == 4:
        return levels
    depth = probability.shape[2]
    flat = []
    for level in levels:
        whole = level.repeat_interleave(depth // level.shape[2], dim=2)
        flat.append(whole.transpose(1, 2).reshape(-1, whole.shape[1], *whole.shape[3:]))
    return flat
