"""Graph to an ONNX model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from ofa_hw.graph.ir import Graph
from ofa_hw.lowering.form import Form
from ofa_hw.lowering.onnx.eight_bit import EightBitWriter
from ofa_hw.lowering.onnx.writer import Writer
from ofa_hw.lowering.quantise import QuantisedGraph

_FLOATS: Final = {"fp32": np.float32, "fp16": np.float16}


def to_onnx(
    network: Graph | QuantisedGraph,
    *,
    dtype: str = "fp32",
    form: Form | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Writes a network as an ONNX model, (N, C, H, W).

    Args:
        network: The network; a quantised one is written in 8 bits.
        dtype: Of a network that is not quantised, `fp32` or `fp16`.
        form: How it takes images and gives scores.
        metadata: Entries of the model's `metadata_props`.

    Returns:
        The bytes of an .onnx file.
    """
    form = form or Form()
    if isinstance(network, QuantisedGraph):
        return EightBitWriter(network, form).write(metadata or {})
    return Writer(network, form, _FLOATS[dtype]).write(metadata or {})
