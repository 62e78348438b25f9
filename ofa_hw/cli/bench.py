"""`ofa-hw bench`: times a file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ofa_hw.cli.app import app
from ofa_hw.cli.options import (
    BenchmarkBinaryOption,
    JsonOption,
    SetOption,
    ThreadsOption,
    device_settings,
)
from ofa_hw.cli.output import print_json


@app.command(epilog="Example: ofa-hw bench model.tflite --threads 2")
def bench(
    file: Annotated[Path, typer.Argument(help="Any .onnx, .tflite or .pt2 file.", metavar="FILE")],
    threads: ThreadsOption = 1,
    serial: Annotated[
        str | None, typer.Option(help="Device behind ADB, for .tflite files.", metavar="SERIAL")
    ] = None,
    settings: SetOption = None,
    benchmark_binary: BenchmarkBinaryOption = None,
    seconds: Annotated[float, typer.Option(help="How long at most.", min=0.1)] = 5.0,
    as_json: JsonOption = False,
) -> None:
    """Time any .onnx, .tflite or .pt2 file on random inputs, here or on a device."""
    from ofa_hw.latency.bench import bench_file, bench_on_device

    chosen = device_settings(settings, benchmark_binary, has_serial=serial is not None)
    if serial is None and chosen:
        raise typer.BadParameter("--set is for devices; pass --serial too")
    if serial is None:
        result = bench_file(file, threads=threads, max_time_s=seconds)
    else:
        from ofa_hw.profiling import ProfilerOptions, open_profiler

        options = ProfilerOptions(serial, threads, settings=chosen)
        profiler = open_profiler("tflite", options)
        try:
            result = bench_on_device(file, profiler, max_time_s=seconds)
        finally:
            profiler.close()
    if as_json:
        print_json(asdict(result))
        return
    s = result.statistics
    print(f"{file} on {result.runtime} {result.runtime_version}, {threads} thread(s)")
    print(f"median  {s.median_ms:.4f} ms")
    print(f"p25-p75 {s.p25_ms:.4f}-{s.p75_ms:.4f} ms")
    print(f"p90     {s.p90_ms:.4f} ms")
    print(f"min     {s.min_ms:.4f} ms")
    if not s.stable:
        print("not stable: the median's 95 % interval is wider than 1 %; quieten the machine")
