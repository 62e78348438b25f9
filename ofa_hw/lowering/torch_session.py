"""A program of `torch.export` (.pt2): written from a graph, and run by torch."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from ofa_hw.errors import ProfilerError
from ofa_hw.graph.ir import Array, Graph, Shape
from ofa_hw.lowering.form import Form
from ofa_hw.lowering.metadata import PROGRAM_ENTRY
from ofa_hw.lowering.quantise import QuantisedGraph
from ofa_hw.lowering.tensors import (
    Tensor,
    TensorInfo,
    model_name,
    random_inputs,
    require_accepted,
)
from ofa_hw.lowering.torch import to_torch


def write_program(
    network: Graph | QuantisedGraph,
    path: Path,
    *,
    dtype: str = "fp32",
    form: Form | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes the torch module of a network as a program, which needs no code of ours to be run.

    Args:
        network: The network; a quantised one is written in 8 bits.
        path: Ends in `.pt2`.
        dtype: Of a network that is not quantised, `fp32` or `fp16`.
        form: How it takes images.
        metadata: Kept beside the program, for `torch.export.load(path, extra_files=...)`.
    """
    form = form or Form()
    module = to_torch(network, dtype=dtype, form=form)
    taken = torch.uint8 if form.uint8_input else torch.float32
    graph = network.graph if isinstance(network, QuantisedGraph) else network
    shape = (2, *graph.input_shape[1:]) if form.dynamic_batch else graph.input_shape
    dynamic = ({0: torch.export.Dim("batch")},) if form.dynamic_batch else None
    example = torch.zeros(shape, dtype=taken)
    program = torch.export.export(module, (example,), dynamic_shapes=dynamic)
    torch.export.save(program, path, extra_files={PROGRAM_ENTRY: json.dumps(dict(metadata or {}))})


class TorchSession:
    """A program in torch, on the CPU, with the threads that torch has (`torch_threads`).

    Attributes:
        inputs: Its input.
        runtime: Name of the runtime.
        runtime_version: Its version.
    """

    runtime = "torch"

    def __init__(self, model: Path, *, channels_last: bool = False) -> None:
        """Opens a program.

        Args:
            model: Path of a .pt2 file.
            channels_last: Whether weights and images are laid out as (N, H, W, C) in memory.

        Raises:
            ProfilerError: If torch cannot load the file.
        """
        self._name = model_name(model)
        self.runtime_version = str(torch.__version__)
        program = read_program(model, self._name)
        # The guards would check at every call what require_accepted checks once.
        self._module = program.module(check_guards=False)
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self._module.to(memory_format=self._layout)  # type: ignore[call-overload]  # torch's stubs lack it
        self.inputs: tuple[TensorInfo, ...] = (program_input(program),)
        self._output: torch.Tensor | dict[str, torch.Tensor] | None = None
        self.set_inputs(random_inputs(self.inputs, rng=np.random.default_rng(0)))

    @property
    def input_shape(self) -> Shape:
        """Shape of the input, a dynamic batch at 1."""
        return self.inputs[0].smallest_shape

    def set_inputs(self, arrays: Sequence[Tensor]) -> None:
        """Sets the input of the next `invoke`."""
        require_accepted(self.inputs, list(arrays), self._name)
        x = torch.from_numpy(np.ascontiguousarray(arrays[0]))
        self._input = x.to(memory_format=self._layout) if x.ndim == len("NCHW") else x

    def invoke(self) -> None:
        """Runs the program once on the input that is set."""
        with torch.inference_mode():
            self._output = self._module(self._input)

    def outputs(self) -> list[Tensor]:
        """A copy of what the last `invoke` gave."""
        if self._output is None:
            self.invoke()
        output = self._output
        assert output is not None
        tensors = output.values() if isinstance(output, dict) else (output,)
        return [tensor.numpy().copy() for tensor in tensors]

    def run(self, x: Tensor) -> Array:
        """The output for the input `x`, (N, C, H, W)."""
        self.set_inputs([x])
        self.invoke()
        return np.asarray(self.outputs()[0], np.float32)


def program_input(program: torch.export.ExportedProgram) -> TensorInfo:
    """What a program takes; dynamic dimensions are None."""
    (name,) = program.graph_signature.user_inputs
    (node,) = (node for node in program.graph.nodes if node.name == name)
    taken: torch.Tensor = node.meta["val"]
    shape = tuple(size if isinstance(size, int) else None for size in taken.shape)
    return TensorInfo(str(name), shape, torch.empty(0, dtype=taken.dtype).numpy().dtype)


def read_program(source: Path | BinaryIO, name: str) -> torch.export.ExportedProgram:
    """The program of a .pt2 file.

    Args:
        source: The file, or what it holds.
        name: Names it in errors.

    Raises:
        ProfilerError: If torch cannot load it.
    """
    log = logging.getLogger("torch.export")  # prints a traceback before it raises
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        return torch.export.load(source)
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
