"""PyTorch on this machine's processor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ofa_hw.graph import Graph
from ofa_hw.lowering.torch import to_torch
from ofa_hw.profiling import InProcessProfiler, ProfilerOptions, Runnable
from ofa_hw.profiling.device import host_device
from ofa_hw.profiling.settings import require_local, require_options, resolve_settings


class CpuProfiler(InProcessProfiler):
    """Eager PyTorch in inference mode.

    Settings: `channels_last` (`off`, `on`) lays tensors out as (N, H, W, C).
    """

    def __init__(self, options: ProfilerOptions) -> None:
        require_local("cpu", options)
        require_options("cpu", options)
        settings = resolve_settings("cpu", options, {"channels_last": ("off", "on")})
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

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Sets torch's threads, and sets them back afterwards."""
        before = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)
