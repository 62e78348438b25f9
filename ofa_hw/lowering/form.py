"""Form: how a file takes images and gives scores. The network in it is the same in all forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ofa_hw.errors import ExportError
from ofa_hw.graph.ir import Graph, Scale, Shift

DTYPES: Final = ("fp32", "fp16", "int8")
_IMAGE_CHANNELS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a file takes images and gives scores.

    Attributes:
        uint8_input: Images come as bytes, 0 to 255; the graph begins with what normalises them.
        float_input: Else they come as float32, whatever the network computes in; if this is false,
            in the network's own data type.
        float_output: Scores are given as float32; if this is false, in the network's data type.
        dynamic_batch: Any number of images at once.
        input_name: Of the input.
        output_name: Of the output.
    """

    uint8_input: bool = False
    float_input: bool = True
    float_output: bool = True
    dynamic_batch: bool = False
    input_name: str = "input"
    output_name: str = "output"

    def __post_init__(self) -> None:
        if not (self.input_name and self.output_name) or self.input_name == self.output_name:
            raise ExportError(
                "input and output need names, two different ones; got "
                f"{self.input_name!r} and {self.output_name!r}"
            )

    @classmethod
    def of_part(cls, graph: Graph) -> Form:
        """The form of a part of a network, as it is measured by itself.

        Tensors between parts stay in the network's data type. Its ends are known by their shape:
        images have at most four channels, scores have no height and width.
        """
        return cls(
            float_input=graph.input_shape[1] <= _IMAGE_CHANNELS,
            float_output=len(graph.output_shape) == 2,
        )


def entry_of(graph: Graph) -> str:
    """What the network proper reads: its input, or what the nodes that normalise it write.

    What comes before stays in float32, whatever the network computes in.
    """
    entry = graph.input
    for node in graph.nodes:
        if not (isinstance(node.op, Shift | Scale) and node.inputs == (entry,)):
            break
        entry = node.output
    return entry
