"""The supernet of a network of one's own, and how it gets that network's weights."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn

from ofa_hw.errors import ExportError, SpecError
from ofa_hw.graph import Graph
from ofa_hw.graph.from_torch import weighted_layers
from ofa_hw.graph.recognise import Recognised, recognise
from ofa_hw.graph.walk import WeightedLayer
from ofa_hw.ops import OpSpec
from ofa_hw.spaces import ChainSpace, SubnetSpec
from ofa_hw.supernet.base import Supernet
from ofa_hw.supernet.blocks import ElasticBlock, ElasticBottleneck, ElasticMBConv
from ofa_hw.supernet.plain import build_block
from ofa_hw.supernet.sorting import sort_bottleneck, sort_mbconv


class ChainSupernet(Supernet):
    """Elastic depth and expansion, and the kernel size of inverted residuals."""

    def __init__(self, space: ChainSpace) -> None:
        super().__init__(space, space.norm_eps)
        self.chain_space = space
        # The classifier of `NAME@classes=60` is another one than the network's.
        ops = space.ops(space.largest())
        self.blocks = nn.ModuleList(
            [self._layer(place, op) for place, op in enumerate(ops)],
        )

    def layers(self, spec: SubnetSpec) -> Iterator[nn.Module]:
        """See `Supernet.layers`."""
        skipped = {
            place
            for stage, depth in zip(self.chain_space.stages, spec.depths, strict=True)
            for place in stage[depth:]
        }
        yield from (block for place, block in enumerate(self.blocks) if place not in skipped)

    def sort_channels(self, phase: int = 0) -> None:
        """See `Supernet.sort_channels`; a block of fewer expansions keeps all that it has."""
        for place, choice in self.chain_space.choices.items():
            block = self.blocks[place]
            widths = [choice.middle_channels(ratio) for ratio in choice.expand_ratios]
            kept = min(phase, len(widths) - 1)
            if isinstance(block, ElasticMBConv):
                sort_mbconv(block, widths, kept)
            elif isinstance(block, ElasticBottleneck):
                sort_bottleneck(block, widths, kept)

    def _layer(self, place: int, op: OpSpec) -> nn.Module:
        choice = self.chain_space.choices.get(place)
        if choice is None:
            return build_block(op, self.norm_eps)
        if op.kind == "bottleneck":
            return ElasticBottleneck(op, self.norm_eps)
        expands = op.mid_channels != op.in_channels
        return ElasticMBConv(op, choice.kernel_sizes, self.norm_eps, expands=expands)


def space_from_torch(
    module: nn.Module,
    name: str,
    *,
    resolutions: Collection[int],
    depths: Collection[int] | None = None,
    kernel_sizes: Collection[int] = (3, 5, 7),
    expand_ratios: Collection[float] = (3, 4, 6),
) -> ChainSpace:
    """The space whose largest sub-network is a torch network of one's own.

    Every stage of inverted residuals or bottlenecks becomes elastic; the choices of a block are
    those of the arguments that are smaller than its own, and its own.

    Args:
        module: Traced by torch.fx; see `Graph.from_torch` for what it may be made of.
        name: Of the space: `module:function`, by which `get_space` finds it again.
        resolutions: Of the input image.
        depths: Numbers of blocks that a stage may run; by default from half of them up.
        kernel_sizes: Of the depthwise convolutions of inverted residuals.
        expand_ratios: Middle channels by input channels of an inverted residual, by output
            channels of a bottleneck.

    Raises:
        SpecError: If the network holds something that no supported block has; it is named.
    """
    found = _recognised(module, max(resolutions))
    eps = {norm.eps for _, _, norm in weighted_layers(module) if norm is not None}
    if len(eps) > 1:
        raise SpecError(f"the batch norms have different epsilons: {sorted(eps)}; make them equal")
    return ChainSpace(
        name,
        [block.op for block in found],
        resolutions=resolutions,
        depths=depths,
        kernel_sizes=kernel_sizes,
        expand_ratios=expand_ratios,
        norm_eps=eps.pop() if eps else 1e-5,
    )


@torch.no_grad()
def supernet_from_torch(space: ChainSpace, module: nn.Module) -> ChainSupernet:
    """The supernet of a space of one's own with the weights of the network it was made from.

    Its largest sub-network computes what the network does; kernel transformations are identities.

    Raises:
        SpecError: If the network is not that of the space.
    """
    found = _recognised(module, space.resolutions[-1])
    spec = space.largest()
    if tuple(block.op for block in found) != space.ops(spec):
        raise SpecError(f"the network is not the one that the space {space.name} was made from")
    supernet = ChainSupernet(space)
    supernet.reset_parameters(torch.Generator().manual_seed(0))
    given = weighted_layers(module)
    for layer, block in zip(supernet.layers(spec), found, strict=True):
        views = layer.state(block.op) if isinstance(layer, ElasticBlock) else layer.state_dict()
        for prefix, place in zip(_prefixes(block.op), block.layers, strict=True):
            _copy(views, prefix, *given[place][1:])
    return supernet


def _recognised(module: nn.Module, resolution: int) -> list[Recognised]:
    try:
        layers = weighted_layers(module)
        first = next((layer for _, layer, _ in layers if isinstance(layer, nn.Conv2d)), None)
        if first is None:
            raise SpecError("no space can be made of a network that has no convolution")
        shape = (1, first.in_channels, resolution, resolution)
        graph = Graph.from_torch(copy.deepcopy(module).eval(), shape)
    except ExportError as error:
        raise SpecError(f"no space can be made of the network: {error}") from error
    named = [
        WeightedLayer(name, norm is not None, layer.bias is not None)
        for name, layer, norm in layers
    ]
    return recognise(graph, named)


def _prefixes(op: OpSpec) -> list[str]:
    """Where the plain block of an operator keeps its convolutions, in their order."""
    match op.kind:
        case "conv":
            return [""]
        case "linear":
            return ["linear"]
        case "mbconv":
            expands = ["inverted_bottleneck."] if op.mid_channels != op.in_channels else []
            gate = ["depth_conv.se.fc.reduce", "depth_conv.se.fc.expand"] if op.se_channels else []
            return [*expands, "depth_conv.", *gate, "point_linear."]
        case "bottleneck":
            down = ["downsample."] if op.shortcut == "project" else []
            return ["conv1.", "conv2.", "conv3.", *down]
    return []


def _copy(
    views: dict[str, Tensor],
    prefix: str,
    layer: nn.Conv2d | nn.Linear,
    norm: nn.BatchNorm2d | None,
) -> None:
    """Writes a layer and its batch norm into the views of a block."""
    if prefix and not prefix.endswith("."):  # a layer with a bias and no norm
        views[f"{prefix}.weight"].copy_(layer.weight)
        views[f"{prefix}.bias"].zero_()
        if layer.bias is not None:
            views[f"{prefix}.bias"].copy_(layer.bias)
        return
    views[f"{prefix}conv.weight"].copy_(layer.weight)
    if norm is None:
        return
    for key, tensor in norm.state_dict().items():
        views[f"{prefix}bn.{key}"].copy_(tensor)
    if layer.bias is not None:  # a batch norm takes away whatever was added before it
        views[f"{prefix}bn.running_mean"].sub_(layer.bias)
