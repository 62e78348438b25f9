"""The commands that people type, on a real adbd."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest
from loopback.device import Device, wait_for

from ofa_hw import load_table
from ofa_hw.graph import network_graph
from ofa_hw.latency.journal import Journal
from ofa_hw.lowering.tflite import to_tflite
from ofa_hw.profiling import SamplingPlan
from ofa_hw.spaces import get_space

pytestmark = pytest.mark.adbd
OFA_HW = Path(sys.executable).with_name("ofa-hw")
Run = Callable[..., tuple[int, str, str]]
TINY = ("--backend", "tflite", "--space", "tiny", "--resolutions", "24")
ROWS = len(get_space("tiny").table_ops([24]))


@pytest.fixture
def answer(run: Run) -> Callable[..., object]:
    """What a command that succeeds prints as JSON."""

    def call(*args: object) -> object:
        code, out, err = run(*args, "--json")
        assert code == 0, err
        return json.loads(out)

    return call


@pytest.fixture
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures less well than people would want."""
    plan = SamplingPlan(relative_ci=0.5, min_time_s=0.001, max_time_s=0.02)
    # As an attribute of the package it is the function.
    monkeypatch.setattr(import_module("ofa_hw.profile"), "SamplingPlan", lambda: plan)


@pytest.fixture
def settings(library: Path, ofa_runner: Path) -> list[str]:
    """What a device needs to run networks, as options."""
    values = {"library": library, "runner_binary": ofa_runner, "cool_down_s": 0}
    return [part for name, value in values.items() for part in ("--set", f"{name}={value}")]


def test_a_device_is_listed_with_what_it_is(
    device: Device, answer: Callable[..., dict[str, list[dict[str, object]]]]
) -> None:
    listed = answer("devices", device.serial)
    (found,) = listed["devices"]
    assert (found["serial"], found["reached"], found["state"]) == (device.serial, "tcp", "device")
    assert (found["cores"], found["big_cores"]) == (2, 1)
    assert {row["backend"] for row in listed["backends"]} >= {"cpu", "onnxruntime", "tflite"}


def test_a_table_is_filled_resumed_validated_and_calibrated(
    device: Device, settings: list[str], answer: Callable[..., dict[str, object]], tmp_path: Path
) -> None:
    table = tmp_path / "phone.jsonl"
    reach = ("--serial", device.serial, *settings)
    assert answer("profile", *TINY, "--output", table, *reach)["missing"] == 0
    lines = table.read_text().splitlines(keepends=True)
    rows = [line for line in lines if json.loads(line)["line"] == "row"]
    table.write_text("".join(line for line in lines if line not in rows[-10:]))
    assert answer("profile", *TINY, "--output", table, "--dry-run")["missing"] == 10
    assert answer("profile", *TINY, "--output", table, *reach)["rows"] == ROWS
    report = answer("lut", "validate", table, *reach, "--networks", 6, "--resolutions", 24)
    assert report["raw"]["networks"] == 6  # type: ignore[index]
    answer("lut", "calibrate", table)
    assert load_table(table).calibration is not None


@pytest.mark.usefixtures("in_a_hurry")
def test_a_table_is_filled_in_eight_bits(
    device: Device, settings: list[str], run: Run, tmp_path: Path
) -> None:
    """TFLite 2.9 leaves a linear layer in 8 bits to kernels of its own, in part."""
    table = tmp_path / "phone-int8.jsonl"
    fill = ("profile", *TINY, "--dtype", "int8", "--serial", device.serial, *settings)
    code, _, err = run(*fill, "--output", table)
    assert code == 1
    assert "linear:" in err
    assert "--set partial_delegation=note" in err
    code, out, err = run(*fill, "--output", table, "--set", "partial_delegation=note", "--json")
    assert code == 0, err
    assert json.loads(out)["missing"] == 0
    filled = load_table(table)
    assert filled.device.dtype == "int8"
    noted = {op.kind for op, row in filled.rows.items() if any("nodes" in n for n in row.notes)}
    assert noted == {"linear"}


def test_a_file_is_timed_on_the_device(
    device: Device, settings: list[str], answer: Callable[..., dict[str, object]], tmp_path: Path
) -> None:
    space = get_space("tiny")
    file = tmp_path / "net.tflite"
    file.write_bytes(to_tflite(network_graph(space.ops(space.smallest()))))
    result = answer("bench", file, "--serial", device.serial, "--seconds", 0.5, *settings)
    assert result["statistics"]["median_ms"] > 0  # type: ignore[index]
    assert result["runtime"] == "tflite"


