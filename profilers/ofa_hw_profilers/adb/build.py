"""Builds ofa-runner for a device with the user's compiler, and finds what was built."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

from ofa_hw.errors import BackendUnavailableError, DeviceOutputError, ProfilerError
from ofa_hw_profilers.adb.facts import DeviceFacts

_ABIS = {"x86_64": "x86_64", "aarch64": "arm64-v8a", "arm": "armeabi-v7a", "i686": "x86"}
_ARCHIVES = (".aar", ".zip")
_BUILD_TIMEOUT_S = 120
_JNI = "libtensorflowlite_jni.so"
_GPU = "libtensorflowlite_gpu_jni.so"  # where ofa-runner looks for the GPU's delegate


def runner_source() -> bytes:
    """The C source of ofa-runner."""
    return (files("ofa_hw_profilers") / "runner" / "ofa_runner.c").read_bytes()


def build_runner(compiler: str = "cc", *, output: Path | None = None) -> Path:
    """Compiles ofa-runner for what `compiler` compiles for.

    Args:
        compiler: A C compiler: `cc`, `aarch64-linux-gnu-gcc`, or the Android NDK's
            `aarch64-linux-android21-clang`. Arguments may follow, e.g. `clang --target=...`.
        output: Where to write it; by default where profiling looks for it.

    Returns:
        The program's path.

    Raises:
        BackendUnavailableError: If there is no such compiler.
        ProfilerError: If it does not compile; with the compiler's words.
    """
    command = compiler.split()
    target = _run([*command, "-dumpmachine"]).strip()
    path = output or _built(*_target(target))
    path.parent.mkdir(parents=True, exist_ok=True)
    source = files("ofa_hw_profilers") / "runner" / "ofa_runner.c"
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        _run([*command, "-std=gnu11", "-O2", "-o", str(beside), str(source), "-ldl"])
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def find_runner(facts: DeviceFacts) -> Path:
    """The ofa-runner for a device: built before, or built now if a compiler for it is here.

    Raises:
        BackendUnavailableError: If there is none; says how to build it.
    """
    path = _built(facts.abi, facts.details["libc"])
    if path.exists():
        return path
    for compiler in _compilers(facts):
        if shutil.which(compiler.split()[0]):
            return build_runner(compiler)
    raise BackendUnavailableError(
        f"there is no ofa-runner for {facts.name} ({facts.abi}, {facts.details['libc']}) and no "
        "compiler to build it: ofa-hw device build-runner --compiler "
        f"{next(_compilers(facts), 'CC')}; or use Google's benchmark_model with "
        "--benchmark-binary PATH"
    )


def open_library(path: Path, facts: DeviceFacts) -> Mapping[str, bytes]:
    """The TFLite C library for a device, by file name: a shared library, or an AAR's.

    Raises:
        BackendUnavailableError: If it is not there, or not for the device's instruction set.
    """
    if not path.is_file():
        raise BackendUnavailableError(f"there is no TFLite library {path}")
    if path.suffix in _ARCHIVES:
        prefix = f"jni/{facts.abi}/"
        with zipfile.ZipFile(path) as archive:
            found = {
                name.removeprefix(prefix): archive.read(name)
                for name in archive.namelist()
                if name.startswith(prefix) and name.endswith(".so")
            }
        if not found:
            raise BackendUnavailableError(f"{path} has no libraries for {facts.abi}")
        return dict(sorted(found.items(), key=lambda item: item[0] != _JNI))
    library = path.read_bytes()
    abi = _elf_abi(library)
    if abi != facts.abi:
        raise BackendUnavailableError(
            f"{path} is built for {abi}, and {facts.name} needs one for {facts.abi}"
        )
    return {path.name: library}


def open_gpu_library(path: Path, facts: DeviceFacts) -> Mapping[str, bytes]:
    """The library of the GPU's delegate for a device, under the name that ofa-runner looks for.

    Raises:
        BackendUnavailableError: If it is not there, or not for the device's instruction set.
    """
    found = open_library(path, facts)
    if path.suffix not in _ARCHIVES:
        return {_GPU: found[path.name]}
    if _GPU not in found:
        raise BackendUnavailableError(f"{path} has no {_GPU}, but {', '.join(found)}")
    return found


def _built(abi: str, libc: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    version = hashlib.sha256(runner_source()).hexdigest()[:8]
    return cache / "ofa-hw" / f"ofa-runner-{abi}-{libc}-{version}"


def _target(machine: str) -> tuple[str, str]:
    """ABI and C library of a compiler's target, e.g. `aarch64-unknown-linux-android21`."""
    processor = re.sub(r"^arm.*", "arm", machine.split("-")[0])
    if processor not in _ABIS or "linux" not in machine:
        raise ProfilerError(f"the compiler makes programs for {machine}, not for Linux or Android")
    return _ABIS[processor], "android" if "android" in machine else "linux"


def _compilers(facts: DeviceFacts) -> Iterator[str]:
    """Compilers that may be here and build for a device, best first."""
    machine = {abi: name for name, abi in _ABIS.items()}.get(facts.abi, facts.abi)
    if facts.details["libc"] == "android":
        suffix = "androideabi" if machine == "arm" else "android"
        name = f"{'armv7a' if machine == 'arm' else machine}-linux-{suffix}21-clang"
        for variable in ("ANDROID_NDK_HOME", "ANDROID_NDK_ROOT", "ANDROID_NDK"):
            if variable in os.environ:
                hosts = Path(os.environ[variable]) / "toolchains/llvm/prebuilt"
                yield from map(str, sorted(hosts.glob(f"*/bin/{name}")))
        yield name
        return
    if os.uname().machine == machine:
        yield "cc"
    yield f"{machine}-linux-gnu{'eabihf' if machine == 'arm' else ''}-gcc"


def _elf_abi(data: bytes) -> str:
    machines = {62: "x86_64", 183: "arm64-v8a", 40: "armeabi-v7a", 3: "x86"}
    if data[:4] != b"\x7fELF":
        raise DeviceOutputError("the TFLite library is no shared library of Linux or Android")
    return machines.get(int.from_bytes(data[18:20], "little"), "an unknown processor")


def _run(command: list[str]) -> str:
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=_BUILD_TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        raise BackendUnavailableError(
            f"there is no compiler {command[0]!r}; install one, or name it with --compiler"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ProfilerError(f"{' '.join(command)} takes over {_BUILD_TIMEOUT_S} s") from error
    if result.returncode:
        raise ProfilerError(f"{' '.join(command)} failed: {result.stderr.strip()[-800:]}")
    return result.stdout
