"""Graph to an ONNX model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ofa_hw.graph import ir
from ofa_hw.graph.ir import Array, Graph, Node
from ofa_hw.lowering.names import tensor_names

# The first opset with nothing missing: HardSwish came with 14. IR 8 belongs to it and is read by
# every runtime that knows the opset.
_OPSET = 17
_IR_VERSION = 8


def to_onnx(graph: Graph, *, metadata: Mapping[str, str] | None = None) -> bytes:
    """Writes a network as an ONNX model with the tensors `input` and `output`, (N, C, H, W).

    Args:
        graph: The network.
        metadata: Entries of the model's `metadata_props`.

    Returns:
        The bytes of an .onnx file.
    """
    names = tensor_names(graph)
    nodes: list[NodeProto] = []
    constants: list[TensorProto] = []
    for node in graph.nodes:
        inputs = [names[name] for name in node.inputs]
        for suffix, value in _constants(node):
            inputs.append(f"{node.output}.{suffix}")
            constants.append(numpy_helper.from_array(np.ascontiguousarray(value), inputs[-1]))
        nodes.append(_node(node, inputs, names[node.output]))
    model: ModelProto = helper.make_model(
        helper.make_graph(
            nodes,
            "network",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, graph.input_shape)],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, graph.output_shape)],
            constants,
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="ofa_hw",
    )
    helper.set_model_props(model, dict(metadata or {}))
    content: bytes = model.SerializeToString()
    return content


def _constants(node: Node) -> Iterator[tuple[str, Array]]:
    """The weights of a node and the limits of a clip, which are inputs in ONNX, by suffix."""
    match node.op:
        case ir.Conv(weight=weight, bias=bias) | ir.Linear(weight=weight, bias=bias):
            yield "weight", weight
            if bias is not None:
                yield "bias", bias
        case ir.Relu6():
            yield "min", np.array(0, np.float32)
            yield "max", np.array(6, np.float32)


def _node(node: Node, inputs: list[str], output: str) -> NodeProto:
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
        case ir.Add():
            kind = "Add"
        case ir.Mul():
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
