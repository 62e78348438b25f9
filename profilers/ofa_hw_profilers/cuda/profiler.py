"""PyTorch on an NVIDIA GPU: eager, or a CUDA graph captured from it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import torch

from ofa_hw.errors import BackendUnavailableError, ProfilerError
from ofa_hw.graph import Graph
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
from ofa_hw_profilers.cuda.capture import CapturedForward
from ofa_hw_profilers.cuda.inputs import CacheSweep, InputRing
from ofa_hw_profilers.cuda.programs import load_program
from ofa_hw_profilers.cuda.timing import TIMINGS, Forward, InferenceClock
from ofa_hw_profilers.gpu import OTHERS, OwnGpu

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
    "others": OTHERS,
}
_AMPERE: Final = (8, 0)  # the first compute capability with TF32 and bfloat16
_SWEEPS: Final = 100  # that keep the GPU busy for a moment


class CudaProfiler(InProcessProfiler):
    """Eager PyTorch, or a CUDA graph captured from it, on the GPU that torch calls the current.

    The data types are `fp32`, in which convolutions and products keep all their bits, `tf32`,
    `fp16` and `bf16`. One inference begins with the GPU idle and ends when it has finished.
    It begins with cold caches in either mode: each has the next input of a ring larger than the
    second-level cache, which a captured graph, as it reads one address only, has copied there;
    then that cache is swept, so that it holds neither input nor weights.

    Settings: `mode` (`eager`, `graph`). `timing`: `host` is the wall time of this process, `events`
    the time on the device from before the first kernel to after the last. `channels_last` (`off`,
    `on`) lays tensors out as (N, H, W, C). `cudnn_benchmark` (`off`, `on`) lets cuDNN try its
    algorithms while a network warms up. `others`: whether to `refuse` a GPU on which another
    process computes, or to `note` it on every row.
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
        place = torch.cuda.current_device() if torch.cuda.is_initialized() else 0
        gpu = OwnGpu(place, others=settings["others"])
        properties = require_gpu(options.dtype)
        self._settings, self._tf32 = settings, options.dtype == "tf32"
        self._dtype = DTYPES[options.dtype]
        self._timed, self._timer = TIMINGS[settings["timing"]](), InferenceClock()
        on = settings["channels_last"] == "on"
        self._layout = torch.channels_last if on else torch.contiguous_format
        self._ring = InputRing(properties.L2_cache_size, self._dtype, channels_last=on)
        self._sweep = CacheSweep(properties.L2_cache_size)
        self._watch = gpu.watch
        version = f"{torch.__version__}, cuDNN {torch.backends.cudnn.version()}"
        host = host_device("cuda", "torch", version, options, settings)
        cache = {"gpu_l2_mib": f"{properties.L2_cache_size / 2**20:g}"}
        device = gpu.described(replace(host, details={**host.details, **cache}), self._work)
        super().__init__(device, clock=self._timer)

    def load(self, graph: Graph) -> Runnable:
        """Builds the module on the GPU, and captures it if asked to."""
        module = to_torch(graph).to("cuda", self._dtype)
        return self._runnable(module, lambda: self._ring.next(graph.input_shape))

    def _runnable(
        self, module: torch.nn.Module, next_input: Callable[[], torch.Tensor]
    ) -> Runnable:
        """One inference of a module on the GPU, timed."""
        self._watch.begin_group()  # a group is loaded, and then measured
        module.to(memory_format=self._layout)  # type: ignore[call-overload]  # torch's stubs lack it
        forward: Forward = module
        prepare = next_input
        if self._settings["mode"] == "graph":
            with torch.inference_mode():
                forward = captured = CapturedForward(module, next_input())

            def prepare() -> torch.Tensor:
                return captured.take(next_input())

        @torch.inference_mode()
        def run() -> None:
            x = prepare()
            self._sweep()
            torch.cuda.synchronize()
            self._timer.add(self._timed(forward, x))

        return run

    def measure(
        self,
        cells: Sequence[Cell],
        plan: SamplingPlan,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[Measurement]:
        """As of every backend (see `Profiler`); what the GPU met with is noted."""
        return self._watch.over(super().measure(cells, plan, progress=progress))

    def measure_files(
        self, models: Mapping[str, bytes], plan: SamplingPlan
    ) -> Iterator[Measurement]:
        """Yields the measurements of .pt2 files, timed as networks are.

        They run in the profiler's data type, and with its batch where they leave that open.

        Args:
            models: Bytes of the files, by key.
            plan: How well to measure.

        Raises:
            ProfilerError: If torch cannot load or run one.
        """
        return self._watch.over(self._measure_files(models, plan))

    def _measure_files(
        self, models: Mapping[str, bytes], plan: SamplingPlan
    ) -> Iterator[Measurement]:
        with self.measuring():
            engine = self._engine(plan)
            programs = {key: self._load_file(content, key) for key, content in models.items()}
            measured = list(engine.measure(programs))
        yield from measured

    def _load_file(self, content: bytes, name: str) -> Runnable:
        batch = self.device.batch or 1
        module, x = load_program(content, name, batch=batch, dtype=self._dtype, device="cuda")
        if x.ndim == len("NCHW"):
            x = x.to(memory_format=self._layout)
        return self._runnable(module, lambda: x)

    def _work(self) -> None:
        """Keeps the GPU busy for a moment."""
        for _ in range(_SWEEPS):
            self._sweep()
        torch.cuda.synchronize()

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
