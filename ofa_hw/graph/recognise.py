"""Recognises the operators of a traced network, whatever its author called them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ofa_hw.errors import SpecError
from ofa_hw.graph.ir import Graph
from ofa_hw.graph.primitives import (
    Add,
    AvgPool,
    Conv,
    Flatten,
    GlobalAvgPool,
    HardSigmoid,
    Linear,
    MaxPool,
    Mul,
    Node,
    Relu,
)
from ofa_hw.graph.walk import (
    Walk,
    WeightedLayer,
    conv_of,
    is_depthwise,
    is_padded,
    is_pointwise,
)
from ofa_hw.ops import OpSpec


@dataclass(frozen=True, slots=True)
class Recognised:
    """An operator, and whose weights it has.

    Attributes:
        op: The operator.
        layers: Its convolutions and linear layers, in the order of `OpSpec.convolutions`, as places
            among those of the network.
    """

    op: OpSpec
    layers: tuple[int, ...]


_Found: TypeAlias = tuple[OpSpec, list[Node], str] | None


def recognise(graph: Graph, layers: Sequence[WeightedLayer]) -> list[Recognised]:
    """The operators of a network, in order.

    Args:
        graph: The network, traced.
        layers: Its convolutions and linear layers in their order in the graph.

    Raises:
        SpecError: If something is no block that is supported; the layer is named.
    """
    return list(_Recogniser(Walk(graph, layers)).operators())


class _Recogniser:
    def __init__(self, walk: Walk) -> None:
        self._walk = walk

    def operators(self) -> Iterator[Recognised]:
        graph = self._walk.graph
        x = graph.input
        while x != graph.output:
            for attempt in (self._mbconv, self._bottleneck, self._conv, self._pool, self._linear):
                found = attempt(x)
                if found is not None:
                    break
            else:
                raise SpecError(
                    f"{self._walk.name(x)} begins no supported block; those are a convolution, an "
                    "inverted residual, a bottleneck (its shortcut an average pool and a 1x1 "
                    "convolution), max pools, a global average pool and linear layers, with batch "
                    "norm after every convolution and relu, relu6 or hard swish"
                )
            op, nodes, x = found
            self._check_norms(op, nodes)
            yield Recognised(op, tuple(self._walk.place[node.output] for node in nodes))

    def _mbconv(self, x: str) -> _Found:
        start = next((n for n in self._walk.users[x] if isinstance(n.op, Conv)), None)
        if start is None:
            return None
        nodes, activation, node = [], None, start
        if is_pointwise(node):
            nodes.append(node)
            activation, y = self._walk.activation(node.output)
            after = self._walk.only(y, Conv)
            if after is None:
                return None
            node = after
        if not is_depthwise(node):
            return None
        nodes.append(node)
        depthwise, mid = conv_of(node), conv_of(node).weight.shape[0]
        after_depthwise, y = self._walk.activation(node.output)
        y, gate = self._squeeze_excite(y)
        projection = self._walk.only(y, Conv)
        same = activation in (None, after_depthwise)
        if projection is None or not is_pointwise(projection) or not same:
            return None
        if len(nodes) == 2 and mid == self._walk.channels(x):
            return None  # an OpSpec of as many middle channels has no expansion
        y, shortcut = self._walk.identity(x, projection.output)
        if len(self._walk.users[x]) != 1 + (shortcut == "identity"):
            return None
        op = OpSpec(
            "mbconv",
            self._walk.size(x),
            self._walk.channels(x),
            self._walk.channels(y),
            mid_channels=mid,
            kernel_size=depthwise.weight.shape[-1],
            stride=depthwise.stride,
            activation=after_depthwise,
            se_channels=self._walk.channels(gate[0].output) if gate else 0,
            shortcut=shortcut,
        )
        return op, [*nodes, *gate, projection], y

    def _bottleneck(self, x: str) -> _Found:
        for start in self._walk.users[x]:
            if isinstance(start.op, Conv) and is_pointwise(start):
                found = self._bottleneck_from(x, start)
                if found is not None:
                    return found
        return None

    def _bottleneck_from(self, x: str, start: Node) -> _Found:
        activation, y = self._walk.activation(start.output)
        middle = self._walk.only(y, Conv)
        if middle is None or not is_padded(middle) or conv_of(middle).groups != 1:
            return None
        again, y = self._walk.activation(middle.output)
        last = self._walk.only(y, Conv)
        add = None if last is None else self._walk.only(last.output, Add)
        if last is None or add is None or not is_pointwise(last):
            return None
        other = next((name for name in add.inputs if name != last.output), x)
        nodes, shortcut, stride = [start, middle, last], "identity", conv_of(middle).stride
        if other != x:
            down = self._walk.writer[other]
            before = down.inputs[0] if isinstance(down.op, Conv) and is_pointwise(down) else ""
            if stride > 1 and before in self._walk.writer:
                pool = self._walk.writer[before]
                before = pool.inputs[0] if pool.op == AvgPool(stride, stride) else ""
            if before != x:
                return None
            nodes, shortcut = [*nodes, down], "project"
        last_activation, y = self._walk.activation(add.output)
        if not activation == again == last_activation or len(self._walk.users[x]) != 2:
            return None
        return (
            OpSpec(
                "bottleneck",
                self._walk.size(x),
                self._walk.channels(x),
                self._walk.channels(y),
                mid_channels=self._walk.channels(start.output),
                kernel_size=conv_of(middle).weight.shape[-1],
                stride=stride,
                activation=activation,
                shortcut=shortcut,
            ),
            nodes,
            y,
        )

    def _conv(self, x: str) -> _Found:
        node = next((n for n in self._walk.users[x] if isinstance(n.op, Conv)), None)
        if node is None or not is_padded(node) or conv_of(node).groups != 1:
            return None
        activation, y = self._walk.activation(node.output)
        y, shortcut = self._walk.identity(x, y)
        if len(self._walk.users[x]) != 1 + (shortcut == "identity"):
            return None
        op = OpSpec(
            "conv",
            self._walk.size(x),
            self._walk.channels(x),
            self._walk.channels(y),
            kernel_size=conv_of(node).weight.shape[-1],
            stride=conv_of(node).stride,
            activation=activation,
            shortcut=shortcut,
            norm=self._walk.layers[self._walk.place[node.output]].norm,
        )
        return op, [node], y

    def _pool(self, x: str) -> _Found:
        node = self._walk.only(x, MaxPool, GlobalAvgPool)
        if node is None:
            return None
        channels = self._walk.channels(x)
        match node.op:
            case MaxPool(kernel_size=k, stride=stride, padding=padding) if padding == k // 2:
                op = OpSpec("max_pool", self._walk.size(x), channels, channels, 0, k, stride)
            case GlobalAvgPool():
                op = OpSpec("global_pool", self._walk.size(x), channels, channels)
            case _:
                return None
        return op, [], node.output

    def _linear(self, x: str) -> _Found:
        flat = self._walk.only(x, Flatten)
        node = self._walk.only(x if flat is None else flat.output, Linear)
        if node is None or self._walk.size(x) != 1:
            return None
        activation, y = self._walk.activation(node.output)
        channels = (self._walk.channels(x), self._walk.channels(y))
        return OpSpec("linear", 1, *channels, activation=activation), [node], y

    def _squeeze_excite(self, x: str) -> tuple[str, list[Node]]:
        """The tensor after a squeeze-excite on `x` and its two convolutions, or `x` and none."""
        pool = next((n for n in self._walk.users[x] if isinstance(n.op, GlobalAvgPool)), None)
        reduce = None if pool is None else self._walk.only(pool.output, Conv)
        relu = None if reduce is None else self._walk.only(reduce.output, Relu)
        expand = None if relu is None else self._walk.only(relu.output, Conv)
        gate = None if expand is None else self._walk.only(expand.output, HardSigmoid)
        mul = None if gate is None else self._walk.only(gate.output, Mul)
        whole = mul is not None and x in mul.inputs and len(self._walk.users[x]) == 2
        if not whole or mul is None or reduce is None or expand is None:
            return x, []
        return mul.output, [reduce, expand]

    def _check_norms(self, op: OpSpec, nodes: list[Node]) -> None:
        for node, conv in zip(nodes, op.convolutions(), strict=True):
            layer = self._walk.layers[self._walk.place[node.output]]
            if layer.norm != conv.norm or (layer.bias and not conv.norm and not conv.bias):
                wanted = "a batch norm after it" if conv.norm else "no batch norm, and no bias"
                raise SpecError(f"{layer.name}: in a {op.kind} it must have {wanted}")
