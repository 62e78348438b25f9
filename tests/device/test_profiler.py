"""The profiler on a device: rows, breaks of every kind, and what it leaves behind."""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from loopback.device import Device, thermal_service, wait_for
from loopback.server import AdbServer
from loopback.tflite import VERSION

from ofa_hw.errors import BackendUnavailableError, DeviceNotFoundError, ProfilerError
from ofa_hw.graph import op_graph
from ofa_hw.lowering.tflite import to_tflite
from ofa_hw.ops import OpSpec
from ofa_hw.profiling.types import Cell, Measurement, Profiler, ProfilerOptions, SamplingPlan
from ofa_hw.testing import PROFILER_CHECKS, MakeProfiler
from ofa_hw_profilers.adb.failures import DeviceFullError
from ofa_hw_profilers.adb.opening import open_adb_profiler
from ofa_hw_profilers.adb.profiler import AdbTfliteProfiler

pytestmark = pytest.mark.adbd

OpenProfiler = Callable[..., AdbTfliteProfiler]

SMALL = OpSpec("mbconv", 14, 16, 16, 32, kernel_size=3, activation="relu")
LARGE = OpSpec("mbconv", 28, 48, 48, 144, kernel_size=5, activation="relu")
QUICK = SamplingPlan(relative_ci=0.2, min_time_s=0.002, max_time_s=0.05)


def cells(count: int, make: Callable[[int], OpSpec] | None = None) -> list[Cell]:
    """Cells that differ in their channels."""
    make = make or (lambda i: OpSpec("mbconv", 14, 8, 8, 8 + 8 * i, kernel_size=3))
    return [Cell(f"cell{i}", lambda i=i: op_graph(make(i))) for i in range(count)]  # type: ignore[misc]


def two_cells() -> list[Cell]:
    return [Cell("small", lambda: op_graph(SMALL)), Cell("large", lambda: op_graph(LARGE))]


def median_ns(measurement: Measurement) -> float:
    return float(np.median(measurement.samples_ns))


def test_a_device_is_a_profiler_with_a_full_description(
    device: Device, open_profiler: OpenProfiler
) -> None:
    profiler = open_profiler(device, threads="2")
    assert isinstance(profiler, Profiler)
    described = profiler.device
    assert described.name == "ofa_hw Loopback 1"
    assert (described.backend, described.runtime) == ("tflite", "tflite")
    assert described.runtime_version == VERSION
    assert described.threads == 2
    assert described.settings["runner"] == "ofa-runner"
    assert described.details["soc"] == "Debian trixie"
    assert described.details["clusters"] == "1x1800MHz 1x2400MHz"
    assert described.details["battery_percent"] == "87"
    assert described.details["screen"] == "OFF"


@pytest.mark.parametrize("check", PROFILER_CHECKS, ids=lambda check: check.__name__)
def test_it_conforms(
    device: Device, open_profiler: OpenProfiler, check: Callable[[MakeProfiler], None]
) -> None:
    check(lambda options: open_profiler(device, dtype=options.dtype, **options.settings))


def test_the_time_for_all_cells_is_kept(device: Device, open_profiler: OpenProfiler) -> None:
    plan = SamplingPlan(relative_ci=0.0001, min_time_s=0.1, max_time_s=0.2, total_time_s=6.0)
    profiler = open_profiler(device)
    started = time.monotonic()
    rows = list(profiler.measure(cells(200), plan))
    assert time.monotonic() - started < 14
    assert 0 < len(rows) < 200
    assert all(len(row.samples_ns) >= 6 for row in rows)


def test_a_larger_block_takes_longer_and_every_row_comes_once(
    device: Device, open_profiler: OpenProfiler
) -> None:
    seen: list[tuple[int, int]] = []
    profiler = open_profiler(device)
    rows = list(profiler.measure(two_cells(), QUICK, progress=lambda *at: seen.append(at)))
    by_key = {row.key: row for row in rows}
    assert sorted(by_key) == ["large", "small"]
    assert seen == [(1, 2), (2, 2)]
    assert median_ns(by_key["large"]) > 3 * median_ns(by_key["small"])
    assert all(row.visits >= 6 and len(row.samples_ns) >= 6 for row in rows)


def test_a_file_is_measured_as_it_is(device: Device, open_profiler: OpenProfiler) -> None:
    model = to_tflite(op_graph(LARGE))
    (row,) = open_profiler(device).measure_files({"exported": model}, QUICK)
    assert row.key == "exported"
    assert median_ns(row) > 0


def test_a_file_that_is_no_network_is_refused_with_the_devices_words(
    device: Device, open_profiler: OpenProfiler
) -> None:
    profiler = open_profiler(device)
    with pytest.raises(ProfilerError, match="is no network"):
        list(profiler.measure_files({"broken": b"x" * 4096}, QUICK))
    assert len(list(profiler.measure(two_cells(), QUICK))) == 2


