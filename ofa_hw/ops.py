"""OpSpec: one block of a network at one input size, the key of a table row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Final, Self

from ofa_hw.errors import SpecError

KINDS: Final = ("conv", "mbconv", "bottleneck", "max_pool", "global_pool", "linear")
ACTIVATIONS: Final = ("none", "relu", "relu6", "h_swish")
SHORTCUTS: Final = ("none", "identity", "project")


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Rounds a channel count to a multiple of `divisor`, never down by more than a tenth.

    The rule of MobileNetV2 (https://arxiv.org/abs/1801.04381), which once-for-all keeps.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


def se_middle(channels: int) -> int:
    """Middle channels of a squeeze-excite over `channels`, reduction 4 (MobileNetV3)."""
    return make_divisible(channels // 4)


@dataclass(frozen=True, slots=True)
class ConvShape:
    """One convolution or linear layer inside an operator, as its costs see it.

    Attributes:
        resolution: Height and width of its output.
        norm: Whether batch norm follows; if not, `bias` says whether it adds a bias.
    """

    in_channels: int
    out_channels: int
    kernel_size: int
    groups: int
    resolution: int
    norm: bool = True
    bias: bool = False

    @property
    def weights(self) -> int:
        """Number of weights, without bias and batch norm."""
        return self.in_channels * self.out_channels // self.groups * self.kernel_size**2

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return self.weights * self.resolution**2

    @property
    def params(self) -> int:
        """Trainable parameters: weights, bias, scale and shift of the batch norm."""
        return self.weights + self.out_channels * (2 * self.norm + self.bias)


@dataclass(frozen=True, slots=True, order=True)
class OpSpec:
    """One operator of a network: a block with its activation, at one input size.

    Two blocks with the same OpSpec do the same work on a device, wherever in a network they
    stand, so a latency table measures each OpSpec once. Inputs are (N, C, H, W) with H = W.

    Attributes:
        kind: `conv` (convolution, batch norm, activation), `mbconv` (inverted residual;
            https://arxiv.org/abs/1801.04381), `bottleneck` (https://arxiv.org/abs/1512.03385),
            `max_pool`, `global_pool` (average over H and W) or `linear` (flatten first).
        resolution: Height and width of the input.
        in_channels: C of the input.
        mid_channels: Channels between the two outer convolutions of `mbconv` and `bottleneck`;
            an `mbconv` that has as many as `in_channels` has no expansion. 0 for other kinds.
        out_channels: C of the output.
        kernel_size: Of the spatial convolution, or of the pool.
        stride: Of the spatial convolution, or of the pool.
        activation: `none`, `relu`, `relu6` or `h_swish`.
        se_channels: Middle channels of the squeeze-excite of an `mbconv`; 0 for none.
        shortcut: `none`; `identity` (the input is added); `project` (`bottleneck` only: average
            pool by the stride, then a 1x1 convolution; https://arxiv.org/abs/1812.01187).
        norm: Whether the convolution of a `conv` is followed by batch norm (folded on devices).
    """

    kind: str
    resolution: int
    in_channels: int
    out_channels: int
    mid_channels: int = 0
    kernel_size: int = 1
    stride: int = 1
    activation: str = "none"
    se_channels: int = 0
    shortcut: str = "none"
    norm: bool = True

    def __post_init__(self) -> None:
        for name, value, known in (
            ("kind", self.kind, KINDS),
            ("activation", self.activation, ACTIVATIONS),
            ("shortcut", self.shortcut, SHORTCUTS),
        ):
            if value not in known:
                raise SpecError(f"{name} {value!r} is unknown; choose from {', '.join(known)}")
        for name in ("resolution", "in_channels", "out_channels", "kernel_size", "stride"):
            if getattr(self, name) < 1:
                raise SpecError(
                    f"{name} of an operator must be at least 1, got {getattr(self, name)}"
                )
        if (self.mid_channels > 0) != (self.kind in ("mbconv", "bottleneck")):
            raise SpecError(f"{self.kind} cannot have {self.mid_channels} middle channels")
        if self.shortcut == "identity" and (
            self.stride != 1 or self.in_channels != self.out_channels
        ):
            raise SpecError(
                f"an identity shortcut needs stride 1 and equal channels, got stride {self.stride} "
                f"and {self.in_channels} to {self.out_channels} channels"
            )

    @property
    def out_resolution(self) -> int:
        """Height and width of the output."""
        if self.kind in ("global_pool", "linear"):
            return 1
        return (self.resolution - 1) // self.stride + 1

    def input_shape(self, batch: int = 1) -> tuple[int, int, int, int]:
        """Shape of the input, (N, C, H, W)."""
        return (batch, self.in_channels, self.resolution, self.resolution)

    def convolutions(self) -> Iterator[ConvShape]:
        """Yields the operator's convolutions and linear layers, in order."""
        cin, mid, cout = self.in_channels, self.mid_channels, self.out_channels
        size, k = self.out_resolution, self.kernel_size
        if self.kind == "conv":
            yield ConvShape(cin, cout, k, 1, size, self.norm)
        elif self.kind == "linear":
            yield ConvShape(cin, cout, 1, 1, 1, norm=False, bias=True)
        elif self.kind == "mbconv":
            if mid != cin:
                yield ConvShape(cin, mid, 1, 1, self.resolution)
            yield ConvShape(mid, mid, k, mid, size)
            if self.se_channels:
                yield ConvShape(mid, self.se_channels, 1, 1, 1, norm=False, bias=True)
                yield ConvShape(self.se_channels, mid, 1, 1, 1, norm=False, bias=True)
            yield ConvShape(mid, cout, 1, 1, size)
        elif self.kind == "bottleneck":
            yield ConvShape(cin, mid, 1, 1, self.resolution)
            yield ConvShape(mid, mid, k, 1, size)
            yield ConvShape(mid, cout, 1, 1, size)
            if self.shortcut == "project":
                yield ConvShape(cin, cout, 1, 1, size)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of its convolutions and linear layers for one image."""
        return sum(conv.macs for conv in self.convolutions())

    @property
    def params(self) -> int:
        """Trainable parameters, batch norm's included."""
        return sum(conv.params for conv in self.convolutions())

    def to_dict(self) -> dict[str, str | int | bool]:
        """The fields that differ from their defaults, for JSON."""
        defaults = {f.name: f.default for f in fields(self)}
        return {key: value for key, value in asdict(self).items() if value != defaults[key]}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Self:
        """Reads what `to_dict` gave; raises `SpecError` for unknown or missing fields."""
        types = {f.name: type(f.default) for f in fields(cls)}
        types.update(kind=str, resolution=int, in_channels=int, out_channels=int)
        if unknown := sorted(data.keys() - types.keys()):
            raise SpecError(f"an operator has no field {', '.join(unknown)}")
        for key, value in data.items():
            if type(value) is not types[key]:
                raise SpecError(
                    f"{key} of an operator must be {types[key].__name__}, got {value!r}"
                )
        try:
            return cls(**data)  # type: ignore[arg-type]
        except TypeError as error:
            raise SpecError(
                f"an operator needs kind, resolution and channels, got {data}"
            ) from error

    def __str__(self) -> str:
        """A short name, e.g. `mbconv:24-72-40:k5:s2:relu:se24@56`."""
        middle = f"{self.mid_channels}-" if self.mid_channels else ""
        parts = [self.kind, f"{self.in_channels}-{middle}{self.out_channels}"]
        if self.kind not in ("linear", "global_pool"):
            parts += [f"k{self.kernel_size}", f"s{self.stride}"]
        if self.activation != "none":
            parts.append(re.sub("_", "", self.activation))
        if self.se_channels:
            parts.append(f"se{self.se_channels}")
        if self.shortcut != "none":
            parts.append(self.shortcut)
        if not self.norm:
            parts.append("nonorm")
        return ":".join(parts) + f"@{self.resolution}"
