"""Graph to a .tflite file, without TensorFlow and without a converter.

Tensors of four dimensions are (N, H, W, C) here. Torch pads alike on all sides; TFLite's SAME pads
the end first, so SAME is written where the two agree and an explicit PAD with VALID elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from ofa_hw.graph import ir
from ofa_hw.graph.ir import Array, Graph, Node, Shape
from ofa_hw.lowering.flatbuffer import Options, TfliteModel
from ofa_hw.lowering.names import tensor_names

_OPERATOR = schema.BuiltinOperator
_FUSED = schema.ActivationFunctionType
_PADDING = schema.Padding


def to_tflite(graph: Graph, *, metadata: Mapping[str, str] | None = None) -> bytes:
    """Writes a network as a TFLite model with the tensors `input` and `output`, (N, H, W, C).

    A relu or relu6 that alone reads a convolution, linear layer or addition becomes part of it.

    Args:
        graph: The network.
        metadata: Entries of the model's `metadata`.

    Returns:
        The bytes of a .tflite file.
    """
    writer = _Writer(graph)
    for node in graph.nodes:
        if node.output not in writer.tensors:  # else it is fused into the one before it
            writer.add(node)
    return writer.model.serialise(
        input=writer.tensors[graph.input],
        output=writer.tensors[graph.output],
        metadata=metadata or {},
    )


@dataclass(frozen=True, slots=True)
class _Window:
    """What a pool or a convolution pads one axis by, and whether SAME pads it so.

    Attributes:
        before: Padding in front.
        after: Padding behind, as far as a window reaches it.
        is_same: Whether SAME gives the same windows.
    """

    before: int
    after: int
    is_same: bool

    @classmethod
    def of(cls, size: int, out: int, kernel: int, stride: int, padding: int) -> _Window:
        reach = (out - 1) * stride + kernel
        same = out == -(-size // stride) and padding == max(0, reach - size) // 2
        return cls(padding, max(0, reach - size - padding), same)


class _Writer:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.model = TfliteModel()
        self.names = tensor_names(graph)
        self.tensors = {graph.input: self.model.tensor("input", _nhwc(graph.input_shape))}
        self.readers: dict[str, list[Node]] = {name: [] for name in graph.shapes}
        self.flattened: dict[
            str, Shape
        ] = {}  # what is in the order of (N, H, W, C), and its source
        for node in graph.nodes:
            for name in node.inputs:
                self.readers[name].append(node)

    def add(self, node: Node) -> None:
        inputs = [self.tensors[name] for name in node.inputs]
        match node.op:
            case ir.Conv():
                self._convolution(node, node.op)
            case ir.Linear():
                self._linear(node, node.op)
            case ir.MaxPool(kernel_size=k, stride=stride, padding=padding):
                self._max_pool(node, k, stride, padding)
            case ir.AvgPool(kernel_size=k, stride=stride):
                self._average_pool(node, k, stride)
            case ir.GlobalAvgPool():
                axes = self._constant(node, "axes", np.array([1, 2], np.int32))
                options = schema.ReducerOptionsT(keepDims=True)
                self._write(_OPERATOR.MEAN, node, [*inputs, axes], options)
            case ir.Flatten():
                self._flatten(node)
            case ir.Add():
                self._fusing(_OPERATOR.ADD, node, inputs, schema.AddOptionsT())
            case ir.Mul():
                self._write(_OPERATOR.MUL, node, inputs, schema.MulOptionsT())
            case ir.Relu():
                self._write(_OPERATOR.RELU, node, inputs)
            case ir.Relu6():
                self._write(_OPERATOR.RELU6, node, inputs)
            case ir.HardSigmoid():
                self._hard_sigmoid(node)
            case ir.HardSwish():
                options = schema.HardSwishOptionsT()
                self._write(_OPERATOR.HARD_SWISH, node, inputs, options)

    def _write(self, builtin: int, node: Node, inputs: list[int], options: Options = None) -> None:
        output = self.model.tensor(self.names[node.output], _nhwc(self.graph.shapes[node.output]))
        self.tensors[node.output] = self.model.operator(builtin, inputs, output, options)

    def _fusing(self, builtin: int, node: Node, inputs: list[int], options: Options) -> None:
        """Writes `node` and, where possible, the activation that follows it."""
        match self.readers[node.output]:
            case [Node(op=ir.Relu()) as reader]:
                options.fusedActivationFunction = _FUSED.RELU
            case [Node(op=ir.Relu6()) as reader]:
                options.fusedActivationFunction = _FUSED.RELU6
            case _:
                reader = node
        self._write(builtin, reader, inputs, options)
        self.tensors[node.output] = self.tensors[reader.output]

    def _constant(self, node: Node, suffix: str, values: npt.NDArray[Any]) -> int:
        return self.model.constant(f"{node.output}/{suffix}", values)

    def _weights(self, node: Node, weight: Array, bias: Array | None) -> list[int]:
        # A missing bias is written as zeros: delegates of older runtimes insist on one.
        channels = self.graph.shapes[node.output][1]
        bias = np.zeros(channels, np.float32) if bias is None else bias
        return [self._constant(node, "weight", weight), self._constant(node, "bias", bias)]

    def _convolution(self, node: Node, op: ir.Conv) -> None:
        out, cin, k, _ = op.weight.shape
        x, padding = self._padded(node, k, op.stride, op.padding)
        shared = {"padding": padding, "strideW": op.stride, "strideH": op.stride}
        if op.groups > 1 and cin == 1:
            weights = self._weights(node, op.weight.transpose(1, 2, 3, 0), op.bias)
            options = schema.DepthwiseConv2DOptionsT(depthMultiplier=out // op.groups, **shared)
            self._fusing(_OPERATOR.DEPTHWISE_CONV_2D, node, [x, *weights], options)
        else:
            weights = self._weights(node, op.weight.transpose(0, 2, 3, 1), op.bias)
            self._fusing(_OPERATOR.CONV_2D, node, [x, *weights], schema.Conv2DOptionsT(**shared))

    def _windows(self, node: Node, k: int, stride: int, padding: int) -> list[_Window]:
        """The windows along H and W."""
        sizes, outs = self.graph.shapes[node.inputs[0]][2:], self.graph.shapes[node.output][2:]
        return [
            _Window.of(size, out, k, stride, padding) for size, out in zip(sizes, outs, strict=True)
        ]

    def _padded(
        self, node: Node, k: int, stride: int, padding: int, *, value: float = 0
    ) -> tuple[int, int]:
        """The input of `node`, padded where neither VALID nor SAME will do, and which does."""
        x = self.tensors[node.inputs[0]]
        rows, columns = windows = self._windows(node, k, stride, padding)
        if not any(w.before or w.after for w in windows):
            return x, _PADDING.VALID
        if rows.is_same and columns.is_same:
            return x, _PADDING.SAME
        n, c, h, w = self.graph.shapes[node.inputs[0]]
        shape = (n, h + rows.before + rows.after, w + columns.before + columns.after, c)
        pads = [[0, 0], [rows.before, rows.after], [columns.before, columns.after], [0, 0]]
        inputs = [x, self._constant(node, "pads", np.array(pads, np.int32))]
        padded = self.model.tensor(f"{node.output}/padded", shape)
        if value:
            inputs.append(self._constant(node, "pad_value", np.array(value, np.float32)))
            self.model.operator(_OPERATOR.PADV2, inputs, padded, schema.PadV2OptionsT())
        else:
            self.model.operator(_OPERATOR.PAD, inputs, padded, schema.PadOptionsT())
        return padded, _PADDING.VALID

    def _max_pool(self, node: Node, k: int, stride: int, padding: int) -> None:
        lowest = 0.0 if self._is_never_negative(node.inputs[0]) else float(np.finfo(np.float32).min)
        x, same_or_valid = self._padded(node, k, stride, padding, value=lowest)
        options = _pool_options(k, stride, same_or_valid)
        self._write(_OPERATOR.MAX_POOL_2D, node, [x], options)

    def _is_never_negative(self, name: str) -> bool:
        producers = {node.output: node for node in self.graph.nodes}
        if name not in producers:
            return False
        match producers[name]:
            case Node(op=ir.Relu() | ir.Relu6() | ir.HardSigmoid()):
                return True
            case Node(op=ir.Add() | ir.Mul() | ir.MaxPool() | ir.AvgPool() | ir.GlobalAvgPool()):
                return all(map(self._is_never_negative, producers[name].inputs))
        return False

    def _average_pool(self, node: Node, k: int, stride: int) -> None:
        x, same_or_valid = self._padded(node, k, stride, 0)
        options = _pool_options(k, stride, same_or_valid)
        windows = self._windows(node, k, stride, 0)
        if same_or_valid == _PADDING.SAME or not any(w.after for w in windows):
            self._write(_OPERATOR.AVERAGE_POOL_2D, node, [x], options)
            return
        # The padding's zeros were counted: k over the elements seen, along each axis, undoes it.
        n, c, h, w = self.graph.shapes[node.output]
        rows, columns = np.ones(h, np.float32), np.ones(w, np.float32)
        rows[-1], columns[-1] = (k / (k - window.after) for window in windows)
        scale = self._constant(node, "scale", np.outer(rows, columns).reshape(1, h, w, 1))
        pooled = self.model.tensor(f"{node.output}/pooled", (n, h, w, c))
        self.model.operator(_OPERATOR.AVERAGE_POOL_2D, [x], pooled, options)
        self._write(_OPERATOR.MUL, node, [pooled, scale], schema.MulOptionsT())

    def _flatten(self, node: Node) -> None:
        x = self.tensors[node.inputs[0]]
        source, shape = self.graph.shapes[node.inputs[0]], self.graph.shapes[node.output]
        if self._order_matters(source):
            readers = self.readers[node.output]
            if readers and all(isinstance(reader.op, ir.Linear) for reader in readers):
                self.flattened[node.output] = source
            else:
                order = self._constant(node, "order", np.array([0, 3, 1, 2], np.int32))
                y = self.model.tensor(f"{node.output}/nchw", source)
                options = schema.TransposeOptionsT()
                x = self.model.operator(_OPERATOR.TRANSPOSE, [x, order], y, options)
        target = self._constant(node, "shape", np.array(shape, np.int32))
        options = schema.ReshapeOptionsT(newShape=np.array(shape, np.int32))
        self._write(_OPERATOR.RESHAPE, node, [x, target], options)

    @staticmethod
    def _order_matters(shape: Shape) -> bool:
        """Whether a tensor of this shape flattens differently as (N, H, W, C)."""
        return len(shape) == 4 and shape[1] > 1 and shape[2] * shape[3] > 1

    def _linear(self, node: Node, op: ir.Linear) -> None:
        weight = op.weight
        if source := self.flattened.get(node.inputs[0]):
            # Reordering the weights once saves a transpose at every inference.
            _, c, h, w = source
            weight = weight.reshape(-1, c, h, w).transpose(0, 2, 3, 1).reshape(weight.shape)
        inputs = [self.tensors[node.inputs[0]], *self._weights(node, weight, op.bias)]
        self._fusing(_OPERATOR.FULLY_CONNECTED, node, inputs, schema.FullyConnectedOptionsT())

    def _hard_sigmoid(self, node: Node) -> None:
        shape = _nhwc(self.graph.shapes[node.output])
        three = self._constant(node, "three", np.array(3, np.float32))
        sixth = self._constant(node, "sixth", np.array(1 / 6, np.float32))
        shifted = self.model.tensor(f"{node.output}/shifted", shape)
        options = schema.AddOptionsT(fusedActivationFunction=_FUSED.RELU6)
        self.model.operator(_OPERATOR.ADD, [self.tensors[node.inputs[0]], three], shifted, options)
        self._write(_OPERATOR.MUL, node, [shifted, sixth], schema.MulOptionsT())


def _pool_options(k: int, stride: int, padding: int) -> Options:
    return schema.Pool2DOptionsT(
        padding=padding, strideW=stride, strideH=stride, filterWidth=k, filterHeight=k
    )


def _nhwc(shape: Shape) -> Shape:
    return (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else shape
