"""How a pool or a convolution pads, and whether TFLite's SAME pads so."""

from __future__ import annotations

from dataclasses import dataclass

from ofa_hw.graph.ir import Graph, Node


@dataclass(frozen=True, slots=True)
class Window:
    """What a pool or a convolution pads one axis by.

    Attributes:
        before: Padding in front.
        after: Padding behind, as far as a window reaches it.
        is_same: Whether SAME gives the same windows.
    """

    before: int
    after: int
    is_same: bool

    @classmethod
    def of(cls, size: int, out: int, kernel: int, stride: int, padding: int) -> Window:
        """Along an axis of `size` that becomes `out`."""
        reach = (out - 1) * stride + kernel
        same = out == -(-size // stride) and padding == max(0, reach - size) // 2
        return cls(padding, max(0, reach - size - padding), same)


def windows_of(graph: Graph, node: Node, k: int, stride: int, padding: int) -> list[Window]:
    """The windows of a node along H and W."""
    sizes, outs = graph.shapes[node.inputs[0]][2:], graph.shapes[node.output][2:]
    return [Window.of(size, out, k, stride, padding) for size, out in zip(sizes, outs, strict=True)]
