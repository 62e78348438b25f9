"""What heat, clocks and the screen do to a measurement, and what is undone at the end."""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from loopback.cells import QUICK, two_cells
from loopback.device import Device
from loopback.shown import BATTERY, thermal_service

from ofa_hw.errors import ProfilerError
from ofa_hw.profiling.types import Measurement, ProfilerOptions, SamplingPlan
from ofa_hw_profilers.adb.opening import open_adb_profiler
from ofa_hw_profilers.adb.profiler import AdbTfliteProfiler

pytestmark = pytest.mark.adbd

OpenProfiler = Callable[..., AdbTfliteProfiler]
OpenWatched = Callable[[Callable[[float], object]], AdbTfliteProfiler]
LONG = SamplingPlan(relative_ci=0.0001, min_time_s=0.6, max_time_s=0.6)


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


def test_fixed_performance_that_the_device_refuses_is_never_recorded_as_on(
    device: Device, open_profiler: OpenProfiler
) -> None:
    device.answer("cmd.power.fails", "Failed to set FIXED_PERFORMANCE mode\n")
    with pytest.raises(ProfilerError, match=r"Failed to set FIXED.*leave out --set fixed"):
        open_profiler(device, fixed_performance="on")
    assert device.listing() == []


def test_after_a_reboot_fixed_performance_is_asked_for_until_androids_services_run(
    device: Device, open_profiler: OpenProfiler
) -> None:
    profiler = open_profiler(device, fixed_performance="on")
    rows = profiler.measure(two_cells(), QUICK)
    device.answer("cmd.power.fails", "cmd: Can't find service: power\n")
    before = len(device.commands())
    device.reboot()
    timer = threading.Timer(2.0, device.take_back, ["cmd.power.fails"])
    timer.start()
    assert len(list(rows)) == 2
    timer.join()
    asked = device.commands()[before:]
    assert asked.count("power set-fixed-performance-mode-enabled true") >= 2


def test_fixed_performance_of_a_killed_run_is_restored_at_the_next_start(
    device: Device, open_profiler: OpenProfiler
) -> None:
    first = open_profiler(device, fixed_performance="on")
    first._session._lock.close()  # type: ignore[union-attr]  # as if its process had died
    open_profiler(device)
    assert device.commands()[-1] == "power set-fixed-performance-mode-enabled false"


@pytest.fixture
def open_watched(
    device: Device, library: Path, ofa_runner: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OpenWatched]:
    """Opens a profiler that looks at the device after every round, and waits by a function."""
    # The noise of the machine under the device is not what this is about.
    monkeypatch.setattr("ofa_hw_profilers.adb.throttle._SLOW", 1e9)
    opened: list[AdbTfliteProfiler] = []

    def open_on(sleep: Callable[[float], object]) -> AdbTfliteProfiler:
        settings = {"library": str(library), "runner_binary": str(ofa_runner), "cool_down_s": "33"}
        options = ProfilerOptions(device.serial, settings=settings)
        opened.append(open_adb_profiler(options, sleep=sleep))  # type: ignore[arg-type]
        opened[-1]._guard._interval_s = 0.0
        return opened[-1]

    yield open_on
    for profiler in opened:
        profiler.close()


def meanwhile(profiler: AdbTfliteProfiler, change: Callable[[], object]) -> list[Measurement]:
    """Measures two cells, and changes the device as soon as some rounds have been made."""
    accepts, rounds = profiler._guard.accepts, 0

    def counted(levels_ns: Sequence[float]) -> bool:
        nonlocal rounds
        rounds += 1
        if rounds == 4:
            threading.Thread(target=change).start()  # while the next rounds are under way
        return accepts(levels_ns)

    profiler._guard.accepts = counted  # type: ignore[method-assign]
    rows = list(profiler.measure(two_cells(), LONG))
    assert rounds > 7
    return rows


def test_a_device_that_gets_hot_cools_down_twice_and_is_marked(
    device: Device, open_watched: OpenWatched
) -> None:
    slept: list[float] = []
    profiler = open_watched(slept.append)
    rows = meanwhile(profiler, lambda: device.answer("dumpsys.thermalservice", thermal_service(2)))
    assert slept == [33.0, 33.0]
    for row in rows:
        assert "2 rounds repeated after cooling down" in row.notes
        assert any("throttled: thermal status 2 (moderate)" in note for note in row.notes)


def test_a_device_that_cools_down_in_time_is_not_marked(
    device: Device, open_watched: OpenWatched
) -> None:
    limit = "devices/system/cpu/cpu1/cpufreq/scaling_max_freq"
    profiler = open_watched(lambda _: device.sysfs(limit, "2400000\n"))
    rows = meanwhile(profiler, lambda: device.sysfs(limit, "1200000\n"))
    assert profiler._guard.cool_downs == 1
    for row in rows:
        assert "1 rounds repeated after cooling down" in row.notes
        assert not any("limited" in note for note in row.notes)


def test_a_screen_that_comes_on_and_a_charger_that_goes_are_noted(
    device: Device, open_watched: OpenWatched
) -> None:
    def use() -> None:
        device.answer("dumpsys.power", "Display Power: state=ON\n")
        device.answer("dumpsys.battery", BATTERY.replace("USB powered: true", "USB powered: false"))

    profiler = open_watched(lambda _: None)
    assert not any("screen" in note for row in profiler.measure(two_cells(), QUICK)
                   for note in row.notes)  # fmt: skip
    for row in meanwhile(profiler, use):
        assert any("screen ON, at the start OFF" in note for note in row.notes)
        assert any("power battery, at the start USB" in note for note in row.notes)


def test_a_long_round_is_looked_into(
    device: Device, open_watched: OpenWatched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ofa_hw_profilers.adb.throttle._WATCH_S", 0.0)
    monkeypatch.setattr("ofa_hw_profilers.adb.engine._REQUEST_NS", 1.0)
    profiler = open_watched(lambda _: None)
    profiler._guard._interval_s = 1e9  # never between rounds
    rows = meanwhile(profiler, lambda: device.answer("dumpsys.power", "Display Power: state=ON\n"))
    assert all(any("screen ON" in note for note in row.notes) for row in rows)
