"""Writes weights in float16."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ofa_hw.graph import ir
from ofa_hw.graph.ir import Node
from ofa_hw.lowering.tflite.base import OPERATOR
from ofa_hw.lowering.tflite.writer import Arrange, Writer

# XNNPACK reads it, and computes in half precision where the processor does; elsewhere in float32.
_PRECISION: Final = {"reduced_precision_support": "fp16accfp16"}
_LARGEST: Final = np.finfo(np.float16).max


class HalfWriter(Writer):
    """Keeps weights in half the bytes; a DEQUANTIZE of each, which runtimes do once, makes floats.

    Activations are float32 in the file: what they are computed in is for the runtime to choose.
    """

    def write(self, metadata: Mapping[str, str]) -> bytes:
        """The bytes of a .tflite file."""
        return super().write({**metadata, **_PRECISION})

    def _weights(
        self, node: Node, op: ir.Conv | ir.Linear, arrange: Arrange, axis: int
    ) -> list[int]:
        bias = np.zeros(op.weight.shape[0], np.float32) if op.bias is None else op.bias
        named = {"weight": arrange(op.weight), "bias": bias}
        found = []
        for name, values in named.items():
            halves = values.clip(-_LARGEST, _LARGEST).astype(np.float16)
            constant = self._constant(node, f"{name}/half", halves)
            floats = self.model.tensor(f"{node.output}/{name}", values.shape)
            options = schema.DequantizeOptionsT()
            found.append(
                self.model.operator(OPERATOR.DEQUANTIZE, [constant], floats, options, version=3)
            )
        return found
