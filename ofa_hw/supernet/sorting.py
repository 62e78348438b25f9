"""Sorts the middle channels of elastic blocks by importance.

A channel's importance is the L1 norm of the weights that read it in the convolution after it
(https://arxiv.org/abs/1908.09791). A permutation that is applied to all that writes a channel and
to all that reads it changes nothing of what the block computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ofa_hw.errors import SpecError
from ofa_hw.supernet.blocks import ElasticBottleneck, ElasticMBConv


def channel_order(weight: Tensor, widths: Sequence[int], phase: int) -> Tensor:
    """The order of a convolution's input channels, the most important first.

    Args:
        weight: Of the convolution that reads the channels, (out, in, k, k).
        widths: Channel counts that sub-networks may take.
        phase: How many of the widths below the largest keep their channel sets.

    Raises:
        SpecError: If there are not that many widths.
    """
    if not 0 <= phase < len(widths):
        raise SpecError(f"cannot sort for phase {phase}: choose from 0 to {len(widths) - 1}")
    importance = weight.detach().abs().sum((0, 2, 3))
    kept = sorted(widths, reverse=True)[1 : phase + 1]
    edges = [0, *reversed(kept), len(importance)]
    bands = [
        start + importance[start:end].argsort(descending=True, stable=True)
        for start, end in pairwise(edges)
    ]
    return torch.cat(bands)


@torch.no_grad()
def sort_mbconv(block: ElasticMBConv, widths: Sequence[int], phase: int) -> None:
    """Sorts an inverted residual's middle channels, and those of its squeeze-excite.

    Raises:
        SpecError: If there are not that many widths.
    """
    if block.inverted_bottleneck is None:
        return
    depth, linear = block.depth_conv, block.point_linear.conv.conv
    order = channel_order(linear.weight, widths, phase)
    _permute(linear, order, dim=1)
    _permute(depth.bn.bn, order)
    _permute(depth.conv.conv, order)
    _permute(block.inverted_bottleneck.bn.bn, order)
    _permute(block.inverted_bottleneck.conv.conv, order)
    if depth.se is not None:
        reduce, expand = depth.se.fc["reduce"], depth.se.fc["expand"]
        assert isinstance(expand, nn.Conv2d)
        _permute(reduce, order, dim=1)
        _permute(expand, order)
        middle = channel_order(expand.weight, [expand.in_channels], 0)
        _permute(expand, middle, dim=1)
        _permute(reduce, middle)


@torch.no_grad()
def sort_bottleneck(block: ElasticBottleneck, widths: Sequence[int], phase: int) -> None:
    """Sorts a bottleneck: its third convolution orders the second's outputs, that the first's.

    Raises:
        SpecError: If there are not that many widths.
    """
    for reader, writer in ((block.conv3, block.conv2), (block.conv2, block.conv1)):
        order = channel_order(reader.conv.conv.weight, widths, phase)
        _permute(reader.conv.conv, order, dim=1)
        _permute(writer.bn.bn, order)
        _permute(writer.conv.conv, order)


def _permute(layer: nn.Module, order: Tensor, dim: int = 0) -> None:
    """Reorders the output channels of a layer, or with `dim` 1 its input channels."""
    for tensor in layer.state_dict().values():
        if tensor.dim() > dim:
            tensor.copy_(tensor.index_select(dim, order))
