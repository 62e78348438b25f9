"""ResNet50D as once-for-all made it elastic (https://arxiv.org/abs/1908.09791, 1812.01187)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from ofa_hw.errors import SpecError
from ofa_hw.ops import OpSpec, make_divisible
from ofa_hw.spaces.base import SearchSpace, Slot
from ofa_hw.spaces.genes import Gene
from ofa_hw.spaces.mobilenetv3 import RESOLUTIONS


@dataclass(frozen=True, slots=True)
class Stage:
    """Bottlenecks of equal width; the first changes stride and channels, and projects.

    Attributes:
        channels: Output channels of every block, before the width multiplier.
        stride: Of the first block.
        base_depth: Blocks that always run; the stage's elastic depth comes on top.
    """

    channels: int
    stride: int
    base_depth: int


STAGES = (
    #   channels, stride, base depth
    Stage(256, 1, 2),
    Stage(512, 2, 2),
    Stage(1024, 2, 4),
    Stage(2048, 2, 2),
)
_STEM_CHANNELS = 64
STEM_DEPTHS = (0, 2)  # 2 runs the optional convolution


class ResNet50Space(SearchSpace):
    """An elastic ResNet50D.

    Genes: `depths[0]` is 0 or 2, and 2 runs the optional stem convolution; `depths[1:]` are blocks
    over each stage's base depth. `width_indices` are of the stem's middle, the stem's output and
    the four stages. `expand_ratios` are middle over output channels of each block.

    Attributes:
        depths: Choices of a stage's elastic depth.
        expand_ratios: Choices of every block.
        widths: Multipliers that the width indices point at.
    """

    def __init__(
        self,
        name: str,
        *,
        depths: Sequence[int] = (0, 1, 2),
        expand_ratios: Sequence[float] = (0.2, 0.25, 0.35),
        widths: Sequence[float] = (0.65, 0.8, 1.0),
        resolutions: Sequence[int] = RESOLUTIONS,
        num_classes: int = 1000,
    ) -> None:
        self.depths = tuple(sorted(set(depths)))
        self.expand_ratios = tuple(sorted(set(expand_ratios)))
        self.widths = tuple(sorted(set(widths)))
        if min(self.depths, default=-1) < 0:
            raise SpecError(f"a stage's depths come on top of its base, got {self.depths}")
        genes, slots = self._parts(tuple(sorted(set(resolutions))), num_classes)
        super().__init__(name, genes, slots, num_classes=num_classes)

    def stem_channels(self, middle_index: int, out_index: int) -> tuple[int, int]:
        """(middle, output) channels of the stem at these width indices."""
        middle = make_divisible(make_divisible(_STEM_CHANNELS * self.widths[middle_index]) // 2)
        return middle, make_divisible(_STEM_CHANNELS * self.widths[out_index])

    def stage_channels(self, stage: int, width_index: int) -> int:
        """Output channels of a stage at this width index."""
        return make_divisible(STAGES[stage].channels * self.widths[width_index])

    def middle_channels(self, out_channels: int, expand_ratio: float) -> int:
        """Middle channels of a block with these output channels."""
        return make_divisible(round(out_channels * expand_ratio))

    def stage_blocks(self, stage: int) -> range:
        """Indices of a stage's blocks in the supernet."""
        counts = [s.base_depth + max(self.depths) for s in STAGES]
        return range(sum(counts[:stage]), sum(counts[: stage + 1]))

    def _parts(
        self, resolutions: tuple[int, ...], num_classes: int
    ) -> tuple[list[Gene], list[Slot]]:
        widths = tuple(range(len(self.widths)))
        genes = [Gene("resolution", 0, resolutions), Gene("depths", 0, STEM_DEPTHS)]
        genes += [Gene("depths", 1 + i, self.depths) for i in range(len(STAGES))]
        width_gene = len(genes)
        genes += [Gene("width_indices", i, widths) for i in range(2 + len(STAGES))]
        slots = [Slot((0, 1, width_gene, width_gene + 1), self._stem)]
        reduction = 4
        for index, stage in enumerate(STAGES):
            before, own, depth_gene = width_gene + 1 + index, width_gene + 2 + index, 2 + index
            for position, block in enumerate(self.stage_blocks(index)):
                needs = position - stage.base_depth + 1
                parent = depth_gene if needs > min(self.depths) else None
                build = partial(
                    self._block, stage=index, position=position, reduction=reduction, needs=needs
                )
                slots.append(Slot((0, depth_gene, before, own, len(genes)), build))
                genes.append(Gene("expand_ratios", block, self.expand_ratios, parent, needs))
                if position == 0:
                    reduction *= stage.stride
        head = partial(self._head, reduction=reduction, classes=num_classes)
        slots.append(Slot((0, width_gene + 1 + len(STAGES)), head))
        return genes, slots

    def _stem(
        self, resolution: int, depth: int, middle_index: int, out_index: int
    ) -> tuple[OpSpec, ...]:
        middle, out = self.stem_channels(middle_index, out_index)
        half = -(-resolution // 2)

        def conv(size: int, cin: int, cout: int, stride: int, shortcut: str = "none") -> OpSpec:
            return OpSpec(
                "conv",
                size,
                cin,
                cout,
                kernel_size=3,
                stride=stride,
                activation="relu",
                shortcut=shortcut,
            )

        optional = (conv(half, middle, middle, 1, "identity"),) if depth else ()
        return (
            conv(resolution, 3, middle, 2),
            *optional,
            conv(half, middle, out, 1),
            OpSpec("max_pool", half, out, out, kernel_size=3, stride=2),
        )

    def _block(
        self,
        resolution: int,
        depth: int,
        width_before: int,
        width: int,
        expand_ratio: float,
        *,
        stage: int,
        position: int,
        reduction: int,
        needs: int,
    ) -> tuple[OpSpec, ...]:
        if depth < needs:
            return ()
        out = self.stage_channels(stage, width)
        if position:
            in_channels = out
        elif stage:
            in_channels = self.stage_channels(stage - 1, width_before)
        else:
            in_channels = self.stem_channels(0, width_before)[1]
        return (
            OpSpec(
                "bottleneck",
                -(-resolution // reduction),
                in_channels,
                out,
                mid_channels=self.middle_channels(out, expand_ratio),
                kernel_size=3,
                stride=1 if position else STAGES[stage].stride,
                activation="relu",
                shortcut="identity" if position else "project",
            ),
        )

    def _head(
        self, resolution: int, width: int, *, reduction: int, classes: int
    ) -> tuple[OpSpec, ...]:
        channels = self.stage_channels(len(STAGES) - 1, width)
        size = -(-resolution // reduction)
        return (
            OpSpec("global_pool", size, channels, channels),
            OpSpec("linear", 1, channels, classes),
        )


def resnet50(name: str = "ofa_resnet50") -> ResNet50Space:
    """The published elastic ResNet50D: 18 blocks, widths 0.65, 0.8 and 1.0."""
    return ResNet50Space(name)
