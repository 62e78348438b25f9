"""Breaks of every kind, and what a run leaves behind on the device."""

import random
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from loopback.cells import QUICK, cells, median_ns, two_cells
from loopback.device import Device, wait_for
from loopback.server import AdbServer

from ofa_hw.errors import (
    DeviceFullError,
    DeviceNotFoundError,
    ProfilerError,
)
from ofa_hw.ops import OpSpec
from ofa_hw.profiling.types import Measurement, SamplingPlan
from ofa_hw_profilers.adb.profiler import AdbTfliteProfiler

pytestmark = pytest.mark.adbd

OpenProfiler = Callable[..., AdbTfliteProfiler]


def test_nothing_is_left_on_the_device(device: Device, open_profiler: OpenProfiler) -> None:
    profiler = open_profiler(device)
    list(profiler.measure(two_cells(), QUICK))
    assert device.listing() == ["ofa-hw"]
    profiler.close()
    profiler.close()
    assert device.listing() == []
    assert device.pids("ofa-runner") == []


def test_what_a_broken_run_left_goes_at_the_next_start(
    device: Device, open_profiler: OpenProfiler
) -> None:
    profiler = open_profiler(device)
    assert device.listing() == ["ofa-hw"]
    profiler._session._lock.close()  # type: ignore[union-attr]  # as if its process had died
    (device.data / "ofa-hw/stale").write_text("left")
    second = open_profiler(device)
    second.close()
    assert device.listing() == []
    assert device.pids("ofa-runner") == []


def test_two_runs_on_one_device_are_refused(device: Device, open_profiler: OpenProfiler) -> None:
    open_profiler(device)
    with pytest.raises(ProfilerError, match="two at once would distort"):
        open_profiler(device)


BREAKS: dict[str, Callable[[Device], object]] = {
    "adbd killed": lambda d: d.kill("adbd"),
    "runner killed": lambda d: d.kill("ofa-runner"),
    "reboot": Device.reboot,
    "cable pulled for a second": lambda d: (d.cut(), threading.Timer(1, d.plug).start()),
}


@pytest.mark.usefixtures("serial")  # over both transports
@pytest.mark.parametrize("break_it", BREAKS.values(), ids=BREAKS.keys())
def test_a_break_in_the_middle_of_a_batch_loses_no_row(
    device: Device, open_profiler: OpenProfiler, break_it: Callable[[Device], object]
) -> None:
    profiler = open_profiler(device)
    plan = SamplingPlan(relative_ci=0.0001, min_time_s=0.02, max_time_s=0.2)
    timer = threading.Timer(0.6, break_it, [device])
    timer.start()
    rows = list(profiler.measure(cells(12), plan))
    timer.join()
    assert sorted(row.key for row in rows) == sorted(f"cell{i}" for i in range(12))
    assert profiler._session.breaks >= 1
    profiler.close()
    assert device.listing() == []
    wait_for(lambda: not device.pids("ofa-runner"), "the runner lives on")


def test_a_server_restart_in_the_middle_of_a_batch_loses_no_row(
    device: Device, adb_server: AdbServer, open_profiler: OpenProfiler
) -> None:
    adb_server.adb("connect", device.serial)
    profiler = open_profiler(device)

    def restart() -> None:
        adb_server.kill()
        adb_server.start()
        adb_server.adb("connect", device.serial)

    plan = SamplingPlan(relative_ci=0.0001, min_time_s=0.02, max_time_s=0.2)
    timer = threading.Timer(0.6, restart)
    timer.start()
    rows = list(profiler.measure(cells(12), plan))
    timer.join()
    assert len(rows) == 12
    assert profiler._session.breaks >= 1


def test_a_device_that_stays_away_ends_the_run_within_the_wait(
    device: Device, open_profiler: OpenProfiler
) -> None:
    profiler = open_profiler(device, wait_s="1")
    rows: Iterator[Measurement] = profiler.measure(cells(70), QUICK)
    first = next(rows)
    device.cut()
    with pytest.raises(DeviceNotFoundError, match="gave up after 1 s"):
        for _ in rows:
            pass
    assert first.samples_ns
    device.plug()


