"""Elastic primitives: layers that run on the first channels of their weights.

None keeps an active state: what a layer needs to know comes with each call. Attributes and
parameters are named so that the `state_dict` has the published keys. Shapes: B batch, C channels,
H and W height and width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ofa_hw.supernet.depthwise import depthwise_conv

State = dict[str, Tensor]


def first(tensor: Tensor, count: int, dim: int = 0) -> Tensor:
    """The first `count` entries along `dim`, a view.

    All of them are the tensor itself: a slice would cost the backward pass a copy.
    """
    return tensor if count == tensor.shape[dim] else tensor.narrow(dim, 0, count)


def activate(name: str, x: Tensor) -> Tensor:
    """Applies an activation of `OpSpec`, in place where its backward pass allows it."""
    match name:
        case "none":
            return x
        case "relu":
            return F.relu(x, inplace=True)
        case "relu6":
            return F.relu6(x, inplace=True)
        case "h_swish":
            return F.hardswish(x)
    raise AssertionError(name)  # OpSpec admits no other


class SlicedConv(nn.Module):
    """Convolution of which the first input and output channels run."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False
        )

    def weight(self, in_channels: int, out_channels: int) -> Tensor:
        """The active weight, a view."""
        return first(first(self.conv.weight, out_channels), in_channels, 1)

    def forward(self, x: Tensor, out_channels: int) -> Tensor:
        """(B, C, H, W) to (B, out_channels, H', W')."""
        weight = self.weight(x.shape[1], out_channels)
        return F.conv2d(x, weight, None, self.conv.stride, self.conv.padding)


class ElasticDepthwise(nn.Module):
    """Depthwise convolution whose smaller kernels are learnt views of the largest.

    The kernel of the next smaller size is the centre of the one before it, flattened by rows and
    multiplied by a matrix that all channels share (https://arxiv.org/abs/1908.09791).

    Attributes:
        kernel_sizes: Choices, ascending.
    """

    def __init__(self, channels: int, kernel_sizes: Sequence[int], stride: int) -> None:
        super().__init__()
        self.kernel_sizes = tuple(sorted(kernel_sizes))
        largest = self.kernel_sizes[-1]
        self.conv = nn.Conv2d(
            channels, channels, largest, stride, largest // 2, groups=channels, bias=False
        )
        for small, large in pairwise(self.kernel_sizes):
            self.register_parameter(f"{large}to{small}_matrix", nn.Parameter(torch.eye(small**2)))

    def matrices(self) -> Iterator[nn.Parameter]:
        """The transformation matrices, (k^2, k^2) each."""
        for small, large in pairwise(self.kernel_sizes):
            yield self.get_parameter(f"{large}to{small}_matrix")

    def weight(self, channels: int, kernel_size: int) -> Tensor:
        """The active kernels, (channels, 1, kernel_size, kernel_size)."""
        weight: Tensor = first(self.conv.weight, channels)
        for large, small in pairwise(self.kernel_sizes[::-1]):
            if large == kernel_size:
                break
            edge = (large - small) // 2
            centre = weight[:, :, edge : edge + small, edge : edge + small]
            matrix = self.get_parameter(f"{large}to{small}_matrix")
            weight = F.linear(centre.reshape(channels, small**2), matrix)
            weight = weight.view(channels, 1, small, small)
        return weight

    def forward(self, x: Tensor, kernel_size: int) -> Tensor:
        """(B, C, H, W) to (B, C, H', W')."""
        weight = self.weight(x.shape[1], kernel_size)
        return depthwise_conv(x, weight, self.conv.stride[0])


class SlicedNorm(nn.Module):
    """Batch norm over the first channels; training updates only their running statistics."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, eps)

    def state(self, channels: int) -> State:
        """The state of a plain batch norm over the first `channels`."""
        state: State = self.bn.state_dict(keep_vars=True)
        return {
            key: first(value, channels) if value.dim() else value for key, value in state.items()
        }

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        bn, channels = self.bn, x.shape[1]
        assert bn.running_mean is not None
        assert bn.running_var is not None
        assert bn.num_batches_tracked is not None
        assert bn.momentum is not None
        if bn.training:
            bn.num_batches_tracked.add_(1)
        return F.batch_norm(
            x,
            first(bn.running_mean, channels),
            first(bn.running_var, channels),
            first(bn.weight, channels),
            first(bn.bias, channels),
            bn.training,
            bn.momentum,
            bn.eps,
        )


class SlicedSqueezeExcite(nn.Module):
    """Squeeze-excite over the first channels, with the first of its own middle channels."""

    def __init__(self, channels: int, se_channels: int) -> None:
        super().__init__()
        self.fc = nn.ModuleDict(
            {
                "reduce": nn.Conv2d(channels, se_channels, 1),
                "expand": nn.Conv2d(se_channels, channels, 1),
            }
        )

    def state(self, channels: int, se_channels: int) -> State:
        """The state of a plain squeeze-excite."""
        reduce, expand = self.fc["reduce"], self.fc["expand"]
        assert isinstance(reduce, nn.Conv2d)
        assert isinstance(expand, nn.Conv2d)
        assert reduce.bias is not None
        assert expand.bias is not None
        return {
            "fc.reduce.weight": first(first(reduce.weight, se_channels), channels, 1),
            "fc.reduce.bias": first(reduce.bias, se_channels),
            "fc.expand.weight": first(first(expand.weight, channels), se_channels, 1),
            "fc.expand.bias": first(expand.bias, channels),
        }

    def forward(self, x: Tensor, se_channels: int) -> Tensor:
        """(B, C, H, W) to the same shape."""
        state = self.state(x.shape[1], se_channels)
        gate = F.adaptive_avg_pool2d(x, 1)  # (B, C, 1, 1)
        gate = F.conv2d(gate, state["fc.reduce.weight"], state["fc.reduce.bias"])
        gate = F.conv2d(F.relu(gate), state["fc.expand.weight"], state["fc.expand.bias"])
        return x * F.hardsigmoid(gate)


class SlicedConvNorm(nn.Module):
    """Convolution and batch norm of which the first channels run."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, eps: float, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv = SlicedConv(in_channels, out_channels, kernel_size, stride)
        self.bn = SlicedNorm(out_channels, eps)

    def state(self, in_channels: int, out_channels: int) -> State:
        """The state of a plain convolution with batch norm."""
        weight = {"conv.weight": self.conv.weight(in_channels, out_channels)}
        return weight | prefixed("bn.", self.bn.state(out_channels))

    def forward(self, x: Tensor, out_channels: int, activation: str = "none") -> Tensor:
        """(B, C, H, W) to (B, out_channels, H', W')."""
        return activate(activation, self.bn(self.conv(x, out_channels)))


def prefixed(prefix: str, state: State) -> State:
    """The state with `prefix` before each key."""
    return {prefix + key: value for key, value in state.items()}