def test_the_server_serves_as_well(
    device: Device, adb_server: AdbServer, open_profiler: OpenProfiler
) -> None:
    adb_server.adb("connect", device.serial)
    rows = list(open_profiler(device).measure(two_cells(), QUICK))
    assert len(rows) == 2


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


def test_cores_are_kept_and_checked(device: Device, open_profiler: OpenProfiler) -> None:
    profiler = open_profiler(device, cores="big")
    (pid,) = device.pids("ofa-runner")
    status = Path(f"/proc/{pid}/status").read_text()
    assert "Cpus_allowed_list:\t1\n" in status
    assert profiler.device.settings["cores"] == "big"


def test_big_cores_are_refused_where_all_are_alike(
    make_device: Callable[..., Device], open_profiler: OpenProfiler
) -> None:
    device = make_device(clusters=((2, 1_800_000),))
    with pytest.raises(ProfilerError, match="no big and little cores"):
        open_profiler(device, cores="big")


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"delegate": "gpu"}, ProfilerError, "has no delegate gpu"),
        ({"delegate": "nnapi"}, ProfilerError, "has no delegate nnapi"),
        ({"delegate": "tpu"}, ProfilerError, "choose from xnnpack"),
        ({"delegat": "gpu"}, ProfilerError, "did you mean 'delegate'"),
        ({"library": "/nothing.so"}, BackendUnavailableError, "no TFLite library"),
        ({"cores": "9"}, ProfilerError, r"which has \[0, 1\]"),
        ({"cool_down_s": "long"}, ProfilerError, "number of seconds"),
        ({"dtype": "int3"}, ProfilerError, "fp32, fp16"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_the_device_cannot_do_is_refused_and_leaves_nothing(
    device: Device,
    open_profiler: OpenProfiler,
    settings: dict[str, str],
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        open_profiler(device, **settings)
    assert device.listing() == []


def test_fixed_performance_is_restored(device: Device, open_profiler: OpenProfiler) -> None:
    profiler = open_profiler(device, fixed_performance="on")
    assert device.commands() == ["power set-fixed-performance-mode-enabled true"]
    profiler.close()
    assert device.commands()[-1] == "power set-fixed-performance-mode-enabled false"


def test_fixed_performance_of_a_killed_run_is_restored_at_the_next_start(
    device: Device, open_profiler: OpenProfiler
) -> None:
    first = open_profiler(device, fixed_performance="on")
    first._session._lock.close()  # type: ignore[union-attr]  # as if its process had died
    open_profiler(device)
    assert device.commands()[-1] == "power set-fixed-performance-mode-enabled false"


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


def test_two_devices_are_profiled_side_by_side(
    make_device: Callable[..., Device], open_profiler: OpenProfiler
) -> None:
    devices = [make_device(), make_device(properties={"ro.product.model": "Loopback 2"})]
    profilers = [open_profiler(device) for device in devices]
    results: dict[str, list[Measurement]] = {}

    def work(profiler: AdbTfliteProfiler) -> None:
        results[profiler.device.name] = list(profiler.measure(two_cells(), QUICK))

    threads = [threading.Thread(target=work, args=[profiler]) for profiler in profilers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: len(rows) for name, rows in results.items()} == {
        "ofa_hw Loopback 1": 2,
        "ofa_hw Loopback 2": 2,
    }


@pytest.mark.slow
def test_five_disconnects_lose_none_of_200_rows(
    device: Device, open_profiler: OpenProfiler
) -> None:
    profiler = open_profiler(device)

    def noticed(count: int) -> bool:
        return profiler._session.breaks >= count

    def pull_five_times() -> None:
        for count in range(5):
            wait_for(partial(noticed, count), "a pull goes unnoticed")
            time.sleep(0.2)
            device.cut()
            time.sleep(0.4)
            device.plug()

    puller = threading.Thread(target=pull_five_times)

    def begin(done: int, _: int) -> None:
        if done == 1:
            puller.start()

    plan = SamplingPlan(relative_ci=0.2, min_time_s=0.002, max_time_s=0.02)
    rows = list(profiler.measure(cells(200), plan, progress=begin))
    puller.join()
    assert sorted(row.key for row in rows) == sorted(f"cell{i}" for i in range(200))
    assert profiler._session.breaks == 5
    by_channels = [median_ns(next(row for row in rows if row.key == f"cell{i}")) for i in (0, 199)]
    assert by_channels[1] > 2 * by_channels[0]
    profiler.close()
    assert device.listing() == []
    assert device.pids("ofa-runner") == []
