"""The command `ofa-hw`: puts the commands together and turns errors into one line."""

from __future__ import annotations

import importlib
import logging
import sys
from importlib.metadata import entry_points
from typing import Annotated, Final

import typer

from ofa_hw.errors import OfaHwError

# Libraries that a small host may lack, and the extras that bring them.
EXTRAS: Final = {
    "torch": "torch",
    "safetensors": "torch",
    "plotly": "plot",
    "yaml": "yaml",
    "adbutils": "adb",
    "adb_shell": "adb",
    "PIL": "torch",
}

# In the order of the help: from a network to what ships.
_COMMANDS: Final = (
    "quickstart",
    "train",
    "evaluate",
    "finetune",
    "training_plot",
    "label",
    "predictor",
    "devices",
    "profile",
    "lut",
    "search",
    "specialize",
    "verify",
    "bench",
)

app = typer.Typer(
    name="ofa-hw",
    help="Profile a once-for-all supernet on a device, find its best sub-network, and ship it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"ofa-hw {version('ofa-hw')}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens.")] = False,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")


def _add_commands() -> None:
    """Imports the command modules, each of which puts itself into `app`, and those of backends."""
    for module in _COMMANDS:
        importlib.import_module(f"ofa_hw.cli.{module}")
    for entry in entry_points(group="ofa_hw.commands"):
        app.add_typer(entry.load(), name=entry.name)


def main() -> None:
    """Runs the command line: exit code 0, 1 for an error of ofa_hw, 2 for bad usage."""
    _add_commands()
    try:
        app()
    except OfaHwError as error:
        message = " ".join(str(error).split())
        print(f"ofa-hw: {message}", file=sys.stderr)
        sys.exit(1)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print(f"ofa-hw: this needs {error.name}; pip install 'ofa-hw[{extra}]'", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("ofa-hw: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
