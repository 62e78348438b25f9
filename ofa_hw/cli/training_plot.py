"""`ofa-hw training plot`: the curves of a run as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ofa_hw.cli.app import app
from ofa_hw.cli.options import ForceOption, JsonOption
from ofa_hw.cli.output import print_json
from ofa_hw.errors import OutputExistsError

training = typer.Typer(help="Look at training runs.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(training, name="training")


@training.callback()
def _group() -> None:
    """Keeps `plot` a command of its own as long as it is the only one."""


@training.command(epilog="Example: ofa-hw training plot runs/tiny --output curves.html")
def plot(
    run: Annotated[
        Path,
        typer.Argument(help="The folder that ofa-hw train writes.", metavar="DIR"),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The page to write.", metavar="FILE")
    ],
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw loss, learning rate and top-1 of a run by step and phase, finished or not."""
    if output.exists() and not force:
        raise OutputExistsError(output)
    from ofa_hw.export import write_text
    from ofa_hw.training.page import training_page

    write_text(output, training_page(run))
    if as_json:
        print_json({"file": str(output)})
        return
    print(f"written to {output}")
