"""What writing an operator rests on: the model, its tensors, its ends and its constants."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from ofa_hw.graph import ir
from ofa_hw.graph.ir import Graph, Node, Shape
from ofa_hw.lowering.form import Form
from ofa_hw.lowering.names import tensor_names
from ofa_hw.lowering.tflite.flatbuffer import Options, Quantisation, TfliteModel

OPERATOR: Final = schema.BuiltinOperator
_FUSED = schema.ActivationFunctionType
_BYTES: Final = Quantisation(np.ones(1, np.float32))  # the byte q stands for the number q
Values: TypeAlias = npt.NDArray[Any]


class BaseWriter(ABC):
    """A model that the nodes of a graph are added to, in their order.

    Attributes:
        graph: The network.
        form: How the file takes images and gives scores.
        model: What was written so far.
        names: The name in the file of every tensor.
        tensors: The index in the file of every tensor that was written.
        readers: The nodes that read each tensor.
    """

    def __init__(self, graph: Graph, form: Form) -> None:
        self.graph = graph
        self.form = form
        self.model = TfliteModel()
        self.names = tensor_names(graph, form)
        self.tensors: dict[str, int] = {}
        self.readers: dict[str, list[Node]] = {name: [] for name in graph.shapes}
        for node in graph.nodes:
            for name in node.inputs:
                self.readers[name].append(node)

    def write(self, metadata: Mapping[str, str]) -> bytes:
        """The bytes of a .tflite file."""
        image = self.begin()
        for node in self.graph.nodes:
            if node.output not in self.tensors:  # else it is fused into the one before it
                self.add(node)
        return self.model.serialise(
            input=image,
            output=self.end(),
            names=(self.form.input_name, self.form.output_name),
            metadata=metadata,
        )

    def begin(self) -> int:
        """Adds the input, and gives its tensor."""
        source, form = self.graph.input, self.form
        shape = nhwc(self.graph.input_shape)
        name = self.names[source]
        if not form.uint8_input:
            image = self.model.tensor(name, shape, dynamic_batch=form.dynamic_batch)
            self.tensors[source] = image
            return image
        image = self.model.tensor(
            name, shape, dtype=np.uint8, quantisation=_BYTES, dynamic_batch=form.dynamic_batch
        )
        floats = self.model.tensor(f"{name}/float", shape)
        self.tensors[source] = self.operator(
            OPERATOR.DEQUANTIZE, [image], floats, schema.DequantizeOptionsT()
        )
        return image

    def end(self) -> int:
        """The tensor of the output."""
        return self.tensors[self.graph.output]

    @abstractmethod
    def add(self, node: Node) -> None:
        """Adds the operators of a node."""

    def operator(
        self, builtin: int, inputs: list[int], output: int, options: Options = None
    ) -> int:
        """Adds an operator; gives `output`."""
        return self.model.operator(builtin, inputs, output, options)

    def _tensor(self, name: str, shape: Shape, *, like: str) -> int:
        """A tensor of this name and shape (N, H, W, C) that holds what `like` holds."""
        return self.model.tensor(name, shape)

    def _write(self, builtin: int, node: Node, inputs: list[int], options: Options = None) -> None:
        shape = nhwc(self.graph.shapes[node.output])
        output = self._tensor(self.names[node.output], shape, like=node.output)
        self.tensors[node.output] = self.operator(builtin, inputs, output, options)

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

    def _constant(self, node: Node, suffix: str, values: Values) -> int:
        return self.model.constant(f"{node.output}/{suffix}", values)

    def _operand(self, node: Node, suffix: str, values: Values) -> int:
        """A constant in the data type of the activations."""
        return self._constant(node, suffix, values)


def nhwc(shape: Shape) -> Shape:
    """The shape of a tensor in the order of TFLite."""
    return (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else shape
