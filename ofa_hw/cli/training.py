"""What the commands that run a supernet on images share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ofa_hw.errors import SpecError

if TYPE_CHECKING:
    from ofa_hw.spaces import SearchSpace, SubnetSpec
    from ofa_hw.training import ImageData

DataOption = Annotated[
    str, typer.Option(help="A folder with a folder of images a class, or digits.", metavar="DIR")
]
WeightsOption = Annotated[
    Path, typer.Option("--weights", help="The supernet's checkpoint.", metavar="FILE")
]
SpecOption = Annotated[
    str,
    typer.Option("--spec", help="A sub-network: its JSON, or a file of it.", metavar="JSON"),
]
ValidationOption = Annotated[
    float,
    typer.Option(help="Share of a folder's training images held out.", min=0.01, max=0.9),
]
CalibrationOption = Annotated[
    int, typer.Option(help="Training images that batch norms are calibrated on.", min=1)
]
CALIBRATION_IMAGES = 2000  # as in ofa_hw.training, which takes a second to import
FileOption = Annotated[Path, typer.Option("--output", "-o", help="File to write.", metavar="FILE")]
DeviceOption = Annotated[str, typer.Option(help="Where torch computes, as cpu or cuda.")]

PrecisionOption = Annotated[str, typer.Option(help="float32, bfloat16 or float16.")]
AccumulateOption = Annotated[
    int, typer.Option(help="Parts of a batch, run one after another.", min=1)
]


def read_spec(text: str) -> SubnetSpec:
    """A sub-network from JSON or from a file of it, also one that `specialize --json` wrote.

    Raises:
        SpecError: If it is neither.
    """
    import json

    from ofa_hw.spaces import SubnetSpec, get_space

    if not text.lstrip().startswith("{"):
        path = Path(text)
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(
                f"--spec takes the JSON of a sub-network or a file of it, got {str(path)!r} "
                f"({error})"
            ) from error
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if isinstance(content, dict) and isinstance(content.get("spec"), dict):
        text = json.dumps(content["spec"])
    spec = SubnetSpec.from_json(text)
    return get_space(spec.space).require(spec)


def open_images(space: SearchSpace, data: str, *, validation: float = 0.1) -> ImageData:
    """The images that `--data` names, with the channels that a space takes."""
    from ofa_hw.training import get_data

    return get_data(data, channels=space.in_channels, validation=validation)


def say_broken(data: ImageData) -> None:
    """Says on stderr how many images could not be read."""
    if broken := getattr(data, "broken", None):
        print(f"{len(broken)} broken images passed over, as {next(iter(broken))}", file=sys.stderr)
