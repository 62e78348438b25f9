"""The intermediate representation between a network and the runtimes it is lowered to.

A network is a list of primitives with numpy weights; a lowering chooses its own layout. Batch norm
is folded into the convolution before it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from ofa_hw.errors import ExportError
from ofa_hw.graph.primitives import (
    Add,
    Array,
    AvgPool,
    Conv,
    Flatten,
    GlobalAvgPool,
    HardSigmoid,
    HardSwish,
    Linear,
    MaxPool,
    Mul,
    Node,
    Primitive,
    Relu,
    Relu6,
    Scale,
    Shape,
    Shift,
)
from ofa_hw.graph.shapes import output_shape

if TYPE_CHECKING:
    import torch

__all__ = [
    "Add",
    "Array",
    "AvgPool",
    "Conv",
    "Flatten",
    "GlobalAvgPool",
    "Graph",
    "GraphBuilder",
    "HardSigmoid",
    "HardSwish",
    "Linear",
    "MaxPool",
    "Mul",
    "Node",
    "Primitive",
    "Relu",
    "Relu6",
    "Scale",
    "Shape",
    "Shift",
]


@dataclass(frozen=True)
class Graph:
    """A network with one input and one output, its nodes in an order that can be run.

    Attributes:
        input_shape: (N, C, H, W).
        nodes: The last one writes the output.
        input: Name of the input tensor.
        never_negative: Whether the input holds no negative numbers, as what a relu gives.
    """

    input_shape: Shape
    nodes: tuple[Node, ...]
    input: str = "input"
    never_negative: bool = False

    @property
    def output(self) -> str:
        """Name of the output tensor."""
        return self.nodes[-1].output

    @property
    def output_shape(self) -> Shape:
        """Shape of the output."""
        return self.shapes[self.output]

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Shape of every tensor by name."""
        shapes = {self.input: self.input_shape}
        for node in self.nodes:
            shapes[node.output] = output_shape(node, [shapes[name] for name in node.inputs])
        return shapes

    @property
    def macs(self) -> int:
        """Multiply-accumulates of its convolutions and linear layers, for the whole batch."""
        return sum(
            node.op.weight.size * math.prod(self.shapes[node.output]) // node.op.weight.shape[0]
            for node in self.nodes
            if isinstance(node.op, Conv | Linear)
        )

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights and biases in float32."""
        tensors = [
            tensor
            for node in self.nodes
            if isinstance(node.op, Conv | Linear)
            for tensor in (node.op.weight, node.op.bias)
            if tensor is not None
        ]
        return 4 * sum(tensor.size for tensor in tensors)

    @property
    def peak_bytes(self) -> int:
        """Most bytes of float32 activations alive at once when the nodes run in their order.

        An activation function, a flatten and an addition are counted as done in place, as
        runtimes do where the input is not needed again.
        """
        last_use = {name: i for i, node in enumerate(self.nodes) for name in node.inputs}
        last_use[self.output] = len(self.nodes)
        live = {self.input: 4 * math.prod(self.input_shape)}
        peak = sum(live.values())
        for i, node in enumerate(self.nodes):
            size = 4 * math.prod(self.shapes[node.output])
            done = [name for name in set(node.inputs) if last_use[name] == i]
            if _runs_in_place(node.op) and any(live[name] == size for name in done):
                size_now = sum(live.values())
            else:
                size_now = sum(live.values()) + size
            peak = max(peak, size_now)
            for name in done:
                del live[name]
            live[node.output] = size
        return peak

    def with_batch(self, batch: int) -> Graph:
        """The same network on another batch size; weights are shared."""
        return replace(self, input_shape=(batch, *self.input_shape[1:]))

    @classmethod
    def from_torch(cls, module: torch.nn.Module, input_shape: Shape) -> Graph:
        """Traces a torch network of one's own with torch.fx, batch norms folded.

        Args:
            module: A network in eval mode with one input and one output, made of the layers that
                a `Graph` has (convolutions, batch norms, linear layers, pools, activations, adds
                and multiplications).
            input_shape: (N, C, H, W).

        Raises:
            ExportError: If it holds something a `Graph` cannot express; it is named.
        """
        from ofa_hw.graph.from_torch import trace

        return trace(module, input_shape)


@dataclass
class GraphBuilder:
    """Collects nodes; each method adds one and returns the name of the tensor it writes."""

    input_shape: Shape
    nodes: list[Node] = field(default_factory=list)
    input: str = "input"
    never_negative: bool = False

    def add(self, op: Primitive, *inputs: str) -> str:
        """Adds a primitive that reads `inputs`."""
        output = f"{type(op).__name__.lower()}_{len(self.nodes)}"
        self.nodes.append(Node(output, op, inputs))
        return output

    def activation(self, name: str, x: str) -> str:
        """Adds the activation of an `OpSpec`; `none` adds nothing."""
        match name:
            case "none":
                return x
            case "relu":
                return self.add(Relu(), x)
            case "relu6":
                return self.add(Relu6(), x)
            case "h_swish":
                return self.add(HardSwish(), x)
        raise ExportError(f"no primitive for the activation {name!r}")

    def build(self) -> Graph:
        """The graph whose output is what the last node wrote."""
        graph = Graph(self.input_shape, tuple(self.nodes), self.input, self.never_negative)
        _ = graph.shapes  # raises here, where the mistake was made
        return graph


def _runs_in_place(op: Primitive) -> bool:
    elementwise = Add | Mul | Shift | Scale | Relu | Relu6 | HardSigmoid | HardSwish
    return isinstance(op, elementwise | Flatten)
