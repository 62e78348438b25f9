"""The commands that people type, on a real adbd."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from loopback.device import Device

from ofa_hw import load_table
from ofa_hw.graph import network_graph
from ofa_hw.lowering.tflite import to_tflite
from ofa_hw.spaces import get_space

pytestmark = pytest.mark.adbd
OFA_HW = Path(sys.executable).with_name("ofa-hw")


def ofa_hw(*args: object) -> str:
    """What a command prints on stdout."""
    done = subprocess.run(
        [OFA_HW, *map(str, args)], capture_output=True, text=True, env=os.environ, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_device_is_listed_with_what_it_is(device: Device) -> None:
    listed = json.loads(ofa_hw("devices", device.serial, "--json"))
    (found,) = listed["devices"]
    assert (found["serial"], found["reached"], found["state"]) == (device.serial, "tcp", "device")
    assert found["cores"] >= 1
    assert {row["backend"] for row in listed["backends"]} >= {"cpu", "onnxruntime", "tflite"}


def test_a_table_is_filled_resumed_validated_and_calibrated(
    device: Device, library: Path, ofa_runner: Path, tmp_path: Path
) -> None:
    table = tmp_path / "phone.jsonl"
    reach = ("--serial", device.serial)
    settings = [
        part
        for name, value in {
            "library": library,
            "runner_binary": ofa_runner,
            "cool_down_s": 0,
        }.items()
        for part in ("--set", f"{name}={value}")
    ]
    fill = (
        *("profile", "--backend", "tflite", "--space", "tiny", "--resolutions", "24"),
        *("--output", table, *reach, *settings, "--json"),
    )
    assert json.loads(ofa_hw(*fill))["missing"] == 0
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:-10]))
    resumed = json.loads(ofa_hw(*fill))
    assert resumed["rows"] == len(get_space("tiny").table_ops([24]))
    report = json.loads(
        ofa_hw(
            "lut",
            "validate",
            table,
            *reach,
            *settings,
            "--networks",
            6,
            "--resolutions",
            24,
            "--json",
        )
    )
    assert report["raw"]["networks"] == 6
    ofa_hw("lut", "calibrate", table)
    assert load_table(table).calibration is not None


def test_a_file_is_timed_on_the_device(
    device: Device, library: Path, ofa_runner: Path, tmp_path: Path
) -> None:
    space = get_space("tiny")
    file = tmp_path / "net.tflite"
    file.write_bytes(to_tflite(network_graph(space.ops(space.smallest()))))
    out = ofa_hw(
        *("bench", file, "--serial", device.serial, "--seconds", 0.5, "--json"),
        *("--set", f"library={library}", "--set", f"runner_binary={ofa_runner}"),
    )
    result = json.loads(out)
    assert result["statistics"]["median_ms"] > 0
    assert result["runtime"] != "torch"
