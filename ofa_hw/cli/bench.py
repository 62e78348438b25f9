"""`ofa-hw bench`: times a file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ofa_hw.cli.app import app
from ofa_hw.cli.options import JsonOption, ThreadsOption
from ofa_hw.cli.output import print_json


@app.command(epilog="Example: ofa-hw bench model.tflite --threads 2")
def bench(
    file: Annotated[Path, typer.Argument(help="Any .onnx or .tflite file.", metavar="FILE")],
    threads: ThreadsOption = 1,
    seconds: Annotated[float, typer.Option(help="How long at most.", min=0.1)] = 5.0,
    as_json: JsonOption = False,
) -> None:
    """Time any .onnx or .tflite file on this machine, on random inputs."""
    from ofa_hw.latency.bench import bench_file

    result = bench_file(file, threads=threads, max_time_s=seconds)
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
