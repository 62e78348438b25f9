"""TFLite (LiteRT) on this machine."""

from __future__ import annotations

from typing import Final

from ofa_hw.errors import BackendUnavailableError, DeviceNotFoundError
from ofa_hw.graph import Graph, op_graph
from ofa_hw.lowering.form import DTYPES
from ofa_hw.lowering.parts import part_to_tflite
from ofa_hw.lowering.sessions import TfliteSession
from ofa_hw.profiling import InProcessProfiler, Profiler, ProfilerOptions, Runnable
from ofa_hw.profiling.device import host_device
from ofa_hw.profiling.sentinel import SENTINEL_OPS
from ofa_hw.profiling.settings import require_local, require_options, resolve_settings

# What tables call a runtime that they do not call by its package's name.
_RECORDED: Final = {"ai-edge-litert": "tflite"}


def open_tflite(options: ProfilerOptions) -> Profiler:
    """The backend `tflite`: on this machine, or on the device that the options name.

    Raises:
        BackendUnavailableError: If what it needs is not installed.
        DeviceNotFoundError: If there is no such device, or it cannot be used; it says what to do.
        ProfilerError: If the options are none that it has.
    """
    if options.serial is None and "runner" in options.settings:
        raise DeviceNotFoundError(
            f"the runner {options.settings['runner']} is for devices behind ADB: name the device "
            "with --serial; ofa-hw devices lists them"
        )
    if options.serial is None:
        return TfliteProfiler(options)
    from ofa_hw_profilers.adb import open_adb_profiler  # its libraries are an extra

    return open_adb_profiler(options)


class TfliteProfiler(InProcessProfiler):
    """The interpreter of this machine.

    Data types: `fp32`; `int8`; `fp16`, weights in float16, with which XNNPACK computes in half
    precision where the processor does, and in float32 elsewhere.

    Settings: `xnnpack` (`on`, `off`), whether its optimised kernels run the network.

    The device's runtime is `tflite` where ai-edge-litert ran, as in all tables so far, and
    `tflite-runtime` where its predecessor did: tables of the two do not mix.
    """

    def __init__(self, options: ProfilerOptions) -> None:
        require_local("tflite", options)
        require_options("tflite", options, dtypes=DTYPES)
        settings = resolve_settings("tflite", options, {"xnnpack": ("on", "off")})
        self._threads = options.threads
        self._dtype = options.dtype
        self._xnnpack = settings["xnnpack"] == "on"
        session = self._open(op_graph(SENTINEL_OPS[0]))
        if self._xnnpack:
            require_xnnpack(session)
        runtime, version = _RECORDED.get(session.runtime, session.runtime), session.runtime_version
        super().__init__(host_device("tflite", runtime, version, options, settings))

    def load(self, graph: Graph) -> Runnable:
        """Opens an interpreter on the written network, its input set once."""
        session = self._open(graph)
        return session.invoke

    def _open(self, graph: Graph) -> TfliteSession:
        model = part_to_tflite(graph, self._dtype)
        return TfliteSession(model, threads=self._threads, xnnpack=self._xnnpack)


def require_xnnpack(session: TfliteSession) -> None:
    """Checks that XNNPACK took the whole network.

    Raises:
        BackendUnavailableError: If TFLite fell back to its own kernels.
    """
    if session.partitions != 1 or session.undelegated:
        left = ", ".join(session.undelegated) or "nothing"
        raise BackendUnavailableError(
            f"XNNPACK of {session.runtime} {session.runtime_version} runs {session.partitions} "
            f"parts of a plain block and leaves {left} to other kernels; "
            "pass --set xnnpack=off to measure those"
        )
