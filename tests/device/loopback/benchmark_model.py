"""Builds Google's benchmark_model from Debian's TensorFlow source, once.

The source and the libraries lie in Debian's development suite only, and can vanish from it.
The program runs with that suite's own loader and libraries, which lie beside it.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
import tempfile
from pathlib import Path

from loopback.packages import (
    DeviceSetupError,
    cache_folder,
    fetch,
    fetch_source,
    one_at_a_time,
    run,
    unpack,
)

SUITE = "sid"
LIBRARIES = (
    *("libtensorflow-lite-dev", "libabsl-dev", "libeigen3-dev", "libgemmlowp-dev"),
    *("libflatbuffers-dev", "libpthreadpool-dev", "libruy-dev"),
)
SOURCES = {
    "tensorflow/lite/tools/benchmark": (
        *("benchmark_main", "benchmark_model", "benchmark_tflite_model", "benchmark_utils"),
        "profiling_listener",
    ),
    "tensorflow/lite/tools/delegates": ("delegate_provider", "default_execution_provider"),
    "tensorflow/lite/tools": ("command_line_flags", "tool_params", "utils", "model_loader"),
    "tensorflow/lite/profiling": (
        *("memory_usage_monitor", "profile_summarizer", "profile_summary_formatter"),
        *("profile_buffer", "memory_info", "time"),
    ),
    "tensorflow/tsl/util": ("stats_calculator",),
}
FLAGS = "-std=c++17 -O1 -w -DTFLITE_WITHOUT_XNNPACK"  # Debian's library is built without it


def benchmark_model() -> Path:
    """A folder to be copied to the device; its program `benchmark_model` runs anywhere in it."""
    folder = cache_folder() / "benchmark_model"
    with one_at_a_time(folder):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
                _build(Path(scratch))
                (Path(scratch) / "result").rename(folder)
    return folder


def _build(scratch: Path) -> None:
    archive = fetch_source("tensorflow", r"tensorflow_.*\.orig\.tar\.\w+", suite=SUITE)
    wanted = re.compile(r"[^/]+/tensorflow/(lite|tsl|core/util|core/platform)/")
    with tarfile.open(archive) as tar:
        tar.extractall(scratch / "all", (m for m in tar if wanted.match(m.name)), filter="data")
    source = next((scratch / "all").iterdir())
    root = scratch / "root"
    unpack(fetch(LIBRARIES, arch="amd64", suite=SUITE), root)
    include, lib = root / "usr/include", root / "usr/lib/x86_64-linux-gnu"
    search = f"-I{source} -isystem {include} -isystem {include}/gemmlowp -isystem {include}/eigen3"
    objects = []
    for file in (f"{folder}/{name}" for folder, names in SOURCES.items() for name in names):
        objects.append(str(scratch / f"{file.replace('/', '_')}.o"))
        run(f"g++ {FLAGS} {search} -c {source}/{file}.cc -o {objects[-1]}".split())
    shared = [f"-l:{path.name}" for path in lib.glob("libabsl_*.so") if "test" not in path.name]
    tflite = next(lib.glob("libtensorflow-lite.so.*.*"), None)
    if tflite is None:
        raise DeviceSetupError(f"{SUITE} has no library of TensorFlow Lite")
    result = scratch / "result"
    (result / "lib").mkdir(parents=True)
    link = "-Wl,--allow-shlib-undefined -Wl,--unresolved-symbols=ignore-in-shared-libs -ldl"
    inputs = [*objects, f"-L{lib}", f"-l:{tflite.name}", *sorted(shared)]
    program = str(result / "lib/program")
    run(["g++", "-o", program, *inputs, f"-Wl,-rpath-link,{lib}", *link.split()])
    for path in lib.glob("*.so.*"):
        if path.is_file():
            shutil.copy(path, result / "lib" / path.name)
    script = result / "benchmark_model"
    script.write_text(
        "#!/system/bin/sh\nhere=${0%/*}/lib\n"
        'exec $here/ld-linux-x86-64.so.2 --library-path $here $here/program "$@"\n'
    )
    os.chmod(script, 0o755)
