"""Network to a plain torch module."""

from __future__ import annotations

import operator
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn
from torch.nn import functional as F

from ofa_hw.graph import ir
from ofa_hw.graph.ir import Graph, Node, Primitive
from ofa_hw.lowering.form import Form
from ofa_hw.lowering.quantise import QuantisedGraph

_HALF_LIMIT: Final = torch.finfo(torch.float16).max


def to_torch(
    network: Graph | QuantisedGraph, *, dtype: str = "fp32", form: Form | None = None
) -> nn.Module:
    """A torch module that computes what a network says.

    It is a `torch.fx.GraphModule`: its forward is generated straight-line code, so that it runs
    without an interpreter's overhead and can be exported, compiled or traced again.

    Args:
        network: The network; its weights are copied. A quantised one computes what its levels
            allow, in float: torch has no 8-bit kernels that every processor runs.
        dtype: Of the weights of a network that is not quantised, `fp32` or `fp16`. Those are turned
            into float32 where they are used: few processors compute in float16, and torch takes 7
            to 30 times as long on others.
        form: How it takes images and gives scores: what its forward's parameter is called, and
            whether it gives a dictionary of one named output; without, `x` to a tensor.

    Returns:
        A module in eval mode that takes (N, C, H, W) float32, or bytes.
    """
    if isinstance(network, QuantisedGraph):
        from ofa_hw.lowering.torch_eight_bit import EightBitLowering

        return EightBitLowering(network, form).module()
    return Lowering(network, form, is_half=dtype == "fp16").module()


class Lowering:
    """Adds the nodes of a graph to a module; 8-bit precision is a variation of it.

    Attributes:
        code: Of the module's forward.
        layers: Holds its weights.
        values: What computes each tensor that was added.
    """

    def __init__(self, graph: Graph, form: Form | None = None, *, is_half: bool = False) -> None:
        self.graph, self.form, self.is_half = graph, form, is_half
        self.layers, self.code = nn.Module(), fx.Graph()
        self.values: dict[str, fx.Node] = {}

    def module(self) -> nn.Module:
        """The module of all nodes."""
        x = self.code.placeholder(self.form.input_name if self.form else "x")
        if self.form and self.form.uint8_input:
            x = self.code.call_method("float", (x,))
        self.set(self.graph.input, x)
        for node in self.graph.nodes:
            self.add(node)
        y = self.values[self.graph.output]
        is_named = self.form is not None and self.form.output_name != Form().output_name
        self.code.output({self.form.output_name: y} if self.form and is_named else y)
        self.code.lint()
        return fx.GraphModule(self.layers, self.code, "LoweredGraph").eval()

    def set(self, name: str, value: fx.Node) -> None:
        """Tells what computes a tensor."""
        self.values[name] = value

    def add(self, node: Node) -> None:
        """Adds a node."""
        inputs = tuple(self.values[name] for name in node.inputs)
        match node.op:
            case ir.Shift(offset=values):
                constant = self.constant(node.output, self.shaped(node, values))
                value = self.code.call_function(operator.add, (*inputs, constant))
            case ir.Scale(factor=values):
                constant = self.constant(node.output, self.shaped(node, values))
                value = self.code.call_function(operator.mul, (*inputs, constant))
            case ir.Conv() | ir.Linear() if self.is_half:
                value = self.function(node.op, *inputs, *self._halves(node.output, node.op))
            case ir.Conv() | ir.Linear():
                self.layers.add_module(node.output, _layer(node.op))
                value = self.code.call_module(node.output, inputs)
            case _:
                value = _call(self.code, node.op, inputs)
        self.set(node.output, value)

    def constant(self, name: str, values: torch.Tensor) -> fx.Node:
        """Adds a constant."""
        self.layers.register_buffer(name, values)
        return self.code.get_attr(name)

    def function(self, op: ir.Conv | ir.Linear, *inputs: fx.Node | None) -> fx.Node:
        """Adds what has its weight and its bias from other nodes."""
        if isinstance(op, ir.Linear):
            return self.code.call_function(F.linear, inputs)
        return self.code.call_function(F.conv2d, (*inputs, op.stride, op.padding, 1, op.groups))

    def _halves(self, name: str, op: ir.Conv | ir.Linear) -> list[fx.Node | None]:
        """Weight and bias, float16 in memory and float32 in use."""
        found: list[fx.Node | None] = []
        for kind, values in (("weight", op.weight), ("bias", op.bias)):
            if values is None:
                found.append(None)
                continue
            halves = torch.tensor(values).clamp(-_HALF_LIMIT, _HALF_LIMIT).half()
            found.append(self.code.call_method("float", (self.constant(f"{name}_{kind}", halves),)))
        return found

    def shaped(self, node: Node, values: npt.NDArray[np.float32]) -> torch.Tensor:
        """What a node adds or multiplies by; one a channel is shaped to meet the channels."""
        inner = (1,) * (len(self.graph.shapes[node.output]) - 2)
        tensor = torch.tensor(values)
        return tensor.reshape(-1, *inner) if values.ndim else tensor


def _layer(op: ir.Conv | ir.Linear) -> nn.Module:
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
