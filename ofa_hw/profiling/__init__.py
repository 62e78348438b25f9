"""Profiling: what a backend is, and how a latency is measured."""

from ofa_hw.profiling.clock import Clock, SystemClock
from ofa_hw.profiling.in_process import InProcessProfiler
from ofa_hw.profiling.registry import backend_names, list_devices, open_profiler
from ofa_hw.profiling.sampling import Engine, Runnable
from ofa_hw.profiling.types import (
    Cell,
    DeviceInfo,
    FileProfiler,
    ListedDevice,
    Measurement,
    Profiler,
    ProfilerOptions,
    SamplingPlan,
)

__all__ = [
    "Cell",
    "Clock",
    "DeviceInfo",
    "Engine",
    "FileProfiler",
    "InProcessProfiler",
    "ListedDevice",
    "Measurement",
    "Profiler",
    "ProfilerOptions",
    "Runnable",
    "SamplingPlan",
    "SystemClock",
    "backend_names",
    "list_devices",
    "open_profiler",
]
