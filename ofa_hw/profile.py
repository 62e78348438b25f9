"""The facade: fills a latency table on a device, by the name of a backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ofa_hw.latency import LatencyTable, fill_table
from ofa_hw.profiling import ProfilerOptions, SamplingPlan, open_profiler
from ofa_hw.spaces import SearchSpace, get_space


def profile(
    space: str | SearchSpace,
    *,
    backend: str,
    output: str | Path,
    serial: str | None = None,
    threads: int = 1,
    dtype: str = "fp32",
    batch: int = 1,
    settings: Mapping[str, str] | None = None,
    resolutions: Sequence[int] | None = None,
    plan: SamplingPlan | None = None,
    max_minutes: float | None = None,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> LatencyTable:
    """Measures every operator of a search space on a device.

    A file that was begun with the same device and settings is resumed: rows it has are kept.

    Args:
        space: A search space or its name.
        backend: Such as `onnxruntime`; `ofa-hw devices` lists those there are.
        output: The table's file, JSONL.
        serial: Of the device, for backends that reach others than this machine.
        threads: Threads of the runtime.
        dtype: Of weights and activations.
        batch: Images at once.
        settings: Further settings of the backend by name.
        resolutions: Input resolutions to cover; by default all of the space's.
        plan: How well to measure.
        max_minutes: Stops after this long; the most useful operators come first.
        force: Whether to replace a file instead of resuming it.
        progress: Called with operators measured and operators in all.

    Returns:
        The table, as far as it was filled.

    Raises:
        SpecError: If the space or a resolution does not exist.
        ProfilerError: If the backend or the device is not there, or cannot do what was asked.
        TableError: If the file is another device's table, damaged, or being written.
    """
    space = get_space(space) if isinstance(space, str) else space
    options = ProfilerOptions(serial, threads, dtype, batch, settings or {})
    profiler = open_profiler(backend, options)
    try:
        return fill_table(
            space,
            profiler,
            output,
            resolutions=resolutions,
            plan=plan or SamplingPlan(),
            max_minutes=max_minutes,
            force=force,
            progress=progress,
        )
    finally:
        profiler.close()
