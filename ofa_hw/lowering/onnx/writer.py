"""Writes the nodes of a graph in float32 or float16; 8-bit precision is a variation of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ofa_hw.graph import ir
from ofa_hw.graph.ir import Graph, Node
from ofa_hw.lowering.form import Form, entry_of
from ofa_hw.lowering.names import tensor_names

# The first opset with nothing missing: HardSwish came with 14. IR 8 belongs to it and is read by
# every runtime that knows the opset.
_OPSET: Final = 17
_IR_VERSION: Final = 8
_ELEMENTS: Final = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(np.uint8): TensorProto.UINT8,
}
_HALF_RANGE: Final = np.finfo(np.float16)


class Writer:
    """Adds the nodes of a graph to a model.

    Attributes:
        graph: The network.
        form: How it takes images and gives scores.
        dtype: Of activations and weights.
        values: The name in the file of each tensor that was written.
    """

    def __init__(self, graph: Graph, form: Form, dtype: npt.DTypeLike = np.float32) -> None:
        self.graph = graph
        self.form = form
        self.dtype = np.dtype(dtype)
        self.entry = entry_of(graph)
        self.names = tensor_names(graph, form)
        self.values: dict[str, str] = {}
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}

    def write(self, metadata: Mapping[str, str], outputs: Sequence[str] = ()) -> bytes:
        """The bytes of an .onnx file; `outputs` are given in place of the graph's own."""
        self.begin(np.float32 if self.form.float_input else self.dtype)
        for node in self.graph.nodes:
            self.add(node)
        self.end()
        ends = (
            [self._info(self.form.input_name, self.input_dtype, self.graph.input)],
            [self._info(self.names[name], self.output_dtype, name) for name in outputs]
            or [self._info(self.form.output_name, self.output_dtype, self.graph.output)],
        )
        model: ModelProto = helper.make_model(
            helper.make_graph(self.nodes, "network", *ends, list(self.constants.values())),
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name="ofa_hw",
        )
        helper.set_model_props(model, dict(metadata))
        content: bytes = model.SerializeToString()
        return content

    def begin(self, dtype: npt.DTypeLike) -> None:
        """Turns the input, of `dtype` unless it is of bytes, into what the first node reads."""
        source = self.graph.input
        self.input_dtype = np.dtype(np.uint8 if self.form.uint8_input else dtype)
        self.values[source] = self.form.input_name
        if self.form.uint8_input:
            self.values[source] = self._cast(self.form.input_name, "float", np.float32)
        self._enter(source)

    def end(self) -> None:
        """Turns what the last node wrote into the output."""
        self.output_dtype = np.dtype(np.float32 if self.form.float_output else self.dtype)
        if self.output_dtype != self.dtype:
            last = self.nodes[-1]
            last.output[0] = f"{last.output[0]}/half"
            self._cast(last.output[0], "", self.output_dtype, self.form.output_name)

    def add(self, node: Node) -> None:
        """Adds a node."""
        output = self.names[node.output]
        inputs = [self.values[name] for name in node.inputs]
        for suffix, value in self.constants_of(node).items():
            inputs.append(self.constant(f"{node.output}.{suffix}", self._fitted(value)))
        self.nodes.append(float_node(node, inputs, output))
        self.values[node.output] = output
        self._enter(node.output)

    def constants_of(self, node: Node) -> dict[str, npt.NDArray[Any]]:
        """The weights of a node and the limits of a clip, which are inputs in ONNX, by suffix."""
        match node.op:
            case ir.Conv(weight=weight, bias=bias) | ir.Linear(weight=weight, bias=bias):
                return {"weight": weight} | ({} if bias is None else {"bias": bias})
            case ir.Relu6():
                return {"min": np.array(0, np.float32), "max": np.array(6, np.float32)}
            case ir.Shift(offset=values) | ir.Scale(factor=values):
                inner = (1,) * (len(self.graph.shapes[node.output]) - 2)
                return {"value": values.reshape(*values.shape, *inner) if values.ndim else values}
        return {}

    def constant(self, name: str, values: npt.NDArray[Any]) -> str:
        """Adds a constant; gives its name."""
        self.constants[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name

    def node(
        self, kind: str, inputs: list[str], output: str, attribute: tuple[str, int] | None = None
    ) -> str:
        """Adds a node of any kind with at most one attribute; gives its output."""
        written = helper.make_node(kind, inputs, [output], output)
        if attribute:
            written.attribute.append(helper.make_attribute(*attribute))
        self.nodes.append(written)
        return output

    def _fitted(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A constant in the data type that the next node computes in."""
        is_before_entry = self.entry not in self.values
        if self.dtype != np.float16 or is_before_entry:
            return values
        return values.clip(_HALF_RANGE.min, _HALF_RANGE.max).astype(np.float16)

    def _enter(self, name: str) -> None:
        """Turns the tensor where the network's own data type begins into it."""
        is_float = self.form.float_input or self.form.uint8_input
        if name == self.entry and self.dtype != np.float32 and is_float:
            self.values[name] = self._cast(self.values[name], "half", self.dtype)

    def _cast(self, source: str, suffix: str, dtype: npt.DTypeLike, output: str = "") -> str:
        output = output or f"{source}/{suffix}"
        return self.node("Cast", [source], output, ("to", _ELEMENTS[np.dtype(dtype)]))

    def _info(self, name: str, dtype: np.dtype[Any], tensor: str) -> Any:  # noqa: ANN401
        shape: list[int | str] = list(self.graph.shapes[tensor])
        if self.form.dynamic_batch:
            shape[0] = "batch"
        return helper.make_tensor_value_info(name, _ELEMENTS[dtype], shape)


def float_node(node: Node, inputs: list[str], output: str) -> NodeProto:
    """The node that computes a primitive."""
    attributes: Mapping[str, int | float | list[int]] = {}
    match node.op:
        case ir.Conv(weight=weight, stride=stride, padding=padding, groups=groups):
            kind = "Conv"
            attributes = {
                "kernel_shape": list(weight.shape[2:]),
                "strides": [stride] * 2,
                "pads": [padding] * 4,
                "group": groups,
            }
        case ir.Linear():
            kind, attributes = "Gemm", {"transB": 1}
        case ir.MaxPool(kernel_size=k, stride=stride, padding=padding):
            kind = "MaxPool"
            attributes = {"kernel_shape": [k] * 2, "strides": [stride] * 2, "pads": [padding] * 4}
        case ir.AvgPool(kernel_size=k, stride=stride):
            kind = "AveragePool"
            attributes = {"kernel_shape": [k] * 2, "strides": [stride] * 2, "ceil_mode": 1}
        case ir.GlobalAvgPool():
            kind = "GlobalAveragePool"
        case ir.Flatten():
            kind, attributes = "Flatten", {"axis": 1}
        case ir.Add() | ir.Shift():
            kind = "Add"
        case ir.Mul() | ir.Scale():
            kind = "Mul"
        case ir.Relu():
            kind = "Relu"
        case ir.Relu6():
            kind = "Clip"
        case ir.HardSigmoid():
            kind, attributes = "HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}
        case ir.HardSwish():
            kind = "HardSwish"
    written = helper.make_node(kind, inputs, [output], node.output)
    written.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
    return written
