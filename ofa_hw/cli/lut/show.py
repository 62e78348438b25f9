"""`ofa-hw lut list` and `ofa-hw lut show`: which tables there are, and what one holds."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ofa_hw.cli.lut.group import TableArgument, lut
from ofa_hw.cli.options import JsonOption
from ofa_hw.cli.output import print_json, print_table

if TYPE_CHECKING:
    from ofa_hw.latency import LatencyTable


@lut.command("list", epilog="Example: ofa-hw lut list --json")
def list_tables(as_json: JsonOption = False) -> None:
    """List the tables that come with ofa-hw, by device and backend.

    The error is the mean one of calibrated estimates of networks that the calibration had not seen.
    """
    from ofa_hw.latency import bundled_tables, load_table

    rows = [_entry(load_table(name)) for name in bundled_tables()]
    if as_json:
        print_json(rows)
        return
    if not rows:
        print("no table comes with this version; fill one with ofa-hw profile")
    rows.sort(key=lambda row: (_measured_on(row), row["name"]))
    width = max((len(row["name"]) for row in rows), default=0)
    for place, (title, group) in enumerate(groupby(rows, _measured_on)):
        print(f"{chr(10) if place else ''}{title}")
        print_table(
            ("name".ljust(width), "resolutions", "rows", "error", "date"),
            [
                (
                    row["name"],
                    _listed(row["resolutions"]).ljust(len("25 (128-224)")),
                    f"{row['rows']:>4}",
                    "unknown"
                    if row["validation_mape"] is None
                    else f"{row['validation_mape']:.1%}",
                    str(row["created"])[:10],
                )
                for row in group
            ],
        )


def _entry(table: LatencyTable) -> dict[str, Any]:
    device = table.device
    figures = table.calibration.figures if table.calibration else {}
    return {
        "name": table.name,
        "space": table.header.space,
        "device": device.name,
        "backend": device.backend,
        "runtime": f"{device.runtime} {device.runtime_version}",
        "dtype": device.dtype,
        "threads": device.threads,
        "batch": device.batch,
        "settings": dict(device.settings),
        "resolutions": _covered(table),
        "rows": len(table),
        "validation_mape": figures.get("mape"),
        "created": table.header.created,
    }


def _measured_on(row: dict[str, Any]) -> str:
    """Such as `AMD EPYC, tflite (tflite 2.3.0), fp32, batch 1, 1 thread`."""
    threads = f"{row['threads']} thread{'' if row['threads'] == 1 else 's'}"
    runtime = f"{row['backend']} ({row['runtime']})"
    return f"{row['device']}, {runtime}, {row['dtype']}, batch {row['batch']}, {threads}"


def _covered(table: LatencyTable) -> list[int]:
    """The resolutions that have every row."""
    from ofa_hw.spaces import get_space

    if table.header.space is None:
        return []
    space = get_space(table.header.space)
    return [r for r in space.resolutions if all(op in table for op in space.table_ops([r]))]


def _listed(resolutions: list[int]) -> str:
    """How many, and from where to where."""
    if len(resolutions) < 2:
        return f"{resolutions[0]}" if resolutions else "none whole"
    return f"{len(resolutions)} ({resolutions[0]}-{resolutions[-1]})"


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
