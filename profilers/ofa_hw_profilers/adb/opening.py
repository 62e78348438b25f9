"""Opens a device for profiling: connects, asks what it is, chooses the runner, starts it."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from ofa_hw.errors import BackendUnavailableError, DeviceNotFoundError, ProfilerError
from ofa_hw.profiling.types import DeviceInfo, ProfilerOptions
from ofa_hw_profilers.adb.build import find_runner, open_gpu_library, open_library
from ofa_hw_profilers.adb.connect import connect
from ofa_hw_profilers.adb.facts import DeviceFacts, read_facts
from ofa_hw_profilers.adb.ofa_runner import OfaRunner
from ofa_hw_profilers.adb.profiler import AdbTfliteProfiler
from ofa_hw_profilers.adb.runner import Runner, RunSettings
from ofa_hw_profilers.adb.session import DeviceSession
from ofa_hw_profilers.adb.settings import AdbSettings, check_options, read_settings
from ofa_hw_profilers.adb.throttle import ThrottleGuard
from ofa_hw_profilers.adb.transport import Transport


def open_adb_profiler(
    options: ProfilerOptions, *, sleep: Callable[[float], None] = time.sleep
) -> AdbTfliteProfiler:
    """Opens TFLite on the device `options.serial`.

    Args:
        options: How to run networks. Settings: `delegate` (xnnpack, none, gpu, nnapi), `cores`
            (any, big, little, a list), `library`, `gpu_library`, `runner_binary`,
            `benchmark_binary`, `runner`, `fixed_performance` (off, on), `partial_delegation`
            (refuse, note), `cool_down_s`, `wait_s`; see `AdbSettings`.
        sleep: Waits some seconds.

    Raises:
        DeviceNotFoundError: If the device is not there or not usable; says what to do.
        BackendUnavailableError: If the runner, or TFLite for the device, is missing.
        ProfilerError: If it cannot measure with these options.
    """
    if options.serial is None:
        raise DeviceNotFoundError("name a device with --serial; ofa-hw devices lists them")
    settings = read_settings(options)
    check_options(options, settings)
    transport = connect(options.serial)
    lock = None
    try:
        lock = _lock(transport.serial)
        facts = read_facts(transport)
        runner = _runner(transport, facts, settings, options)
        session = DeviceSession(
            transport,
            runner,
            wait_s=settings.wait_s,
            fixed_performance=settings.fixed_performance,
            sleep=sleep,
            lock=lock,
        )
    except BaseException:
        transport.close()
        if lock:
            lock.close()
        raise
    try:
        session.start()
        guard = ThrottleGuard(session.snapshot, cool_down_s=settings.cool_down_s, sleep=sleep)
        device = DeviceInfo(
            name=facts.name,
            backend="tflite",
            runtime="tflite",
            runtime_version=runner.version,
            dtype=options.dtype,
            threads=options.threads,
            batch=options.batch,
            # Rows of two phones of one model, or of two builds, do not mix.
            settings={**settings.recorded, "unit": facts.unit, **runner.digests},
            details={**facts.details, **guard.start.details, "soc": facts.soc},
        )
        profiler = AdbTfliteProfiler(
            session,
            device,
            guard,
            visit_ns=runner.visit_ns,
            takes_parts=settings.takes_parts,
            cpu_bound=options.threads == 1 and settings.delegate in ("xnnpack", "none"),
        )
        profiler.load_sentinels()
    except BaseException:
        session.close()
        raise
    return profiler


def _runner(
    transport: Transport, facts: DeviceFacts, settings: AdbSettings, options: ProfilerOptions
) -> Runner:
    run_settings = RunSettings(
        delegate=settings.delegate,
        half=options.dtype == "fp16",
        threads=options.threads,
        cpus=facts.pick_cores(settings.cores),
    )
    if settings.runner == "benchmark_model":
        from ofa_hw_profilers.adb.benchmark_model import open_benchmark_model

        return open_benchmark_model(transport, settings.benchmark_binary, run_settings)
    if settings.library is None:
        raise BackendUnavailableError(
            f"ofa-runner needs a TFLite C library for {facts.abi}: --set library=PATH, a "
            "libtensorflowlite_c.so or the tensorflow-lite AAR; or use Google's benchmark_model "
            "with --benchmark-binary PATH"
        )
    program = settings.runner_binary or find_runner(facts)
    try:
        code = program.read_bytes()
    except OSError as error:
        raise BackendUnavailableError(f"ofa-runner {program} cannot be read: {error}") from error
    libraries = dict(open_library(settings.library, facts))
    if settings.gpu_library:
        libraries.update(open_gpu_library(settings.gpu_library, facts))
    return OfaRunner(code, libraries, run_settings)


def _lock(serial: str) -> IO[str]:
    """Keeps other runs on this machine off a device.

    Raises:
        ProfilerError: If one is at it.
    """
    folder = Path(os.environ.get("XDG_RUNTIME_DIR", tempfile.gettempdir()))
    name = re.sub(r"[^\w.-]", "_", serial)
    lock = (folder / f"ofa-hw-{os.getuid()}-{name}.lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        owner = lock.read().strip() or "another process"
        lock.close()
        raise ProfilerError(
            f"process {owner} of this machine is profiling {serial!r}; two at once would distort "
            "each other"
        ) from error
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock
