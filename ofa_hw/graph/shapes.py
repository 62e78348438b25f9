"""Shape inference: what a node writes, given what it reads."""

from __future__ import annotations

import math

from ofa_hw.errors import ExportError
from ofa_hw.graph.primitives import (
    Add,
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
    Relu,
    Relu6,
    Scale,
    Shape,
    Shift,
)


def output_shape(node: Node, inputs: list[Shape]) -> Shape:
    """The shape that `node` writes, given the shapes that it reads.

    Raises:
        ExportError: If it cannot take them.
    """
    shape = inputs[0]
    match node.op:
        case Conv(weight=weight, stride=stride, padding=padding, groups=groups):
            n, c, h, w = _image(node, shape)
            out, cin, k, _ = weight.shape
            if cin * groups != c:
                raise ExportError(f"{node.output} takes {cin * groups} channels and is given {c}")
            return _fitting(
                node, shape, (n, out, *((x + 2 * padding - k) // stride + 1 for x in (h, w)))
            )
        case Linear(weight=weight):
            if len(shape) != 2 or weight.shape[1] != shape[1]:
                raise ExportError(f"{node.output} takes {weight.shape[1]} features, got {shape}")
            return (shape[0], weight.shape[0])
        case MaxPool(kernel_size=k, stride=stride, padding=padding):
            n, c, h, w = _image(node, shape)
            return _fitting(
                node, shape, (n, c, *((x + 2 * padding - k) // stride + 1 for x in (h, w)))
            )
        case AvgPool(kernel_size=k, stride=stride):
            n, c, h, w = _image(node, shape)
            # No window begins beyond the input, which rounding up would allow if k < stride.
            sizes = (min(-((k - x) // stride), (x - 1) // stride) + 1 for x in (h, w))
            return _fitting(node, shape, (n, c, *sizes))
        case GlobalAvgPool():
            return (*_image(node, shape)[:2], 1, 1)
        case Flatten():
            return (shape[0], math.prod(shape[1:]))
        case Add():
            if inputs[0] != inputs[1]:
                raise ExportError(f"{node.output} adds {inputs[0]} and {inputs[1]}")
            return shape
        case Mul():
            gate, whole = sorted(inputs, key=math.prod)
            if gate not in (whole, (*whole[:2], *(1 for _ in whole[2:]))):
                raise ExportError(f"{node.output} multiplies {inputs[0]} and {inputs[1]}")
            return whole
        case Shift(offset=values) | Scale(factor=values):
            if values.shape not in ((), (shape[1],)):
                raise ExportError(
                    f"{node.output} takes one number or {shape[1]}, one a channel, "
                    f"got {values.shape}"
                )
            return shape
        case Relu() | Relu6() | HardSigmoid() | HardSwish():
            return shape


def _image(node: Node, shape: Shape) -> Shape:
    if len(shape) != 4:
        raise ExportError(f"{node.output} takes (N, C, H, W), got {shape}")
    return shape


def _fitting(node: Node, shape: Shape, output: Shape) -> Shape:
    if min(output) < 1:
        raise ExportError(f"the window of {node.output} is larger than its input {shape}")
    return output
