"""verify_file: whether an exported file is as fast, where it will run, as it promises."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from ofa_hw.errors import ExportError, ProfilerError
from ofa_hw.export import Provenance, read_provenance
from ofa_hw.latency import Statistics
from ofa_hw.latency.compare import Difference, header_differences, in_words
from ofa_hw.latency.table import Header
from ofa_hw.lowering.files import format_of, open_file
from ofa_hw.lowering.sessions import (
    CPU_PROVIDER,
    OnnxSession,
    Session,
    TfliteSession,
    random_inputs,
)
from ofa_hw.profiling import (
    DeviceInfo,
    Engine,
    FileProfiler,
    Measurement,
    Profiler,
    ProfilerOptions,
    SamplingPlan,
    SystemClock,
    open_profiler,
)

TOLERANCE: Final = 0.10
# What a file of each format runs on, unless somebody says otherwise.
BACKENDS: Final = {".onnx": "onnxruntime", ".tflite": "tflite", ".pt2": "cpu"}
_PLAN: Final = SamplingPlan(min_time_s=0.5, max_time_s=5.0)
# A new version of the runtime is what a file is verified again for.
_MAY_CHANGE: Final = ("runtime_version",)


@dataclass(frozen=True)
class Verification:
    """What a file promised, and what was measured.

    Attributes:
        path: The file.
        promise: What it tells of itself.
        limit_ms: The most that keeps the promise: the upper end of its prediction interval.
        device: What it was measured on.
        statistics: Of one inference there.
        differences: In what that is another device or another setting than was promised for.
        undelegated: Operators that XNNPACK left to other kernels; None where that is not known.
    """

    path: Path
    promise: Provenance
    limit_ms: float
    device: DeviceInfo
    statistics: Statistics
    differences: tuple[Difference, ...]
    undelegated: tuple[str, ...] | None = None

    @property
    def predicted_ms(self) -> float:
        """The latency promised."""
        assert self.promise.predicted_latency_ms is not None
        return self.promise.predicted_latency_ms

    @property
    def off_by(self) -> float:
        """Measured over promised latency, less one."""
        return self.statistics.median_ms / self.predicted_ms - 1

    @property
    def meets_limit(self) -> bool | None:
        """Whether what was measured is at most `limit_ms`; None where that is too uncertain."""
        measured = self.statistics
        low_ms, high_ms = measured.ci_low_ms, measured.ci_high_ms
        if low_ms is None or high_ms is None:
            return measured.median_ms <= self.limit_ms
        return None if low_ms <= self.limit_ms < high_ms else high_ms <= self.limit_ms

    @property
    def elsewhere(self) -> tuple[Difference, ...]:
        """The differences for which the promise says nothing of what was measured."""
        return tuple(d for d in self.differences if d.field not in _MAY_CHANGE)

    @property
    def kept(self) -> bool:
        """Whether the file keeps its promise, where it was made for."""
        return self.meets_limit is True and not self.elsewhere

    def sentence(self) -> str:
        """The verdict in words."""
        if self.elsewhere:
            return f"not shown: measured otherwise than promised for ({in_words(self.elsewhere)})"
        compared = f"{abs(self.off_by):.1%} {'over' if self.off_by > 0 else 'under'} the promise"
        allowed = f"{self.limit_ms:.4g} ms were allowed"
        match self.meets_limit:
            case True:
                return f"kept: {compared}, {allowed}"
            case False:
                return f"broken: {compared}, {allowed}"
        low_ms, high_ms = self.statistics.ci_low_ms, self.statistics.ci_high_ms
        return (
            f"not shown: {allowed}, and the latency is {low_ms:.4g} to {high_ms:.4g} ms (95 %); "
            "quieten the device, or measure for longer"
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "path": str(self.path),
            "kept": self.kept,
            "verdict": self.sentence(),
            "predicted_latency_ms": self.predicted_ms,
            "predicted_interval_ms": self.promise.predicted_interval_ms,
            "limit_ms": self.limit_ms,
            "off_by": self.off_by,
            "statistics": asdict(self.statistics),
            "device": asdict(self.device),
            "differences": [asdict(difference) for difference in self.differences],
            "undelegated": self.undelegated,
        }


def verify_file(
    path: str | Path,
    *,
    backend: str | None = None,
    serial: str | None = None,
    settings: Mapping[str, str] | None = None,
    tolerance: float = TOLERANCE,
    plan: SamplingPlan | None = None,
) -> Verification:
    """Measures a file where it will run, and compares that with what it promises.

    Args:
        path: A file that `Subnet.export` wrote.
        backend: What runs it; by default what its format runs on.
        serial: Of the device, for backends that reach others than this machine.
        settings: Of the backend, over those that were promised for.
        tolerance: How far over the predicted latency it may be, as a fraction, where the file tells
            no prediction interval.
        plan: How well to measure.

    Raises:
        ExportError: If the file cannot be read, or promises nothing.
        ProfilerError: If the device is not there, or cannot run the file.
    """
    path, plan = Path(path), plan or _PLAN
    suffix = format_of(path)
    promise = read_provenance(path)
    predicted_ms = promise.predicted_latency_ms or 0.0
    if promise.device is None or not predicted_ms > 0:
        raise ExportError(
            f"{path} promises no latency, so there is nothing to verify; `ofa-hw specialize "
            f"--export` writes files that do, and `ofa-hw bench {path}` measures any"
        )
    with closing(_opened(backend or BACKENDS[suffix], promise.device, serial, settings)) as opened:
        device = opened.device
        is_known = device.backend in BACKENDS.values() or not isinstance(opened, FileProfiler)
        if is_known and device.backend != BACKENDS[suffix]:
            raise ProfilerError(
                f"backend {device.backend!r} cannot run {path.name}; {suffix} files run on "
                f"{BACKENDS[suffix]!r}"
            )
        if isinstance(opened, FileProfiler):
            batch, undelegated = _batch_there(path, device, is_remote=serial is not None), None
            (measurement,) = opened.measure_files({path.stem: path.read_bytes()}, plan)
        else:
            measurement, batch, undelegated = _measured_here(path, suffix, device, plan)
    device = replace(device, batch=batch)
    wanted = Header(replace(promise.device, details={}))
    differences = header_differences(wanted, Header(replace(device, details={})))
    interval = promise.predicted_interval_ms
    return Verification(
        path,
        promise,
        interval[1] if interval else (1 + tolerance) * predicted_ms,
        device,
        Statistics.of(measurement),
        tuple(differences),
        undelegated,
    )


def _opened(
    backend: str, promised: DeviceInfo, serial: str | None, settings: Mapping[str, str] | None
) -> Profiler:
    """The backend, as it was promised for as far as that is known and possible there."""

    def opened(like: Mapping[str, str], dtype: str) -> Profiler:
        options = ProfilerOptions(
            serial,
            promised.threads or 1,
            dtype,
            promised.batch or 1,
            {**like, **(settings or {})},
        )
        return open_profiler(backend, options)

    if promised.backend != backend:
        return opened({}, "fp32")
    try:
        return opened(promised.settings, promised.dtype)
    except ProfilerError as error:
        # One backend may have other settings on another kind of device.
        if type(error) is not ProfilerError or serial is None:
            raise
        return opened({}, promised.dtype)


def _batch_there(path: Path, device: DeviceInfo, *, is_remote: bool) -> int | None:
    """Images at once that a backend runs a file with; one of another device takes it as it is.

    Raises:
        ProfilerError: If the file takes any number, and one is not what was promised for.
    """
    batch = open_file(path).inputs[0].shape[0]
    if batch is None and is_remote and device.batch not in (None, 1):
        raise ProfilerError(
            f"{path} takes any number of images, which {device.backend} on {device.name} runs one "
            f"at a time, and promises a latency of {device.batch}; verify a file that was exported "
            f"with --batch {device.batch}"
        )
    return batch or device.batch


def _measured_here(
    path: Path, suffix: str, device: DeviceInfo, plan: SamplingPlan
) -> tuple[Measurement, int | None, tuple[str, ...] | None]:
    """Times a file on this machine.

    Returns:
        What was measured, images at once, and what XNNPACK did not run of the file.
    """
    threads, settings, undelegated = device.threads or 1, device.settings, None
    with ExitStack() as held:
        session: Session
        match suffix:
            case ".onnx":
                provider, level = settings["provider"], settings["optimisation"]
                session = OnnxSession(path, threads=threads, provider=provider, optimisation=level)
            case ".tflite":
                session = TfliteSession(path, threads=threads, xnnpack=settings["xnnpack"] == "on")
                undelegated = session.undelegated if settings["xnnpack"] == "on" else None
            case _:
                from ofa_hw.lowering.torch_session import TorchSession, torch_threads

                held.enter_context(torch_threads(threads))
                session = TorchSession(path, channels_last=settings["channels_last"] == "on")
        batch = device.batch or 1
        images = random_inputs(session.inputs, rng=np.random.default_rng(0), batch=batch)
        session.set_inputs(images)
        on_processor = settings.get("provider", CPU_PROVIDER) == CPU_PROVIDER
        engine = Engine([], plan, clock=SystemClock(), cpu_bound=threads == 1 and on_processor)
        (measurement,) = engine.measure({path.stem: session.invoke})
    return measurement, session.inputs[0].shape[0] or device.batch, undelegated
