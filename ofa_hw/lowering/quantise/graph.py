"""QuantisedGraph: a network in 8 bits, whatever format it is then written in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from ofa_hw.graph.ir import Conv, Flatten, Graph, Linear, MaxPool, Node
from ofa_hw.lowering.form import entry_of
from ofa_hw.lowering.quantise.decompose import decompose
from ofa_hw.lowering.quantise.levels import Levels, QuantisedWeights, quantise_weights
from ofa_hw.lowering.quantise.limits import within_kernels

Ranges: TypeAlias = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class QuantisedGraph:
    """A network whose tensors have levels.

    Attributes:
        graph: Its nodes write the nearest level, and so saturate: an activation function that only
            clips is not among them, unless something else reads what it clips.
        levels: Of every tensor that is kept in 8 bits.
        entry: The tensor that is turned from float into 8 bits: the input, or what normalises it.
    """

    graph: Graph
    levels: Mapping[str, Levels]
    entry: str

    def weights(self, node: Node) -> QuantisedWeights:
        """The weights of a convolution or a linear layer."""
        assert isinstance(node.op, Conv | Linear)
        return quantise_weights(node.op, self.levels[node.inputs[0]], self.levels[node.output])

    def with_batch(self, batch: int) -> QuantisedGraph:
        """The same network on another batch size; weights are shared."""
        return replace(self, graph=self.graph.with_batch(batch))


def quantise(graph: Graph, ranges: Ranges) -> QuantisedGraph:
    """Quantises a network by the ranges of its tensors.

    Args:
        graph: The network.
        ranges: The smallest and the largest value of each of its tensors.
    """
    entry = entry_of(graph)
    found = decompose(graph, entry)
    rewritten = replace(graph, nodes=tuple(found.nodes))
    levels: dict[str, Levels] = {entry: Levels.covering(*ranges[entry])}
    for node in rewritten.nodes:
        name, source = node.output, levels.get(node.inputs[0])
        if source is None or name == entry:
            continue
        if isinstance(node.op, MaxPool | Flatten):
            levels[name] = source  # these move integers and compute none
            continue
        low, high = found.fixed.get(name) or ranges[name]
        least, most = found.bounds.get(name, (low, high))
        levels[name] = Levels.covering(max(low, least), min(high, most))
    return QuantisedGraph(rewritten, within_kernels(rewritten, levels, found.clipped), entry)
