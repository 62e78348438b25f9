"""Plain networks: one torch module an operator, for training, extraction and tracing.

Shapes: B batch, C channels, H and W height and width. Parameter names inside a block are those of
the published static networks, e.g. `depth_conv.conv.weight`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ofa_hw.ops import OpSpec


def build_network(
    ops: Sequence[OpSpec],
    *,
    norm_eps: float = 1e-5,
    norm_momentum: float = 0.1,
    device: torch.device | str | None = None,
) -> nn.Sequential:
    """A static network: a chain of plain torch modules, one an operator.

    The children are named after their operators, e.g. `mbconv3`, and numbered from 0.

    Args:
        ops: The operators; each takes what the one before it gives.
        norm_eps: Epsilon of every batch norm.
        norm_momentum: Momentum of every batch norm's running statistics.
        device: Where the weights are made; `meta` makes none.
    """
    network = nn.Sequential()
    with torch.device(device or torch.get_default_device()):
        for index, op in enumerate(ops):
            network.add_module(f"{op.kind}{index}", build_block(op, norm_eps, norm_momentum))
    return network


def build_block(op: OpSpec, norm_eps: float = 1e-5, norm_momentum: float = 0.1) -> nn.Module:
    """The plain module of one operator."""
    match op.kind:
        case "conv":
            return PlainConv(op, norm_eps, norm_momentum)
        case "mbconv":
            return PlainMBConv(op, norm_eps, norm_momentum)
        case "bottleneck":
            return PlainBottleneck(op, norm_eps, norm_momentum)
        case "max_pool":
            return nn.MaxPool2d(op.kernel_size, op.stride, op.kernel_size // 2)
        case "global_pool":
            return nn.AdaptiveAvgPool2d(1)
        case "linear":
            return PlainLinear(op)
    raise AssertionError(op.kind)  # OpSpec admits no other


def activation_layer(name: str) -> nn.Module:
    """The layer of an activation of `OpSpec`."""
    match name:
        case "none":
            return nn.Identity()
        case "relu":
            return nn.ReLU(inplace=True)
        case "relu6":
            return nn.ReLU6(inplace=True)
        case "h_swish":
            return nn.Hardswish()
    raise AssertionError(name)  # OpSpec admits no other


class ConvNorm(nn.Module):
    """Convolution with symmetric padding and, if it has one, batch norm and activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        eps: float,
        momentum: float,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: str = "none",
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            kernel_size // 2,
            groups=groups,
            bias=False,
        )
        self.bn = nn.BatchNorm2d(out_channels, eps, momentum) if norm else nn.Identity()
        self.act = activation_layer(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Convolves, normalises, activates."""
        y: Tensor = self.act(self.bn(self.conv(x)))
        return y


class PlainConv(ConvNorm):
    """An operator of kind `conv`."""

    def __init__(self, op: OpSpec, eps: float, momentum: float) -> None:
        super().__init__(
            op.in_channels,
            op.out_channels,
            op.kernel_size,
            eps,
            momentum,
            stride=op.stride,
            activation=op.activation,
            norm=op.norm,
        )
        self.residual = op.shortcut == "identity"

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H', W')."""
        y = super().forward(x)
        return y + x if self.residual else y


class SqueezeExcite(nn.Module):
    """Gates channels by what they hold on average (https://arxiv.org/abs/1709.01507)."""

    def __init__(self, channels: int, se_channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.ModuleDict(
            {
                "reduce": nn.Conv2d(channels, se_channels, 1),
                "relu": nn.ReLU(inplace=True),
                "expand": nn.Conv2d(se_channels, channels, 1),
                "gate": nn.Hardsigmoid(),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        gate: Tensor = self.pool(x)  # (B, C, 1, 1)
        for layer in self.fc.values():
            gate = layer(gate)
        return x * gate


class DepthwiseConvNorm(ConvNorm):
    """Depthwise convolution, batch norm, activation and, if it has one, squeeze-excite."""

    def __init__(self, op: OpSpec, eps: float, momentum: float) -> None:
        mid = op.mid_channels
        super().__init__(
            mid,
            mid,
            op.kernel_size,
            eps,
            momentum,
            stride=op.stride,
            groups=mid,
            activation=op.activation,
        )
        self.se = SqueezeExcite(mid, op.se_channels) if op.se_channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H', W')."""
        y: Tensor = self.se(super().forward(x))
        return y


class PlainMBConv(nn.Module):
    """An operator of kind `mbconv`."""

    def __init__(self, op: OpSpec, eps: float, momentum: float) -> None:
        super().__init__()
        cin, mid, cout = op.in_channels, op.mid_channels, op.out_channels
        self.inverted_bottleneck = (
            ConvNorm(cin, mid, 1, eps, momentum, activation=op.activation)
            if mid != cin
            else nn.Identity()
        )
        self.depth_conv = DepthwiseConvNorm(op, eps, momentum)
        self.point_linear = ConvNorm(mid, cout, 1, eps, momentum)
        self.residual = op.shortcut == "identity"

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H', W')."""
        y: Tensor = self.point_linear(self.depth_conv(self.inverted_bottleneck(x)))
        return y + x if self.residual else y


class PlainBottleneck(nn.Module):
    """An operator of kind `bottleneck`."""

    def __init__(self, op: OpSpec, eps: float, momentum: float) -> None:
        super().__init__()
        cin, mid, cout, act = op.in_channels, op.mid_channels, op.out_channels, op.activation
        self.conv1 = ConvNorm(cin, mid, 1, eps, momentum, activation=act)
        self.conv2 = ConvNorm(
            mid, mid, op.kernel_size, eps, momentum, stride=op.stride, activation=act
        )
        self.conv3 = ConvNorm(mid, cout, 1, eps, momentum)
        projects = op.shortcut == "project"
        self.pool = (
            nn.AvgPool2d(op.stride, op.stride, ceil_mode=True)
            if projects and op.stride > 1
            else nn.Identity()
        )
        self.downsample = ConvNorm(cin, cout, 1, eps, momentum) if projects else nn.Identity()
        self.act = activation_layer(act)
        self.residual = op.shortcut != "none"

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H', W')."""
        y: Tensor = self.conv3(self.conv2(self.conv1(x)))
        if self.residual:
            y = y + self.downsample(self.pool(x))
        out: Tensor = self.act(y)
        return out


class PlainLinear(nn.Module):
    """An operator of kind `linear`."""

    def __init__(self, op: OpSpec) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(op.in_channels, op.out_channels)
        self.act = activation_layer(op.activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, 1, 1) to (B, classes)."""
        y: Tensor = self.act(self.linear(self.flatten(x)))
        return y
