"""bench_file: the latency of any .onnx, .tflite or .pt2 file on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ofa_hw.errors import ProfilerError
from ofa_hw.latency.rows import Statistics
from ofa_hw.lowering.files import opened
from ofa_hw.profiling import Engine, FileProfiler, Profiler, SamplingPlan, SystemClock


@dataclass(frozen=True, slots=True)
class BenchResult:
    """How fast a file runs.

    Attributes:
        path: The file.
        runtime: What ran it.
        runtime_version: Its version.
        threads: Threads of the runtime.
        statistics: Of one inference.
    """

    path: Path
    runtime: str
    runtime_version: str
    threads: int
    statistics: Statistics


def bench_file(
    path: Path | str, *, threads: int = 1, min_time_s: float = 0.5, max_time_s: float = 5.0
) -> BenchResult:
    """Times a file on random inputs, with the engine that fills tables.

    Args:
        path: An .onnx, .tflite or .pt2 file.
        threads: Threads of the runtime.
        min_time_s: Least time spent in inferences.
        max_time_s: Most time spent in inferences.

    Raises:
        ExportError: If the name ends in no known format.
        ProfilerError: If the file is missing or its runtime cannot load it.
    """
    path = Path(path)
    plan = SamplingPlan(min_time_s=min(min_time_s, max_time_s), max_time_s=max_time_s)
    engine = Engine([], plan, clock=SystemClock(), cpu_bound=threads == 1)
    with opened(path, threads=threads) as session:
        (measurement,) = engine.measure({str(path): session.invoke})
    return BenchResult(
        path, session.runtime, session.runtime_version, threads, Statistics.of(measurement)
    )


def bench_on_device(
    path: Path | str, profiler: Profiler, *, min_time_s: float = 0.5, max_time_s: float = 5.0
) -> BenchResult:
    """Times a .tflite file on a profiler's device, on random inputs.

    Args:
        path: The file.
        profiler: Of the device; it stays open.
        min_time_s: Least time spent in inferences.
        max_time_s: Most time spent in inferences.

    Raises:
        ProfilerError: If the file is missing, or the profiler takes no files or cannot run it.
    """
    path = Path(path)
    if not isinstance(profiler, FileProfiler):
        raise ProfilerError(f"the backend {profiler.device.backend} cannot time files")
    if not path.is_file():
        raise ProfilerError(f"there is no file {path}")
    plan = SamplingPlan(min_time_s=min(min_time_s, max_time_s), max_time_s=max_time_s)
    (measurement,) = profiler.measure_files({path.stem: path.read_bytes()}, plan)
    device = profiler.device
    return BenchResult(
        path,
        device.runtime,
        device.runtime_version,
        device.threads or 1,
        Statistics.of(measurement),
    )
