"""The profiler on a device: what it measures, with which files, and what it refuses."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from loopback.cells import LARGE, QUICK, SMALL, cells, median_ns, two_cells
from loopback.device import Device
from loopback.server import AdbServer
from loopback.stubs import deadly_library, gpu_library
from loopback.tflite import VERSION

from ofa_hw.errors import (
    BackendUnavailableError,
    DeviceOutputError,
    ProfilerError,
)
from ofa_hw.graph import Graph, GraphBuilder, MaxPool, op_graph
from ofa_hw.lowering.parts import part_to_tflite
from ofa_hw.lowering.tflite import to_tflite
from ofa_hw.ops import OpSpec
from ofa_hw.profiling.types import Cell, Measurement, Profiler, SamplingPlan
from ofa_hw.testing import PROFILER_CHECKS, MakeProfiler
from ofa_hw_profilers.adb.build import build_runner
from ofa_hw_profilers.adb.profiler import AdbTfliteProfiler

pytestmark = pytest.mark.adbd

OpenProfiler = Callable[..., AdbTfliteProfiler]


def note_loads(profiler: AdbTfliteProfiler) -> list[tuple[float, list[bytes]]]:
    """A list that grows by the time and the networks of each load."""
    loads: list[tuple[float, list[bytes]]] = []
    load = profiler._session.load

    def noted(networks: Mapping[int, bytes]) -> dict[int, str]:
        remarks = load(networks)
        loads.append((time.monotonic(), list(networks.values())))
        return remarks

    profiler._session.load = noted  # type: ignore[method-assign]
    return loads


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


def test_the_time_for_all_cells_is_kept(
    device: Device, open_profiler: OpenProfiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ofa_hw_profilers.adb.profiler._GROUP_CELLS", 8)
    plan = SamplingPlan(relative_ci=0.0001, min_time_s=0.1, max_time_s=0.2, total_time_s=6.0)
    profiler = open_profiler(device)
    profiler._cpu_bound = False  # this machine may be busy, which is not what this is about
    started = time.monotonic()
    rows = list(profiler.measure(cells(200), plan))
    assert time.monotonic() - started < 14
    assert 0 < len(rows) < 200
    assert all(len(row.samples_ns) >= 6 for row in rows)


def test_the_time_for_all_cells_is_kept_inside_a_group_too(
    device: Device, open_profiler: OpenProfiler
) -> None:
    """Warming these up takes over ten times as long, and a round through them some times."""
    slow = cells(64, lambda i: OpSpec("conv", 56, 64, 64 + i, kernel_size=7))
    profiler = open_profiler(device)
    started = time.monotonic()
    loads = note_loads(profiler)
    assert list(profiler.measure(slow, SamplingPlan(total_time_s=1.0))) == []
    assert time.monotonic() - max(loads[0][0], started + 1.0) < 8


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


def taken_in_part() -> Graph:
    """A pool of signed numbers: XNNPACK takes no PADV2."""
    builder = GraphBuilder((1, 16, 14, 14))
    builder.add(MaxPool(3, 2, 1), builder.input)
    return builder.build()


def test_what_the_delegate_leaves_to_others_in_part_is_refused_by_name(
    device: Device, open_profiler: OpenProfiler
) -> None:
    profiler = open_profiler(device)
    three = [*two_cells(), Cell("partly", taken_in_part)]
    with pytest.raises(
        DeviceOutputError, match=r"partly: .* took over 1 of 2 nodes, leaving PADV2.*=note"
    ):
        list(profiler.measure(three, QUICK))
    assert len(list(profiler.measure(two_cells(), QUICK))) == 2


def test_what_the_delegate_leaves_to_others_in_part_counts_with_a_note_if_asked_for(
    device: Device, open_profiler: OpenProfiler
) -> None:
    profiler = open_profiler(device, partial_delegation="note")
    three = [*two_cells(), Cell("partly", taken_in_part)]
    noted = {row.key for row in profiler.measure(three, QUICK) if "1 of 2" in str(row.notes)}
    assert noted == {"partly"}


@pytest.mark.parametrize("partial_delegation", ["refuse", "note"])
def test_what_the_delegate_leaves_to_others_wholly_is_always_refused(
    device: Device, open_profiler: OpenProfiler, partial_delegation: str
) -> None:
    builder = GraphBuilder((1, 8, 14, 14))
    builder.add(MaxPool(1, 2), builder.input)
    graph = builder.build()
    profiler = open_profiler(device, partial_delegation=partial_delegation)
    with pytest.raises(
        DeviceOutputError, match=r"alone: .* took over none of it, leaving MAX_POOL_2D"
    ):
        list(profiler.measure([*two_cells(), Cell("alone", lambda: graph)], QUICK))
    assert len(list(profiler.measure(two_cells(), QUICK))) == 2


@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_what_is_measured_is_the_file_that_export_writes(
    device: Device, open_profiler: OpenProfiler, dtype: str
) -> None:
    profiler = open_profiler(device, dtype=dtype)
    assert profiler.device.dtype == dtype
    loads = note_loads(profiler)
    (row,) = profiler.measure([Cell("large", lambda: op_graph(LARGE))], QUICK)
    assert median_ns(row) > 0
    assert [networks for _, networks in loads] == [[part_to_tflite(op_graph(LARGE), dtype)]]


def test_half_precision_is_what_the_device_computes_in_or_refused(
    device: Device, open_profiler: OpenProfiler
) -> None:
    """TFLite 2.9 has convolutions in half precision for x86, and no global pooling."""
    profiler = open_profiler(device, dtype="fp16")
    assert len(list(profiler.measure(two_cells(), QUICK))) == 2
    pool = Cell("pool", lambda: op_graph(OpSpec("global_pool", 7, 64, 64)))
    squeezed = replace(SMALL, se_channels=8)
    excite = Cell("excite", lambda: op_graph(squeezed))
    with pytest.raises(DeviceOutputError, match=r"excite: .*failed to create XNNPACK runtime"):
        list(profiler.measure([pool, excite], QUICK))


def test_the_server_serves_as_well(
    device: Device, adb_server: AdbServer, open_profiler: OpenProfiler
) -> None:
    adb_server.adb("connect", device.serial)
    rows = list(open_profiler(device).measure(two_cells(), QUICK))
    assert len(rows) == 2


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
        ({"gpu_library": "gpu.so"}, ProfilerError, "with --set delegate=gpu, and this is ofa-run"),
        (
            {"benchmark_binary": "bm", "runner": "ofa-runner"},
            ProfilerError,
            "'bm' and runner is 'ofa-runner'.*leave out --benchmark-binary",
        ),
        ({"delegate": "tpu"}, ProfilerError, "choose from xnnpack"),
        ({"delegat": "gpu"}, ProfilerError, "did you mean 'delegate'"),
        ({"library": "/nothing.so"}, BackendUnavailableError, "no TFLite library"),
        ({"cores": "9"}, ProfilerError, r"which has \[0, 1\]"),
        ({"cool_down_s": "long"}, ProfilerError, "number of seconds"),
        ({"dtype": "int3"}, ProfilerError, "fp32, fp16, int8"),
        ({"dtype": "fp16", "delegate": "none"}, ProfilerError, "does not compute in fp16"),
        ({"dtype": "fp16", "delegate": "nnapi"}, ProfilerError, "nnapi in fp32 only"),
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


def test_the_gpus_delegate_comes_from_a_second_library(
    device: Device, open_profiler: OpenProfiler, tmp_path: Path
) -> None:
    profiler = open_profiler(device, delegate="gpu", gpu_library=str(gpu_library(tmp_path)))
    assert profiler.device.settings["delegate"] == "gpu"
    assert len(list(profiler.measure(two_cells(), QUICK))) == 2


@pytest.mark.parametrize("when", ["loaded", "run"])
def test_a_network_that_ends_the_runner_is_named_and_leaves_no_file(
    device: Device, open_profiler: OpenProfiler, library: Path, tmp_path: Path, when: str
) -> None:
    size = len(part_to_tflite(cells(8)[5].make_graph(), "fp32"))
    deadly = deadly_library(library, tmp_path, **{when: size})
    profiler = open_profiler(device, library=str(deadly))
    sentinels = set(profiler._session.loaded)
    with pytest.raises(DeviceOutputError, match=r"^cell5: ofa-runner ended"):
        list(profiler.measure(cells(8), QUICK))
    assert set(profiler._session.loaded) == sentinels
    assert len(list(profiler.measure(cells(5), QUICK))) == 5
    assert not [path.name for path in (device.data / "ofa-hw").glob("batch*")]


def test_numbers_of_networks_are_used_again(
    device: Device, open_profiler: OpenProfiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ofa_hw_profilers.adb.profiler._GROUP_CELLS", 8)
    small = build_runner("cc -DMODELS=12", output=tmp_path / "ofa-runner")
    profiler = open_profiler(device, runner_binary=str(small))
    assert len(list(profiler.measure(cells(30), QUICK))) == 30
    next(profiler.measure(cells(8), QUICK))  # and leaves the others
    assert len(list(profiler.measure(cells(8), QUICK))) == 8


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
