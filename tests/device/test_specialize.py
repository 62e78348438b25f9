"""The device in the loop of a search: what ships is what it ran within the budget."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from loopback.device import Device

from ofa_hw import load_table, profile, specialize
from ofa_hw.errors import InfeasibleError
from ofa_hw.profiling import SamplingPlan
from ofa_hw.search import latency_range
from ofa_hw.spaces import get_space
from ofa_hw_profilers.adb.profiler import AdbTfliteProfiler

pytestmark = pytest.mark.adbd

QUICK = SamplingPlan(relative_ci=1.0, min_time_s=0.001, max_time_s=0.02)
TINY = get_space("tiny")


@pytest.fixture
def settings(library: Path, ofa_runner: Path) -> dict[str, str]:
    """What a device needs to run networks."""
    return {"library": str(library), "runner_binary": str(ofa_runner), "cool_down_s": "0"}


@pytest.fixture
def table_file(device: Device, settings: dict[str, str], tmp_path: Path) -> Path:
    """A table of the device."""
    path = tmp_path / "phone.jsonl"
    profile(
        TINY,
        backend="tflite",
        serial=device.serial,
        output=path,
        resolutions=[24],
        settings=settings,
        plan=QUICK,
    )
    return path


def test_a_network_is_chosen_by_the_device_exported_and_timed_on_it(
    device: Device,
    settings: dict[str, str],
    table_file: Path,
    weights: Path,
    predictor_file: Path,
    run: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
) -> None:
    reach = ["--serial", device.serial]
    reach += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    budget_ms = 10 * latency_range(TINY, load_table(table_file), resolutions=[24])[1]
    asked = ("specialize", "--space", "tiny", "--lut", table_file, "--predictor", predictor_file)
    ship = ("--weights", weights, "--export", tmp_path / "net.tflite", "--measure-top", 3)
    limits = ("--latency-ms", budget_ms, "--resolutions", 24)
    code, out, err = run(*asked, *limits, *ship, *reach, "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert len(answer["candidates"]) == 3
    measured_ms = answer["measured_latency_ms"]
    assert 0 < measured_ms <= budget_ms
    assert device.listing() == []
    code, out, err = run("bench", tmp_path / "net.tflite", *reach, "--seconds", 1, "--json")
    assert code == 0, err
    timed_ms = json.loads(out)["statistics"]["median_ms"]
    assert timed_ms == pytest.approx(measured_ms, rel=2)  # in the same units, on a busy machine


def test_a_table_that_promises_too_much_is_found_out_by_the_device(
    device: Device,
    settings: dict[str, str],
    table_file: Path,
    predictor_file: Path,
    open_profiler: Callable[..., AdbTfliteProfiler],
) -> None:
    table = load_table(table_file)
    rows = {op: replace(row, median_ms=0.02 * row.median_ms) for op, row in table.rows.items()}
    assert table.overhead is not None
    overhead = replace(table.overhead, median_ms=0.02 * table.overhead.median_ms)
    lying = replace(table, rows=rows, overhead=overhead)
    budget_ms = latency_range(TINY, lying, resolutions=[24])[1]
    with pytest.raises(InfeasibleError, match=r"measured on ofa_hw Loopback 1, none of the 2 best"):
        specialize(
            TINY,
            predictor=predictor_file,
            lut=lying,
            latency_ms=budget_ms,
            resolutions=[24],
            measure_top=2,
            profiler=open_profiler(device),
            plan=QUICK,
        )


def test_a_program_that_contradicts_the_table_is_refused(
    device: Device, table_file: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    reach = ("--serial", device.serial, "--benchmark-binary", "bm")
    code, _, err = run("lut", "validate", table_file, *reach)
    assert code == 1
    assert "leave out --benchmark-binary" in err


def test_a_devices_table_asks_for_the_device(
    table_file: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, err = run("lut", "validate", table_file)
    assert code == 1
    assert "name the device with --serial" in err
