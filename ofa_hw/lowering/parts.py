"""Parts of a network as they are measured: written by the lowerings that export uses.

In 8 bits the levels come from noise: a latency does not depend on them, and a part has no images.
"""

from __future__ import annotations

import numpy as np

from ofa_hw.graph.ir import Graph
from ofa_hw.lowering.calibrate import calibrated, random_images
from ofa_hw.lowering.form import Form
from ofa_hw.lowering.quantise import QuantisedGraph


def part_to_onnx(graph: Graph, dtype: str) -> bytes:
    """An .onnx file of an operator or a whole network, to be measured.

    Args:
        graph: The part.
        dtype: `fp32`, `fp16` or `int8`. Where it meets other parts, its tensors are of this type.
    """
    from ofa_hw.lowering.onnx import to_onnx

    return to_onnx(_network(graph, dtype), dtype=dtype, form=Form.of_part(graph))


def part_to_tflite(graph: Graph, dtype: str) -> bytes:
    """A .tflite file of an operator or a whole network, to be measured.

    Args:
        graph: The part.
        dtype: `fp32`, `fp16` or `int8`. Where it meets other parts, its tensors are of this type;
            in `fp16`, TFLite keeps tensors in float32 and weights in half the bytes.
    """
    from ofa_hw.lowering.tflite import to_tflite

    return to_tflite(_network(graph, dtype), dtype=dtype, form=Form.of_part(graph))


def _network(graph: Graph, dtype: str) -> Graph | QuantisedGraph:
    if dtype != "int8":
        return graph
    # None is negative, as after an activation: a pool then pads with zeros as in its network.
    noise = np.abs(random_images(graph, rng=np.random.default_rng(0)))
    return calibrated(graph, noise)
