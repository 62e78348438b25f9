"""Google's benchmark_model on a device, behind the same seam as ofa-runner.

Only these tests need the program itself, whose source can vanish from where it is fetched; they
are the ones that may be skipped even in CI, which is said at the end of the run.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loopback.benchmark_model import benchmark_model
from loopback.device import Device, wait_for
from loopback.packages import DeviceSetupError

from ofa_hw import load_table
from ofa_hw.errors import BackendUnavailableError, DeviceOutputError
from ofa_hw.graph import op_graph
from ofa_hw.lowering.tflite import to_tflite
from ofa_hw.ops import OpSpec
from ofa_hw.profiling.types import Cell, ProfilerOptions, SamplingPlan
from ofa_hw_profilers.adb import open_adb_profiler
from ofa_hw_profilers.adb.connect import connect
from ofa_hw_profilers.adb.transport import Transport

pytestmark = [pytest.mark.adbd, pytest.mark.benchmark_model]

PLAN = SamplingPlan(relative_ci=0.3, min_time_s=0.02, max_time_s=0.4)
ON_DEVICE = "/data/local/tmp/bm/benchmark_model"
PROCESS = "ld-linux-x86-64.so.2"  # runs it


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


@pytest.fixture
def pushable(tmp_path: Path) -> Path:
    """A program for the device that lies on this machine."""
    path = tmp_path / "benchmark_model"
    path.write_text(f'#!/system/bin/sh\nexec {ON_DEVICE} "$@"\n')
    return path


def test_a_program_of_this_machine_is_pushed_once_and_known_by_its_hash(
    equipped: Device, pushable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed: list[str] = []
    push = Transport.push

    def noted_push(self: Transport, data: bytes, path: str, **options: Any) -> None:  # noqa: ANN401
        pushed.append(path)
        push(self, data, path, **options)

    monkeypatch.setattr(Transport, "push", noted_push)
    with closing(open_adb_profiler(options(equipped, benchmark_binary=str(pushable)))) as profiler:
        there = equipped.data / "ofa-hw/benchmark_model"
        assert there.read_bytes() == pushable.read_bytes()
        digest = hashlib.sha256(pushable.read_bytes()).hexdigest()
        assert profiler.device.runtime_version == f"benchmark_model-{digest[:8]}"
        rows = list(profiler.measure(list(cells()), PLAN))
    assert sorted(row.key for row in rows) == ["14", "7"]
    assert pushed.count("/data/local/tmp/ofa-hw/benchmark_model") == 1
    assert equipped.listing() == ["bm"]


def test_the_commands_take_it(
    equipped: Device, pushable: Path, run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    reach = ("--serial", equipped.serial, "--benchmark-binary", pushable)
    quick = ("--set", "delegate=none", "--set", "cool_down_s=0", "--json")
    table = tmp_path / "phone.jsonl"
    small = ("--backend", "tflite", "--space", "tiny", "--resolutions", 24, "--max-minutes", 0.3)
    code, out, err = run("profile", *small, *reach, *quick, "--output", table)
    assert code == 0, err
    assert load_table(table).device.settings["runner"] == "benchmark_model"
    file = tmp_path / "net.tflite"
    file.write_bytes(to_tflite(op_graph(OpSpec("conv", 7, 8, 8, kernel_size=3))))
    code, out, err = run("bench", file, *reach, *quick, "--seconds", 0.5)
    assert code == 0, err
    assert json.loads(out)["runtime_version"].startswith("benchmark_model-")


def test_a_killed_program_is_started_again(equipped: Device) -> None:
    with closing(open_adb_profiler(options(equipped))) as profiler:
        rows = profiler.measure(list(cells()), PLAN)
        assert equipped.kill("sh") > 0
        assert len(list(rows)) == 2
        assert profiler._session.breaks >= 1
    assert equipped.pids(PROCESS) == []


def test_what_a_broken_run_left_running_ends_at_the_next_start(equipped: Device) -> None:
    with closing(connect(equipped.serial)) as transport:
        model = to_tflite(op_graph(OpSpec("conv", 7, 8, 8, kernel_size=3)))
        transport.shell("mkdir /data/local/tmp/ofa-hw")
        transport.push(model, "/data/local/tmp/ofa-hw/x.tflite")
        flags = "--graph=/data/local/tmp/ofa-hw/x.tflite --min_secs=600 --max_secs=600"
        transport.shell(f"setsid {ON_DEVICE} {flags} </dev/null >/dev/null 2>&1 &")
    wait_for(lambda: bool(equipped.pids(PROCESS)), "it does not start")
    with closing(open_adb_profiler(options(equipped))):
        pass
    assert equipped.pids(PROCESS) == []
    assert equipped.listing() == ["bm"]


def test_cores_are_kept_and_checked(equipped: Device) -> None:
    with closing(open_adb_profiler(options(equipped, cores="big"))) as profiler:
        assert profiler.device.settings["cores"] == "big"
    careless = '#!/system/bin/sh\\nshift; exec "$@"\\n'
    with closing(connect(equipped.serial)) as transport:
        transport.shell(f"printf '{careless}' >/system/bin/taskset; chmod 755 /system/bin/taskset")
    with pytest.raises(DeviceOutputError, match=r"on cores \[0, 1.*\] though \[1\] were asked"):
        open_adb_profiler(options(equipped, cores="big"))
    assert equipped.listing() == ["bm"]


def test_a_flag_that_it_does_not_know_is_refused(equipped: Device) -> None:
    with pytest.raises(DeviceOutputError, match="--use_xnnpack"):
        open_adb_profiler(options(equipped, delegate="xnnpack"))
    assert equipped.listing() == ["bm"]


@pytest.mark.parametrize(
    ("delegate", "dtype", "words"),
    [
        ("gpu", "fp32", "--use_gpu"),
        ("gpu", "fp16", "--gpu_precision_loss_allowed=true"),
        ("nnapi", "fp32", "--use_nnapi"),
        ("nnapi", "fp16", "--nnapi_allow_fp16"),
        ("xnnpack", "fp16", "--xnnpack_force_fp16"),
    ],
)
def test_a_delegate_that_it_was_built_without_is_refused(
    equipped: Device, delegate: str, dtype: str, words: str
) -> None:
    wanted = replace(options(equipped, delegate=delegate), dtype=dtype)
    with pytest.raises(DeviceOutputError, match=words):
        open_adb_profiler(wanted)
    assert equipped.listing() == ["bm"]


def test_the_program_that_lies_on_the_device_is_found(equipped: Device, pushable: Path) -> None:
    (equipped.data / "benchmark_model").write_bytes(pushable.read_bytes())
    (equipped.data / "benchmark_model").chmod(0o755)
    wanted = options(equipped, runner="benchmark_model", benchmark_binary="")
    with closing(open_adb_profiler(wanted)) as profiler:
        assert len(list(profiler.measure(list(cells()), PLAN))) == 2
    assert equipped.listing() == ["benchmark_model", "bm"]


@pytest.mark.parametrize("path", ["/data/nothing", "./nothing-here"])
def test_a_program_that_is_nowhere_is_named(equipped: Device, path: str) -> None:
    with pytest.raises(BackendUnavailableError, match="neither here nor on device"):
        open_adb_profiler(options(equipped, benchmark_binary=path))


def test_a_program_that_is_something_else_is_refused(equipped: Device, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("#!/system/bin/sh\necho I am another program\n")
    with pytest.raises(DeviceOutputError, match=r"no flag --graph.*another program"):
        open_adb_profiler(options(equipped, benchmark_binary=str(tmp_path / "other")))
    assert equipped.listing() == ["bm"]
