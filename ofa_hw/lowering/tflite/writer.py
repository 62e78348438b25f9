"""Writes the operators of a graph in float32; half and 8-bit precision are variations of it.

Tensors of four dimensions are (N, H, W, C) here. Torch pads alike on all sides; TFLite's SAME pads
the end first, so SAME is written where the two agree and an explicit PAD with VALID elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ofa_hw.graph import ir
from ofa_hw.graph.ir import Graph, Node, Shape
from ofa_hw.lowering.form import Form
from ofa_hw.lowering.tflite.base import OPERATOR, BaseWriter, Values, nhwc
from ofa_hw.lowering.tflite.flatbuffer import Options
from ofa_hw.lowering.tflite.windows import windows_of

PADDING: Final = schema.Padding
_FUSED = schema.ActivationFunctionType
Arrange: TypeAlias = Callable[[Values], Values]


class Writer(BaseWriter):
    """Adds the operators of a graph to a model, in float32."""

    def __init__(self, graph: Graph, form: Form) -> None:
        super().__init__(graph, form)
        self.flattened: dict[str, Shape] = {}  # what is in the order of (N, H, W, C), its source

    def add(self, node: Node) -> None:
        """Adds the operators of a node."""
        inputs = [self.tensors[name] for name in node.inputs]
        match node.op:
            case ir.Conv():
                self._convolution(node, node.op)
            case ir.Linear():
                self._linear(node, node.op)
            case ir.MaxPool(kernel_size=k, stride=stride, padding=padding):
                x, same_or_valid = self._padded(node, k, stride, padding, lowest=True)
                options = pool_options(k, stride, same_or_valid)
                self._write(OPERATOR.MAX_POOL_2D, node, [x], options)
            case ir.AvgPool(kernel_size=k, stride=stride):
                self._average_pool(node, k, stride)
            case ir.GlobalAvgPool():
                axes = self._constant(node, "axes", np.array([1, 2], np.int32))
                options = schema.ReducerOptionsT(keepDims=True)
                self._write(OPERATOR.MEAN, node, [*inputs, axes], options)
            case ir.Flatten():
                self._flatten(node)
            case ir.Add():
                self._fusing(OPERATOR.ADD, node, inputs, schema.AddOptionsT())
            case ir.Mul():
                self._write(OPERATOR.MUL, node, inputs, schema.MulOptionsT())
            case ir.Shift(offset=values):
                inputs.append(self._operand(node, "offset", values))
                self._fusing(OPERATOR.ADD, node, inputs, schema.AddOptionsT())
            case ir.Scale(factor=values):
                inputs.append(self._operand(node, "factor", values))
                self._write(OPERATOR.MUL, node, inputs, schema.MulOptionsT())
            case ir.Relu():
                self._write(OPERATOR.RELU, node, inputs)
            case ir.Relu6():
                self._write(OPERATOR.RELU6, node, inputs)
            case ir.HardSigmoid():
                self._hard_sigmoid(node)
            case ir.HardSwish():
                self._write(OPERATOR.HARD_SWISH, node, inputs, schema.HardSwishOptionsT())

    def _weights(
        self, node: Node, op: ir.Conv | ir.Linear, arrange: Arrange, axis: int
    ) -> list[int]:
        """Weight and bias; `arrange` lays the weight out, its output channels along `axis`."""
        # A missing bias is written as zeros: delegates of older runtimes insist on one.
        bias = np.zeros(op.weight.shape[0], np.float32) if op.bias is None else op.bias
        weight = arrange(op.weight)
        return [self._constant(node, "weight", weight), self._constant(node, "bias", bias)]

    def _convolution(self, node: Node, op: ir.Conv) -> None:
        out, cin, k, _ = op.weight.shape
        x, padding = self._padded(node, k, op.stride, op.padding)
        shared = {"padding": padding, "strideW": op.stride, "strideH": op.stride}
        if op.groups > 1 and cin == 1:
            weights = self._weights(node, op, lambda w: w.transpose(1, 2, 3, 0), 3)
            options = schema.DepthwiseConv2DOptionsT(depthMultiplier=out // op.groups, **shared)
            self._fusing(OPERATOR.DEPTHWISE_CONV_2D, node, [x, *weights], options)
        else:
            weights = self._weights(node, op, lambda w: w.transpose(0, 2, 3, 1), 0)
            self._fusing(OPERATOR.CONV_2D, node, [x, *weights], schema.Conv2DOptionsT(**shared))

    def _padded(
        self, node: Node, k: int, stride: int, padding: int, *, lowest: bool = False
    ) -> tuple[int, int]:
        """The input of `node`, padded where neither VALID nor SAME will do, and which does.

        Args:
            node: A convolution or a pool.
            k: Its kernel size.
            stride: Its stride.
            padding: Its padding.
            lowest: Whether to pad by the lowest number there is; else by 0.
        """
        source = node.inputs[0]
        x = self.tensors[source]
        rows, columns = windows = windows_of(self.graph, node, k, stride, padding)
        if not any(w.before or w.after for w in windows):
            return x, PADDING.VALID
        if rows.is_same and columns.is_same:
            return x, PADDING.SAME
        n, c, h, w = self.graph.shapes[source]
        shape = (n, h + rows.before + rows.after, w + columns.before + columns.after, c)
        pads = [[0, 0], [rows.before, rows.after], [columns.before, columns.after], [0, 0]]
        inputs = [x, self._constant(node, "pads", np.array(pads, np.int32))]
        padded = self._tensor(f"{node.output}/padded", shape, like=source)
        if lowest and not self._is_never_negative(source):
            inputs.append(self._lowest(node))
            self.operator(OPERATOR.PADV2, inputs, padded, schema.PadV2OptionsT())
        else:
            self.operator(OPERATOR.PAD, inputs, padded, schema.PadOptionsT())
        return padded, PADDING.VALID

    def _lowest(self, node: Node) -> int:
        return self._constant(node, "lowest", np.array(np.finfo(np.float32).min, np.float32))

    def _is_never_negative(self, name: str) -> bool:
        producers = {node.output: node for node in self.graph.nodes}
        if name not in producers:
            return self.graph.never_negative
        match producers[name]:
            case Node(op=ir.Relu() | ir.Relu6() | ir.HardSigmoid()):
                return True
            case Node(op=ir.Add() | ir.Mul() | ir.MaxPool() | ir.AvgPool() | ir.GlobalAvgPool()):
                return all(map(self._is_never_negative, producers[name].inputs))
        return False

    def _average_pool(self, node: Node, k: int, stride: int) -> None:
        x, same_or_valid = self._padded(node, k, stride, 0)
        options = pool_options(k, stride, same_or_valid)
        if same_or_valid == PADDING.SAME or not self._cut_off(node, k, stride):
            self._write(OPERATOR.AVERAGE_POOL_2D, node, [x], options)
            return
        shape = nhwc(self.graph.shapes[node.output])
        pooled = self._tensor(f"{node.output}/pooled", shape, like=node.output)
        self.operator(OPERATOR.AVERAGE_POOL_2D, [x], pooled, options)
        self._undo_zeros(node, pooled, k, stride)

    def _cut_off(self, node: Node, k: int, stride: int) -> bool:
        return any(window.after for window in windows_of(self.graph, node, k, stride, 0))

    def _undo_zeros(self, node: Node, pooled: int, k: int, stride: int) -> None:
        """Undoes that the zeros of the padding were averaged, too, by k over what was seen."""
        h, w = self.graph.shapes[node.output][2:]
        rows, columns = np.ones(h, np.float32), np.ones(w, np.float32)
        windows = windows_of(self.graph, node, k, stride, 0)
        rows[-1], columns[-1] = (k / (k - window.after) for window in windows)
        scale = self._operand(node, "scale", np.outer(rows, columns).reshape(1, h, w, 1))
        self._write(OPERATOR.MUL, node, [pooled, scale], schema.MulOptionsT())

    def _flatten(self, node: Node) -> None:
        x = self.tensors[node.inputs[0]]
        source = self.graph.shapes[node.inputs[0]]
        if _order_matters(source):
            readers = self.readers[node.output]
            if readers and all(isinstance(reader.op, ir.Linear) for reader in readers):
                self.flattened[node.output] = source
            else:
                order = self._constant(node, "order", np.array([0, 3, 1, 2], np.int32))
                y = self._tensor(f"{node.output}/nchw", source, like=node.inputs[0])
                x = self.operator(OPERATOR.TRANSPOSE, [x, order], y, schema.TransposeOptionsT())
        self.reshape(node, x)

    def reshape(self, node: Node, x: int) -> None:
        """Writes what `node` does to `x`, which already has its elements in their order."""
        shape = np.array(self.graph.shapes[node.output], np.int32)
        if self.form.dynamic_batch:
            shape[0] = -1
        target = self._constant(node, "shape", shape)
        self._write(OPERATOR.RESHAPE, node, [x, target], schema.ReshapeOptionsT(newShape=shape))

    def _linear(self, node: Node, op: ir.Linear) -> None:
        weights = self._weights(node, op, lambda w: self._reordered(node, w), 0)
        inputs = [self.tensors[node.inputs[0]], *weights]
        self._fusing(OPERATOR.FULLY_CONNECTED, node, inputs, schema.FullyConnectedOptionsT())

    def _reordered(self, node: Node, weight: Values) -> Values:
        """A linear layer's weight for an input that was flattened as (H, W, C).

        Reordering the weights once saves a transpose at every inference.
        """
        if not (source := self.flattened.get(node.inputs[0])):
            return weight
        _, c, h, w = source
        return weight.reshape(-1, c, h, w).transpose(0, 2, 3, 1).reshape(weight.shape)

    def _hard_sigmoid(self, node: Node) -> None:
        shape = nhwc(self.graph.shapes[node.output])
        three = self._constant(node, "three", np.array(3, np.float32))
        sixth = self._constant(node, "sixth", np.array(1 / 6, np.float32))
        shifted = self._tensor(f"{node.output}/shifted", shape, like=node.output)
        options = schema.AddOptionsT(fusedActivationFunction=_FUSED.RELU6)
        self.operator(OPERATOR.ADD, [self.tensors[node.inputs[0]], three], shifted, options)
        self._write(OPERATOR.MUL, node, [shifted, sixth], schema.MulOptionsT())


def pool_options(k: int, stride: int, padding: int) -> Options:
    """Options of a pool with a square window."""
    return schema.Pool2DOptionsT(
        padding=padding, strideW=stride, strideH=stride, filterWidth=k, filterHeight=k
    )


def _order_matters(shape: Shape) -> bool:
    """Whether a tensor of this shape flattens differently as (N, H, W, C)."""
    return len(shape) == 4 and shape[1] > 1 and shape[2] * shape[3] > 1
