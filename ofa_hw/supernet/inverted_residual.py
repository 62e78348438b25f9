"""The supernet of spaces of inverted residuals: MobileNetV3, ProxylessNAS, one's own."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from ofa_hw.spaces import InvertedResidualSpace, SubnetSpec
from ofa_hw.supernet.base import Supernet
from ofa_hw.supernet.blocks import ElasticMBConv
from ofa_hw.supernet.plain import PlainConv, PlainLinear, PlainMBConv
from ofa_hw.supernet.sorting import sort_mbconv


class InvertedResidualSupernet(Supernet):
    """Elastic depth, kernel size and expansion (https://arxiv.org/abs/1908.09791)."""

    def __init__(self, space: InvertedResidualSpace) -> None:
        super().__init__(space, space.net.norm_eps)
        self.inverted_residuals = space
        eps, momentum = self.norm_eps, 0.1
        stem, first, *rest = space.ops(space.largest())
        blocks, head = rest[: len(space.block_channels())], rest[len(space.block_channels()) :]
        self.first_conv = PlainConv(stem, eps, momentum)
        self.blocks = nn.ModuleList(
            [nn.ModuleDict({"conv": PlainMBConv(first, eps, momentum)})]
            + [
                nn.ModuleDict({"conv": ElasticMBConv(op, space.kernel_sizes, eps, expands=expands)})
                for op, expands in zip(blocks, self._expands(), strict=True)
            ]
        )
        convs = [op for op in head if op.kind == "conv"]
        if space.net.expand_channels:
            self.final_expand_layer = PlainConv(convs[0], eps, momentum)
        self.feature_mix_layer = PlainConv(convs[-1], eps, momentum)
        self.classifier = PlainLinear(head[-1])

    def _expands(self) -> list[bool]:
        """Whether any choice gives the block an expansion."""
        space = self.inverted_residuals
        return [
            any(space.middle_channels(channels, e) != channels for e in space.expand_ratios)
            for _, channels, _ in space.block_channels()
        ]

    def layers(self, spec: SubnetSpec) -> Iterator[nn.Module]:
        """See `Supernet.layers`."""
        yield self.first_conv
        yield self._block(0)
        first = 1
        for unit, depth in zip(self.inverted_residuals.net.units, spec.depths, strict=True):
            yield from (self._block(first + i) for i in range(depth))
            first += max(unit.depths)
        pool = nn.AdaptiveAvgPool2d(1)
        if self.inverted_residuals.net.expand_channels:
            yield from (self.final_expand_layer, pool, self.feature_mix_layer)
        else:
            yield from (self.feature_mix_layer, pool)
        yield self.classifier

    def sort_channels(self, phase: int = 0) -> None:
        """See `Supernet.sort_channels`."""
        space = self.inverted_residuals
        for index, (_, channels, _) in enumerate(space.block_channels()):
            block = self._block(1 + index)
            assert isinstance(block, ElasticMBConv)
            widths = [space.middle_channels(channels, e) for e in space.expand_ratios]
            sort_mbconv(block, widths, phase)

    def _block(self, index: int) -> nn.Module:
        holder = self.blocks[index]
        assert isinstance(holder, nn.ModuleDict)
        return holder["conv"]