@pytest.mark.usefixtures("in_a_hurry")
def test_two_devices_fill_a_table_each_and_say_how_far_they_are(
    make_device: Callable[..., Device], settings: list[str], run: Run, tmp_path: Path
) -> None:
    first, second = make_device(), make_device(properties={"ro.product.model": "Loopback 2"})
    both = ("--serial", first.serial, "--serial", second.serial)
    folder = tmp_path / "tables"
    code, out, _ = run("profile", *TINY, *both, "--output", folder, "--dry-run", "--json")
    assert code == 0
    assert [plan["missing"] for plan in json.loads(out)] == [ROWS, ROWS]
    assert not folder.exists()
    code, out, err = run("profile", *TINY, *both, *settings, "--output", folder)
    assert code == 0, err
    paths = [folder / f"tiny-tflite-127.0.0.1_{d.port}.jsonl" for d in (first, second)]
    assert sorted(folder.iterdir()) == sorted(paths)
    tables = [load_table(path) for path in paths]
    assert [len(table) for table in tables] == [ROWS, ROWS]
    assert [table.device.name for table in tables] == ["ofa_hw Loopback 1", "ofa_hw Loopback 2"]
    for path, table, device in zip(paths, tables, (first, second), strict=True):
        assert f"{path}: {len(table)} rows of tiny on {table.device.name}" in out
        assert device.serial in err  # its own progress
        assert device.listing() == []


@pytest.mark.usefixtures("in_a_hurry")
def test_a_table_of_one_phone_takes_no_rows_of_another_or_of_another_build(
    make_device: Callable[..., Device], settings: list[str], library: Path, run: Run, tmp_path: Path
) -> None:
    first, second = (make_device(properties={"ro.serialno": serial}) for serial in "AB")
    table = tmp_path / "phone.jsonl"
    fill = ("profile", *TINY, *settings, "--output", table, "--serial")
    code, _, err = run(*fill, first.serial)
    assert code == 0, err
    code, _, err = run(*fill, second.serial)
    assert code == 1
    assert "setting unit is" in err
    assert "sha256" not in err
    other = tmp_path / "other.so"
    other.write_bytes(library.read_bytes() + b"built anew")
    code, _, err = run(*fill, first.serial, "--set", f"library={other}")
    assert code == 1
    assert "setting library_sha256 is" in err
    assert run(*fill, first.serial)[0] == 0


@pytest.mark.usefixtures("in_a_hurry")
def test_a_device_that_fails_stops_no_other_and_shows_in_the_exit_code(
    device: Device, settings: list[str], run: Run, tmp_path: Path
) -> None:
    both = ("--serial", "127.0.0.1:9", "--serial", device.serial)
    once = ("profile", *TINY, *both, *settings, "--output", tmp_path, "--json")
    code, out, err = run(*once)
    assert code == 1
    failed, filled = json.loads(out)
    assert failed["serial"] == "127.0.0.1:9"
    assert "adb tcpip 5555" in failed["error"]
    assert "ofa-hw: 127.0.0.1:9: nothing listens" in err
    assert filled["serial"] == device.serial
    assert (filled["rows"], filled["missing"]) == (ROWS, 0)
    assert [path.name for path in tmp_path.iterdir()] == [Path(filled["table"]).name]


@pytest.mark.usefixtures("in_a_hurry")
def test_one_device_under_two_names_is_measured_once(
    device: Device, adb_server: object, settings: list[str], run: Run, tmp_path: Path
) -> None:
    adb_server.adb("connect", device.serial)  # type: ignore[attr-defined]
    both = ("--serial", "any", "--serial", device.serial)
    once = ("profile", *TINY, *both, *settings, "--output", tmp_path, "--json")
    code, out, err = run(*once)
    assert code == 1
    assert "two at once would distort" in err
    assert sum("rows" in answer for answer in json.loads(out)) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--serial", "A", "--serial", "A"), "give each --serial once"),
        (("--serial", "A", "--serial", "B", "--output", "phone.jsonl"), "is a folder for several"),
        (("--benchmark-binary", "./benchmark_model"), "pass --serial too"),
    ],
    ids=["the same twice", "a file for two tables", "a program without a device"],
)
def test_what_cannot_be_meant_is_bad_usage(run: Run, options: tuple[str, ...], words: str) -> None:
    code, _, err = run("profile", *TINY, *options)
    assert code == 2
    assert words in " ".join(err.replace("│", " ").split())


