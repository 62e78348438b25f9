"""`ofa-hw train`: a supernet and its accuracy predictor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ofa_hw.cli.app import app
from ofa_hw.cli.options import ForceOption, JsonOption, SeedOption, SpaceOption
from ofa_hw.cli.output import print_json, print_table, progress_bar


@app.command(epilog="Example: ofa-hw train --space tiny --data digits --output runs/tiny")
def train(
    space: SpaceOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.", metavar="DIR")],
    data: Annotated[str, typer.Option(help="Images to train on.", metavar="NAME")] = "digits",
    recipe: Annotated[
        str, typer.Option(help="A recipe's name, or a .toml file.", metavar="RECIPE")
    ] = "digits",
    labels: Annotated[
        int,
        typer.Option(
            help="Sub-networks to evaluate for the accuracy predictor; 0 for none.", min=0
        ),
    ] = 150,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a supernet by progressive shrinking, and fit its accuracy predictor.

    Writes supernet.pth, predictor.npz and log.jsonl. The same command goes on with a run that was
    stopped, whatever stopped it, with the same numbers.
    """
    from ofa_hw.training import get_data, get_recipe, train_supernet

    images, chosen = get_data(data), get_recipe(recipe)
    with progress_bar("training") as progress:
        trained = train_supernet(
            space,
            images,
            chosen,
            output,
            labels=labels,
            seed=seed,
            force=force,
            progress=progress,
        )
    if not trained.fresh:
        print(f"{output} holds this run, finished; --force trains it anew", file=sys.stderr)
    if as_json:
        print_json(trained.summary())
        return
    rows = [(n.name, n.macs // 1000, f"{n.top1:.1%}") for n in trained.evaluated]
    print_table(("sub-network", "kMACs", "validation top-1"), rows)
    if trained.report:
        print(
            f"predictor: RMSE {trained.report.rmse:.2%}, Spearman {trained.report.spearman:.2f} "
            f"on {trained.report.held_out} sub-networks it has not seen"
        )
    print(f"written to {output}")
