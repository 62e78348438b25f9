"""`ofa-hw label`: measures sub-networks for an accuracy predictor."""

from __future__ import annotations

from typing import Annotated

import typer

from ofa_hw.cli.app import app
from ofa_hw.cli.options import JsonOption, SeedOption, SpaceOption
from ofa_hw.cli.output import print_json, progress_bar
from ofa_hw.cli.training import (
    CALIBRATION_IMAGES,
    CalibrationOption,
    DataOption,
    DeviceOption,
    FileOption,
    ValidationOption,
    WeightsOption,
    open_images,
    say_broken,
)
from ofa_hw.errors import CheckpointError


@app.command(
    epilog="Example: ofa-hw label --space tiny --weights runs/tiny/supernet.pth --data digits "
    "--count 500 --workers 2 --output labels.jsonl"
)
def label(
    space: SpaceOption,
    weights: WeightsOption,
    data: DataOption,
    output: FileOption,
    count: Annotated[int, typer.Option(help="Sub-networks in the file in the end.", min=1)] = 500,
    workers: Annotated[int, typer.Option(help="Processes that measure, here.", min=1)] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Measure on the workers of this dask.distributed scheduler.", metavar="ADDRESS"
        ),
    ] = None,
    calibrate: CalibrationOption = CALIBRATION_IMAGES,
    validation: ValidationOption = 0.1,
    device: DeviceOption = "cpu",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure the top-1 of random sub-networks, each resolution equally often.

    The same command goes on with a file that is not complete, and a larger --count adds to one.
    """
    from ofa_hw.spaces import get_space, with_classes
    from ofa_hw.supernet import load_supernet
    from ofa_hw.training import Execution, collect_labels, require_images

    if scheduler is not None and workers > 1:
        raise typer.BadParameter("--workers is of this machine; the scheduler has its own")
    family = get_space(space)
    images = open_images(family, data, validation=validation)
    family = with_classes(family, images.num_classes)
    require_images(family, images)
    net = load_supernet(family, weights).eval()
    execution = Execution(device=device)
    execution.place(net)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"cannot write {output}: {error.strerror}") from error
    with progress_bar("labelling") as progress:
        labels = collect_labels(
            net,
            images,
            count,
            seed=seed,
            images=calibrate,
            journal=output,
            processes=workers,
            scheduler=scheduler,
            progress=progress,
        )
    say_broken(images)
    accuracies = [found.top1 for found in labels]
    if as_json:
        print_json(
            {
                "file": str(output),
                "labels": len(labels),
                "top1": {"lowest": min(accuracies), "highest": max(accuracies)},
            }
        )
        return
    print(
        f"{len(labels)} sub-networks, top-1 {min(accuracies):.1%} to {max(accuracies):.1%}, "
        f"in {output}"
    )
