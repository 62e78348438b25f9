"""Names of a graph's tensors in a written file."""

from __future__ import annotations

from ofa_hw.graph.ir import Graph
from ofa_hw.lowering.form import Form


def tensor_names(graph: Graph, form: Form) -> dict[str, str]:
    """The name in a file of every tensor: the form's names at the ends, its own between."""
    ends = (form.input_name, form.output_name)
    names = {name: f"{name}_" if name in ends else name for name in graph.shapes}
    names[graph.input], names[graph.output] = ends
    return names
