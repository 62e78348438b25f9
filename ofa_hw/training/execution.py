"""Execution: on what a step runs (device, precision, layout, workers), not what it learns."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn

from ofa_hw.errors import SpecError
from ofa_hw.training.synced_norm import SynchronisedNorms

PRECISIONS: Final = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True, slots=True)
class Execution:
    """How the steps of a run are computed.

    The batch of a recipe is that of all workers together: each takes every `size`-th image of it
    and runs them in `accumulate` parts. Batch norms normalise each part by itself, over all workers
    or within each (see `Workers`).

    Attributes:
        device: Where torch computes.
        precision: `bfloat16` and `float16` run convolutions and linear layers in it (autocast);
            weights stay float32, and the loss of `float16` is scaled so that small gradients do not
            vanish (https://arxiv.org/abs/1710.03740).
        channels_last: Whether weights and images lie NHWC in memory, which is faster on CPUs and
            tensor cores.
        accumulate: Parts of a worker's batch, run one after another before a step is taken.
    """

    device: str = "cpu"
    precision: str = "float32"
    channels_last: bool = True
    accumulate: int = 1

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise SpecError(f"precision is {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.accumulate < 1:
            raise SpecError(f"a batch has at least 1 part, got accumulate={self.accumulate}")
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise SpecError(f"no GPU that torch can use for device {self.device!r}; take cpu")

    def place(self, net: nn.Module) -> None:
        """Moves a network to the device and into the memory layout."""
        net.to(self.device)
        if self.channels_last:
            net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def images(self, images: torch.Tensor) -> torch.Tensor:
        """The same for images (B, C, H, W)."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return images.to(self.device, non_blocking=True, memory_format=layout)

    def autocast(self) -> AbstractContextManager[object]:
        """The precision of a forward."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, PRECISIONS[self.precision])

    def scaler(self) -> torch.amp.GradScaler:
        """Scales the loss of `float16`; for other precisions it does nothing."""
        kind = torch.device(self.device).type
        return torch.amp.GradScaler(kind, enabled=self.precision == "float16")


@dataclass(frozen=True, slots=True)
class Workers:
    """The processes of a run, which take the same steps on different images.

    Attributes:
        rank: Of this process, from 0; the first writes the files.
        size: How many there are.
        sync_batch_norm: Whether batch norms normalise over the images of all of them, as one worker
            with the whole batch would, or each over its own, which takes no messages in between.
    """

    rank: int = 0
    size: int = 1
    sync_batch_norm: bool = True

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.rank == 0

    def norms(self) -> AbstractContextManager[object]:
        """How the batch norms of a step normalise."""
        if self.size > 1 and self.sync_batch_norm:
            return SynchronisedNorms()
        return nullcontext()

    def wait(self) -> None:
        """Returns when every worker has called it."""
        if self.size > 1:
            torch.distributed.barrier()

    def average(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replaces tensors by their means over the workers, in one message."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        torch.distributed.all_reduce(flat)
        flat /= self.size
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))


def join_workers(device: str = "cpu", *, sync_batch_norm: bool = True) -> Workers:
    """The workers that torchrun started, or this process alone.

    Args:
        device: Where they compute.
        sync_batch_norm: See `Workers`.

    Raises:
        SpecError: If torchrun's variables are set but the workers do not find each other.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Workers()
    backend = "nccl" if device.startswith("cuda") else "gloo"
    if backend == "nccl":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))  # what "cuda" means from here
    try:
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group(backend)
    except (RuntimeError, ValueError) as error:
        raise SpecError(f"the workers of torchrun do not meet: {error}") from error
    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    return Workers(rank, size, sync_batch_norm)
