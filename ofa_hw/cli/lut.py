"""`ofa-hw lut`: looks at latency tables."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from ofa_hw.cli.app import app
from ofa_hw.cli.options import JsonOption
from ofa_hw.cli.output import print_json, print_table

lut = typer.Typer(help="Look at latency tables.", no_args_is_help=True, rich_markup_mode=None)
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
                "overhead_ms": loaded.overhead_ms,
                "calibrated": loaded.calibration is not None,
                "validated_networks": len(loaded.validation),
            }
        )
        return
    device = loaded.device
    unstable = sum(not row.stable for row in loaded.rows.values())
    facts = [
        ("table", loaded.name),
        ("space", loaded.header.space or "operators of one's own"),
        ("device", device.name),
        ("backend", f"{device.backend}: {device.runtime} {device.runtime_version}"),
        ("settings", ", ".join(f"{k}={v}" for k, v in device.settings.items()) or "none"),
        ("dtype, threads, batch", f"{device.dtype}, {device.threads}, {device.batch}"),
        ("created", loaded.header.created),
        ("rows", f"{len(loaded)}, {unstable} of them not stable"),
        ("overhead", f"{loaded.overhead_ms:.4f} ms a network"),
        ("validated", f"{len(loaded.validation)} networks"),
    ]
    for name, value in facts:
        print(f"{name + ':':<22} {value}")
    if rows:
        print()
        print_table(("operator", "latency ms"), [(op, f"{ms:.4f}") for op, ms in slowest[:rows]])
