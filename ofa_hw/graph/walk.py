"""Walk: a graph seen from its tensors, by who reads them and what the layers are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ofa_hw.graph.ir import Graph
from ofa_hw.graph.primitives import Add, Conv, HardSwish, Linear, Node, Primitive, Relu, Relu6

_ACTIVATIONS: Final[dict[type[Primitive], str]] = {
    Relu: "relu",
    Relu6: "relu6",
    HardSwish: "h_swish",
}


@dataclass(frozen=True, slots=True)
class WeightedLayer:
    """A convolution or a linear layer of the network that was traced.

    Attributes:
        name: In that network.
        norm: Whether a batch norm follows.
        bias: Whether it adds one.
    """

    name: str
    norm: bool
    bias: bool


class Walk:
    """A graph and the names of its layers.

    Attributes:
        graph: The graph.
        layers: Its convolutions and linear layers, in its order.
        users: The nodes that read each tensor.
        writer: The node that writes each tensor.
        place: By what it writes, the place of a node in `layers`.
    """

    def __init__(self, graph: Graph, layers: Sequence[WeightedLayer]) -> None:
        self.graph, self.layers = graph, layers
        self.users: dict[str, list[Node]] = {graph.input: []}
        self.writer = {node.output: node for node in graph.nodes}
        for node in graph.nodes:
            self.users[node.output] = []
            for name in set(node.inputs):
                self.users[name].append(node)
        weighted = [node for node in graph.nodes if isinstance(node.op, Conv | Linear)]
        self.place = {node.output: place for place, node in enumerate(weighted)}

    def activation(self, x: str) -> tuple[str, str]:
        """The activation that alone reads `x` and what it writes, or `none` and `x`."""
        node = self.only(x, *_ACTIVATIONS)
        return ("none", x) if node is None else (_ACTIVATIONS[type(node.op)], node.output)

    def identity(self, x: str, y: str) -> tuple[str, str]:
        """What `y` and `x` add up to and `identity`, or `y` and `none`."""
        add = self.only(y, Add)
        return (add.output, "identity") if add is not None and x in add.inputs else (y, "none")

    def only(self, x: str, *kinds: type[Primitive]) -> Node | None:
        """The node that reads `x`, if it is the only one and of one of these kinds."""
        users = self.users[x]
        return users[0] if len(users) == 1 and isinstance(users[0].op, kinds) else None

    def channels(self, x: str) -> int:
        """C of a tensor."""
        return self.graph.shapes[x][1]

    def size(self, x: str) -> int:
        """Height and width of a tensor; 1 where it has none."""
        return self.graph.shapes[x][-1] if len(self.graph.shapes[x]) == 4 else 1

    def name(self, x: str) -> str:
        """What reads `x`, as the one whose network it is knows it."""
        for node in self.users[x]:
            if node.output in self.place:
                return self.layers[self.place[node.output]].name
        kinds = " and ".join(type(node.op).__name__ for node in self.users[x])
        before = "the input"
        for node in self.graph.nodes:
            if node.output in self.place:
                before = self.layers[self.place[node.output]].name
            if node.output == x:
                break
        return f"the {kinds} after {before}"


def conv_of(node: Node) -> Conv:
    """The convolution of a node that is one."""
    assert isinstance(node.op, Conv)
    return node.op


def is_padded(node: Node) -> bool:
    """Whether a convolution's kernel is odd, and padded so that stride 1 keeps the size."""
    conv = conv_of(node)
    kernel_size = conv.weight.shape[-1]
    return bool(kernel_size % 2 == 1 and conv.padding == kernel_size // 2)


def is_pointwise(node: Node) -> bool:
    """Whether it is a 1x1 convolution of stride 1."""
    conv = conv_of(node)
    return bool((conv.weight.shape[-1], conv.stride, conv.padding, conv.groups) == (1, 1, 0, 1))


def is_depthwise(node: Node) -> bool:
    """Whether every channel has a kernel of its own."""
    conv = conv_of(node)
    out, into = conv.weight.shape[:2]
    return is_padded(node) and bool(conv.groups == out > 1 and into == 1)
