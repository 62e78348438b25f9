"""Fills, validates and calibrates tables of an NVIDIA GPU, and shows how well they predict.

    python benchmarks/cuda.py FOLDER [--prefix h100] [--space NAME]... [--mode eager|graph]...
        [--dtype fp16]... [--batch 1]... [--timing host] [--resolutions 128,160,192,224]
        [--networks 30]

By default the MobileNetV3 space of width 1.0 in half precision, batch 1 and 64, eager and by CUDA
graphs. Each table goes into FOLDER under a name that tells these; one that is there already is gone
on with. The errors of the calibrated sum are of networks that the fit had not seen.
The plain sum of rows is shown beside it: at batch 1 launches, not kernels, take the time.
"""

from __future__ import annotations

import argparse
import itertools
import time
from contextlib import closing
from pathlib import Path

from ofa_hw.cli.output import print_table
from ofa_hw.latency import (
    LatencyTable,
    ValidationReport,
    calibrate_table,
    fill_table,
    load_table,
    validate_table,
    validation_report,
)
from ofa_hw.profiling import ProfilerOptions, open_profiler
from ofa_hw.spaces import get_space

SPACES = ("ofa_mbv3_d234_e346_k357_w1.0",)


def table_name(prefix: str, space: str, *, mode: str, dtype: str, batch: int) -> str:
    """Such as `h100-cuda-graph-fp16-b64-ofa_mbv3_w1.0`."""
    return f"{prefix}-cuda-{mode}-{dtype}-b{batch}-{space.replace('_d234_e346_k357', '')}"


def measured(
    path: Path, space_name: str, options: ProfilerOptions, arguments: argparse.Namespace
) -> tuple[LatencyTable, ValidationReport]:
    space = get_space(space_name)
    with closing(open_profiler("cuda", options)) as profiler:
        table = fill_table(space, profiler, path, resolutions=arguments.resolutions)
        if (missing := arguments.networks - len(table.validated())) > 0:
            validate_table(path, space, profiler, networks=missing)
    calibrate_table(path)
    table = load_table(path)
    return table, validation_report(table, space)


def row(
    name: str, table: LatencyTable, report: ValidationReport, wall_s: float
) -> tuple[object, ...]:
    calibrated, floor = report.calibrated, report.noise_floor
    assert calibrated is not None
    noted = sum(bool(measured.notes) for measured in table.rows.values())
    settled = sum(measured.stable for measured in table.rows.values()) / len(table)
    return (
        name,
        len(table),
        f"{settled:.0%}",
        noted,
        f"{report.raw.mape:.2%}",
        f"{report.raw.bias:+.1%}",
        f"{calibrated.mape:.2%}",
        f"{floor.mape:.2%}",
        f"{calibrated.within_5:.0%}",
        "-" if calibrated.spearman is None else f"{calibrated.spearman:.4f}",
        f"{wall_s:.0f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prefix", default="gpu", help="names the device")
    parser.add_argument("--space", action="append")
    parser.add_argument("--mode", action="append", choices=["eager", "graph"])
    parser.add_argument("--dtype", action="append")
    parser.add_argument("--batch", action="append", type=int)
    parser.add_argument("--timing", default="host", choices=["host", "events"])
    parser.add_argument("--channels-last", default="off", choices=["off", "on"])
    parser.add_argument("--others", default="refuse", choices=["refuse", "note"])
    parser.add_argument(
        "--resolutions",
        type=lambda text: [int(r) for r in text.split(",")],
        default=[128, 160, 192, 224],
    )
    parser.add_argument("--networks", type=int, default=30)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for space, dtype, batch, mode in itertools.product(
        arguments.space or SPACES,
        arguments.dtype or ["fp16"],
        arguments.batch or [1, 64],
        arguments.mode or ["eager", "graph"],
    ):
        name = table_name(arguments.prefix, space, mode=mode, dtype=dtype, batch=batch)
        settings = {
            "mode": mode,
            "timing": arguments.timing,
            "channels_last": arguments.channels_last,
            "others": arguments.others,
        }
        options = ProfilerOptions(dtype=dtype, batch=batch, settings=settings)
        start = time.perf_counter()
        table, report = measured(arguments.folder / f"{name}.jsonl", space, options, arguments)
        rows.append(row(name, table, report, time.perf_counter() - start))
        print(f"{name}: done in {time.perf_counter() - start:.0f} s", flush=True)
    columns = ("table", "rows", "settled", "noted", "sum", "bias", "calibrated", "measured twice")
    print_table((*columns, "within 5 %", "Spearman", "seconds"), rows)


if __name__ == "__main__":
    main()
