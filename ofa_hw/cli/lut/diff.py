"""`ofa-hw lut diff`: in what two tables differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ofa_hw.cli.lut.group import TableArgument, lut
from ofa_hw.cli.options import JsonOption
from ofa_hw.cli.output import print_json, print_table

if TYPE_CHECKING:
    from ofa_hw.latency import TableComparison


@lut.command(epilog="Example: ofa-hw lut diff monday.jsonl tuesday.jsonl --rows 20")
def diff(
    first: TableArgument,
    second: TableArgument,
    rows: Annotated[
        int, typer.Option(help="How many rows to print, the farthest apart first.", min=0)
    ] = 10,
    anyway: Annotated[
        bool,
        typer.Option("--anyway", help="Compare other data types, batch sizes and threads too."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what two tables differ in: how they were measured, which rows they have, by how much.

    Rows farthest apart are those whose ratio is farthest from the median's, so that a device that
    is slower all over does not hide an operator that is slower still.
    """
    from ofa_hw.latency import compare_tables, load_table

    comparison = compare_tables(load_table(first), load_table(second), anyway=anyway)
    if as_json:
        print_json(comparison.to_dict())
    else:
        _print(comparison, rows)


def _print(comparison: TableComparison, count: int) -> None:
    print(f"first   {comparison.first}\nsecond  {comparison.second}\n")
    if comparison.differences:
        print_table(
            ("measured with", "first", "second"),
            [
                (d.field.replace("_", " "), *map(_shown, (d.first, d.second)))
                for d in comparison.differences
            ],
        )
        print()
    only = ((comparison.only_first, "first"), (comparison.only_second, "second"))
    facts = [("operators in both", str(len(comparison.rows)))]
    facts += [(f"only in the {name}", _named(list(map(str, ops)))) for ops, name in only]
    low, high = comparison.quantile(0.05), comparison.quantile(0.95)
    median = comparison.median_ratio
    facts.append(
        ("second over first", f"{median:.3f} median, 90 % of rows {low:.3f} to {high:.3f}")
    )
    facts.append(("near the median", f"{comparison.within(0.05):.0%} of rows within 5 %"))
    if comparison.level_ratio is not None:
        level = comparison.level_ratio
        facts.append(("of the sentinel", f"{level:.3f}, so {median / level:.3f} without it"))
    for name, value in facts:
        print(f"{name:<19} {value}")
    if count:
        print()
        print_table(
            ("operator", "first ms", "second ms", "ratio"),
            [
                (row.op, f"{row.first_ms:.4f}", f"{row.second_ms:.4f}", f"{row.ratio:.3f}")
                for row in comparison.rows[:count]
            ],
        )


def _shown(value: object) -> str:
    return "-" if value is None else str(value)


def _named(ops: list[str]) -> str:
    if len(ops) <= 2:
        return ", ".join(ops) or "0"
    return f"{len(ops)}, such as {ops[0]}"
