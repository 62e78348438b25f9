"""`ofa-hw lut validate`, `calibrate` and `plot`: how good a table is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ofa_hw.cli.lut.group import TableArgument, lut
from ofa_hw.cli.options import (
    BenchmarkBinaryOption,
    ForceOption,
    JsonOption,
    ResolutionsOption,
    SeedOption,
    SerialOption,
    SetOption,
    device_settings,
    parse_resolutions,
)
from ofa_hw.cli.output import print_json, print_table, progress_bar

if TYPE_CHECKING:
    from ofa_hw.latency import ValidationReport


@lut.command(epilog="Example: ofa-hw lut validate tiny.jsonl --networks 30")
def validate(
    table: Annotated[Path, typer.Argument(help="A table's file.", metavar="TABLE")],
    networks: Annotated[int, typer.Option(help="Sub-networks to measure.", min=1)] = 30,
    resolutions: ResolutionsOption = None,
    interpolate: Annotated[
        bool,
        typer.Option("--interpolate", help="Draw from resolutions that are only interpolated."),
    ] = False,
    loads: Annotated[
        int | None,
        typer.Option(
            help="How often each network is loaded for each of its two measurements; 4 by default, "
            "1 behind a cable. More lower the noise floor.",
            min=1,
        ),
    ] = None,
    serial: SerialOption = None,
    settings: SetOption = None,
    benchmark_binary: BenchmarkBinaryOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure random sub-networks end to end, and say how far the table is off on them."""
    from ofa_hw.errors import TableError
    from ofa_hw.latency import load_table, validate_table
    from ofa_hw.profiling import ProfilerOptions, open_profiler
    from ofa_hw.spaces import get_space

    loaded = load_table(table)
    device = loaded.device
    if loaded.header.space is None or device.threads is None or device.batch is None:
        raise TableError(
            f"{table} does not say how it was measured; fill one: "
            "ofa-hw profile --space SPACE --backend BACKEND --output FILE"
        )
    # A table tells how its device ran, not where this machine keeps what it needs for that.
    chosen = device_settings(settings, benchmark_binary, has_serial=serial is not None)
    options = ProfilerOptions(
        serial, device.threads, device.dtype, device.batch, {**device.settings, **chosen}
    )
    profiler = open_profiler(device.backend, options)
    try:
        with progress_bar("measuring networks") as progress:
            report = validate_table(
                table,
                get_space(loaded.header.space),
                profiler,
                networks=networks,
                seed=seed,
                resolutions=parse_resolutions(resolutions),
                interpolate=interpolate,
                loads=loads,
                progress=progress,
            )
    finally:
        profiler.close()
    _print_report(report, as_json)


@lut.command(epilog="Example: ofa-hw lut calibrate tiny.jsonl")
def calibrate(
    table: Annotated[Path, typer.Argument(help="A table's file.", metavar="TABLE")],
    as_json: JsonOption = False,
) -> None:
    """Fit a table to the networks it was validated on, and say how good that is on unseen ones."""
    from ofa_hw.latency import calibrate_table, validation_report
    from ofa_hw.spaces import get_space

    calibrated = calibrate_table(table)
    _print_report(validation_report(calibrated, get_space(calibrated.header.space or "")), as_json)


@lut.command(epilog="Example: ofa-hw lut plot tiny.jsonl --output tiny.html")
def plot(
    table: TableArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Page to write, .html.", metavar="FILE")
    ],
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw a table's rows by block and resolution, and its estimates against measured networks."""
    from ofa_hw.errors import OutputExistsError, TableError
    from ofa_hw.latency import load_table
    from ofa_hw.latency.plot import plot_table

    if output.exists() and not force:
        raise OutputExistsError(output)
    page = plot_table(load_table(table))
    try:
        output.write_text(page)
    except OSError as error:
        raise TableError(f"cannot write {output}: {error.strerror}") from error
    if as_json:
        print_json({"page": str(output), "bytes": len(page.encode())})
    else:
        print(f"{output}: {len(page.encode()) / 1e6:.1f} MB, open it in a browser")


def _print_report(report: ValidationReport, as_json: bool) -> None:
    if as_json:
        print_json(report.to_dict())
        return
    rows = [("sum of rows", report.raw), ("measured twice", report.noise_floor)]
    if report.calibrated:
        rows.insert(1, ("calibrated, unseen", report.calibrated))
    if report.interpolated:
        rows.insert(-1, ("interpolated", report.interpolated))
    columns = (
        *("", "networks", "MAPE", "RMSPE", "bias", "within 5 %", "within 10 %"),
        *("Spearman", "Kendall"),
    )
    print_table(
        columns,
        [
            (
                name,
                f.networks,
                f"{f.mape:.2%}",
                f"{f.rmspe:.2%}",
                f"{f.bias:+.2%}",
                f"{f.within_5:.0%}",
                f"{f.within_10:.0%}",
                "-" if f.spearman is None else f"{f.spearman:.3f}",
                "-" if f.kendall is None else f"{f.kendall:.3f}",
            )
            for name, f in rows
        ],
    )
