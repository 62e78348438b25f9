"""Graph to a plain torch module."""

from __future__ import annotations

import operator

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn
from torch.nn import functional as F

from ofa_hw.graph import ir
from ofa_hw.graph.ir import Graph, Node, Primitive


def to_torch(graph: Graph) -> nn.Module:
    """A torch module that computes what `graph` says.

    It is a `torch.fx.GraphModule`: its forward is generated straight-line code, so that it runs
    without an interpreter's overhead and can be exported, compiled or traced again.

    Args:
        graph: The network; its weights are copied.

    Returns:
        A module in eval mode that takes (N, C, H, W) float32.
    """
    layers = nn.Module()
    code = fx.Graph()
    values = {graph.input: code.placeholder("x")}
    for node in graph.nodes:
        inputs = tuple(values[name] for name in node.inputs)
        layer = _layer(node.op)
        if isinstance(node.op, ir.Shift | ir.Scale):
            layers.register_buffer(node.output, _constant(graph, node))
            constant = code.get_attr(node.output)
            function = operator.add if isinstance(node.op, ir.Shift) else operator.mul
            values[node.output] = code.call_function(function, (*inputs, constant))
        elif layer is None:
            values[node.output] = _call(code, node.op, inputs)
        else:
            layers.add_module(node.output, layer)
            values[node.output] = code.call_module(node.output, inputs)
    code.output(values[graph.output])
    code.lint()
    return fx.GraphModule(layers, code, "LoweredGraph").eval()


def _constant(graph: Graph, node: Node) -> torch.Tensor:
    """What a node adds or multiplies by; one a channel is shaped to meet the channels."""
    assert isinstance(node.op, ir.Shift | ir.Scale)
    values = node.op.offset if isinstance(node.op, ir.Shift) else node.op.factor
    tensor = torch.tensor(values)
    inner = (1,) * (len(graph.shapes[node.output]) - 2)
    return tensor.reshape(-1, *inner) if values.ndim else tensor


def _layer(op: Primitive) -> nn.Module | None:
    """The layer for a primitive that has weights; their memory is not initialised twice."""
    match op:
        case ir.Conv(weight=weight, bias=bias):
            out, cin, k, _ = weight.shape
            conv = nn.Conv2d(
                cin * op.groups,
                out,
                k,
                op.stride,
                op.padding,
                groups=op.groups,
                bias=bias is not None,
                device="meta",
            )
            return _with_weights(conv, weight, bias)
        case ir.Linear(weight=weight, bias=bias):
            out, features = weight.shape
            linear = nn.Linear(features, out, bias=bias is not None, device="meta")
            return _with_weights(linear, weight, bias)
    return None


def _with_weights(
    layer: nn.Conv2d | nn.Linear,
    weight: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32] | None,
) -> nn.Module:
    layer.weight = nn.Parameter(torch.tensor(weight))
    if bias is not None:
        layer.bias = nn.Parameter(torch.tensor(bias))
    return layer


def _call(code: fx.Graph, op: Primitive, inputs: tuple[fx.Node, ...]) -> fx.Node:
    match op:
        case ir.MaxPool(kernel_size=k, stride=stride, padding=padding):
            return code.call_function(F.max_pool2d, (*inputs, k, stride, padding))
        case ir.AvgPool(kernel_size=k, stride=stride):
            return code.call_function(F.avg_pool2d, (*inputs, k, stride), {"ceil_mode": True})
        case ir.GlobalAvgPool():
            return code.call_function(F.adaptive_avg_pool2d, (*inputs, 1))
        case ir.Flatten():
            return code.call_function(torch.flatten, (*inputs, 1))
        case ir.Add():
            return code.call_function(operator.add, inputs)
        case ir.Mul():
            return code.call_function(operator.mul, inputs)
        case ir.Relu():
            return code.call_function(F.relu, inputs)
        case ir.Relu6():
            return code.call_function(F.relu6, inputs)
        case ir.HardSigmoid():
            return code.call_function(F.hardsigmoid, inputs)
        case ir.HardSwish():
            return code.call_function(F.hardswish, inputs)
    raise AssertionError(op)  # the primitives with weights are layers
