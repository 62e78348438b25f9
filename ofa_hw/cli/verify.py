"""`ofa-hw verify`: whether an exported file keeps its promise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ofa_hw.cli.app import app
from ofa_hw.cli.options import (
    BenchmarkBinaryOption,
    JsonOption,
    SerialOption,
    SetOption,
    device_settings,
)
from ofa_hw.cli.output import print_json

if TYPE_CHECKING:
    from ofa_hw.profiling import DeviceInfo
    from ofa_hw.verify import Verification


@app.command(epilog="Example: ofa-hw verify net.tflite --backend tflite --serial XYZ")
def verify(
    file: Annotated[
        Path, typer.Argument(help="A file that `ofa-hw specialize` exported.", metavar="FILE")
    ],
    backend: Annotated[
        str | None,
        typer.Option(help="What runs it; by default what its format runs on.", metavar="NAME"),
    ] = None,
    serial: SerialOption = None,
    settings: SetOption = None,
    benchmark_binary: BenchmarkBinaryOption = None,
    tolerance: Annotated[
        float,
        typer.Option(
            help="How far over the predicted latency it may be, as a fraction, where the file "
            "tells no prediction interval.",
            min=0.0,
        ),
    ] = 0.10,
    seconds: Annotated[float, typer.Option(help="How long to measure at most.", min=0.1)] = 5.0,
    as_json: JsonOption = False,
) -> None:
    """Measure an exported file where it will run, and say whether it keeps its promise.

    The promise is the predicted latency in the file: its 90 % interval must hold what is measured,
    at least at the upper end, on the device, backend and settings that it is for. Exit code 1 if it
    is not kept, or was measured elsewhere.
    """
    from ofa_hw.profiling import SamplingPlan
    from ofa_hw.verify import verify_file

    found = verify_file(
        file,
        backend=backend,
        serial=serial,
        settings=device_settings(settings, benchmark_binary, has_serial=serial is not None),
        tolerance=tolerance,
        plan=SamplingPlan(min_time_s=min(0.5, seconds), max_time_s=seconds),
    )
    if as_json:
        print_json(found.to_dict())
    else:
        _print(found)
    if not found.kept:
        raise typer.Exit(1)


def _print(found: Verification) -> None:
    promise, statistics = found.promise, found.statistics
    interval = promise.predicted_interval_ms
    promised = f"{found.predicted_ms:.4g} ms"
    if interval:
        promised += f" (90 %: {interval[0]:.4g} to {interval[1]:.4g})"
    measured = f"{statistics.median_ms:.4g} ms"
    if statistics.ci_low_ms and statistics.ci_high_ms:
        measured += f" (95 %: {statistics.ci_low_ms:.4g} to {statistics.ci_high_ms:.4g})"
    facts = [
        ("network", f"{promise.space or 'unknown'}, by table {promise.table or 'unknown'}"),
        ("promised", promised),
        ("", _named(promise.device) if promise.device else "of no device"),
        ("measured", measured),
        ("", _named(found.device)),
    ]
    if promise.measured_latency_ms is not None:
        facts.insert(3, ("when chosen", f"{promise.measured_latency_ms:.4g} ms were measured"))
    if found.undelegated is not None:
        left = ", ".join(found.undelegated)
        facts.append(("XNNPACK", f"leaves {left} to other kernels" if left else "runs all of it"))
    for change in found.differences:
        if change not in found.elsewhere:
            name = change.field.replace("_", " ")
            facts.append(("changed", f"{name}: {change.first} then, {change.second} now"))
    if not statistics.stable:
        facts.append(("unstable", "the median's 95 % interval is wider than 1 %"))
    facts += [("note", note) for note in statistics.notes]
    for name, value in facts:
        print(f"{name:<12} {value}")
    print(found.sentence())


def _named(device: DeviceInfo) -> str:
    settings = ", ".join(f"{name}={value}" for name, value in device.settings.items())
    facts = [device.name, f"{device.runtime} {device.runtime_version}", device.dtype]
    facts += [f"{device.threads or 'unknown'} thread(s)", *([settings] if settings else [])]
    return ", ".join(facts)
