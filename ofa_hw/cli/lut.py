"""`ofa-hw lut`: imports, shows, validates, calibrates and draws latency tables."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ofa_hw.cli.app import app
from ofa_hw.cli.options import (
    ForceOption,
    JsonOption,
    ResolutionsOption,
    SeedOption,
    SetOption,
    parse_resolutions,
    parse_settings,
)
from ofa_hw.cli.output import print_json, print_table, progress_bar

if TYPE_CHECKING:
    from ofa_hw.latency import LatencyTable, ValidationReport

lut = typer.Typer(
    help="Import, show, validate, calibrate and draw latency tables.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(lut, name="lut")

TableArgument = Annotated[
    str, typer.Argument(help="A table's file, or the name of a bundled table.", metavar="TABLE")
]


@lut.command(epilog="Example: ofa-hw lut show tiny.jsonl --rows 5")
def show(
    table: TableArgument,
    rows: Annotated[
        int, typer.Option(help="How many rows to print, the slowest first.", min=0)
    ] = 10,
    as_json: JsonOption = False,
) -> None:
    """Show where a table comes from and its slowest operators."""
    from ofa_hw.latency import load_table

    loaded = load_table(table)
    slowest = sorted(loaded.rows_ms.items(), key=lambda row: -row[1])
    if as_json:
        print_json(
            {
                "name": loaded.name,
                "header": asdict(loaded.header),
                "rows": [{"op": str(op), "latency_ms": ms} for op, ms in slowest],
                "network_resolutions": sorted(loaded.variants),
                "overhead_ms": loaded.overhead_ms,
                "calibrated": loaded.calibration is not None,
                "validated_networks": len(loaded.validation),
            }
        )
        return
    for name, value in _facts(loaded):
        print(f"{name + ':':<22} {value}")
    if rows:
        print()
        print_table(("operator", "latency ms"), [(op, f"{ms:.4f}") for op, ms in slowest[:rows]])


def _facts(table: LatencyTable) -> list[tuple[str, str]]:
    device = table.device
    source = device.details.get("source")
    count = f"{len(table)}"
    if table.variants:
        resolutions = ", ".join(map(str, sorted(table.variants)))
        count += f"; measured for networks of {resolutions} pixels, each its own"
    if any(row.rounds for row in table.rows.values()):
        unstable = sum(not row.stable for row in table.rows.values())
        count += f"; {unstable} did not settle as closely as was asked for"
    unknown = [str(v or "unknown") for v in (device.dtype, device.threads, device.batch)]
    facts = [
        ("table", table.name),
        ("space", table.header.space or ("unknown" if source else "operators of one's own")),
        ("device", device.name),
        ("backend", f"{device.backend}: {device.runtime} {device.runtime_version}"),
        ("settings", ", ".join(f"{k}={v}" for k, v in device.settings.items()) or "none"),
        ("dtype, threads, batch", ", ".join(unknown)),
        *device.details.items(),
        ("created", table.header.created),
        ("rows", count),
        ("overhead", f"{table.overhead_ms:.4f} ms a network" if table.overhead else "unknown"),
        ("validated", f"{len(table.validation)} networks"),
        ("calibrated", "yes" if table.calibration else "no"),
    ]
    return [(name.replace("_", " "), value) for name, value in facts]


@lut.command("import", epilog="Example: ofa-hw lut import note10/ --output note10.jsonl")
def import_table(
    source: Annotated[
        Path,
        typer.Argument(
            help="A published YAML table, or a folder of them, one a resolution.", metavar="SOURCE"
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.", metavar="FILE")],
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write published YAML tables as one table of this project's format."""
    from ofa_hw.latency import import_published, save_table

    table = import_published(source)
    save_table(table, output, force=force)
    rows = {resolution: len(rows) for resolution, rows in sorted(table.variants.items())}
    if as_json:
        print_json({"table": str(output), "rows": rows})
    else:
        listed = ", ".join(f"{count} at {resolution}" for resolution, count in rows.items())
        print(f"{output}: rows for networks by input pixels: {listed}")


@lut.command("list", epilog="Example: ofa-hw lut list --json")
def list_tables(as_json: JsonOption = False) -> None:
    """List the tables that come with ofa-hw."""
    from ofa_hw.latency import bundled_tables, load_table

    rows: list[dict[str, Any]] = []
    for name in bundled_tables():
        table = load_table(name)
        device = table.device
        figures = table.calibration.figures if table.calibration else {}
        rows.append(
            {
                "name": name,
                "space": table.header.space,
                "device": device.name,
                "backend": f"{device.runtime} {device.runtime_version}",
                "dtype": device.dtype,
                "batch": device.batch,
                "resolutions": _covered(table),
                "rows": len(table),
                "validation_mape": figures.get("mape"),
                "created": table.header.created,
            }
        )
    if as_json:
        print_json(rows)
    elif not rows:
        print("no table comes with this version; fill one with ofa-hw profile")
    else:
        columns = ("name", "space", "device", "backend", "resolutions", "rows", "error", "date")
        print_table(
            columns,
            [
                (
                    *(row[key] for key in ("name", "space", "device", "backend")),
                    _listed(row["resolutions"]),
                    row["rows"],
                    "unknown"
                    if row["validation_mape"] is None
                    else f"{row['validation_mape']:.1%}",
                    str(row["created"])[:10],
                )
                for row in rows
            ],
        )


def _covered(table: LatencyTable) -> list[int]:
    """The resolutions that have every row."""
    from ofa_hw.spaces import get_space

    if table.header.space is None:
        return []
    space = get_space(table.header.space)
    return [r for r in space.resolutions if all(op in table for op in space.table_ops([r]))]


def _listed(resolutions: list[int]) -> str:
    if len(resolutions) < 6:
        return ", ".join(map(str, resolutions)) or "none whole"
    return f"{len(resolutions)} from {resolutions[0]} to {resolutions[-1]}"


@lut.command(epilog="Example: ofa-hw lut validate tiny.jsonl --networks 30")
def validate(
    table: Annotated[Path, typer.Argument(help="A table's file.", metavar="TABLE")],
    networks: Annotated[int, typer.Option(help="Sub-networks to measure.", min=1)] = 30,
    resolutions: ResolutionsOption = None,
    interpolate: Annotated[
        bool,
        typer.Option("--interpolate", help="Draw from resolutions that are only interpolated."),
    ] = False,
    serial: Annotated[
        str | None, typer.Option(help="Device, for backends that reach others.", metavar="SERIAL")
    ] = None,
    settings: SetOption = None,
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
    chosen = {**device.settings, **parse_settings(settings)}
    options = ProfilerOptions(serial, device.threads, device.dtype, device.batch, chosen)
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
