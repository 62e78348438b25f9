"""Torch network to `Graph` by torch.fx, batch norms folded into the convolutions before them."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.fx.proxy import TraceError
from torch.nn import functional as F

from ofa_hw.errors import ExportError
from ofa_hw.graph import ir
from ofa_hw.graph.ir import Graph, GraphBuilder, Primitive, Shape

_COMBINATIONS: dict[Any, Callable[[], Primitive]] = {
    operator.add: ir.Add,
    operator.iadd: ir.Add,
    torch.add: ir.Add,
    "add": ir.Add,
    "add_": ir.Add,
    operator.mul: ir.Mul,
    operator.imul: ir.Mul,
    torch.mul: ir.Mul,
    "mul": ir.Mul,
    "mul_": ir.Mul,
}
_ACTIVATIONS: dict[Any, Callable[[], Primitive]] = {
    F.relu: ir.Relu,
    torch.relu: ir.Relu,
    "relu": ir.Relu,
    "relu_": ir.Relu,
    F.relu6: ir.Relu6,
    F.hardswish: ir.HardSwish,
    F.hardsigmoid: ir.HardSigmoid,
}
_LAYER_OF_FUNCTION: dict[Any, Callable[..., nn.Module]] = {
    F.max_pool2d: nn.MaxPool2d,
    F.avg_pool2d: nn.AvgPool2d,
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
}


def trace(module: nn.Module, input_shape: Shape) -> Graph:
    """Does what `Graph.from_torch` says."""
    if any(layer.training for layer in module.modules()):
        raise ExportError("the network is in training mode; call .eval() on it first")
    traced = _traced(module)
    builder = GraphBuilder(input_shape)
    names: dict[fx.Node, str] = {}
    for node in traced.graph.nodes:
        operands = (*node.args, *node.kwargs.values())
        inputs = [names[arg] for arg in operands if isinstance(arg, fx.Node)]
        match node.op:
            case "placeholder" if not names:
                names[node] = builder.input
            case "call_module":
                layer = traced.get_submodule(node.target)
                names[node] = _add_layer(builder, layer, node, *inputs)
            case "call_function" | "call_method":
                names[node] = _add_function(builder, traced, node, inputs)
            case "output" if len(inputs) == 1 and builder.nodes:
                return builder.build()
            case "output":
                raise ExportError("the network must compute one tensor from its input")
            case _:
                raise ExportError(f"no primitive for {node.op} {node.target!r} of the network")
    raise AssertionError("torch.fx ends every graph with an output")


def weighted_layers(
    module: nn.Module,
) -> list[tuple[str, nn.Conv2d | nn.Linear, nn.BatchNorm2d | None]]:
    """Name, layer and batch norm of each convolution and linear layer, in the graph's order.

    Raises:
        ExportError: If torch.fx cannot trace the network.
    """
    traced = _traced(module)
    layers: dict[fx.Node, tuple[str, nn.Conv2d | nn.Linear, nn.BatchNorm2d | None]] = {}
    for node in traced.graph.nodes:
        layer = traced.get_submodule(node.target) if node.op == "call_module" else None
        match layer:
            case nn.Conv2d() | nn.Linear():
                layers[node] = (node.target, layer, None)
            case nn.BatchNorm2d() if node.args[0] in layers:
                name, before, _ = layers[node.args[0]]
                layers[node.args[0]] = (name, before, layer)
    return list(layers.values())


def _traced(module: nn.Module) -> fx.GraphModule:
    # torch.fx looks into the module that it is given, even if that is a layer.
    root = module if any(True for _ in module.children()) else nn.Sequential(module)
    try:
        traced = fx.symbolic_trace(root)
    except (TraceError, TypeError) as error:
        raise ExportError(f"torch.fx cannot trace the network: {error}") from error
    _drop_what_does_nothing(traced)
    return traced


def _drop_what_does_nothing(traced: fx.GraphModule) -> None:
    """Removes identities, so that a tensor's users are those that compute, and dead nodes."""
    for node in traced.graph.nodes:
        if node.op == "call_module" and isinstance(
            traced.get_submodule(node.target), nn.Identity | nn.Dropout | nn.Dropout2d
        ):
            node.replace_all_uses_with(node.args[0])
    traced.graph.eliminate_dead_code()


