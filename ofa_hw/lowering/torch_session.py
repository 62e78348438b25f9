"""A program of `torch.export` (.pt2): written from a graph, and run by torch."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from ofa_hw.errors import ProfilerError
from ofa_hw.graph.ir import Array, Graph, Shape
from ofa_hw.lowering.tensors import (
    Tensor,
    TensorInfo,
    model_name,
    random_inputs,
    require_accepted,
)
from ofa_hw.lowering.torch import to_torch

_METADATA = "ofa_hw.json"


def write_program(graph: Graph, path: Path, *, metadata: Mapping[str, str] | None = None) -> None:
    """Writes the torch module of a graph as a program, which needs no code of ours to be run.

    Args:
        graph: The network.
        path: Ends in `.pt2`.
        metadata: Kept beside the program, for `torch.export.load(path, extra_files=...)`.
    """
    program = torch.export.export(to_torch(graph), (torch.zeros(graph.input_shape),))
    torch.export.save(program, path, extra_files={_METADATA: json.dumps(dict(metadata or {}))})


class TorchSession:
    """A program in torch, on the CPU, with the threads that torch has (`torch_threads`).

    Attributes:
        inputs: Its input.
        runtime: Name of the runtime.
        runtime_version: Its version.
    """

    runtime = "torch"

    def __init__(self, model: Path) -> None:
        """Opens a program.

        Args:
            model: Path of a .pt2 file.

        Raises:
            ProfilerError: If torch cannot load the file.
        """
        self._name = model_name(model)
        self.runtime_version = str(torch.__version__)
        program = _load(model, self._name)
        # The guards would check at every call what require_accepted checks once.
        self._module = program.module(check_guards=False)
        (name,) = program.graph_signature.user_inputs
        (example,), _ = program.example_inputs
        shape, dtype = tuple(example.shape), example.numpy().dtype
        self.inputs: tuple[TensorInfo, ...] = (TensorInfo(str(name), shape, dtype),)
        self._output: torch.Tensor | None = None
        self.set_inputs(random_inputs(self.inputs, rng=np.random.default_rng(0)))

    @property
    def input_shape(self) -> Shape:
        """Shape of the input."""
        return self.inputs[0].smallest_shape

    def set_inputs(self, arrays: Sequence[Tensor]) -> None:
        """Sets the input of the next `invoke`."""
        require_accepted(self.inputs, list(arrays), self._name)
        self._input = torch.from_numpy(np.ascontiguousarray(arrays[0]))

    def invoke(self) -> None:
        """Runs the program once on the input that is set."""
        with torch.inference_mode():
            self._output = self._module(self._input)

    def outputs(self) -> list[Tensor]:
        """A copy of what the last `invoke` gave."""
        if self._output is None:
            self.invoke()
        assert self._output is not None
        return [self._output.numpy().copy()]

    def run(self, x: Array) -> Array:
        """The output for the input `x`, (N, C, H, W)."""
        self.set_inputs([x])
        self.invoke()
        return np.asarray(self.outputs()[0], np.float32)


def _load(model: Path, name: str) -> torch.export.ExportedProgram:
    log = logging.getLogger("torch.export")  # prints a traceback before it raises
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        return torch.export.load(model)
    except Exception as error:  # torch raises what the damaged part made it raise
        reason = str(error).split("\n")[0]
        raise ProfilerError(f"torch cannot load {name}: {reason}") from error
    finally:
        log.setLevel(level)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Lets torch use so many threads in the block. Changing it is slow: not once an inference."""
    before = torch.get_num_threads()
    if before == count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
