"""`ofa-hw evaluate`: the accuracy of a sub-network."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from ofa_hw.cli.app import app
from ofa_hw.cli.options import JsonOption
from ofa_hw.cli.output import print_json
from ofa_hw.cli.training import (
    CALIBRATION_IMAGES,
    CalibrationOption,
    DataOption,
    DeviceOption,
    SpecOption,
    ValidationOption,
    WeightsOption,
    open_images,
    read_spec,
    say_broken,
)
from ofa_hw.errors import SpecError

if TYPE_CHECKING:
    from ofa_hw.training.data import Split


@app.command(
    epilog="Example: ofa-hw evaluate --weights runs/tiny/supernet.pth --spec spec.json "
    "--data digits --split test"
)
def evaluate(
    weights: WeightsOption,
    spec: SpecOption,
    data: DataOption,
    part: Annotated[str, typer.Option("--split", help="validation, test or train.")] = "validation",
    calibrate: CalibrationOption = CALIBRATION_IMAGES,
    validation: ValidationOption = 0.1,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Measure the top-1 of a sub-network after its batch norms are calibrated."""
    from ofa_hw.spaces import get_space
    from ofa_hw.supernet import load_supernet
    from ofa_hw.training import Execution, calibrated, count_right, require_images

    chosen = read_spec(spec)
    space = get_space(chosen.space)
    split = _split(part)
    execution = Execution(device=device)
    images = open_images(space, data, validation=validation)
    require_images(space, images)
    if not images.size(split):
        raise SpecError(f"{data} has no {split} images; put them into {data}/{split}")
    net = load_supernet(space, weights).eval()
    execution.place(net)
    module = calibrated(net, chosen, images, images=calibrate)
    right, seen = count_right(module, images, split, chosen.resolution)
    say_broken(images)
    macs, params = space.macs(chosen), space.params(chosen)
    if as_json:
        print_json(
            {
                "spec": json.loads(chosen.to_json()),
                "split": split,
                "images": seen,
                "top1": right / seen,
                "macs": macs,
                "params": params,
            }
        )
        return
    print(
        f"top-1 {right / seen:.2%} on {seen} {split} images "
        f"({macs / 1e6:.2f} M multiply-accumulates, {params / 1e6:.2f} M parameters)"
    )


def _split(name: str) -> Split:
    match name:
        case "train" | "validation" | "test":
            return name
    raise SpecError(f"--split is validation, test or train, got {name!r}")