def _add_function(b: GraphBuilder, traced: fx.GraphModule, node: fx.Node, inputs: list[str]) -> str:
    target = node.target
    options = {key: value for key, value in node.kwargs.items() if not isinstance(value, fx.Node)}
    if target in _COMBINATIONS:
        if len(inputs) != 2 or options:
            raise ExportError(
                f"{node.name} does more than combine two tensors: {node.format_node()}"
            )
        return b.add(_COMBINATIONS[target](), *inputs)
    if target in _ACTIVATIONS:
        return b.add(_ACTIVATIONS[target](), *inputs)
    if target in (torch.flatten, "flatten"):
        dims: dict[str, Any] = {"start_dim": 0, "end_dim": -1}
        dims |= dict(zip(dims, node.args[1:], strict=False)) | options
        if tuple(dims.values()) not in ((1, -1), (1, 3)):
            raise ExportError(f"{node.name} flattens other dimensions than C, H and W")
        return b.add(ir.Flatten(), *inputs)
    if target in (torch.mean, "mean"):
        return _mean(b, node, inputs, options)
    if target in _LAYER_OF_FUNCTION:
        normal = node.normalized_arguments(traced, normalize_to_only_use_kwargs=True)
        if normal is not None:
            # An empty stride is how functional pools write "as the kernel", which layers omit.
            arguments = {k: v for k, v in normal.kwargs.items() if k != "input" and v != []}
            return _add_layer(b, _LAYER_OF_FUNCTION[target](**arguments), node, *inputs)
    raise ExportError(f"no primitive for {node.format_node()} of the network")


def _mean(b: GraphBuilder, node: fx.Node, inputs: list[str], options: dict[str, Any]) -> str:
    """A mean over H and W is a global pool."""
    positional: dict[str, Any] = dict(zip(("dim", "keepdim"), node.args[1:], strict=False))
    arguments = {"dim": None, "keepdim": False} | positional | options
    dims = arguments["dim"]
    if not isinstance(dims, list | tuple) or sorted(d % 4 for d in dims) != [2, 3]:
        raise ExportError(f"{node.name} averages over other dimensions than H and W")
    pooled = b.add(ir.GlobalAvgPool(), *inputs)
    return pooled if arguments["keepdim"] else b.add(ir.Flatten(), pooled)


def _add_layer(b: GraphBuilder, layer: nn.Module, node: fx.Node, x: str) -> str:
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
        case nn.MaxPool2d(ceil_mode=False, dilation=1, return_indices=False):
            window = (layer.kernel_size, layer.stride, layer.padding)
            return b.add(ir.MaxPool(*(_alike(size, node) for size in window)), x)
        case nn.AvgPool2d(padding=0 | (0, 0), divisor_override=None):
            pool = ir.AvgPool(_alike(layer.kernel_size, node), _alike(layer.stride, node))
            sizes = b.build().shapes[x][2:]
            if layer.ceil_mode or all((s - pool.kernel_size) % pool.stride == 0 for s in sizes):
                return b.add(pool, x)
        case nn.Flatten(start_dim=1, end_dim=-1):
            return b.add(ir.Flatten(), x)
    raise ExportError(f"no primitive for {node.name}, a {layer}")


def _alike(size: int | tuple[int, ...], node: fx.Node) -> int:
    """The one size of both dimensions."""
    sizes = {size} if isinstance(size, int) else set(size)
    if len(sizes) != 1:
        raise ExportError(f"{node.name} has a window that is not square: {size}")
    return sizes.pop()


def _convolution(layer: nn.Conv2d, name: str) -> ir.Conv:
    (k, kw), (s, sw), padding = layer.kernel_size, layer.stride, layer.padding
    if k != kw or s != sw or layer.dilation != (1, 1) or isinstance(padding, str):
        raise ExportError(f"{name} is no plain square convolution: {layer}")
    if padding[0] != padding[1] or layer.padding_mode != "zeros":
        raise ExportError(f"{name} pads otherwise than by zeros on all sides alike: {layer}")
    return ir.Conv(_numpy(layer.weight), _bias(layer.bias), s, padding[0], layer.groups)


def _fold(b: GraphBuilder, norm: nn.BatchNorm2d, node: fx.Node, x: str) -> str:
    """Folds a batch norm into the convolution that wrote `x`, which nothing else may read."""
    index, before = next(
        ((i, n) for i, n in enumerate(b.nodes) if n.output == x), (0, None)
    )  # not always the last node: two branches may be computed side by side
    shared = len(node.all_input_nodes[0].users) > 1
    if before is None or not isinstance(before.op, ir.Conv) or shared:
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
    b.nodes[index] = ir.Node(before.output, folded, before.inputs)
    return x


def _numpy(tensor: torch.Tensor) -> ir.Array:
    return tensor.detach().to("cpu", torch.float32).numpy().copy()


def _bias(bias: torch.Tensor | None) -> ir.Array | None:
    return None if bias is None else _numpy(bias)
