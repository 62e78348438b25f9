"""Widens levels where kernels could not compute from one tensor's to another's.

XNNPACK takes a node only if what its integers are multiplied by lies within bounds. Beyond them
there is nothing to lose: a tensor whose range is a thousandth of what it is added to, or that is
next to zero on all calibration images, has no use for finer levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace
from typing import Final

import numpy as np

from ofa_hw.graph.ir import (
    Add,
    Conv,
    Flatten,
    GlobalAvgPool,
    Graph,
    Linear,
    MaxPool,
    Mul,
    Node,
    Relu,
    Relu6,
    Scale,
    Shift,
)
from ofa_hw.lowering.quantise.levels import HIGHEST, Levels

_LARGEST_FACTOR: Final = 64.0  # of all kernels' limits the lowest, 128, with room to round
_SMALLEST_ADDED: Final = 1.001 * 2.0**-10
_SMALLEST_PRODUCT: Final = 1.001 * 2.0**-16
_SMALLEST_CONVERTED: Final = 1.001 * 2.0**-8
_CLIPPED: Final = 6 / 255


def within_kernels(
    graph: Graph, levels: Mapping[str, Levels], clipped: Set[str]
) -> dict[str, Levels]:
    """The levels, scaled up where a kernel needs it.

    Args:
        graph: The network.
        levels: Of its tensors.
        clipped: Tensors that saturate at 6 at the latest, because relu6 is left to that.
    """
    found = dict(levels)
    inner = [n for n in graph.nodes if all(name in found for name in (*n.inputs, n.output))]
    for node in inner:
        least = _incoming(node, found) / _LARGEST_FACTOR
        if node.output in clipped:
            least = min(least, _CLIPPED)
        found[node.output] = _at_least(found[node.output], least)
    for node in reversed(inner):
        least = _needed(node, found)
        for name in node.inputs[:1] if isinstance(node.op, Mul) else node.inputs:
            if name not in clipped:
                found[name] = _at_least(found[name], least)
    for node in inner:
        if isinstance(node.op, MaxPool | Flatten):
            found[node.output] = found[node.inputs[0]]
    return found


def _incoming(node: Node, levels: Mapping[str, Levels]) -> float:
    """What one step of the sum that a kernel keeps stands for."""
    scales = [levels[name].scale for name in node.inputs]
    match node.op:
        case Conv(weight=weight) | Linear(weight=weight):
            return scales[0] * float(np.abs(weight).max(initial=0)) / HIGHEST
        case Mul():
            return scales[0] * scales[1]
        case Scale(factor=factor):
            return scales[0] * Levels.of_constant(factor).scale
        case Add():
            return max(scales)
        case Shift(offset=offset):
            return max(scales[0], Levels.of_constant(offset).scale)
        case MaxPool() | Flatten():
            return scales[0] * _LARGEST_FACTOR  # they have the levels of what they read
    return scales[0]


def _needed(node: Node, levels: Mapping[str, Levels]) -> float:
    """The smallest scale of what a node reads; of a product, of its first factor."""
    scale = levels[node.output].scale
    match node.op:
        case Add() | Shift():
            return scale * _SMALLEST_ADDED
        case Mul():
            return scale * _SMALLEST_PRODUCT / levels[node.inputs[1]].scale
        case Scale(factor=factor):
            return scale * _SMALLEST_PRODUCT / Levels.of_constant(factor).scale
        case GlobalAvgPool() | Relu() | Relu6():
            return scale * _SMALLEST_CONVERTED
        case MaxPool() | Flatten():
            return scale
    return 0.0  # weights have scales of their own


def _at_least(levels: Levels, scale: float) -> Levels:
    """The levels with this scale if theirs is smaller; 0 keeps its place among them."""
    if levels.scale >= scale:
        return levels
    return replace(levels, scale=float(np.nextafter(np.float32(scale), np.float32(np.inf))))
