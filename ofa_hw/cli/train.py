"""`ofa-hw train`: a supernet and its accuracy predictor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ofa_hw.cli.app import app
from ofa_hw.cli.options import ForceOption, JsonOption, SeedOption, SpaceOption
from ofa_hw.cli.output import print_json, print_table, progress_bar
from ofa_hw.cli.training import (
    AccumulateOption,
    DataOption,
    DeviceOption,
    PrecisionOption,
    ValidationOption,
    open_images,
    say_broken,
)

if TYPE_CHECKING:
    from ofa_hw.training import Evaluated

_COLUMNS = ("sub-network", "kMACs", "validation top-1")


@app.command(epilog="Example: ofa-hw train --space tiny --data digits --output runs/tiny")
def train(
    space: SpaceOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.", metavar="DIR")],
    data: DataOption = "digits",
    recipe: Annotated[
        str, typer.Option(help="A recipe's name, or a .toml file.", metavar="RECIPE")
    ] = "digits",
    start: Annotated[
        Path | None,
        typer.Option(help="Weights to begin with; without, random ones.", metavar="FILE"),
    ] = None,
    labels: Annotated[
        int,
        typer.Option(
            help="Sub-networks to evaluate for the accuracy predictor, 10 or more; 0 for none.",
            min=0,
        ),
    ] = 150,
    validation: ValidationOption = 0.1,
    device: DeviceOption = "cpu",
    precision: PrecisionOption = "float32",
    accumulate: AccumulateOption = 1,
    sync_batch_norm: Annotated[
        bool,
        typer.Option(help="Whether batch norms are over all workers of torchrun, or each its own."),
    ] = True,
    checkpoint_seconds: Annotated[
        float, typer.Option(help="Seconds between checkpoints.", min=0)
    ] = 60.0,
    evaluate_epochs: Annotated[
        int | None,
        typer.Option(help="Epochs between evaluations; without, at the end of a phase.", min=1),
    ] = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a supernet by progressive shrinking, and fit its accuracy predictor.

    Writes supernet.pth, predictor.npz and log.jsonl. The same command goes on with a run that was
    stopped, whatever stopped it, with the same numbers. Under torchrun the workers share each
    batch.
    """
    from ofa_hw.spaces import get_space, with_classes
    from ofa_hw.training import (
        Execution,
        Pace,
        get_recipe,
        join_workers,
        keep_freed_memory,
        train_supernet,
    )

    keep_freed_memory()
    family, chosen = get_space(space), get_recipe(recipe)
    images = open_images(family, data, validation=validation)
    family = with_classes(family, images.num_classes)
    execution = Execution(device=device, precision=precision, accumulate=accumulate)
    workers = join_workers(device, sync_batch_norm=sync_batch_norm)
    with progress_bar("training") as progress:
        trained = train_supernet(
            family,
            images,
            chosen,
            output,
            start=start,
            labels=labels,
            seed=seed,
            force=force,
            execution=execution,
            workers=workers,
            pace=Pace(checkpoint_seconds, evaluate_epochs),
            progress=progress if workers.writes else None,
            watch=_show,
        )
    if not workers.writes:
        return
    say_broken(images)
    if not trained.fresh:
        print(f"{output} holds this run, finished; --force trains it anew", file=sys.stderr)
    if as_json:
        print_json(trained.summary())
        return
    print_table(_COLUMNS, _rows(trained.evaluated))
    if trained.report:
        print(
            f"predictor: RMSE {trained.report.rmse:.2%}, Spearman {trained.report.spearman:.2f} "
            f"on {trained.report.held_out} sub-networks it has not seen"
        )
    print(f"written to {output}")


def _show(step: int, found: tuple[Evaluated, ...]) -> None:
    print_table(_COLUMNS, _rows(found), title=f"after step {step}", stderr=True)


def _rows(found: tuple[Evaluated, ...]) -> list[tuple[object, ...]]:
    return [(network.name, network.macs // 1000, f"{network.top1:.1%}") for network in found]
