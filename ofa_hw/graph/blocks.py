"""Builds the graph of an operator, and of a network as a list of operators.

The graph of a network is the graphs of its operators one after another: what a table row was
measured on is, node for node, what the network runs.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Protocol

import numpy as np

from ofa_hw.graph.ir import (
    Add,
    Array,
    AvgPool,
    Conv,
    Flatten,
    GlobalAvgPool,
    Graph,
    GraphBuilder,
    HardSigmoid,
    Linear,
    MaxPool,
    Mul,
    Relu,
    Shape,
)
from ofa_hw.ops import OpSpec


class WeightSource(Protocol):
    """Gives the weights of a graph, in the order in which its nodes are built."""

    def weight(self, shape: Shape) -> Array:
        """A weight of this shape, output channels first."""
        ...

    def bias(self, channels: int) -> Array:
        """A bias of this length."""
        ...


class RandomWeights:
    """He-normal weights and small biases, so that activations keep their size through a network."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.Generator(np.random.PCG64(seed))

    def weight(self, shape: Shape) -> Array:
        """Normal with variance 2 / fan-in."""
        fan_in = int(np.prod(shape[1:]))
        return self._rng.standard_normal(shape, np.float32) * np.float32((2 / fan_in) ** 0.5)

    def bias(self, channels: int) -> Array:
        """Normal with standard deviation 0.1."""
        return self._rng.standard_normal(channels, np.float32) * np.float32(0.1)


class ShapesOnly:
    """Zeros that take no memory, for a graph that is only counted."""

    def weight(self, shape: Shape) -> Array:
        """A read-only view of one zero."""
        return np.broadcast_to(np.float32(0), shape)

    def bias(self, channels: int) -> Array:
        """A read-only view of one zero."""
        return np.broadcast_to(np.float32(0), (channels,))


def op_graph(op: OpSpec, *, batch: int = 1, weights: WeightSource | None = None) -> Graph:
    """The graph of one operator.

    Args:
        op: The operator.
        batch: Images at once.
        weights: Where weights come from; by default random ones, always the same for this `op`.
    """
    return network_graph([op], batch=batch, weights=weights)


def network_graph(
    ops: Iterable[OpSpec], *, batch: int = 1, weights: WeightSource | None = None
) -> Graph:
    """The graph of a network: its operators one after another.

    Args:
        ops: The operators; each takes what the one before it gives.
        batch: Images at once.
        weights: Where weights come from; by default random ones, seeded by the operators.

    Raises:
        ExportError: If an operator does not take what the one before it gives.
    """
    ops = tuple(ops)
    source = weights or RandomWeights(zlib.crc32(" ".join(map(str, ops)).encode()))
    # A pool follows a relu in every space, and is written as it is there when it is on its own.
    after_relu = ops[0].kind == "max_pool"
    builder = GraphBuilder(ops[0].input_shape(batch), never_negative=after_relu)
    x = builder.input
    for op in ops:
        x = _append(builder, x, op, source)
    return builder.build()


def _append(b: GraphBuilder, x: str, op: OpSpec, weights: WeightSource) -> str:
    match op.kind:
        case "conv":
            return _conv(b, x, op, weights)
        case "mbconv":
            return _mbconv(b, x, op, weights)
        case "bottleneck":
            return _bottleneck(b, x, op, weights)
        case "max_pool":
            return b.add(MaxPool(op.kernel_size, op.stride, op.kernel_size // 2), x)
        case "global_pool":
            return b.add(GlobalAvgPool(), x)
        case "linear":
            flat = b.add(Flatten(), x)
            weight = weights.weight((op.out_channels, op.in_channels))
            y = b.add(Linear(weight, weights.bias(op.out_channels)), flat)
            return b.activation(op.activation, y)
    raise AssertionError(op.kind)  # OpSpec admits no other


def _convolution(
    b: GraphBuilder,
    x: str,
    weights: WeightSource,
    shape: tuple[int, int, int],
    *,
    stride: int = 1,
    groups: int = 1,
    bias: bool = True,
) -> str:
    cout, cin, k = shape
    weight = weights.weight((cout, cin // groups, k, k))
    return b.add(Conv(weight, weights.bias(cout) if bias else None, stride, k // 2, groups), x)


def _conv(b: GraphBuilder, x: str, op: OpSpec, weights: WeightSource) -> str:
    shape = (op.out_channels, op.in_channels, op.kernel_size)
    y = _convolution(b, x, weights, shape, stride=op.stride, bias=op.norm)
    y = b.activation(op.activation, y)
    return b.add(Add(), y, x) if op.shortcut == "identity" else y


def _mbconv(b: GraphBuilder, x: str, op: OpSpec, weights: WeightSource) -> str:
    mid = op.mid_channels
    y = x
    if mid != op.in_channels:
        y = _convolution(b, y, weights, (mid, op.in_channels, 1))
        y = b.activation(op.activation, y)
    y = _convolution(b, y, weights, (mid, mid, op.kernel_size), stride=op.stride, groups=mid)
    y = b.activation(op.activation, y)
    if op.se_channels:
        gate = b.add(GlobalAvgPool(), y)
        gate = b.add(Relu(), _convolution(b, gate, weights, (op.se_channels, mid, 1)))
        gate = b.add(HardSigmoid(), _convolution(b, gate, weights, (mid, op.se_channels, 1)))
        y = b.add(Mul(), y, gate)
    y = _convolution(b, y, weights, (op.out_channels, mid, 1))
    return b.add(Add(), y, x) if op.shortcut == "identity" else y


def _bottleneck(b: GraphBuilder, x: str, op: OpSpec, weights: WeightSource) -> str:
    cin, mid, cout = op.in_channels, op.mid_channels, op.out_channels
    y = b.activation(op.activation, _convolution(b, x, weights, (mid, cin, 1)))
    y = _convolution(b, y, weights, (mid, mid, op.kernel_size), stride=op.stride)
    y = b.activation(op.activation, y)
    y = _convolution(b, y, weights, (cout, mid, 1))
    if op.shortcut == "project":
        pooled = b.add(AvgPool(op.stride, op.stride), x) if op.stride > 1 else x
        x = _convolution(b, pooled, weights, (cout, cin, 1))
    if op.shortcut != "none":
        y = b.add(Add(), y, x)
    return b.activation(op.activation, y)
