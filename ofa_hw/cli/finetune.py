"""`ofa-hw finetune`: trains a chosen sub-network further."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ofa_hw.cli.app import app
from ofa_hw.cli.images import first_images
from ofa_hw.cli.options import ForceOption, JsonOption, SeedOption
from ofa_hw.cli.output import print_json, progress_bar
from ofa_hw.cli.training import (
    AccumulateOption,
    DataOption,
    DeviceOption,
    PrecisionOption,
    SpecOption,
    ValidationOption,
    WeightsOption,
    open_images,
    read_spec,
    say_broken,
)
from ofa_hw.errors import CheckpointError, OutputExistsError


@app.command(
    epilog="Example: ofa-hw finetune --weights runs/tiny/supernet.pth --spec spec.json "
    "--data digits --epochs 5 --export net.tflite"
)
def finetune(
    weights: WeightsOption,
    spec: SpecOption,
    data: DataOption,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the plain network's weights.", metavar="FILE"),
    ] = None,
    export: Annotated[
        list[Path] | None,
        typer.Option(help="Write a .tflite, .onnx or .pt2; repeat for more.", metavar="FILE"),
    ] = None,
    epochs: Annotated[float, typer.Option(help="Passes over the training images.")] = 25,
    rate: Annotated[float, typer.Option(help="Learning rate at the beginning.")] = 0.008,
    batch_size: Annotated[int, typer.Option(help="Images a step.", min=1)] = 64,
    validation: ValidationOption = 0.1,
    device: DeviceOption = "cpu",
    precision: PrecisionOption = "float32",
    accumulate: AccumulateOption = 1,
    checkpoints: Annotated[
        Path | None,
        typer.Option(
            help="Folder of checkpoints: the same command goes on where it was stopped.",
            metavar="DIR",
        ),
    ] = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a sub-network by itself, from its weights in the supernet, and keep what is better."""
    files = [*([output] if output else []), *(export or [])]
    if not files:
        raise typer.BadParameter("give --output or --export, or nothing would be kept")
    from ofa_hw.export import Provenance, check_output, export_module

    if output and output.exists() and not force:
        raise OutputExistsError(output)
    for path in export or []:
        check_output(path, force=force)
    from ofa_hw.spaces import get_space
    from ofa_hw.supernet import load_supernet, save_checkpoint
    from ofa_hw.training import Execution, keep_freed_memory, require_images
    from ofa_hw.training import finetune as run

    keep_freed_memory()
    chosen = read_spec(spec)
    space = get_space(chosen.space)
    images = open_images(space, data, validation=validation)
    require_images(space, images)
    net = load_supernet(space, weights).eval()
    execution = Execution(device=device, precision=precision, accumulate=accumulate)
    execution.place(net)
    with progress_bar("fine-tuning") as progress:
        tuned = run(
            net,
            chosen,
            images,
            epochs=epochs,
            rate=rate,
            batch_size=batch_size,
            seed=seed,
            execution=execution,
            folder=checkpoints,
            progress=progress,
        )
    say_broken(images)
    module = tuned.module.to("cpu")
    if output:
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"cannot write {output}: {error.strerror}") from error
        save_checkpoint(module, output)
    shape = (1, space.in_channels, chosen.resolution, chosen.resolution)
    metadata = Provenance(spec=chosen, top1=tuned.top1).to_metadata()
    compared = first_images(images, "validation", chosen.resolution) if export else None
    for path in export or []:
        export_module(module, shape, path, images=compared, metadata=metadata, force=force)
    if as_json:
        print_json(
            {
                "spec": json.loads(chosen.to_json()),
                "top1_before": tuned.before,
                "top1_after": tuned.after,
                "files": [str(path) for path in files],
            }
        )
        return
    kept = "" if tuned.after >= tuned.before else "; kept the weights of the supernet"
    print(f"validation top-1 {tuned.before:.2%} before, {tuned.after:.2%} after{kept}")
