"""Sessions of ONNX Runtime and TFLite: the one place that opens these runtimes.

A session takes a file of anybody's. Its inputs hold random numbers until `set_inputs` or `run`, so
that `invoke`, which is what is timed, always works.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ofa_hw.graph.ir import Array, Shape
from ofa_hw.lowering.onnx_session import CPU_PROVIDER, GPU_PROVIDERS, OPTIMISATIONS, OnnxSession
from ofa_hw.lowering.tensors import Tensor, TensorInfo, random_inputs
from ofa_hw.lowering.tflite_session import TfliteSession

__all__ = [
    "CPU_PROVIDER",
    "GPU_PROVIDERS",
    "OPTIMISATIONS",
    "OnnxSession",
    "Session",
    "Tensor",
    "TensorInfo",
    "TfliteSession",
    "random_inputs",
]


class Session(Protocol):
    """What the sessions have in common."""

    inputs: tuple[TensorInfo, ...]
    runtime: str
    runtime_version: str

    @property
    def input_shape(self) -> Shape:
        """Shape of the first input as `run` takes it, dynamic dimensions at 1."""
        ...

    def set_inputs(self, arrays: Sequence[Tensor]) -> None:
        """Sets the inputs of the next `invoke`, in the order of `inputs`."""
        ...

    def invoke(self) -> None:
        """Runs the model once on the inputs that are set."""
        ...

    def outputs(self) -> list[Tensor]:
        """Copies of what the last `invoke` gave."""
        ...

    def run(self, x: Tensor) -> Array:
        """The first output for the only input `x`, (N, C, H, W)."""
        ...
