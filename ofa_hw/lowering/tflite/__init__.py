"""Graph to a .tflite file, without TensorFlow and without a converter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ofa_hw.graph.ir import Graph
from ofa_hw.lowering.form import Form
from ofa_hw.lowering.quantise import QuantisedGraph
from ofa_hw.lowering.tflite.eight_bit import EightBitWriter
from ofa_hw.lowering.tflite.half import HalfWriter
from ofa_hw.lowering.tflite.writer import Writer

_FLOATS: Final = {"fp32": Writer, "fp16": HalfWriter}


def to_tflite(
    network: Graph | QuantisedGraph,
    *,
    dtype: str = "fp32",
    form: Form | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Writes a network as a TFLite model, (N, H, W, C), with the signature `serving_default`.

    A relu or relu6 that alone reads a convolution, linear layer or addition becomes part of it.

    Args:
        network: The network; a quantised one is written in 8 bits.
        dtype: Of the weights of a network that is not quantised, `fp32` or `fp16`.
        form: How it takes images and gives scores.
        metadata: Entries of the model's `metadata`.

    Returns:
        The bytes of a .tflite file.
    """
    form = form or Form()
    if isinstance(network, QuantisedGraph):
        return EightBitWriter(network, form).write(metadata or {})
    return _FLOATS[dtype](network, form).write(metadata or {})
