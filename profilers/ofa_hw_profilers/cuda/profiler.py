"""PyTorch on an NVIDIA GPU: eager, or a CUDA graph captured from it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import torch

from ofa_hw.errors import BackendUnavailableError, ProfilerError
from ofa_hw.graph import Graph
from ofa_hw.graph.ir import Shape
from ofa_hw.lowering.torch import to_torch
from ofa_hw.profiling import (
    Cell,
    InProcessProfiler,
    Measurement,
    ProfilerOptions,
    Runnable,
    SamplingPlan,
)
from ofa_hw.profiling.device import host_device
from ofa_hw.profiling.settings import require_local, require_options, resolve_settings
from ofa_hw_profilers.cuda.inputs import InputRing
from ofa_hw_profilers.cuda.timing import TIMINGS, Forward, InferenceClock
from ofa_hw_profilers.nvidia import GpuWatch, find_gpu, read_gpus, require_alone

DTYPES: Final = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
SETTINGS: Final = {
    "mode": ("eager", "graph"),
    "timing": tuple(TIMINGS),
    "channels_last": ("off", "on"),
    "cudnn_benchmark": ("off", "on"),
    "others": ("refuse", "note"),
}
_AMPERE: Final = (8, 0)  # the first compute capability with TF32 and bfloat16
_WARM_UPS: Final = 3  # before a capture, in which libraries must not set themselves up


class CudaProfiler(InProcessProfiler):
    """Eager PyTorch, or a CUDA graph captured from it, on the GPU that torch calls the current.

    The data types are `fp32`, in which convolutions and products keep all their bits, `tf32`,
    `fp16` and `bf16`. One inference begins with the GPU idle and ends when it has finished.
    Each has the next input of a ring larger than the second-level cache; a captured graph reads one
    address only, so that the input is copied there before the inference begins.

    Settings: `mode` (`eager`, `graph`). `timing`: `host` is the wall time of this process, `events`
    the time on the device from before the first kernel to after the last. `channels_last` (`off`,
    `on`) lays tensors out as (N, H, W, C). `cudnn_benchmark` (`off`, `on`) lets cuDNN try its
    algorithms while a network warms up. `others`: whether to `refuse` a GPU on which another
    process computes, or to `note` it.
    """

    cpu_bound = False

    def __init__(self, options: ProfilerOptions) -> None:
        require_local("cuda", options)
        require_options("cuda", options, dtypes=tuple(DTYPES))
        settings = resolve_settings("cuda", options, SETTINGS)
        if options.threads != 1:
            raise ProfilerError(
                f"threads are the processor's, and backend 'cuda' uses one; got {options.threads}"
            )
        require_torch_build()
        # Looked at before this process computes on it: whatever does is another.
        own, gpus = int(torch.cuda.is_initialized()), read_gpus()
        properties = require_gpu(options.dtype)
        gpu = find_gpu(str(properties.uuid), gpus)
        if settings["others"] == "refuse":
            require_alone(gpu, own=own)
        self._settings, self._tf32 = settings, options.dtype == "tf32"
        self._dtype = DTYPES[options.dtype]
        self._timed, self._timer = TIMINGS[settings["timing"]], InferenceClock()
        on = settings["channels_last"] == "on"
        self._layout = torch.channels_last if on else torch.contiguous_format
        self._ring = InputRing(properties.L2_cache_size, self._dtype, channels_last=on)
        self._watch = GpuWatch(
            lambda: find_gpu(gpu.uuid, read_gpus()), expected=len(gpu.processes) - own + 1
        )
        version = f"{torch.__version__}, cuDNN {torch.backends.cudnn.version()}"
        host = host_device("cuda", "torch", version, options, settings)
        details = {
            **host.details,
            "host": host.name,
            "gpu_l2_mib": f"{properties.L2_cache_size / 2**20:g}",
            **gpu.details(),
        }
        super().__init__(replace(host, name=gpu.name, details=details), clock=self._timer)

    def load(self, graph: Graph) -> Runnable:
        """Builds the module on the GPU, and captures it if asked to."""
        module = to_torch(graph).to("cuda", self._dtype)
        module.to(memory_format=self._layout)  # type: ignore[call-overload]  # torch's stubs lack it
        if self._settings["mode"] == "graph":
            prepare, forward = self._captured(module, graph.input_shape)
        else:
            prepare, forward = lambda: self._ring.next(graph.input_shape), module

        @torch.inference_mode()
        def run() -> None:
            x = prepare()
            torch.cuda.synchronize()
            self._timer.add(self._timed(forward, x))

        return run

    def _captured(
        self, module: torch.nn.Module, shape: Shape
    ) -> tuple[Callable[[], torch.Tensor], Forward]:
        """What brings the next input to the address that a captured graph reads, and its replay."""
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode():
            static = self._ring.next(shape).clone()
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(_WARM_UPS):
                    module(static)
            torch.cuda.current_stream().wait_stream(side)
            with torch.cuda.graph(graph):
                output = module(static)

        def replay(_: torch.Tensor) -> object:
            graph.replay()
            return output  # which keeps the memory that the graph writes to

        return lambda: static.copy_(self._ring.next(shape)), replay

    def measure(
        self,
        cells: Sequence[Cell],
        plan: SamplingPlan,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[Measurement]:
        """As of every backend (see `Profiler`); what the GPU met with is noted."""
        measurements = super().measure(cells, plan, progress=progress)
        return (replace(m, notes=(*m.notes, *self._watch.notes())) for m in measurements)

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Sets torch's switches of precision and cuDNN, and sets them back afterwards."""
        matmul = torch.backends.cuda.matmul
        cudnn: Any = torch.backends.cudnn  # a module that takes assignments, whatever pyright says
        before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
        matmul.allow_tf32 = cudnn.allow_tf32 = self._tf32
        cudnn.benchmark = self._settings["cudnn_benchmark"] == "on"
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise ProfilerError(
                f"the {self.device.name} has too little memory for this at batch "
                f"{self.device.batch}; choose a smaller one"
            ) from error
        except RuntimeError as error:
            reason = str(error).split("\n")[0]
            raise ProfilerError(
                f"torch cannot measure on the {self.device.name}: {reason}"
            ) from error
        finally:
            matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before


def require_torch_build() -> None:
    """Checks that torch is built for CUDA.

    Raises:
        BackendUnavailableError: If it is not.
    """
    if torch.version.cuda is None:
        raise BackendUnavailableError(
            f"no NVIDIA GPU can be used: this PyTorch ({torch.__version__}) is built without CUDA; "
            "install a build of it for CUDA, or profile on another backend (ofa-hw devices)"
        )


def require_gpu(dtype: str) -> Any:  # noqa: ANN401 - torch has no name for the properties' type
    """The properties of the GPU that torch uses.

    Raises:
        BackendUnavailableError: If it uses none, or one without this data type.
    """
    with warnings.catch_warnings(record=True) as caught:
        available = torch.cuda.is_available()
    if not available:
        reason = f" ({caught[0].message})" if caught else ""
        raise BackendUnavailableError(
            f"no NVIDIA GPU that PyTorch {torch.__version__} can use{reason}; "
            "see whether nvidia-smi lists one, or profile on another backend (ofa-hw devices)"
        )
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    if dtype in ("tf32", "bf16") and (properties.major, properties.minor) < _AMPERE:
        raise BackendUnavailableError(
            f"the {properties.name} has no {dtype}, which came with compute capability 8.0; "
            "choose fp32 or fp16"
        )
    return properties
