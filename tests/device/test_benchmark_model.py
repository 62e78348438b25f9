"""Google's benchmark_model on a device, behind the same seam as ofa-runner.

Only these tests need the program itself, whose source can vanish from where it is fetched; they
are the ones that may be skipped even in CI, which is said at the end of the run.
"""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from loopback.benchmark_model import benchmark_model
from loopback.device import Device
from loopback.packages import DeviceSetupError

from ofa_hw.errors import BackendUnavailableError, DeviceOutputError
from ofa_hw.graph import op_graph
from ofa_hw.ops import OpSpec
from ofa_hw.profiling.types import Cell, ProfilerOptions, SamplingPlan
from ofa_hw_profilers.adb import open_adb_profiler

pytestmark = [pytest.mark.adbd, pytest.mark.benchmark_model]

PLAN = SamplingPlan(relative_ci=0.3, min_time_s=0.02, max_time_s=0.4)
ON_DEVICE = "/data/local/tmp/bm/benchmark_model"


@pytest.fixture(scope="session")
def program() -> Path:
    try:
        return benchmark_model()
    except DeviceSetupError as error:
        pytest.skip(f"benchmark_model cannot be built: {error}")


@pytest.fixture
def equipped(device: Device, program: Path) -> Device:
    """A device with benchmark_model on it."""
    shutil.copytree(program, device.data / "bm")
    return device


def options(device: Device, **settings: str) -> ProfilerOptions:
    chosen = {"benchmark_binary": ON_DEVICE, "delegate": "none", "cool_down_s": "0"}
    return ProfilerOptions(device.serial, settings={**chosen, **settings})


def cells() -> Iterator[Cell]:
    for size in (7, 14):
        op = OpSpec("mbconv", size, 16, 16, 32, kernel_size=3, activation="relu")
        yield Cell(str(size), lambda op=op: op_graph(op))  # type: ignore[misc]


def test_a_table_is_filled_and_nothing_is_left(equipped: Device) -> None:
    with closing(open_adb_profiler(options(equipped))) as profiler:
        assert profiler.device.settings["runner"] == "benchmark_model"
        assert profiler.device.runtime_version.startswith("benchmark_model-")
        rows = {row.key: float(np.median(row.samples_ns)) for row in
                profiler.measure(list(cells()), PLAN)}  # fmt: skip
    assert sorted(rows) == ["14", "7"]
    assert rows["14"] > 2 * rows["7"]
    assert equipped.listing() == ["bm"]


def test_a_killed_program_is_started_again(equipped: Device) -> None:
    with closing(open_adb_profiler(options(equipped))) as profiler:
        rows = profiler.measure(list(cells()), PLAN)
        assert equipped.kill("sh") > 0
        assert len(list(rows)) == 2
        assert profiler._session.breaks >= 1


def test_a_flag_that_it_does_not_know_is_refused(equipped: Device) -> None:
    with pytest.raises(DeviceOutputError, match="--use_xnnpack"):
        open_adb_profiler(options(equipped, delegate="xnnpack"))
    assert equipped.listing() == ["bm"]


@pytest.mark.parametrize("path", ["/data/nothing", "./nothing-here"])
def test_a_program_that_is_nowhere_is_named(equipped: Device, path: str) -> None:
    with pytest.raises(BackendUnavailableError, match="neither here nor on device"):
        open_adb_profiler(options(equipped, benchmark_binary=path))


def test_a_program_that_is_something_else_is_refused(equipped: Device, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("#!/system/bin/sh\necho I am another program\n")
    with pytest.raises(DeviceOutputError, match=r"no flag --graph.*another program"):
        open_adb_profiler(options(equipped, benchmark_binary=str(tmp_path / "other")))
    assert equipped.listing() == ["bm"]
