"""Measures the tables that are bundled: filled, validated, calibrated, one after another.

    python benchmarks/tables.py FOLDER [--prefix epyc] [--space NAME]... [--backend NAME]...
        [--resolutions 128,160,192,224] [--networks 30] [--interpolated 10]

A table that is there already is gone on with, so that more resolutions can be added later; it is
calibrated anew. `prefix` names the device.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ofa_hw.latency import (
    calibrate_table,
    fill_table,
    load_table,
    validate_table,
    validation_report,
)
from ofa_hw.profiling import ProfilerOptions, open_profiler
from ofa_hw.spaces import get_space

SPACES = (
    "ofa_mbv3_d234_e346_k357_w1.0",
    "ofa_mbv3_d234_e346_k357_w1.2",
    "ofa_proxyless_d234_e346_k357_w1.3",
    "ofa_resnet50",
)
BACKENDS = ("onnxruntime", "tflite", "cpu")


def table_name(prefix: str, backend: str, space: str, threads: int = 1) -> str:
    """Such as `epyc-1t-onnxruntime-ofa_mbv3_w1.0`."""
    return f"{prefix}-{threads}t-{backend}-{space.replace('_d234_e346_k357', '')}"


def measure(space_name: str, backend: str, arguments: argparse.Namespace) -> None:
    start = time.perf_counter()
    space = get_space(space_name)
    path = arguments.folder / f"{table_name(arguments.prefix, backend, space_name)}.jsonl"
    profiler = open_profiler(backend, ProfilerOptions())
    table = fill_table(space, profiler, path, resolutions=arguments.resolutions)
    filled_s = time.perf_counter() - start
    if (missing := arguments.networks - len(table.validated())) > 0:
        validate_table(path, space, profiler, networks=missing, loads=arguments.loads)
    between = len(table.interpolated().validated(interpolated=True))
    if len(table.interpolated().interpolated_ms) and arguments.interpolated > between:
        more = arguments.interpolated - between
        validate_table(
            path, space, profiler, networks=more, interpolate=True, loads=arguments.loads
        )
    calibrate_table(path)
    profiler.close()
    table = load_table(path)
    report = validation_report(table, space)
    unstable = sum(not row.stable for row in table.rows.values())
    between_mape = report.interpolated.mape if report.interpolated else float("nan")
    assert report.calibrated is not None
    print(
        f"{path.stem:45s} {len(table):5d} rows in {filled_s:5.0f} s, {unstable:4d} unstable; "
        f"MAPE raw {report.raw.mape:.2%} calibrated {report.calibrated.mape:.2%} "
        f"floor {report.noise_floor.mape:.2%} interpolated {between_mape:.2%}; "
        f"within 5 % {report.calibrated.within_5:.0%}, Spearman {report.calibrated.spearman:.4f}; "
        f"{path.stat().st_size / 1e6:.2f} MB, {time.perf_counter() - start:.0f} s in all",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prefix", default="epyc")
    parser.add_argument("--space", action="append")
    parser.add_argument("--loads", type=int, help="of a network, each time it is measured")
    parser.add_argument("--backend", action="append")
    parser.add_argument(
        "--resolutions",
        type=lambda text: None if text == "all" else [int(r) for r in text.split(",")],
        default=[128, 160, 192, 224],
    )
    parser.add_argument("--networks", type=int, default=30)
    parser.add_argument("--interpolated", type=int, default=10)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for backend in arguments.backend or BACKENDS:
        for space in arguments.space or SPACES:
            measure(space, backend, arguments)


if __name__ == "__main__":
    main()
