"""The intermediate representation between a network and the runtimes it is lowered to.

Shapes are (N, C, H, W), or (N, C) after `Flatten`; a lowering chooses its own layout. Batch norm is
folded into the convolution before it. Semantics are torch's: symmetric padding, average pools
that round their size up and divide by the elements they see.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from ofa_hw.errors import ExportError

if TYPE_CHECKING:
    import torch

Array: TypeAlias = npt.NDArray[np.float32]
Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Conv:
    """Convolution with square kernel, stride and symmetric padding.

    Attributes:
        weight: (out_channels, in_channels / groups, k, k).
        bias: (out_channels,) or None.
    """

    weight: Array
    bias: Array | None = None
    stride: int = 1
    padding: int = 0
    groups: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """Fully connected layer on (N, C); `weight` is (out_features, in_features)."""

    weight: Array
    bias: Array | None = None


@dataclass(frozen=True, slots=True)
class MaxPool:
    """Max pool with symmetric padding by minus infinity; sizes round down."""

    kernel_size: int
    stride: int
    padding: int = 0


@dataclass(frozen=True, slots=True)
class AvgPool:
    """Average pool without padding; sizes round up, a cut-off window averages what it sees."""

    kernel_size: int
    stride: int


@dataclass(frozen=True, slots=True)
class GlobalAvgPool:
    """Average over H and W, which become 1."""


@dataclass(frozen=True, slots=True)
class Flatten:
    """(N, C, H, W) to (N, C * H * W)."""


@dataclass(frozen=True, slots=True)
class Add:
    """Sum of two tensors of one shape."""


@dataclass(frozen=True, slots=True)
class Mul:
    """Product of two tensors; (N, C, 1, 1) is broadcast over H and W."""


@dataclass(frozen=True, slots=True)
class Relu:
    """max(x, 0)."""


@dataclass(frozen=True, slots=True)
class Relu6:
    """min(max(x, 0), 6)."""


@dataclass(frozen=True, slots=True)
class HardSigmoid:
    """relu6(x + 3) / 6."""


@dataclass(frozen=True, slots=True)
class HardSwish:
    """x * relu6(x + 3) / 6 (https://arxiv.org/abs/1905.02244)."""


Primitive: TypeAlias = (
    Conv
    | Linear
    | MaxPool
    | AvgPool
    | GlobalAvgPool
    | Flatten
    | Add
    | Mul
    | Relu
    | Relu6
    | HardSigmoid
    | HardSwish
)


@dataclass(frozen=True, slots=True)
class Node:
    """One primitive, the names of the tensors it reads and of the one it writes."""

    output: str
    op: Primitive
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """A network with one input and one output, its nodes in an order that can be run.

    Attributes:
        input_shape: (N, C, H, W).
        nodes: The last one writes the output.
        input: Name of the input tensor.
    """

    input_shape: Shape
    nodes: tuple[Node, ...]
    input: str = "input"

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
            shapes[node.output] = _output_shape(node, [shapes[name] for name in node.inputs])
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
        graph = Graph(self.input_shape, tuple(self.nodes), self.input)
        _ = graph.shapes  # raises here, where the mistake was made
        return graph


def _runs_in_place(op: Primitive) -> bool:
    return isinstance(op, Add | Mul | Relu | Relu6 | HardSigmoid | HardSwish | Flatten)


def _output_shape(node: Node, inputs: list[Shape]) -> Shape:
    shape = inputs[0]
    match node.op:
        case Conv(weight=weight, stride=stride, padding=padding, groups=groups):
            n, c, h, w = shape
            out, cin, k, _ = weight.shape
            if cin * groups != c:
                raise ExportError(f"{node.output} takes {cin * groups} channels and is given {c}")
            return (n, out, *((x + 2 * padding - k) // stride + 1 for x in (h, w)))
        case Linear(weight=weight):
            if len(shape) != 2 or weight.shape[1] != shape[1]:
                raise ExportError(f"{node.output} takes {weight.shape[1]} features, got {shape}")
            return (shape[0], weight.shape[0])
        case MaxPool(kernel_size=k, stride=stride, padding=padding):
            n, c, h, w = shape
            return (n, c, *((x + 2 * padding - k) // stride + 1 for x in (h, w)))
        case AvgPool(kernel_size=k, stride=stride):
            n, c, h, w = shape
            return (n, c, *(-((k - x) // stride) + 1 for x in (h, w)))
        case GlobalAvgPool():
            return (*shape[:2], 1, 1)
        case Flatten():
            return (shape[0], math.prod(shape[1:]))
        case Add():
            if inputs[0] != inputs[1]:
                raise ExportError(f"{node.output} adds {inputs[0]} and {inputs[1]}")
            return shape
        case Mul():
            return tuple(max(a, b) for a, b in zip(*inputs, strict=True))
        case Relu() | Relu6() | HardSigmoid() | HardSwish():
            return shape
