"""ONNX Runtime on this machine."""

from __future__ import annotations

from dataclasses import replace

import onnxruntime

from ofa_hw.errors import BackendUnavailableError
from ofa_hw.graph import Graph, op_graph
from ofa_hw.lowering.form import DTYPES
from ofa_hw.lowering.parts import part_to_onnx
from ofa_hw.lowering.sessions import GPU_PROVIDERS, OnnxSession
from ofa_hw.profiling import InProcessProfiler, ProfilerOptions, Runnable
from ofa_hw.profiling.device import host_device
from ofa_hw.profiling.sentinel import SENTINEL_OPS
from ofa_hw.profiling.settings import require_local, require_options, resolve_settings
from ofa_hw_profilers.nvidia import read_gpus


class OnnxRuntimeProfiler(InProcessProfiler):
    """An inference session with inputs and outputs bound.

    Data types: `fp32`; `int8`, with QuantizeLinear and DequantizeLinear; `fp16`, which providers
    without half precision, the CPU's among them, compute in float32 between casts.

    Settings: `provider`, one of those that the installed ONNX Runtime has, and `optimisation`
    (`all`, `extended`, `basic`, `none`), its level of graph optimisation.
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
        known = {"provider": providers, "optimisation": levels}
        self._settings = resolve_settings("onnxruntime", options, known)
        self._threads = options.threads
        self._dtype = options.dtype
        self.cpu_bound = self._settings["provider"] == "CPUExecutionProvider"
        # A provider that would leave nodes to another is refused now, before anything is written.
        self.load(op_graph(SENTINEL_OPS[0], batch=options.batch))
        version = onnxruntime.__version__
        device = host_device("onnxruntime", "onnxruntime", version, options, self._settings)
        if self._settings["provider"] in GPU_PROVIDERS:
            gpu = read_gpus()[0]  # the providers' own default
            details = {**device.details, "host": device.name, **gpu.details()}
            device = replace(device, name=gpu.name, details=details)
        super().__init__(device)

    def load(self, graph: Graph) -> Runnable:
        """Opens a session on the written network, its input bound once."""
        session = OnnxSession(
            part_to_onnx(graph, self._dtype),
            threads=self._threads,
            provider=self._settings["provider"],
            optimisation=self._settings["optimisation"],
        )
        return session.invoke
