"""Torch network to `Graph` by torch.fx, batch norms folded into the convolutions before them."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional as F

from ofa_hw.errors import ExportError
from ofa_hw.graph import ir
from ofa_hw.graph.ir import Graph, GraphBuilder, Primitive, Shape

_BY_FUNCTION: dict[Any, Callable[[], Primitive]] = {
    operator.add: ir.Add,
    operator.iadd: ir.Add,
    torch.add: ir.Add,
    "add": ir.Add,
    operator.mul: ir.Mul,
    operator.imul: ir.Mul,
    torch.mul: ir.Mul,
    "mul": ir.Mul,
    F.relu: ir.Relu,
    torch.relu: ir.Relu,
    "relu": ir.Relu,
    F.relu6: ir.Relu6,
    F.hardswish: ir.HardSwish,
    F.hardsigmoid: ir.HardSigmoid,
    torch.flatten: ir.Flatten,
    "flatten": ir.Flatten,
}


def trace(module: nn.Module, input_shape: Shape) -> Graph:
    """Does what `Graph.from_torch` says."""
    if module.training:
        raise ExportError("the network is in training mode; call .eval() on it first")
    try:
        traced = fx.symbolic_trace(module)
    except (fx.proxy.TraceError, TypeError) as error:
        raise ExportError(f"torch.fx cannot trace the network: {error}") from error
    layers = dict(traced.named_modules())
    builder = GraphBuilder(input_shape)
    names: dict[fx.Node, str] = {}
    for node in traced.graph.nodes:
        inputs = [names[arg] for arg in node.args if isinstance(arg, fx.Node)]
        match node.op:
            case "placeholder" if not names:
                names[node] = builder.input
            case "call_module":
                names[node] = _add_layer(builder, layers[node.target], node, inputs)
            case "call_function" | "call_method" if node.target in _BY_FUNCTION:
                names[node] = _add_function(builder, node, inputs)
            case "output" if len(inputs) == 1:
                return _cut(builder, inputs[0])
            case _:
                raise ExportError(f"no primitive for {node.op} {node.target!r} of the network")
    raise AssertionError("torch.fx ends every graph with an output")


def _cut(builder: GraphBuilder, output: str) -> Graph:
    """The graph up to `output`: torch.fx keeps dead nodes."""
    while builder.nodes and builder.nodes[-1].output != output:
        builder.nodes.pop()
    return builder.build()


def _add_function(b: GraphBuilder, node: fx.Node, inputs: list[str]) -> str:
    make = _BY_FUNCTION[node.target]
    if make is ir.Flatten and (tuple(node.args[1:]) or (node.kwargs.get("start_dim"),)) != (1,):
        raise ExportError(f"{node.name} flattens other dimensions than C, H and W")
    if make in (ir.Add, ir.Mul) and len(inputs) != 2:
        raise ExportError(f"{node.name} combines a tensor with a constant, which no primitive does")
    return b.add(make(), *inputs)


def _add_layer(b: GraphBuilder, layer: nn.Module, node: fx.Node, inputs: list[str]) -> str:
    (x,) = inputs
    match layer:
        case nn.Conv2d():
            return b.add(_convolution(layer, str(node.target)), x)
        case nn.BatchNorm2d():
            return _fold(b, layer, node, x)
        case nn.Linear():
            return b.add(ir.Linear(_numpy(layer.weight), _bias(layer.bias)), x)
        case nn.ReLU():
            return b.add(ir.Relu(), x)
        case nn.ReLU6():
            return b.add(ir.Relu6(), x)
        case nn.Hardswish():
            return b.add(ir.HardSwish(), x)
        case nn.Hardsigmoid():
            return b.add(ir.HardSigmoid(), x)
        case nn.AdaptiveAvgPool2d() if layer.output_size in (1, (1, 1)):
            return b.add(ir.GlobalAvgPool(), x)
        case nn.MaxPool2d(kernel_size=int(k), stride=int(s), padding=int(p)) if (
            not layer.ceil_mode and layer.dilation == 1
        ):
            return b.add(ir.MaxPool(k, s, p), x)
        case nn.AvgPool2d(kernel_size=int(k), stride=int(s)) if layer.padding == 0 and (
            layer.ceil_mode or k == s == 1
        ):
            return b.add(ir.AvgPool(k, s), x)
        case nn.Flatten(start_dim=1, end_dim=-1):
            return b.add(ir.Flatten(), x)
        case nn.Dropout() | nn.Identity():
            return x
    raise ExportError(f"no primitive for {node.target}, a {layer}")


def _convolution(layer: nn.Conv2d, name: str) -> ir.Conv:
    (k, kw), (s, sw), padding = layer.kernel_size, layer.stride, layer.padding
    if k != kw or s != sw or layer.dilation != (1, 1) or isinstance(padding, str):
        raise ExportError(f"{name} is no plain square convolution: {layer}")
    if padding[0] != padding[1] or layer.padding_mode != "zeros":
        raise ExportError(f"{name} pads otherwise than by zeros on all sides alike: {layer}")
    return ir.Conv(_numpy(layer.weight), _bias(layer.bias), s, padding[0], layer.groups)


def _fold(b: GraphBuilder, norm: nn.BatchNorm2d, node: fx.Node, x: str) -> str:
    """Folds a batch norm into the convolution that wrote `x`, which nothing else may read."""
    source = node.args[0]
    before = b.nodes[-1]
    shared = isinstance(source, fx.Node) and len(source.users) > 1
    if before.output != x or not isinstance(before.op, ir.Conv) or shared:
        raise ExportError(f"{node.target} does not follow a convolution of its own")
    if norm.running_mean is None or norm.running_var is None:
        raise ExportError(f"{node.target} keeps no running statistics, so it cannot be folded")
    scale = 1 / np.sqrt(_numpy(norm.running_var).astype(np.float64) + norm.eps)
    shift = -_numpy(norm.running_mean) * scale
    if norm.affine:
        scale, shift = scale * _numpy(norm.weight), shift * _numpy(norm.weight) + _numpy(norm.bias)
    conv = before.op
    weight = (conv.weight * scale[:, None, None, None]).astype(np.float32)
    bias = (shift if conv.bias is None else shift + conv.bias * scale).astype(np.float32)
    folded = ir.Conv(weight, bias, conv.stride, conv.padding, conv.groups)
    b.nodes[-1] = ir.Node(before.output, folded, before.inputs)
    return x


def _numpy(tensor: torch.Tensor) -> ir.Array:
    return tensor.detach().to("cpu", torch.float32).numpy().copy()


def _bias(bias: torch.Tensor | None) -> ir.Array | None:
    return None if bias is None else _numpy(bias)
