"""Rewrites a graph in operations that runtimes have 8-bit kernels of.

The result computes the same. XNNPACK and ONNX Runtime run hard swish in float only, and XNNPACK
then splits the network: as additions and products it stays whole, and is 4 to 12 times faster.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from ofa_hw.graph.ir import (
    Add,
    Conv,
    GlobalAvgPool,
    Graph,
    HardSigmoid,
    HardSwish,
    Linear,
    Mul,
    Node,
    Relu,
    Relu6,
    Scale,
    Shift,
)

_THREE: Final = np.array(3, np.float32)
_SIXTH: Final = np.array(1 / 6, np.float32)


@dataclass
class Decomposition:
    """A graph of 8-bit operations under construction.

    Attributes:
        graph: What was decomposed.
        nodes: What computes the same.
        fixed: Tensors whose range is known without looking.
        bounds: Beyond which a tensor's values make no difference.
        clipped: What saturates in place of a relu6.
    """

    graph: Graph
    nodes: list[Node] = field(default_factory=list)
    fixed: dict[str, tuple[float, float]] = field(default_factory=dict)
    bounds: dict[str, tuple[float, float]] = field(default_factory=dict)
    clipped: set[str] = field(default_factory=set)


def readers_of(graph: Graph) -> dict[str, list[Node]]:
    """The nodes that read each tensor; a node reads twice what it takes twice."""
    readers: dict[str, list[Node]] = {name: [] for name in graph.shapes}
    for node in graph.nodes:
        for name in node.inputs:
            readers[name].append(node)
    return readers


def decompose(graph: Graph, entry: str) -> Decomposition:
    """Takes hard swish and hard sigmoid apart, and drops what saturation does (see `Levels`).

    Args:
        graph: The network.
        entry: The tensor up to which it stays as it is.
    """
    found = Decomposition(graph)
    readers = readers_of(graph)
    for node in graph.nodes:
        match node.op:
            case HardSigmoid():
                x = node.inputs[0]
                _hard_sigmoid(found, x, node.output, is_only_reader=len(readers[x]) == 1)
                if all(isinstance(reader.op, HardSigmoid) for reader in readers[x]):
                    found.bounds[x] = (-3.0, 3.0)  # hard sigmoid is 0 below, and 1 above
            case HardSwish():
                x, gate = node.inputs[0], f"{node.output}/gate"
                _hard_sigmoid(found, x, gate, is_only_reader=False)
                found.nodes.append(Node(node.output, Mul(), (x, gate)))
                if all(isinstance(reader.op, HardSwish) for reader in readers[x]):
                    found.bounds[x] = (-3.0, math.inf)  # hard swish is 0 below
            case _:
                found.nodes.append(node)
    found.clipped = {node.output for node in found.nodes if isinstance(node.op, Relu6)}
    found.nodes = _without_clips(replace(graph, nodes=tuple(found.nodes)), entry)
    return found


def _hard_sigmoid(found: Decomposition, x: str, output: str, *, is_only_reader: bool) -> None:
    """Appends relu6(x + 3) / 6; a layer that nothing else reads takes the 3 into its bias."""
    shifted, gate = f"{output}/shifted", f"{output}/times6"
    index, layer = next(
        ((i, n) for i, n in enumerate(found.nodes) if n.output == x), (0, None)
    )  # not always the last node
    if layer and isinstance(layer.op, Conv | Linear) and is_only_reader:
        bias = _THREE if layer.op.bias is None else layer.op.bias + _THREE
        bias = np.broadcast_to(bias, (layer.op.weight.shape[0],)).copy()
        found.nodes[index] = Node(shifted, replace(layer.op, bias=bias), layer.inputs)
    else:
        found.nodes.append(Node(shifted, Shift(_THREE), (x,)))
    found.nodes.append(Node(gate, Relu6(), (shifted,)))
    found.nodes.append(Node(output, Scale(_SIXTH), (gate,)))
    found.fixed |= {gate: (0.0, 6.0), output: (0.0, 1.0)}


def _without_clips(graph: Graph, entry: str) -> list[Node]:
    """Lets a node that only a relu or relu6 reads write, saturating, what that would write."""
    nodes: list[Node] = []
    readers = readers_of(graph)
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        if node.output in renamed.values():
            continue
        match node.op, readers[node.output]:
            case (
                Conv() | Linear() | Add() | Mul() | Shift() | Scale() | GlobalAvgPool(),
                [Node(op=Relu() | Relu6()) as clip],
            ) if node.output != entry:
                renamed[node.output] = clip.output
                nodes.append(replace(node, output=clip.output))
            case _:
                nodes.append(node)
    return nodes