def test_a_network_that_does_not_fit_halves_the_batch(
    make_device: Callable[..., Device], open_profiler: OpenProfiler
) -> None:
    device = make_device(data_size="9m")  # the library takes 4 of it
    profiler = open_profiler(device)
    # each has about 1 MB of weights
    wide = cells(8, lambda i: OpSpec("conv", 7, 400 + 8 * i, 600, kernel_size=1))
    rows = list(profiler.measure(wide, QUICK))
    assert len(rows) == 8
    profiler.close()
    assert device.listing() == []


def test_a_frozen_cable_is_given_up_and_the_visit_repeated(
    device: Device, open_profiler: OpenProfiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ofa_hw_profilers.adb.engine._LEAST_TIMEOUT_S", 1.0)
    profiler = open_profiler(device)
    threading.Timer(0.3, device.freeze).start()
    threading.Timer(3.0, device.thaw).start()
    plan = SamplingPlan(relative_ci=0.0001, min_time_s=0.02, max_time_s=0.1)
    rows = list(profiler.measure(cells(12), plan))
    assert len(rows) == 12
    assert profiler._session.breaks >= 1


def test_one_network_that_does_not_fit_ends_the_run_and_leaves_nothing(
    make_device: Callable[..., Device], open_profiler: OpenProfiler
) -> None:
    device = make_device(data_size="6m")
    profiler = open_profiler(device)
    huge = cells(1, lambda _: OpSpec("conv", 7, 1000, 1000, kernel_size=1))
    with pytest.raises(DeviceFullError, match="no room"):
        list(profiler.measure(huge, QUICK))
    assert len(list(profiler.measure(two_cells(), QUICK))) == 2
    profiler.close()
    assert device.listing() == []


class Saboteur(threading.Thread):
    """Pulls the cable five times, at random moments, for half a second each.

    Attributes:
        pulls: How often it has.
    """

    def __init__(self, device: Device, profiler: AdbTfliteProfiler) -> None:
        super().__init__()
        self.pulls = 0
        self._device = device
        self._profiler = profiler
        self._random = random.Random(0)
        self._is_over = threading.Event()

    def run(self) -> None:
        """Pulls it again a while after the last pull has been noticed."""
        while self.pulls < 5 and not self._is_over.wait(self._random.uniform(0.2, 1.5)):
            noticed = self._profiler._session.breaks
            self._device.cut()
            self.pulls += 1
            self._is_over.wait(0.5)
            self._device.plug()
            while self._profiler._session.breaks == noticed and not self._is_over.wait(0.05):
                pass

    def stop(self) -> None:
        """Lets it pull no more."""
        self._is_over.set()
        self.join()


@pytest.mark.slow
def test_five_disconnects_leave_200_right_rows_and_nothing_on_the_device(
    device: Device, open_profiler: OpenProfiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ofa_hw_profilers.adb.profiler._GROUP_CELLS", 16)
    plan = SamplingPlan(relative_ci=0.2, min_time_s=0.002, max_time_s=0.02)

    def fill(profiler: AdbTfliteProfiler) -> dict[str, float]:
        rows = list(profiler.measure(cells(200), plan))
        profiler.close()
        assert len(rows) == 200
        # As multiples of the sentinel's: the machine may be of another speed a minute later.
        return {row.key: median_ns(row) / (row.sentinel_ns or 0) for row in rows}

    profiler = open_profiler(device)
    saboteur = Saboteur(device, profiler)
    saboteur.start()
    try:
        disturbed = fill(profiler)
    finally:
        saboteur.stop()
    assert saboteur.pulls == 5
    assert profiler._session.breaks >= 5
    assert device.listing() == []
    assert device.pids("ofa-runner") == []
    undisturbed = fill(open_profiler(device))
    keys = [f"cell{i}" for i in range(200)]
    assert sorted(disturbed) == sorted(undisturbed) == sorted(keys)
    ratios = np.array([disturbed[key] / undisturbed[key] for key in keys])
    assert 1 / 2 < ratios.min() <= ratios.max() < 2
    ranks = [
        np.argsort(np.argsort([rows[key] for key in keys])) for rows in (disturbed, undisturbed)
    ]
    assert np.corrcoef(*ranks)[0, 1] > 0.97
