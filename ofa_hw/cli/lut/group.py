"""The group of commands, and what they share."""

from __future__ import annotations

from typing import Annotated

import typer

from ofa_hw.cli.app import app

lut = typer.Typer(
    help="Show, compare, merge, validate, calibrate and draw latency tables.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(lut, name="lut")

TableArgument = Annotated[
    str, typer.Argument(help="A table's file, or the name of a bundled table.", metavar="TABLE")
]
