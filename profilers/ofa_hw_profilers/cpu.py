"""PyTorch on this machine's processor."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from ofa_hw.graph import Graph
from ofa_hw.lowering.torch import to_torch
from ofa_hw.lowering.torch_session import torch_threads
from ofa_hw.malloc import keep_freed_memory
from ofa_hw.profiling import InProcessProfiler, ProfilerOptions, Runnable
from ofa_hw.profiling.device import host_device
from ofa_hw.profiling.settings import require_local, require_options, resolve_settings


class CpuProfiler(InProcessProfiler):
    """Eager PyTorch in inference mode.

    Settings: `channels_last` (`off`, `on`) lays tensors out as (N, H, W, C). `allocator` (`keep`,
    `system`): eager PyTorch allocates every activation anew, and by default the C library gives
    large ones back to the system at once, or not, depending on what else happens to be allocated:
    one block then takes 280 or 550 microseconds. `keep` makes it keep them from then on, for the
    whole process, as allocators meant for servers do (where the library is glibc).
    """

    def __init__(self, options: ProfilerOptions) -> None:
        require_local("cpu", options)
        require_options("cpu", options)
        known = {"channels_last": ("off", "on"), "allocator": ("keep", "system")}
        settings = resolve_settings("cpu", options, known)
        if settings["allocator"] == "keep" and not keep_freed_memory(though_chosen=True):
            settings["allocator"] = "system"
        self._threads = options.threads
        on = settings["channels_last"] == "on"
        self._layout = torch.channels_last if on else torch.contiguous_format
        super().__init__(host_device("cpu", "torch", torch.__version__, options, settings))

    def load(self, graph: Graph) -> Runnable:
        """Builds the module; each call is one forward pass on the same random images."""
        module = to_torch(graph)
        module.to(memory_format=self._layout)  # type: ignore[call-overload]  # torch's stubs lack it
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(graph.input_shape, generator=generator).to(memory_format=self._layout)

        @torch.inference_mode()
        def run() -> None:
            module(x)

        return run

    def measuring(self) -> AbstractContextManager[None]:
        """Sets torch's threads, and sets them back afterwards."""
        return torch_threads(self._threads)
