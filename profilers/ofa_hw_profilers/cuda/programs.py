"""Programs of `torch.export` on a device and in a data type."""

from __future__ import annotations

import io
import logging

import numpy as np
import torch
from torch.export.passes import move_to_device_pass

from ofa_hw.errors import ProfilerError
from ofa_hw.lowering.tensors import TensorInfo, random_inputs


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
    program = move_to_device_pass(_read(content, name), device)
    (taken_by,) = program.graph_signature.user_inputs
    (node,) = (node for node in program.graph.nodes if node.name == taken_by)
    taken: torch.Tensor = node.meta["val"]
    first, *rest = (size if isinstance(size, int) else None for size in taken.shape)
    shape = (batch if first is None else first, *(size or 1 for size in rest))
    info = TensorInfo(str(taken_by), shape, torch.empty(0, dtype=taken.dtype).numpy().dtype)
    x = torch.from_numpy(random_inputs([info], rng=np.random.default_rng(0))[0]).to(device)
    # The guards would hold it to the data type that it was written in.
    module = program.module(check_guards=False).to(dtype)
    for node in module.graph.nodes:  # such as the cast of an input of bytes
        node.args = tuple(dtype if value is torch.float32 else value for value in node.args)
    module.recompile()
    return module, x.to(dtype) if x.is_floating_point() else x


def _read(content: bytes, name: str) -> torch.export.ExportedProgram:
    log = logging.getLogger("torch.export")  # prints a traceback before it raises
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        return torch.export.load(io.BytesIO(content))
    except Exception as error:  # torch raises what the damaged part made it raise
        reason = str(error).split("\n")[0]
        raise ProfilerError(
            f"torch cannot load {name}, which is no .pt2 file that it can read: {reason}"
        ) from error
    finally:
        log.setLevel(level)
