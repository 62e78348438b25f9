"""Quantisation to 8 bits: of the graph, not of a format, so that all formats carry one result.

Activations: 256 evenly spaced levels a tensor, over the range that it takes on calibration images.
Weights: 255 levels symmetric about 0, a scale for each output channel. Biases: 32 bits.
(https://arxiv.org/abs/1712.05877, https://arxiv.org/abs/1806.08342)
"""

from ofa_hw.lowering.quantise.graph import QuantisedGraph, Ranges, quantise
from ofa_hw.lowering.quantise.levels import Levels, QuantisedWeights, quantise_weights

__all__ = [
    "Levels",
    "QuantisedGraph",
    "QuantisedWeights",
    "Ranges",
    "quantise",
    "quantise_weights",
]
