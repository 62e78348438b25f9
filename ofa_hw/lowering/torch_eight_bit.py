"""A quantised network in torch: weights are kept in 8 bits, and every tensor takes its levels.

Torch has 8-bit convolutions for some processors only, and a program that needs them runs on no
other. So weights are turned into floats where they are used, and what a node writes is rounded to
its levels: the numbers are those of the other formats, but for steps that are rounded otherwise.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import fx

from ofa_hw.graph import ir
from ofa_hw.graph.ir import Node
from ofa_hw.lowering.form import Form
from ofa_hw.lowering.quantise import Levels, QuantisedGraph
from ofa_hw.lowering.quantise.levels import HIGHEST, LOWEST
from ofa_hw.lowering.torch import Lowering


class EightBitLowering(Lowering):
    """Adds the nodes of a quantised graph to a module."""

    def __init__(self, network: QuantisedGraph, form: Form | None = None) -> None:
        super().__init__(network.graph, form)
        self.network = network

    def set(self, name: str, value: fx.Node) -> None:
        """Tells what computes a tensor, rounded to its levels if it has some."""
        levels = self.network.levels.get(name)
        self.values[name] = value if levels is None else self._rounded(value, levels)

    def add(self, node: Node) -> None:
        """Adds a node."""
        if node.output not in self.network.levels or node.output == self.network.entry:
            super().add(node)
            return
        match node.op:
            case ir.Conv() | ir.Linear():
                self.set(node.output, self._layer(node, node.op))
            case ir.Shift(offset=values):
                super().add(Node(node.output, ir.Shift(_on_levels(values)), node.inputs))
            case ir.Scale(factor=values):
                super().add(Node(node.output, ir.Scale(_on_levels(values)), node.inputs))
            case _:
                super().add(node)

    def _layer(self, node: Node, op: ir.Conv | ir.Linear) -> fx.Node:
        stored, x = self.network.weights(node), self.values[node.inputs[0]]
        inner = (1,) * (op.weight.ndim - 1)
        integers = self.constant(f"{node.output}_weight", torch.tensor(stored.weight))
        scales = torch.tensor(stored.scales).reshape(-1, *inner)
        scale = self.constant(f"{node.output}_scale", scales)
        real = (stored.bias * stored.bias_scales.astype(np.float64)).astype(np.float32)
        bias = self.constant(f"{node.output}_bias", torch.tensor(real))
        weight = self.code.call_function(torch.mul, (integers, scale))
        return self.function(op, x, weight, bias)

    def _rounded(self, value: fx.Node, levels: Levels) -> fx.Node:
        """The nearest levels."""
        first, last = (float(end - levels.zero_point) for end in (LOWEST, HIGHEST))
        steps = self.code.call_function(torch.div, (value, levels.scale))
        steps = self.code.call_function(torch.round, (steps,))
        steps = self.code.call_function(torch.clamp, (steps, first, last))
        return self.code.call_function(torch.mul, (steps, levels.scale))


def _on_levels(values: ir.Array) -> ir.Array:
    levels = Levels.of_constant(values)
    return levels.real(levels.quantised(values))
