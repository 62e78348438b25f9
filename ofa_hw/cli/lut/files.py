"""`ofa-hw lut import` and `ofa-hw lut merge`: tables made of other files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ofa_hw.cli.lut.group import lut
from ofa_hw.cli.options import ForceOption, JsonOption
from ofa_hw.cli.output import print_json, print_table

if TYPE_CHECKING:
    from ofa_hw.latency import MergedTable

OutputOption = Annotated[
    Path, typer.Option("--output", "-o", help="File to write.", metavar="FILE")
]


@lut.command("import", epilog="Example: ofa-hw lut import note10/ --output note10.jsonl")
def import_table(
    source: Annotated[
        Path,
        typer.Argument(
            help="A published YAML table, or a folder of them, one a resolution.", metavar="SOURCE"
        ),
    ],
    output: OutputOption,
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


@lut.command(epilog="Example: ofa-hw lut merge monday.jsonl tuesday.jsonl -o phone.jsonl")
def merge(
    tables: Annotated[
        list[str], typer.Argument(help="Two or more tables of one device.", metavar="TABLE...")
    ],
    output: OutputOption,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Merge tables of the same device, backend, settings and space into one.

    Of an operator in several, the first table's row is kept, or the first that settled where that
    one did not. Validated networks go along; calibrate anew.
    """
    from ofa_hw.errors import OutputExistsError
    from ofa_hw.latency import load_table, merge_tables, save_table

    if output.exists() and not force:
        raise OutputExistsError(output)
    merged = merge_tables([load_table(name) for name in tables], name=output.name)
    save_table(merged.table, output, force=force)
    overlaps = [
        None if overlap is None else overlap.to_dict(worst=5) for overlap in merged.overlaps
    ]
    if as_json:
        print_json(
            {
                "table": str(output),
                "rows": len(merged.table),
                "taken": dict(zip(tables, merged.taken, strict=True)),
                "networks": len(merged.table.validation),
                "overlaps": dict(zip(tables[1:], overlaps, strict=True)),
            }
        )
        return
    print(f"{output}: {len(merged.table)} rows, {len(merged.table.validation)} networks")
    print_table(
        ("table", "rows taken", "in both", "times as long", "5-95 %", "over 5 % apart"),
        [(table, *_row(merged, place)) for place, table in enumerate(tables)],
    )
    if merged.table.validation:
        print(f"it is not calibrated: ofa-hw lut calibrate {output}")


def _row(merged: MergedTable, place: int) -> tuple[object, ...]:
    """What a table gave, and how it compares with those before it."""
    taken = merged.taken[place]
    overlap = merged.overlaps[place - 1] if place else None
    if overlap is None:
        return (taken, "-", "-", "-", "-")
    apart = 1 - overlap.within(0.05)
    low, high = overlap.quantile(0.05), overlap.quantile(0.95)
    median = f"{overlap.median_ratio:.3f}"
    return (taken, len(overlap.rows), median, f"{low:.3f}-{high:.3f}", f"{apart:.0%}")