def test_a_table_in_a_folder_is_named_after_what_it_is_of(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("profile", *TINY, "--serial", "A:1", "--output", tmp_path, "--dry-run",
                       "--json")  # fmt: skip
    assert code == 0
    assert json.loads(out)["table"] == str(tmp_path / "tiny-tflite-A_1.jsonl")


def test_an_interrupt_leaves_nothing_on_any_device_and_files_that_are_resumed(
    make_device: Callable[..., Device], settings: list[str], run: Run, tmp_path: Path
) -> None:
    devices = [make_device(), make_device()]
    serials = [part for device in devices for part in ("--serial", device.serial)]
    # Rows come in bursts, and a small space could be done after the first.
    large = (*TINY[:2], "--space", "ofa_mbv3_d234_e346_k357_w1.0")
    # A device that cools down is not interrupted before it has.
    command = ["profile", *large, *serials, *settings, "--set", "cool_down_s=0"]
    process = subprocess.Popen(
        [OFA_HW, *command, "--output", str(tmp_path)],
        stderr=subprocess.DEVNULL,
        env=os.environ,
        start_new_session=True,
    )

    def lines() -> list[int]:
        return [len(path.read_text().splitlines()) for path in tmp_path.iterdir()]

    try:
        wait_for(lambda: len(lines()) == 2 and min(lines()) > 2, "no rows", timeout_s=90)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=240) == 130  # a group of cells may have to end first
    finally:
        process.kill()
        process.wait()
    assert [device.listing() for device in devices] == [[], []]
    assert all(not device.pids("ofa-runner") for device in devices)
    code, out, _ = run("profile", *large, *serials, "--output", tmp_path, "--dry-run", "--json")
    assert code == 0
    assert all(0 < plan["missing"] < plan["cells"] for plan in json.loads(out))


@pytest.mark.usefixtures("in_a_hurry")
def test_what_a_killed_run_left_goes_with_the_next_which_resumes(
    device: Device, settings: list[str], run: Run, tmp_path: Path
) -> None:
    table = tmp_path / "phone.jsonl"
    fill = ("profile", *TINY, "--serial", device.serial, *settings, "--output", table)
    process = subprocess.Popen([OFA_HW, *map(str, fill)], stderr=subprocess.DEVNULL, env=os.environ)
    wait_for(lambda: table.exists() and table.read_bytes().count(b"\n") > 5, "no rows",
             timeout_s=90)  # fmt: skip
    process.kill()
    process.wait()
    kept = table.read_text().splitlines()[:5]
    assert device.listing() == ["ofa-hw"]
    code, out, err = run(*fill, "--json")
    assert code == 0, err
    assert json.loads(out)["missing"] == 0
    assert table.read_text().splitlines()[:5] == kept
    assert device.listing() == []
    assert device.pids("ofa-runner") == []


def _fill_up(device: Device) -> None:
    with (device.data / "someone-elses").open("ab", 0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))


ENDS: dict[str, tuple[Callable[[Device], object], Callable[[Device], object], str]] = {
    "away": (Device.cut, Device.plug, "gave up after 1 s"),
    "full": (_fill_up, lambda d: (d.data / "someone-elses").unlink(), "no room"),
}


@pytest.mark.usefixtures("in_a_hurry")
@pytest.mark.parametrize(("end", "undo", "words"), ENDS.values(), ids=ENDS.keys())
def test_a_run_that_the_device_ends_leaves_a_file_that_is_resumed(
    make_device: Callable[..., Device],
    settings: list[str],
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    end: Callable[[Device], object],
    undo: Callable[[Device], object],
    words: str,
) -> None:
    monkeypatch.setattr("ofa_hw_profilers.adb.profiler._GROUP_CELLS", 8)
    device = make_device(data_size="12m")
    table = tmp_path / "phone.jsonl"
    reach = ("--serial", device.serial, *settings, "--set", "wait_s=1")
    fill = ("profile", *TINY, *reach, "--output", table)
    append, rows = Journal.append, 0

    def noted_append(self: Journal, line: str) -> None:
        nonlocal rows
        append(self, line)
        rows += 1
        if rows >= 20:  # what the rows before took becomes free after them
            end(device)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", noted_append)
        code, _, err = run(*fill)
    assert code == 1
    assert words in err
    undo(device)
    begun = len(load_table(table))
    assert 19 <= begun < ROWS
    code, out, err = run(*fill, "--json")
    assert code == 0, err
    assert json.loads(out)["rows"] == ROWS
    assert device.listing() == []
