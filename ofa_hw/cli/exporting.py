"""Options of the files that a command exports, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ofa_hw.cli.images import first_images, read_images
from ofa_hw.errors import ExportError, SpecError

if TYPE_CHECKING:
    from ofa_hw.export import ExportedFile, Normalisation
    from ofa_hw.subnet import Subnet
    from ofa_hw.training import ImageData

ExportOption = Annotated[
    list[Path] | None,
    typer.Option(help="File to write, .onnx, .tflite or .pt2; repeat for more.", metavar="FILE"),
]
DtypeOption = Annotated[
    str, typer.Option(help="Of the files' weights and activations: fp32, fp16 or int8.")
]
CalibrationImagesOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of images that the ranges of int8 are taken from, half of them, and that "
        "files are compared on, the others; by default those of --data.",
        metavar="FOLDER",
    ),
]
BatchOption = Annotated[
    int | None, typer.Option(help="Images at once in the files; 1 by default.", min=1, metavar="N")
]
DynamicBatchOption = Annotated[
    bool, typer.Option("--dynamic-batch", help="Files take any number of images at once.")
]
Uint8Option = Annotated[
    bool,
    typer.Option("--uint8-input", help="Files take bytes, 0 to 255, and normalise them."),
]
MeanOption = Annotated[
    str | None,
    typer.Option(
        help="With --std: what images are normalised by, each channel, as a fraction of 255; by "
        "default as --data, or else as photographs.",
        metavar="X,X,X",
    ),
]
StdOption = Annotated[str | None, typer.Option(help="See --mean.", metavar="X,X,X")]
LabelsOption = Annotated[
    Path | None,
    typer.Option(
        help="Text file with the name of a class on each line, for the files' metadata; by default "
        "the folders' names of --data.",
        metavar="FILE",
    ),
]
MinAgreementOption = Annotated[
    float,
    typer.Option(
        help="Fraction of the images on which an int8 file must tell the class that torch does.",
        min=0.0,
        max=1.0,
    ),
]
FallbackOption = Annotated[
    bool,
    typer.Option(
        "--allow-fallback",
        help="Write .tflite files of which XNNPACK leaves parts to slower kernels, too.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exporting:
    """The options of a command's files, as they were given.

    Attributes:
        paths: The files.
        dtype: Of weights and activations.
        calibration_images: Folder of images.
        batch: Images at once.
        dynamic_batch: Whether any number is taken.
        uint8_input: Whether bytes are taken.
        mean: Of the normalisation.
        std: Of the normalisation.
        labels: File of the classes' names.
        min_agreement: Of classes in `int8`.
        allow_fallback: Whether XNNPACK may leave operators to other kernels.
        force: Whether to replace files.
    """

    paths: Sequence[Path]
    dtype: str = "fp32"
    calibration_images: Path | None = None
    batch: int | None = None
    dynamic_batch: bool = False
    uint8_input: bool = False
    mean: str | None = None
    std: str | None = None
    labels: Path | None = None
    min_agreement: float = 0.9
    allow_fallback: bool = False
    force: bool = False

    def require(self, *, has_data: bool) -> None:
        """Says before any work is done what cannot be written.

        Raises:
            BadParameter: If options contradict each other.
            ExportError: If there is no such data type or format.
            OutputExistsError: If a file is there.
        """
        from ofa_hw.export import ExportOptions, check_output

        ExportOptions(dtype=self.dtype, min_agreement=self.min_agreement)
        if not self.paths and self != Exporting(paths=self.paths, force=self.force):
            raise typer.BadParameter("options of files write none without --export FILE")
        if self.batch is not None and self.dynamic_batch:
            raise typer.BadParameter("--batch N and --dynamic-batch exclude each other")
        if (self.mean is None) != (self.std is None):
            raise typer.BadParameter("--mean and --std belong together")
        if self.mean is not None and not (self.uint8_input or self.calibration_images):
            raise typer.BadParameter(
                "--mean and --std normalise bytes: pass --uint8-input, so that files take them, or "
                "--calibration-images FOLDER, whose images they are for"
            )
        if self.dtype == "int8" and not (has_data or self.calibration_images):
            raise typer.BadParameter(
                "--dtype int8 takes the ranges of activations from images: pass --data NAME or "
                "--calibration-images FOLDER"
            )
        for path in self.paths:
            check_output(path, force=self.force)

    def write(self, subnet: Subnet, data: ImageData | None) -> list[ExportedFile]:
        """Exports a sub-network to every file.

        Args:
            subnet: The sub-network.
            data: Images of `--data`.
        """
        channels, side = subnet.space.in_channels, subnet.spec.resolution
        calibration = images = None
        if self.calibration_images is not None:
            normalisation = self._normalisation(data, channels)
            images = read_images(self.calibration_images, (channels, side, side), normalisation)
        elif data is not None:
            calibration = first_images(data, "train", side)
            images = first_images(data, "validation", side)
        return [
            subnet.export(
                path,
                dtype=self.dtype,
                images=images,
                calibration=calibration,
                batch=None if self.dynamic_batch else self.batch or 1,
                normalisation=self._normalisation(data, channels) if self.uint8_input else None,
                labels=self._labels(subnet, data),
                min_agreement=self.min_agreement,
                allow_fallback=self.allow_fallback,
                force=self.force,
            )
            for path in self.paths
        ]

    def _normalisation(self, data: ImageData | None, channels: int) -> Normalisation:
        from ofa_hw.export import Normalisation

        if self.mean is not None and self.std is not None:
            return Normalisation(_numbers(self.mean), _numbers(self.std))
        return Normalisation.of_photographs(channels) if data is None else data.normalisation

    def _labels(self, subnet: Subnet, data: ImageData | None) -> tuple[str, ...]:
        if self.labels is None:
            known = tuple(getattr(data, "classes", ()))
            return known if len(known) == subnet.space.num_classes else ()
        try:
            return tuple(self.labels.read_text().splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise ExportError(f"--labels cannot be read from {self.labels}: {error}") from error


def summary(file: ExportedFile) -> dict[str, Any]:
    """What is told of a file, for JSON."""
    return {
        "path": str(file.path),
        "bytes": file.size_bytes,
        "dtype": file.dtype,
        "max_relative_error": file.max_relative_error,
        "agreement": file.check.agreement,
        "images": file.check.images,
        "xnnpack_partitions": file.check.partitions,
        "undelegated": list(file.check.undelegated),
        "notes": list(file.notes),
    }


def print_file(file: ExportedFile) -> None:
    """Prints a line on a file."""
    check = file.check
    parts = [
        f"{file.path}: {file.size_bytes / 1e6:.2f} MB",
        *([file.dtype] if file.dtype != "fp32" else []),
        f"within {check.max_relative_error:.0e} of torch's outputs",
    ]
    if file.dtype != "fp32":
        parts.append(f"the same class on {check.agreement:.1%} of {check.images} images")
    if check.undelegated:
        parts.append(f"XNNPACK leaves out {', '.join(sorted(set(check.undelegated)))}")
    print(", ".join([*parts, *file.notes]))


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise SpecError(f"--mean and --std take numbers like 0.5,0.5,0.5, got {text!r}") from None
