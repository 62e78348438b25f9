"""What heat, clocks and the screen do to a measurement, and what is undone at the end."""

from collections.abc import Callable
from pathlib import Path

import pytest
from loopback.cells import QUICK, two_cells
from loopback.device import Device
from loopback.shown import BATTERY, thermal_service

from ofa_hw.profiling.types import ProfilerOptions
from ofa_hw_profilers.adb.opening import open_adb_profiler
from ofa_hw_profilers.adb.profiler import AdbTfliteProfiler

pytestmark = pytest.mark.adbd

OpenProfiler = Callable[..., AdbTfliteProfiler]


def test_fixed_performance_is_restored(device: Device, open_profiler: OpenProfiler) -> None:
    profiler = open_profiler(device, fixed_performance="on")
    assert device.commands() == ["power set-fixed-performance-mode-enabled true"]
    profiler.close()
    assert device.commands()[-1] == "power set-fixed-performance-mode-enabled false"


def test_fixed_performance_is_asked_for_again_after_a_reboot(
    device: Device, open_profiler: OpenProfiler
) -> None:
    profiler = open_profiler(device, fixed_performance="on")
    rows = profiler.measure(two_cells(), QUICK)
    device.reboot()
    assert len(list(rows)) == 2
    assert profiler._session.breaks >= 1
    assert device.commands()[-1] == "power set-fixed-performance-mode-enabled true"
    profiler.close()
    assert device.commands()[-1] == "power set-fixed-performance-mode-enabled false"


def test_fixed_performance_of_a_killed_run_is_restored_at_the_next_start(
    device: Device, open_profiler: OpenProfiler
) -> None:
    first = open_profiler(device, fixed_performance="on")
    first._session._lock.close()  # type: ignore[union-attr]  # as if its process had died
    open_profiler(device)
    assert device.commands()[-1] == "power set-fixed-performance-mode-enabled false"


def test_a_device_that_gets_hot_cools_down_twice_and_is_marked(
    device: Device, library: Path, ofa_runner: Path
) -> None:
    slept: list[float] = []
    settings = {"library": str(library), "runner_binary": str(ofa_runner), "cool_down_s": "33"}
    options = ProfilerOptions(device.serial, settings=settings)
    profiler = open_adb_profiler(options, sleep=slept.append)
    guard = profiler._guard
    guard._interval_s = 0.0  # look after every round
    device.answer("dumpsys.thermalservice", thermal_service(2))
    rows = list(profiler.measure(two_cells(), QUICK))
    assert slept == [33.0, 33.0]
    for row in rows:
        assert "2 rounds repeated after cooling down" in row.notes
        assert any("throttled: thermal status 2 (moderate)" in note for note in row.notes)
    profiler.close()


def test_a_device_that_cools_down_in_time_is_not_marked(
    device: Device, library: Path, ofa_runner: Path
) -> None:
    def cool(_: float) -> None:
        device.sysfs("devices/system/cpu/cpu1/cpufreq/scaling_max_freq", "2400000\n")

    settings = {"library": str(library), "runner_binary": str(ofa_runner), "cool_down_s": "33"}
    profiler = open_adb_profiler(ProfilerOptions(device.serial, settings=settings), sleep=cool)
    profiler._guard._interval_s = 0.0
    profiler._guard._best_ns = 1e12  # the machine's own noise is not what this is about
    device.sysfs("devices/system/cpu/cpu1/cpufreq/scaling_max_freq", "1200000\n")
    rows = list(profiler.measure(two_cells(), QUICK))
    assert profiler._guard.cool_downs >= 1
    assert all("1 rounds repeated after cooling down" in row.notes for row in rows)
    profiler.close()


def test_a_screen_that_comes_on_and_a_charger_that_goes_are_noted(
    device: Device, open_profiler: OpenProfiler
) -> None:
    profiler = open_profiler(device)
    profiler._guard._interval_s = 0.0
    assert not any("screen" in note for row in profiler.measure(two_cells(), QUICK)
                   for note in row.notes)  # fmt: skip
    device.answer("dumpsys.power", "Display Power: state=ON\n")
    device.answer("dumpsys.battery", BATTERY.replace("USB powered: true", "USB powered: false"))
    for row in profiler.measure(two_cells(), QUICK):
        assert any("screen ON, at the start OFF" in note for note in row.notes)
        assert any("power battery, at the start USB" in note for note in row.notes)
