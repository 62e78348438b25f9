"""Elastic blocks: each runs an `OpSpec` it contains, and gives the state of its plain module.

Shapes: B batch, C channels, H and W height and width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from ofa_hw.ops import OpSpec
from ofa_hw.supernet.layers import (
    ElasticDepthwise,
    SlicedConv,
    SlicedConvNorm,
    SlicedNorm,
    SlicedSqueezeExcite,
    State,
    activate,
    first,
    prefixed,
)


class ElasticBlock(nn.Module):
    """A block that holds the weights of many operators."""

    @abstractmethod
    def forward(self, x: Tensor, op: OpSpec) -> Tensor:
        """Runs as `op`: (B, C, H, W) to (B, C', H', W')."""

    @abstractmethod
    def state(self, op: OpSpec) -> State:
        """The state of `plain.build_block(op)`, views where no computation is needed."""


class ElasticConv(ElasticBlock):
    """Runs operators of kind `conv` with batch norm."""

    def __init__(self, largest: OpSpec, eps: float) -> None:
        super().__init__()
        self.conv = SlicedConv(
            largest.in_channels, largest.out_channels, largest.kernel_size, largest.stride
        )
        self.bn = SlicedNorm(largest.out_channels, eps)

    def forward(self, x: Tensor, op: OpSpec) -> Tensor:
        """See `ElasticBlock`."""
        y = activate(op.activation, self.bn(self.conv(x, op.out_channels)))
        return y + x if op.shortcut == "identity" else y

    def state(self, op: OpSpec) -> State:
        """See `ElasticBlock`."""
        weight = {"conv.weight": self.conv.weight(op.in_channels, op.out_channels)}
        return weight | prefixed("bn.", self.bn.state(op.out_channels))


class DepthwiseStage(nn.Module):
    """The middle of an inverted residual: depthwise convolution, batch norm, squeeze-excite."""

    def __init__(
        self,
        channels: int,
        kernel_sizes: Sequence[int],
        stride: int,
        eps: float,
        *,
        se_channels: int,
    ) -> None:
        super().__init__()
        self.conv = ElasticDepthwise(channels, kernel_sizes, stride)
        self.bn = SlicedNorm(channels, eps)
        self.se = SlicedSqueezeExcite(channels, se_channels) if se_channels else None

    def forward(self, x: Tensor, op: OpSpec) -> Tensor:
        """(B, C, H, W) to (B, C, H', W')."""
        y = activate(op.activation, self.bn(self.conv(x, op.kernel_size)))
        return self.se(y, op.se_channels) if self.se is not None else y

    def state(self, op: OpSpec) -> State:
        """The state of the plain stage."""
        mid = op.mid_channels
        state = {"conv.weight": self.conv.weight(mid, op.kernel_size)}
        state |= prefixed("bn.", self.bn.state(mid))
        if self.se is not None:
            state |= prefixed("se.", self.se.state(mid, op.se_channels))
        return state


class ElasticMBConv(ElasticBlock):
    """Runs operators of kind `mbconv`: elastic middle channels and kernel size.

    Args:
        largest: The operator that needs all the weights.
        kernel_sizes: Choices.
        eps: Of the batch norms.
        expands: Whether any operator has an expansion.
    """

    def __init__(
        self, largest: OpSpec, kernel_sizes: Sequence[int], eps: float, *, expands: bool = True
    ) -> None:
        super().__init__()
        cin, mid, cout = largest.in_channels, largest.mid_channels, largest.out_channels
        self.inverted_bottleneck = SlicedConvNorm(cin, mid, 1, eps) if expands else None
        self.depth_conv = DepthwiseStage(
            mid, kernel_sizes, largest.stride, eps, se_channels=largest.se_channels
        )
        self.point_linear = SlicedConvNorm(mid, cout, 1, eps)

    def forward(self, x: Tensor, op: OpSpec) -> Tensor:
        """See `ElasticBlock`."""
        y = x
        if self.inverted_bottleneck is not None and op.mid_channels != op.in_channels:
            y = self.inverted_bottleneck(y, op.mid_channels, op.activation)
        out: Tensor = self.point_linear(self.depth_conv(y, op), op.out_channels)
        return out + x if op.shortcut == "identity" else out

    def state(self, op: OpSpec) -> State:
        """See `ElasticBlock`."""
        state: State = {}
        if self.inverted_bottleneck is not None and op.mid_channels != op.in_channels:
            expansion = self.inverted_bottleneck.state(op.in_channels, op.mid_channels)
            state |= prefixed("inverted_bottleneck.", expansion)
        state |= prefixed("depth_conv.", self.depth_conv.state(op))
        projection = self.point_linear.state(op.mid_channels, op.out_channels)
        return state | prefixed("point_linear.", projection)


class ElasticBottleneck(ElasticBlock):
    """Runs operators of kind `bottleneck`: elastic middle and output channels."""

    def __init__(self, largest: OpSpec, eps: float) -> None:
        super().__init__()
        cin, mid, cout = largest.in_channels, largest.mid_channels, largest.out_channels
        self.conv1 = SlicedConvNorm(cin, mid, 1, eps)
        self.conv2 = SlicedConvNorm(mid, mid, largest.kernel_size, eps, largest.stride)
        self.conv3 = SlicedConvNorm(mid, cout, 1, eps)
        projects = largest.shortcut == "project"
        self.downsample = SlicedConvNorm(cin, cout, 1, eps) if projects else None

    def forward(self, x: Tensor, op: OpSpec) -> Tensor:
        """See `ElasticBlock`."""
        y = self.conv1(x, op.mid_channels, op.activation)
        y = self.conv2(y, op.mid_channels, op.activation)
        y = self.conv3(y, op.out_channels)
        if self.downsample is not None:
            if op.stride > 1:
                x = F.avg_pool2d(x, op.stride, op.stride, ceil_mode=True)
            x = self.downsample(x, op.out_channels)
        return activate(op.activation, y + x)

    def state(self, op: OpSpec) -> State:
        """See `ElasticBlock`."""
        cin, mid, cout = op.in_channels, op.mid_channels, op.out_channels
        state = prefixed("conv1.", self.conv1.state(cin, mid))
        state |= prefixed("conv2.", self.conv2.state(mid, mid))
        state |= prefixed("conv3.", self.conv3.state(mid, cout))
        if self.downsample is not None:
            state |= prefixed("downsample.", self.downsample.state(cin, cout))
        return state


class ElasticLinear(ElasticBlock):
    """Runs operators of kind `linear`: elastic input channels."""

    def __init__(self, largest: OpSpec) -> None:
        super().__init__()
        self.linear = nn.Linear(largest.in_channels, largest.out_channels)

    def forward(self, x: Tensor, op: OpSpec) -> Tensor:
        """(B, C, 1, 1) to (B, classes)."""
        weight = first(self.linear.weight, op.in_channels, 1)
        y = F.linear(x.flatten(1), weight, self.linear.bias)
        return activate(op.activation, y)

    def state(self, op: OpSpec) -> State:
        """See `ElasticBlock`."""
        weight = first(self.linear.weight, op.in_channels, 1)
        return {"linear.weight": weight, "linear.bias": self.linear.bias}
