"""ChainSpace: the space of a network of one's own, which is its largest sub-network."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ofa_hw.errors import SpecError
from ofa_hw.ops import OpSpec, make_divisible, se_middle
from ofa_hw.spaces.base import SearchSpace, Slot
from ofa_hw.spaces.genes import Gene

_ELASTIC = ("mbconv", "bottleneck")


@dataclass(frozen=True, slots=True)
class ElasticChoice:
    """What one block of the largest network may be instead.

    Attributes:
        largest: The block itself, at the largest resolution.
        kernel_sizes: Ascending, its own the last.
        expand_ratios: Ascending, its own the last: middle channels by input channels of an
            `mbconv`, by output channels of a `bottleneck`.
    """

    largest: OpSpec
    kernel_sizes: tuple[int, ...]
    expand_ratios: tuple[float, ...]

    def middle_channels(self, expand_ratio: float) -> int:
        """Of the block with this ratio; exactly its own with its own ratio."""
        op = self.largest
        if expand_ratio == self.expand_ratios[-1]:
            return op.mid_channels
        return make_divisible(round(_reference(op) * expand_ratio))

    def op(self, resolution: int, kernel_size: int, expand_ratio: float) -> OpSpec:
        """The operator of these choices at this size of its input."""
        op, middle = self.largest, self.middle_channels(expand_ratio)
        # A gate as wide as MobileNetV3's shrinks with the block, any other one stays.
        shrinks = op.se_channels == se_middle(op.mid_channels)
        return replace(
            op,
            resolution=resolution,
            kernel_size=kernel_size,
            mid_channels=middle,
            se_channels=se_middle(middle) if shrinks and op.se_channels else op.se_channels,
        )


class ChainSpace(SearchSpace):
    """A chain of operators in which the blocks of each stage may be fewer, smaller and narrower.

    A stage is as many inverted residuals or bottlenecks one after another as have the same
    channels; its later blocks can be skipped. What is no such block is the same in every
    sub-network.

    Attributes:
        chain: The operators of the largest network, at the highest resolution.
        stages: The places in `chain` of each stage's blocks.
        choices: By place in `chain`, what each block may be.
        norm_eps: Epsilon of every batch norm.
    """

    def __init__(
        self,
        name: str,
        chain: Sequence[OpSpec],
        *,
        resolutions: Collection[int],
        depths: Collection[int] | None = None,
        kernel_sizes: Collection[int] = (3, 5, 7),
        expand_ratios: Collection[float] = (3, 4, 6),
        norm_eps: float = 1e-5,
    ) -> None:
        """Makes the space; see `space_from_torch` for the arguments."""
        self.chain, self.norm_eps = tuple(chain), norm_eps
        self.stages = _stages(self.chain)
        if not self.chain or self.chain[-1].kind != "linear":
            raise SpecError("a network of one's own ends in a linear classifier")
        if not self.stages:
            raise SpecError("nothing can be elastic: it has no inverted residual and no bottleneck")
        if wrong := [k for k in kernel_sizes if k < 1 or k % 2 == 0]:
            raise SpecError(f"a kernel size must be odd, got {wrong[0]}")
        if low := [e for e in expand_ratios if e <= 0]:
            raise SpecError(f"an expansion must be above 0, got {low[0]}")
        self.choices = {
            place: _choice(self.chain[place], kernel_sizes, expand_ratios)
            for stage in self.stages
            for place in stage
        }
        sizes = tuple(sorted(set(resolutions)))
        genes, slots = self._parts(sizes, [_depths(len(stage), depths) for stage in self.stages])
        super().__init__(name, genes, slots, num_classes=self.chain[-1].out_channels)

    def _parts(
        self, resolutions: tuple[int, ...], depths: list[tuple[int, ...]]
    ) -> tuple[list[Gene], list[Slot]]:
        genes = [Gene("resolution", 0, resolutions)]
        genes += [Gene("depths", index, counts) for index, counts in enumerate(depths)]
        where = {
            place: (1 + index, position + 1)
            for index, stage in enumerate(self.stages)
            for position, place in enumerate(stage)
        }
        slots, reduction, counts = [], 1, {"kernel_sizes": 0, "expand_ratios": 0}
        for place, op in enumerate(self.chain):
            if place not in where:
                slots.append(Slot((0,), partial(_fixed, op=op, reduction=reduction)))
            else:
                depth_gene, needs = where[place]
                skippable = needs > min(genes[depth_gene].choices)
                choice = self.choices[place]
                fields = [("expand_ratios", choice.expand_ratios)]
                if op.kind == "mbconv":  # a bottleneck's kernel is the same in every sub-network
                    fields = [("kernel_sizes", choice.kernel_sizes), *fields]
                build = partial(_block, choice=choice, reduction=reduction, needs=needs)
                uses = tuple(len(genes) + i for i in range(len(fields)))
                slots.append(Slot((0, depth_gene, *uses), build))
                for field, values in fields:
                    parent = depth_gene if skippable else None
                    genes.append(Gene(field, counts[field], values, parent, needs))
                    counts[field] += 1
            reduction = 0 if op.kind == "global_pool" else reduction * op.stride
        return genes, slots


def _stages(chain: Sequence[OpSpec]) -> tuple[range, ...]:
    stages: list[range] = []
    for place, op in enumerate(chain):
        if op.kind not in _ELASTIC:
            continue
        goes_on = bool(stages) and stages[-1].stop == place and chain[place - 1].kind == op.kind
        if goes_on and op.shortcut == "identity":
            stages[-1] = range(stages[-1].start, place + 1)
        else:
            stages.append(range(place, place + 1))
    return tuple(stages)


def _depths(blocks: int, wanted: Collection[int] | None) -> tuple[int, ...]:
    if wanted is None:
        wanted = range((blocks + 1) // 2, blocks)
    if wrong := [depth for depth in wanted if depth < 1]:
        raise SpecError(f"a stage runs at least one block, got depth {wrong[0]}")
    return tuple(sorted({depth for depth in wanted if depth < blocks} | {blocks}))


def _choice(
    op: OpSpec, kernel_sizes: Collection[int], expand_ratios: Collection[float]
) -> ElasticChoice:
    kernels = tuple(sorted({k for k in kernel_sizes if k < op.kernel_size} | {op.kernel_size}))
    reference, own = _reference(op), op.mid_channels / _reference(op)
    widths: dict[int, float] = {}
    if op.kind == "bottleneck" or op.mid_channels != op.in_channels:
        for ratio in sorted(set(expand_ratios)):
            middle = make_divisible(round(reference * ratio))
            # As many as the input has would be a block without expansion, of other weights.
            if middle < op.mid_channels and (op.kind == "bottleneck" or middle > op.in_channels):
                widths.setdefault(middle, ratio)
    ratios = (*widths.values(), int(own) if own.is_integer() else own)
    return ElasticChoice(op, kernels, tuple(ratios))


def _reference(op: OpSpec) -> int:
    """The channels that a ratio is of."""
    return op.in_channels if op.kind == "mbconv" else op.out_channels


def _fixed(resolution: int, *, op: OpSpec, reduction: int) -> tuple[OpSpec, ...]:
    return (replace(op, resolution=_size(resolution, reduction)),)


def _block(
    resolution: int,
    depth: int,
    *genes: float,
    choice: ElasticChoice,
    reduction: int,
    needs: int,
) -> tuple[OpSpec, ...]:
    if depth < needs:
        return ()
    kernel_size = int(genes[0]) if len(genes) == 2 else choice.largest.kernel_size
    return (choice.op(_size(resolution, reduction), kernel_size, genes[-1]),)


def _size(resolution: int, reduction: int) -> int:
    """Of an input after strides of this product; 0 stands for a global pool."""
    return math.ceil(resolution / reduction) if reduction else 1
