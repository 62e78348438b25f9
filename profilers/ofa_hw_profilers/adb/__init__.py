"""TFLite on a device over ADB: phones, and Linux boards that run adbd."""

from ofa_hw_profilers.adb.build import build_runner
from ofa_hw_profilers.adb.devices import list_devices
from ofa_hw_profilers.adb.opening import open_adb_profiler

__all__ = ["build_runner", "list_devices", "open_adb_profiler"]
