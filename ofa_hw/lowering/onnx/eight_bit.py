"""Writes a quantised graph with QuantizeLinear and DequantizeLinear around every node.

That is the form of ONNX that carries scales and is exact about where integers begin; runtimes turn
each node between the two into one of integers. Activations are bytes, 0 to 255, with the scales of
`Levels` and zero points 128 higher: ONNX Runtime has kernels on every processor for bytes only.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ofa_hw.graph import ir
from ofa_hw.graph.ir import Array, Node
from ofa_hw.lowering.form import Form
from ofa_hw.lowering.onnx.writer import Writer, float_node
from ofa_hw.lowering.quantise import Levels, QuantisedGraph
from ofa_hw.lowering.quantise.levels import LOWEST

_BYTES: Final = np.uint8


class EightBitWriter(Writer):
    """Writes the tensors that have levels as bytes."""

    def __init__(self, network: QuantisedGraph, form: Form) -> None:
        super().__init__(network.graph, form, _BYTES)
        self.network = network
        self.entry = network.entry

    def end(self) -> None:
        """Takes the last DequantizeLinear for the output, or what it reads."""
        self.output_dtype = np.dtype(np.float32)
        if not self.form.float_output:
            self.output_dtype = self.dtype
            del self.nodes[-1]
        self.nodes[-1].output[0] = self.form.output_name

    def add(self, node: Node) -> None:
        """Adds a node and the levels of what it writes."""
        if node.output not in self.network.levels or node.output == self.entry:
            super().add(node)
            return
        inputs = [self.values[name] for name in node.inputs]
        match node.op:
            case ir.Conv() | ir.Linear():
                inputs += self._weights(node)
            case ir.Shift(offset=values) | ir.Scale(factor=values):
                levels = Levels.of_constant(values)
                name = f"{node.output}.value"
                shaped = self.constants_of(node)["value"]
                stored = (levels.quantised(shaped).astype(np.int16) - LOWEST).astype(_BYTES)
                self.constant(name, stored)
                inputs.append(self._real(name, levels))
            case ir.Relu6():
                inputs += [
                    self.constant(f"{node.output}.{k}", v)
                    for k, v in self.constants_of(node).items()
                ]
        raw = f"{self.names[node.output]}/raw"
        self.nodes.append(float_node(node, inputs, raw))
        self._quantise(node.output, raw)

    def _enter(self, name: str) -> None:
        if name != self.entry:
            return
        if self.form.float_input or self.form.uint8_input:
            self._quantise(name, self.values[name])
        else:
            self.values[name] = self._real(self.values[name], self.network.levels[name])

    def _quantise(self, name: str, raw: str) -> None:
        levels = self.network.levels[name]
        stored = f"{self.names[name]}/bytes"
        self.node("QuantizeLinear", [raw, *self._parameters(stored, levels)], stored)
        self.values[name] = self._real(stored, levels)

    def _real(self, stored: str, levels: Levels) -> str:
        inputs = [stored, *self._parameters(stored, levels)]
        return self.node("DequantizeLinear", inputs, f"{stored}/real")

    def _parameters(self, stored: str, levels: Levels) -> list[str]:
        return [
            self.constant(f"{stored}/scale", np.array(levels.scale, np.float32)),
            self.constant(f"{stored}/zero", np.array(levels.zero_point - LOWEST, _BYTES)),
        ]

    def _weights(self, node: Node) -> list[str]:
        weights = self.network.weights(node)
        return [
            self._per_channel(f"{node.output}.weight", weights.weight, weights.scales),
            self._per_channel(f"{node.output}.bias", weights.bias, weights.bias_scales),
        ]

    def _per_channel(self, name: str, integers: npt.NDArray[Any], scales: Array) -> str:
        inputs = [
            self.constant(name, integers),
            self.constant(f"{name}/scale", scales),
            self.constant(f"{name}/zero", np.zeros(len(scales), integers.dtype)),
        ]
        return self.node("DequantizeLinear", inputs, f"{name}/real", ("axis", 0))
