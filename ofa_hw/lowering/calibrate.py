"""Calibration: the range of every tensor of a graph on images, observed in ONNX Runtime."""

from __future__ import annotations

import numpy as np

from ofa_hw.errors import ExportError
from ofa_hw.graph.ir import Array, Graph
from ofa_hw.lowering.form import Form
from ofa_hw.lowering.onnx.writer import Writer
from ofa_hw.lowering.quantise import QuantisedGraph, Ranges, quantise
from ofa_hw.lowering.sessions import OnnxSession

_RANDOM_IMAGES = 4


def calibrated(graph: Graph, images: Array) -> QuantisedGraph:
    """Quantises a network by what its tensors hold on images.

    Args:
        graph: The network.
        images: (N, C, H, W), as the network takes them; some hundred of those it is for. Noise
            (`random_images`) does where only the latency matters.

    Raises:
        ExportError: If the images do not fit, or a tensor is not finite on them.
    """
    return quantise(graph, observed_ranges(graph, images))


def observed_ranges(graph: Graph, images: Array) -> Ranges:
    """The smallest and the largest value of every tensor of a network.

    Args:
        graph: The network.
        images: (N, C, H, W), as the network takes them.

    Raises:
        ExportError: If there are no images, or of another shape, or a value is not finite.
    """
    shape = graph.input_shape[1:]
    if len(images) == 0 or images.shape[1:] != shape:
        raise ExportError(
            f"ranges are observed on images (N, {', '.join(map(str, shape))}), at least one; "
            f"got {images.shape}"
        )
    single = graph.with_batch(1)
    names = [node.output for node in single.nodes]
    session = OnnxSession(Writer(single, Form()).write({}, names), optimisation="basic")
    lows = {single.input: float(images.min())}
    highs = {single.input: float(images.max())}
    for i in range(len(images)):
        session.set_inputs([images[i : i + 1]])
        session.invoke()
        for name, values in zip(names, session.outputs(), strict=True):
            lows[name] = min(lows.get(name, np.inf), float(values.min()))
            highs[name] = max(highs.get(name, -np.inf), float(values.max()))
    for name in lows:
        if not (np.isfinite(lows[name]) and np.isfinite(highs[name])):
            raise ExportError(f"{name} is not finite on the calibration images")
    return {name: (lows[name], highs[name]) for name in lows}


def random_images(graph: Graph, *, rng: np.random.Generator) -> Array:
    """Normal noise in place of images: gives levels to measure a latency with, no accuracy."""
    images = rng.standard_normal((_RANDOM_IMAGES, *graph.input_shape[1:]), np.float32)
    return np.abs(images) if graph.never_negative else images
