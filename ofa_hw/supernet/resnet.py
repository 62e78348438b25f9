"""The supernet of the elastic ResNet50D."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from ofa_hw.spaces import ResNet50Space, SubnetSpec
from ofa_hw.spaces.resnet50 import STAGES
from ofa_hw.supernet.base import Supernet
from ofa_hw.supernet.blocks import ElasticBottleneck, ElasticConv, ElasticLinear
from ofa_hw.supernet.sorting import sort_bottleneck


class ResNet50Supernet(Supernet):
    """Elastic depth, expansion and width (https://arxiv.org/abs/1908.09791)."""

    def __init__(self, space: ResNet50Space) -> None:
        super().__init__(space, norm_eps=1e-5)
        self.resnet = space
        eps = self.norm_eps
        ops = space.ops(space.largest())
        stem = [op for op in ops if op.kind == "conv"]
        self.input_stem = nn.ModuleList(
            [
                ElasticConv(stem[0], eps),
                nn.ModuleDict({"conv": ElasticConv(stem[1], eps)}),
                ElasticConv(stem[2], eps),
            ]
        )
        self.blocks = nn.ModuleList(
            [ElasticBottleneck(op, eps) for op in ops if op.kind == "bottleneck"]
        )
        self.classifier = nn.ModuleDict({"linear": ElasticLinear(ops[-1])})

    def layers(self, spec: SubnetSpec) -> Iterator[nn.Module]:
        """See `Supernet.layers`."""
        optional = self.input_stem[1]
        assert isinstance(optional, nn.ModuleDict)
        yield self.input_stem[0]
        if spec.depths[0]:
            yield optional["conv"]
        yield self.input_stem[2]
        yield nn.MaxPool2d(3, 2, 1)
        for index, (stage, depth) in enumerate(zip(STAGES, spec.depths[1:], strict=True)):
            blocks = self.resnet.stage_blocks(index)
            yield from (self.blocks[i] for i in blocks[: stage.base_depth + depth])
        yield nn.AdaptiveAvgPool2d(1)
        yield self.classifier["linear"]

    def sort_channels(self, phase: int = 0) -> None:
        """See `Supernet.sort_channels`."""
        space = self.resnet
        for index in range(len(STAGES)):
            out = space.stage_channels(index, len(space.widths) - 1)
            widths = [space.middle_channels(out, e) for e in space.expand_ratios]
            for i in space.stage_blocks(index):
                block = self.blocks[i]
                assert isinstance(block, ElasticBottleneck)
                sort_bottleneck(block, widths, phase)
