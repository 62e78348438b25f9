"""ONNX Runtime on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import onnxruntime

from ofa_hw.errors import BackendUnavailableError
from ofa_hw.graph import Graph, op_graph
from ofa_hw.lowering.form import DTYPES
from ofa_hw.lowering.parts import part_to_onnx
from ofa_hw.lowering.sessions import GPU_PROVIDERS, OnnxSession
from ofa_hw.profiling import (
    Cell,
    InProcessProfiler,
    Measurement,
    ProfilerOptions,
    Runnable,
    SamplingPlan,
)
from ofa_hw.profiling.device import host_device
from ofa_hw.profiling.sentinel import SENTINEL_OPS
from ofa_hw.profiling.settings import require_local, require_options, resolve_settings
from ofa_hw_profilers.gpu import OTHERS, OwnGpu


class OnnxRuntimeProfiler(InProcessProfiler):
    """An inference session with inputs and outputs bound.

    Data types: `fp32`; `int8`, with QuantizeLinear and DequantizeLinear; `fp16`, which providers
    without half precision, the CPU's among them, compute in float32 between casts.

    Settings: `provider`, one of those that the installed ONNX Runtime has, and `optimisation`
    (`all`, `extended`, `basic`, `none`), its level of graph optimisation. With a provider for
    NVIDIA GPUs, `others`: whether to `refuse` a GPU on which another process computes, or to `note`
    it on every row. Such a provider runs on the first GPU that this process has.
    """

    def __init__(self, options: ProfilerOptions) -> None:
        require_local("onnxruntime", options)
        require_options("onnxruntime", options, dtypes=DTYPES)
        available = onnxruntime.get_available_providers()
        if (wanted := options.settings.get("provider")) and wanted not in available:
            raise BackendUnavailableError(
                f"ONNX Runtime {onnxruntime.__version__} has no provider {wanted!r} here; "
                f"it has {', '.join(available)}"
            )
        providers = sorted(available, key=lambda name: name != "CPUExecutionProvider")
        levels = ("all", "extended", "basic", "none")
        on_gpu = wanted in GPU_PROVIDERS
        known = {"provider": providers, "optimisation": levels}
        known |= {"others": OTHERS} if on_gpu else {}
        self._settings = resolve_settings("onnxruntime", options, known)
        self._threads = options.threads
        self._dtype = options.dtype
        self.cpu_bound = self._settings["provider"] == "CPUExecutionProvider"
        gpu = OwnGpu(others=self._settings["others"]) if on_gpu else None
        self._watch = gpu.watch if gpu else None
        # A provider that would leave nodes to another is refused now, before anything is written.
        run = self.load(op_graph(SENTINEL_OPS[0], batch=options.batch))
        version = onnxruntime.__version__
        device = host_device("onnxruntime", "onnxruntime", version, options, self._settings)
        super().__init__(gpu.described(device, run) if gpu else device)

    def load(self, graph: Graph) -> Runnable:
        """Opens a session on the written network, its input bound once."""
        if self._watch:
            self._watch.begin_group()  # a group is loaded, and then measured
        session = OnnxSession(
            part_to_onnx(graph, self._dtype),
            threads=self._threads,
            provider=self._settings["provider"],
            optimisation=self._settings["optimisation"],
        )
        return session.invoke

    def measure(
        self,
        cells: Sequence[Cell],
        plan: SamplingPlan,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[Measurement]:
        """As of every backend (see `Profiler`); what a GPU met with is noted."""
        measurements = super().measure(cells, plan, progress=progress)
        return self._watch.over(measurements) if self._watch else measurements
