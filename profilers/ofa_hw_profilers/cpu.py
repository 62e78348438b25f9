"""PyTorch on this machine's processor."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ofa_hw.graph import Graph
from ofa_hw.lowering.torch import to_torch
from ofa_hw.profiling import InProcessProfiler, ProfilerOptions, Runnable
from ofa_hw.profiling.device import host_device
from ofa_hw.profiling.settings import require_local, require_options, resolve_settings

# Parameters of glibc's mallopt.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


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
        if settings["allocator"] == "keep" and not _keep_freed_memory():
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

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Sets torch's threads, and sets them back afterwards."""
        before = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _keep_freed_memory() -> bool:
    """Tells glibc to keep freed memory; returns whether it is glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    most = 2**30
    return bool(mallopt(_M_MMAP_THRESHOLD, most) and mallopt(_M_TRIM_THRESHOLD, most))
