"""From end to end on an emulated arm64 device: every program on it, adbd included, is arm64's."""

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from loopback.arm64 import binfmt_registration, cross_compiler
from loopback.device import Device
from loopback.packages import DeviceSetupError
from loopback.tflite import VERSION, tflite_library

from ofa_hw.errors import BackendUnavailableError
from ofa_hw.graph import op_graph
from ofa_hw.ops import OpSpec
from ofa_hw.profiling.types import Cell, ProfilerOptions, SamplingPlan
from ofa_hw_profilers.adb import build_runner, open_adb_profiler

pytestmark = [pytest.mark.adbd, pytest.mark.slow]

PLAN = SamplingPlan(relative_ci=0.5, min_time_s=0.001, max_time_s=0.2)


@pytest.fixture
def arm64_device(make_device: Callable[..., Device]) -> Device:
    try:
        registration = binfmt_registration()
    except DeviceSetupError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    return make_device(
        arch="arm64", foreign=registration, properties={"ro.product.cpu.abi": "arm64-v8a"}
    )


def test_a_table_is_filled_on_an_arm64_device(arm64_device: Device, tmp_path: Path) -> None:
    runner = build_runner(str(cross_compiler()), output=tmp_path / "ofa-runner")
    settings = {"library": str(tflite_library("arm64")), "runner_binary": str(runner)}
    options = ProfilerOptions(arm64_device.serial, settings={**settings, "cool_down_s": "0"})
    cells = [
        Cell(f"{k}", lambda k=k: op_graph(OpSpec("mbconv", 14, 8, 8, 16, kernel_size=k)))  # type: ignore[misc]
        for k in (3, 5)
    ]
    with closing(open_adb_profiler(options)) as profiler:
        assert profiler.device.details["machine"] == "aarch64"
        assert profiler.device.runtime_version == VERSION
        rows = list(profiler.measure(cells, PLAN))
    assert sorted(row.key for row in rows) == ["3", "5"]
    assert all(min(row.samples_ns) > 0 for row in rows)
    assert arm64_device.listing() == []


def test_a_library_of_another_processor_is_refused(arm64_device: Device, tmp_path: Path) -> None:
    runner = build_runner(str(cross_compiler()), output=tmp_path / "ofa-runner")
    settings = {"library": str(tflite_library("amd64")), "runner_binary": str(runner)}
    with pytest.raises(BackendUnavailableError, match=r"for x86_64, and .* needs .* arm64-v8a"):
        open_adb_profiler(ProfilerOptions(arm64_device.serial, settings=settings))
