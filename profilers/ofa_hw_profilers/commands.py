"""`ofa-hw device`: what devices behind ADB need on this machine, as a command of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

device = typer.Typer(
    help="Prepare devices behind ADB.", no_args_is_help=True, rich_markup_mode=None
)


@device.callback()
def _group() -> None:
    """Keeps `build-runner` a command of its own while it is the only one."""


@device.command(epilog="Example: ofa-hw device build-runner --compiler aarch64-linux-gnu-gcc")
def build_runner(
    compiler: Annotated[
        str, typer.Option(help="A C compiler for the device, arguments may follow.")
    ] = "cc",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="By default where profiling looks for it.", metavar="FILE"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compile ofa-runner, the small program that runs networks on a device."""
    from ofa_hw.cli.output import print_json
    from ofa_hw_profilers.adb import build_runner as build

    path = build(compiler, output=output)
    if as_json:
        print_json({"runner": str(path)})
    else:
        print(path)
