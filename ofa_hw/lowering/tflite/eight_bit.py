"""Writes operators of 8-bit integers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ofa_hw.graph import ir
from ofa_hw.graph.ir import Node, Shape
from ofa_hw.lowering.form import Form
from ofa_hw.lowering.quantise import Levels, QuantisedGraph
from ofa_hw.lowering.quantise.levels import LOWEST
from ofa_hw.lowering.tflite.base import OPERATOR, Values, nhwc
from ofa_hw.lowering.tflite.flatbuffer import Options, Quantisation
from ofa_hw.lowering.tflite.writer import PADDING, Arrange, Writer

# The version of each operator that first took these integers.
_VERSIONS: Final[Mapping[int, int]] = {
    OPERATOR.ADD: 2,
    OPERATOR.CONV_2D: 3,
    OPERATOR.DEPTHWISE_CONV_2D: 3,
    OPERATOR.DEQUANTIZE: 2,
    OPERATOR.MAX_POOL_2D: 2,
    OPERATOR.MEAN: 2,
    OPERATOR.MUL: 2,
    OPERATOR.PAD: 2,
    OPERATOR.PADV2: 2,
    OPERATOR.TRANSPOSE: 2,
}


class EightBitWriter(Writer):
    """Writes the tensors that have levels as int8.

    XNNPACK takes neither RELU nor AVERAGE_POOL_2D of integers, nor does every version of TFLite
    know a scale a channel in FULLY_CONNECTED: they are written as QUANTIZE, DEPTHWISE_CONV_2D and
    CONV_2D, which compute the same.
    """

    def __init__(self, network: QuantisedGraph, form: Form) -> None:
        super().__init__(network.graph, form)
        self.network = network
        self.images: dict[str, int] = {}  # flat tensors as (N, 1, 1, C)

    def begin(self) -> int:
        """Adds the input, and gives its tensor."""
        source = self.graph.input
        if self.form.float_input or self.form.uint8_input or source != self.network.entry:
            image = super().begin()
            self._enter(source)
            return image
        self.tensors[source] = self.model.tensor(
            self.names[source],
            nhwc(self.graph.input_shape),
            dtype=np.int8,
            quantisation=_quantisation(self.network.levels[source]),
            dynamic_batch=self.form.dynamic_batch,
        )
        return self.tensors[source]

    def end(self) -> int:
        """The tensor of the output."""
        output = self.graph.output
        if not self.form.float_output:
            return self.tensors[output]
        floats = self.model.tensor(self.form.output_name, nhwc(self.graph.output_shape))
        options = schema.DequantizeOptionsT()
        return self.operator(OPERATOR.DEQUANTIZE, [self.tensors[output]], floats, options)

    def add(self, node: Node) -> None:
        """Adds the operators of a node."""
        if isinstance(node.op, ir.Relu | ir.Relu6):  # the levels of what it writes saturate
            x = [self.tensors[node.inputs[0]]]
            self._write(OPERATOR.QUANTIZE, node, x, schema.QuantizeOptionsT())
        else:
            super().add(node)
        self._enter(node.output)

    def operator(
        self, builtin: int, inputs: list[int], output: int, options: Options = None
    ) -> int:
        """Adds an operator; gives `output`."""
        version = _VERSIONS.get(builtin, 1)
        return self.model.operator(builtin, inputs, output, options, version=version)

    def _enter(self, name: str) -> None:
        """Turns the tensor where 8 bits begin into integers."""
        if name != self.network.entry:
            return
        shape = nhwc(self.graph.shapes[name])
        quantisation = _quantisation(self.network.levels[name])
        integers = self.model.tensor(
            f"{self.names[name]}/int8", shape, dtype=np.int8, quantisation=quantisation
        )
        self.tensors[name] = self.operator(
            OPERATOR.QUANTIZE, [self.tensors[name]], integers, schema.QuantizeOptionsT()
        )

    def _tensor(self, name: str, shape: Shape, *, like: str) -> int:
        is_before_entry = self.network.entry not in self.tensors
        if is_before_entry:
            return super()._tensor(name, shape, like=like)
        if name == self.form.output_name and self.form.float_output:
            name = f"{name}/int8"
        quantisation = _quantisation(self.network.levels[like])
        return self.model.tensor(name, shape, dtype=np.int8, quantisation=quantisation)

    def _operand(self, node: Node, suffix: str, values: Values) -> int:
        if self.network.entry not in self.tensors:
            return super()._operand(node, suffix, values)
        return self._eight_bits(node, suffix, values, Levels.of_constant(values))

    def _lowest(self, node: Node) -> int:
        levels = self.network.levels[node.inputs[0]]
        return self._eight_bits(node, "lowest", np.array(levels.low), levels)

    def _eight_bits(self, node: Node, suffix: str, values: Values, levels: Levels) -> int:
        name = f"{node.output}/{suffix}"
        return self.model.constant(name, levels.quantised(values), _quantisation(levels))

    def _is_never_negative(self, name: str) -> bool:
        return self.network.levels[name].zero_point == LOWEST

    def _weights(
        self, node: Node, op: ir.Conv | ir.Linear, arrange: Arrange, axis: int
    ) -> list[int]:
        weights = self.network.weights(Node(node.output, op, node.inputs))
        return [
            self.model.constant(
                f"{node.output}/weight",
                arrange(weights.weight),
                Quantisation(weights.scales, axis=axis),
            ),
            self.model.constant(
                f"{node.output}/bias", weights.bias, Quantisation(weights.bias_scales)
            ),
        ]

    def _average_pool(self, node: Node, k: int, stride: int) -> None:
        """A depthwise convolution whose weights are all 1 / k**2."""
        channels = self.graph.shapes[node.output][1]
        weight = np.full((channels, 1, k, k), 1 / k**2, np.float32)
        x, padding = self._padded(node, k, stride, 0)
        shared = {"padding": padding, "strideW": stride, "strideH": stride}
        weights = self._weights(node, ir.Conv(weight), lambda w: w.transpose(1, 2, 3, 0), 3)
        options = schema.DepthwiseConv2DOptionsT(depthMultiplier=1, **shared)
        if not self._cut_off(node, k, stride):
            self._write(OPERATOR.DEPTHWISE_CONV_2D, node, [x, *weights], options)
            return
        shape = nhwc(self.graph.shapes[node.output])
        pooled = self._tensor(f"{node.output}/pooled", shape, like=node.output)
        self.operator(OPERATOR.DEPTHWISE_CONV_2D, [x, *weights], pooled, options)
        self._undo_zeros(node, pooled, k, stride)

    def _flatten(self, node: Node) -> None:
        source = self.graph.shapes[node.inputs[0]]
        readers = self.readers[node.output]
        if source[2:] == (1, 1) and readers and all(isinstance(r.op, ir.Linear) for r in readers):
            self.images[node.output] = self.tensors[node.output] = self.tensors[node.inputs[0]]
        else:
            super()._flatten(node)

    def _linear(self, node: Node, op: ir.Linear) -> None:
        n, features = self.graph.shapes[node.inputs[0]]
        if (x := self.images.get(node.inputs[0])) is None:
            x = self._reshaped(node, "image", (n, 1, 1, features), node.inputs[0])
        weights = self._weights(
            node, op, lambda w: self._reordered(node, w).reshape(-1, 1, 1, features), 0
        )
        options = schema.Conv2DOptionsT(padding=PADDING.VALID, strideW=1, strideH=1)
        shape = (n, 1, 1, op.weight.shape[0])
        scores = self._tensor(f"{node.output}/image", shape, like=node.output)
        self.operator(OPERATOR.CONV_2D, [x, *weights], scores, options)
        self.reshape(node, scores)

    def _reshaped(self, node: Node, suffix: str, shape: Shape, source: str) -> int:
        target = np.array(shape, np.int32)
        if self.form.dynamic_batch:
            target[0] = -1
        inputs = [self.tensors[source], self._constant(node, f"{suffix}/shape", target)]
        output = self._tensor(f"{node.output}/{suffix}/in", shape, like=source)
        options = schema.ReshapeOptionsT(newShape=target)
        return self.operator(OPERATOR.RESHAPE, inputs, output, options)


def _quantisation(levels: Levels) -> Quantisation:
    return Quantisation(np.array([levels.scale], np.float32), levels.zero_point)
