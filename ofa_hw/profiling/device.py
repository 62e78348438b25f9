"""Describes this machine: what a table's header records about where it was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

from ofa_hw.profiling.types import DeviceInfo, ProfilerOptions

UNKNOWN = "unknown"


def host_device(
    backend: str,
    runtime: str,
    runtime_version: str,
    options: ProfilerOptions,
    settings: Mapping[str, str],
) -> DeviceInfo:
    """This machine as a device of an in-process backend.

    Args:
        backend: Name of its entry point.
        runtime: The runtime library.
        runtime_version: Its version.
        options: What the user asked for.
        settings: The backend's settings, defaults written out.
    """
    return DeviceInfo(
        name=cpu_model(),
        backend=backend,
        runtime=runtime,
        runtime_version=runtime_version,
        dtype=options.dtype,
        threads=options.threads,
        batch=options.batch,
        settings=dict(settings),
        details=host_details(),
    )


def cpu_model() -> str:
    """The processor's model name, e.g. `AMD EPYC`."""
    for line in _read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Hardware", "Model") and value.strip():
            return value.strip()
    return _read("/proc/device-tree/model").strip("\0\n ") or platform.processor() or UNKNOWN


def host_details() -> dict[str, str]:
    """Facts that may change between runs on one machine; what is not known is `unknown`."""
    cores = os.cpu_count()
    frequency_khz = _read("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq").strip()
    memory_kib = next(
        (line.split()[1] for line in _read("/proc/meminfo").splitlines() if "MemTotal" in line), ""
    )
    try:
        load = f"{os.getloadavg()[0]:.2f}"
    except OSError:
        load = UNKNOWN
    return {
        "cores": str(cores) if cores else UNKNOWN,
        "usable_cores": str(_usable_cores()),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip()
        or UNKNOWN,
        "max_frequency_mhz": str(int(frequency_khz) // 1000) if frequency_khz else UNKNOWN,
        "memory_mib": str(int(memory_kib) // 1024) if memory_kib else UNKNOWN,
        "system": platform.system() or UNKNOWN,
        "kernel": platform.release() or UNKNOWN,
        "machine": platform.machine() or UNKNOWN,
        "python": platform.python_version(),
        "load_at_start": load,
    }


def _usable_cores() -> int | str:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return UNKNOWN


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
