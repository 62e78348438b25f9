"""Programs of `torch.export` on a device and in a data type."""

from __future__ import annotations

import io

import numpy as np
import torch
from torch.export.passes import move_to_device_pass

from ofa_hw.lowering.tensors import random_inputs
from ofa_hw.lowering.torch_session import program_input, read_program


def load_program(
    content: bytes, name: str, *, batch: int, dtype: torch.dtype, device: str
) -> tuple[torch.nn.Module, torch.Tensor]:
    """A program and a random input of it.

    Args:
        content: Of the .pt2 file.
        name: Names it in errors.
        batch: Images at once, where the program leaves that open.
        dtype: Of weights and activations; an input of bytes stays one.
        device: Where both shall be.

    Raises:
        ProfilerError: If torch cannot load it.
    """
    program = move_to_device_pass(read_program(io.BytesIO(content), name), device)
    (noise,) = random_inputs([program_input(program)], rng=np.random.default_rng(0), batch=batch)
    x = torch.from_numpy(noise).to(device)
    # The guards would hold it to the data type that it was written in.
    module = program.module(check_guards=False).to(dtype)
    for node in module.graph.nodes:  # such as the cast of an input of bytes
        node.args = tuple(dtype if value is torch.float32 else value for value in node.args)
    module.recompile()
    return module, x.to(dtype) if x.is_floating_point() else x
