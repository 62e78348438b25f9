"""Names of a graph's tensors in a written file."""

from __future__ import annotations

from ofa_hw.graph.ir import Graph


def tensor_names(graph: Graph) -> dict[str, str]:
    """The name in a file of every tensor: `input` and `output` at the ends, its own between."""
    names = {name: name for name in graph.shapes}
    for taken in ("input", "output"):
        if taken in names:
            names[taken] = f"{taken}_"
    names[graph.input] = "input"
    names[graph.output] = "output"
    return names
