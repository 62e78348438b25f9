"""Checks a written file: it is valid, its runtime loads it, and it computes what torch does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np

from ofa_hw.errors import ExportError, ParityError
from ofa_hw.export.options import TOLERANCES, ExportOptions
from ofa_hw.graph.ir import Array
from ofa_hw.lowering.files import format_of, open_file
from ofa_hw.lowering.parity import check_parity
from ofa_hw.lowering.sessions import Session, Tensor, TfliteSession

Reference: TypeAlias = Callable[[Array], Array]
_BATCHES: Final = (1, 3, 2)  # that a file of any batch is tried with, again and again


@dataclass(frozen=True, slots=True)
class Checked:
    """What the check of a file found.

    Attributes:
        images: How many it was run on.
        max_relative_error: Largest deviation of its outputs from torch's, over their largest value.
        agreement: Fraction of the images on which both tell the same class.
        partitions: Of a .tflite file: how many parts XNNPACK runs; 1 if it took it whole.
        undelegated: Of a .tflite file: the operators that XNNPACK leaves to other kernels.
    """

    images: int
    max_relative_error: float
    agreement: float
    partitions: int | None = None
    undelegated: tuple[str, ...] = ()


def check_file(
    draft: Path,
    images: Array,
    *,
    reference: Reference,
    batch: int,
    options: ExportOptions,
    are_real: bool,
    name: str,
) -> Checked:
    """Runs a file on images and compares it with what it was made from.

    Args:
        draft: The file.
        images: (N, C, H, W), normalised.
        reference: What it must compute, images to outputs.
        batch: Of the file.
        options: What it was written with.
        are_real: Whether the images are of those the network is for; on noise the classes that a
            network tells say nothing.
        name: Of the file, for messages.

    Raises:
        ParityError: If it is not valid or computes something else, or if XNNPACK leaves operators
            to other kernels and the options do not allow it.
        ProfilerError: If its runtime cannot load it.
    """
    if format_of(draft) == ".onnx":
        _check_onnx(draft, name)
    session = open_file(draft)
    pixels: Tensor = images
    if options.normalisation:
        pixels = options.normalisation.undone(images)
        images = options.normalisation.applied(pixels)
    parts = list(_parts(pixels, None if options.dynamic_batch else batch))
    actual = np.concatenate([session.run(part) for part in parts])
    expected = reference(images[: len(actual)])
    error = check_parity(actual, expected, tolerance=TOLERANCES[options.dtype], name=name)
    agreement = float(np.mean(_classes(actual) == _classes(expected)))
    if options.dtype == "int8" and are_real and agreement < options.min_agreement:
        raise ParityError(
            f"{name} tells the class that torch does on {agreement:.1%} of {len(actual)} images, "
            f"less than {options.min_agreement:.1%}; calibrate on more images of those it is for, "
            "export it in fp16, or accept a lower --min-agreement (in Python min_agreement)"
        )
    return Checked(len(actual), error, agreement, *_coverage(session, options, name))


def _check_onnx(draft: Path, name: str) -> None:
    import onnx

    try:
        onnx.checker.check_model(draft, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).split("\n")[0]
        raise ParityError(f"{name} is no valid ONNX model: {reason}") from error


def _coverage(
    session: Session, options: ExportOptions, name: str
) -> tuple[int | None, tuple[str, ...]]:
    """What XNNPACK runs of a .tflite file; LiteRT verified the file against its schema."""
    if not isinstance(session, TfliteSession):
        return None, ()
    if session.undelegated and not options.allow_fallback:
        raise ParityError(
            f"XNNPACK leaves {', '.join(sorted(set(session.undelegated)))} of {name} to slower "
            f"kernels and runs {session.partitions} parts; pass --allow-fallback (in Python "
            "allow_fallback=True) to write it all the same"
        )
    return session.partitions, session.undelegated


def _classes(outputs: Array) -> Tensor:
    classes: Tensor = outputs.reshape(len(outputs), -1).argmax(1)
    return classes


def _parts(images: Tensor, batch: int | None) -> Iterator[Tensor]:
    """The images in batches of the file's size; a smaller last one is left out."""
    if batch is not None and len(images) < batch:
        raise ExportError(f"a check needs at least {batch} images, a batch; got {len(images)}")
    start = turn = 0
    while start + (batch or 1) <= len(images):
        size = batch or _BATCHES[turn % len(_BATCHES)]
        yield images[start : start + size]
        start, turn = start + size, turn + 1
