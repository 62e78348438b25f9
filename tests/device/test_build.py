"""Building ofa-runner, and what it answers on this machine."""

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from loopback.stubs import gpu_library
from loopback.tflite import VERSION

from ofa_hw.errors import BackendUnavailableError, ProfilerError
from ofa_hw.graph import op_graph
from ofa_hw.lowering.sessions import TfliteSession
from ofa_hw.lowering.tflite import to_tflite
from ofa_hw.ops import OpSpec
from ofa_hw_profilers.adb.build import (
    build_runner,
    find_runner,
    open_gpu_library,
    open_library,
)
from ofa_hw_profilers.adb.facts import parse_facts

pytestmark = pytest.mark.skipif(
    not shutil.which("cc") and not os.environ.get("CI"), reason="there is no C compiler"
)

OP = OpSpec("mbconv", 14, 16, 16, 48, kernel_size=5, activation="h_swish", se_channels=16)
HERE = parse_facts(f"abi={'x86_64'}\nmachine=x86_64\ncpu 0 0 0\n")


def answers(runner: Path, library: Path, delegate: str, *commands: str) -> list[dict[str, object]]:
    result = subprocess.run(
        [runner, library, delegate, "1"],
        input="".join(f"{command}\n" for command in commands),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stderr == ""
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize("delegate", ["xnnpack", "none"])
def test_it_computes_what_the_network_computes(
    ofa_runner: Path, library: Path, tmp_path: Path, delegate: str
) -> None:
    model = to_tflite(op_graph(OP))
    (tmp_path / "m.tflite").write_bytes(model)
    x = np.random.default_rng(0).standard_normal((1, 16, 14, 14)).astype(np.float32)
    (tmp_path / "x").write_bytes(x.transpose(0, 2, 3, 1).tobytes())
    ready, loaded, fed, visit, dumped = answers(
        ofa_runner,
        library,
        delegate,
        f"load 7 0 {len(model)} {tmp_path}/m.tflite",
        f"feed 7 0 {tmp_path}/x",
        "visit 7 1 5",
        f"dump 7 0 {tmp_path}/y",
    )
    assert ready["tflite"] == VERSION
    assert loaded["delegated"] == (loaded["nodes"] if delegate == "xnnpack" else -1)
    assert (fed, dumped) == ({"fed": 7}, {"dumped": 7})
    runs_ns = visit["ns"]
    assert isinstance(runs_ns, list)
    assert len(runs_ns) == 5
    assert min(runs_ns) > 1000
    y = np.frombuffer((tmp_path / "y").read_bytes(), np.float32).reshape(1, 14, 14, 16)
    expected = TfliteSession(model).run(x)
    np.testing.assert_allclose(
        y.transpose(0, 3, 1, 2), expected, atol=1e-4 * np.abs(expected).max()
    )


@pytest.mark.parametrize("delegate", ["gpu", "gpu-fp16"])
def test_the_gpus_delegate_is_found_by_tflites_names_in_a_library_beside(
    ofa_runner: Path, library: Path, tmp_path: Path, delegate: str
) -> None:
    shutil.copy(library, tmp_path)
    gpu_library(tmp_path, half=delegate == "gpu-fp16")
    model = to_tflite(op_graph(OP))
    (tmp_path / "m.tflite").write_bytes(model)
    _, loaded, visit = answers(
        ofa_runner,
        tmp_path / library.name,
        delegate,
        f"load 7 0 {len(model)} {tmp_path}/m.tflite",
        "visit 7 1 5",
    )
    assert loaded["delegated"] == loaded["nodes"]
    assert len(visit["ns"]) == 5  # type: ignore[arg-type]


def test_a_library_beside_that_cannot_be_opened_is_named(
    ofa_runner: Path, library: Path, tmp_path: Path
) -> None:
    shutil.copy(library, tmp_path)
    (tmp_path / "libtensorflowlite_gpu_jni.so").write_bytes(b"nothing")
    (reply,) = answers(ofa_runner, tmp_path / library.name, "gpu")
    assert "cannot open the library of the delegate" in str(reply["error"])


@pytest.mark.parametrize(
    "delegate", ["tpu", "gpu-fp8", "xnnpackage", "none-of-these", "nnapi-fp16"]
)
def test_a_delegate_of_another_name_is_none(ofa_runner: Path, library: Path, delegate: str) -> None:
    (reply,) = answers(ofa_runner, library, delegate)
    assert reply["error"] == f"there is no delegate {delegate}"


def test_bad_commands_are_answered_and_do_not_end_it(
    ofa_runner: Path, library: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.tflite").write_bytes(b"no network")
    model = to_tflite(op_graph(OP))
    (tmp_path / "m.tflite").write_bytes(b"x" * 5120 + model)
    bad = [
        "what",
        "visit 0 1 1",
        "load 0 0 100 /nothing",
        f"load 0 0 10 {tmp_path}/broken.tflite",
        f"load 0 0 11 {tmp_path}/broken.tflite",
        "load 99999 0 1 x",
        f"load 0 5120 {len(model)} {tmp_path}/m.tflite",
        "visit 0 1 0",
        "visit 0 -1 5",
        f"feed 0 0 {tmp_path}/broken.tflite",
        f"dump 0 3 {tmp_path}/y",
        "visit 0 0 1",
    ]
    replies = answers(ofa_runner, library, "xnnpack", *bad)[1:]
    assert ["error" in reply for reply in replies] == [True] * 6 + [False] + [True] * 4 + [False]


def test_a_library_that_is_none_is_named(ofa_runner: Path, tmp_path: Path) -> None:
    (tmp_path / "lib.so").write_bytes(b"nothing")
    (reply,) = answers(ofa_runner, tmp_path / "lib.so", "xnnpack")
    assert "cannot open the TFLite library" in str(reply["error"])


def test_an_unknown_compiler_is_named() -> None:
    with pytest.raises(BackendUnavailableError, match="no compiler 'nothing-gcc'"):
        build_runner("nothing-gcc")


def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ProfilerError, match="no-such-flag"):
        build_runner("cc --no-such-flag", output=tmp_path / "runner")
    assert list(tmp_path.iterdir()) == []


def test_a_device_of_this_machines_kind_gets_a_runner_built_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = find_runner(HERE)
    monkeypatch.setenv("PATH", "")
    assert find_runner(HERE) == first
    assert first.is_relative_to(tmp_path)


def test_without_a_compiler_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    phone = parse_facts("abi=arm64-v8a\nlibc=android\nmachine=aarch64\n")
    with pytest.raises(BackendUnavailableError, match="build-runner --compiler aarch64-linux-andr"):
        find_runner(phone)


def test_an_aar_gives_the_libraries_of_the_device(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "tflite.aar", "w") as aar:
        for abi in ("x86_64", "arm64-v8a"):
            aar.writestr(f"jni/{abi}/libgpu.so", abi)
            aar.writestr(f"jni/{abi}/libtensorflowlite_jni.so", abi)
        aar.writestr("classes.jar", "")
    found = open_library(tmp_path / "tflite.aar", HERE)
    assert list(found.items()) == [
        ("libtensorflowlite_jni.so", b"x86_64"),
        ("libgpu.so", b"x86_64"),
    ]
    with pytest.raises(BackendUnavailableError, match=r"but libtensorflowlite_jni\.so, libgpu"):
        open_gpu_library(tmp_path / "tflite.aar", HERE)
    with pytest.raises(BackendUnavailableError, match="no libraries for riscv64"):
        open_library(tmp_path / "tflite.aar", parse_facts("abi=riscv64\n"))
