"""Spaces of inverted residuals: a stem, units of elastic blocks and a head.

MobileNetV3 and ProxylessNAS as once-for-all made them elastic are two tables of such units
(https://arxiv.org/abs/1908.09791); so is a space of one's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from ofa_hw.errors import SpecError
from ofa_hw.ops import OpSpec, make_divisible, se_middle
from ofa_hw.spaces.base import SearchSpace, Slot
from ofa_hw.spaces.genes import Gene


@dataclass(frozen=True, slots=True)
class Unit:
    """Blocks of equal width; only the first changes stride and channels.

    Attributes:
        channels: Output channels of every block, before the width multiplier.
        stride: Of the first block.
        activation: Of every block.
        squeeze_excite: Whether every block has one.
        depths: How many blocks may run.
    """

    channels: int
    stride: int
    activation: str
    squeeze_excite: bool
    depths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class InvertedResidualNet:
    """The fixed parts of such a family, channels before the width multiplier.

    Attributes:
        stem_channels: Of the 3x3 convolution on the image, stride 2.
        stem_activation: Of that convolution and of the head.
        first_channels: Of the fixed first block: expansion 1, kernel 3, stride 1.
        first_activation: Of that block.
        units: The elastic part.
        expand_channels: Of the 1x1 convolution after the blocks; 0 where there is none.
        feature_channels: Of the last 1x1 convolution: with batch norm before the global pool where
            there is no `expand_channels`, without one after the pool where there is.
        in_channels: Of the image.
        norm_eps: Epsilon of every batch norm.
    """

    stem_channels: int
    stem_activation: str
    first_channels: int
    first_activation: str
    units: tuple[Unit, ...]
    expand_channels: int
    feature_channels: int
    in_channels: int = 3
    norm_eps: float = 1e-5

    def scaled(self, width: float) -> InvertedResidualNet:
        """The same family with every channel count times `width`, made divisible by 8."""

        def scale(channels: int) -> int:
            return make_divisible(channels * width) if channels else 0

        units = tuple(
            Unit(scale(u.channels), u.stride, u.activation, u.squeeze_excite, u.depths)
            for u in self.units
        )
        return InvertedResidualNet(
            scale(self.stem_channels),
            self.stem_activation,
            scale(self.first_channels),
            self.first_activation,
            units,
            scale(self.expand_channels),
            scale(self.feature_channels),
            self.in_channels,
            self.norm_eps,
        )


class InvertedResidualSpace(SearchSpace):
    """An elastic family of inverted residual networks.

    Attributes:
        net: Its fixed parts, with the width multiplier applied.
        kernel_sizes: Choices of every elastic block.
        expand_ratios: Choices of every elastic block.
    """

    def __init__(
        self,
        name: str,
        net: InvertedResidualNet,
        *,
        resolutions: Sequence[int],
        kernel_sizes: Sequence[int] = (3, 5, 7),
        expand_ratios: Sequence[float] = (3, 4, 6),
        num_classes: int = 1000,
    ) -> None:
        self.net = net
        self.kernel_sizes = tuple(sorted(set(kernel_sizes)))
        self.expand_ratios = tuple(sorted(set(expand_ratios)))
        self._check()
        genes, slots = self._parts(tuple(sorted(set(resolutions))), num_classes)
        super().__init__(name, genes, slots, num_classes=num_classes)

    def block_channels(self) -> list[tuple[int, int, int]]:
        """(unit, input channels, output channels) of each elastic block of the supernet."""
        blocks = []
        channels = self.net.first_channels
        for index, unit in enumerate(self.net.units):
            for _ in range(max(unit.depths)):
                blocks.append((index, channels, unit.channels))
                channels = unit.channels
        return blocks

    def middle_channels(self, in_channels: int, expand_ratio: float) -> int:
        """Middle channels of a block."""
        return make_divisible(round(in_channels * expand_ratio))

    def _check(self) -> None:
        for k in self.kernel_sizes:
            if k < 1 or k % 2 == 0:
                raise SpecError(f"a kernel size must be odd, got {k}")
        for e in self.expand_ratios:
            if e <= 0:
                raise SpecError(f"an expansion must be above 0, got {e}")
        for unit in self.net.units:
            if min(unit.depths, default=0) < 1:
                raise SpecError(f"a unit runs at least one block, got depths {unit.depths}")

    def _parts(
        self, resolutions: tuple[int, ...], num_classes: int
    ) -> tuple[list[Gene], list[Slot]]:
        net = self.net
        genes = [Gene("resolution", 0, resolutions)]
        genes += [Gene("depths", i, tuple(sorted(set(u.depths)))) for i, u in enumerate(net.units)]
        slots = [Slot((0,), self._stem)]
        reduction, first = 2, 0
        blocks = self.block_channels()
        for unit_index, unit in enumerate(net.units):
            depth_gene = 1 + unit_index
            count = max(unit.depths)
            for position in range(count):
                block = first + position
                parent = depth_gene if position >= min(unit.depths) else None
                stride = unit.stride if position == 0 else 1
                build = partial(
                    self._block,
                    unit=unit,
                    in_channels=blocks[block][1],
                    stride=stride,
                    reduction=reduction,
                    needs=position + 1,
                )
                slots.append(Slot((0, depth_gene, len(genes), len(genes) + 1), build))
                for field, choices in (
                    ("kernel_sizes", self.kernel_sizes),
                    ("expand_ratios", self.expand_ratios),
                ):
                    genes.append(Gene(field, block, choices, parent, position + 1))
                reduction *= stride
            first += count
        slots.append(Slot((0,), partial(self._head, reduction=reduction, classes=num_classes)))
        return genes, slots

    def _stem(self, resolution: int) -> tuple[OpSpec, ...]:
        net = self.net
        stem = OpSpec(
            "conv",
            resolution,
            net.in_channels,
            net.stem_channels,
            kernel_size=3,
            stride=2,
            activation=net.stem_activation,
        )
        first = OpSpec(
            "mbconv",
            stem.out_resolution,
            net.stem_channels,
            net.first_channels,
            mid_channels=net.stem_channels,
            kernel_size=3,
            activation=net.first_activation,
            shortcut="identity" if net.stem_channels == net.first_channels else "none",
        )
        return (stem, first)

    def _block(
        self,
        resolution: int,
        depth: int,
        kernel_size: int,
        expand_ratio: float,
        *,
        unit: Unit,
        in_channels: int,
        stride: int,
        reduction: int,
        needs: int,
    ) -> tuple[OpSpec, ...]:
        if depth < needs:
            return ()
        middle = self.middle_channels(in_channels, expand_ratio)
        return (
            OpSpec(
                "mbconv",
                -(-resolution // reduction),
                in_channels,
                unit.channels,
                mid_channels=middle,
                kernel_size=kernel_size,
                stride=stride,
                activation=unit.activation,
                se_channels=se_middle(middle) if unit.squeeze_excite else 0,
                shortcut="identity" if stride == 1 and in_channels == unit.channels else "none",
            ),
        )

    def _head(self, resolution: int, *, reduction: int, classes: int) -> tuple[OpSpec, ...]:
        net = self.net
        size = -(-resolution // reduction)
        channels, features = net.units[-1].channels, net.feature_channels
        act = net.stem_activation
        classifier = OpSpec("linear", 1, features, classes)
        if not net.expand_channels:
            mix = OpSpec("conv", size, channels, features, activation=act)
            return (mix, OpSpec("global_pool", size, features, features), classifier)
        wide = net.expand_channels
        return (
            OpSpec("conv", size, channels, wide, activation=act),
            OpSpec("global_pool", size, wide, wide),
            OpSpec("conv", 1, wide, features, activation=act, norm=False),
            classifier,
        )
