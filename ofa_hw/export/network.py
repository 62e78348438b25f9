"""Writes a network to a file, and hands it over only after it ran and computed the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ofa_hw.errors import ExportError
from ofa_hw.export.check import Checked, Reference, check_file
from ofa_hw.export.files import beside, check_output
from ofa_hw.export.options import ExportOptions
from ofa_hw.graph import Graph
from ofa_hw.graph.ir import Array, Shape
from ofa_hw.lowering.files import format_of, require_form, write_file

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """A file that was written, run and compared.

    Attributes:
        path: Where it lies.
        size_bytes: Its size.
        dtype: Of its weights and activations.
        check: What the check found.
        notes: What a reader has to know, e.g. that it was compared on noise.
    """

    path: Path
    size_bytes: int
    dtype: str
    check: Checked
    notes: tuple[str, ...] = ()

    @property
    def max_relative_error(self) -> float:
        """Largest deviation of its outputs from torch's, over their largest value."""
        return self.check.max_relative_error


def export_graph(
    graph: Graph,
    path: str | Path,
    *,
    reference: Reference,
    options: ExportOptions | None = None,
    images: Array | None = None,
    calibration: Array | None = None,
    metadata: Mapping[str, str] | None = None,
    force: bool = False,
) -> ExportedFile:
    """Writes a graph in the format that the name ends in, and checks the file.

    The file is loaded by its runtime and run; its outputs must be those of `reference`. Only then
    does it get its name, so a failed check leaves nothing behind.

    Args:
        graph: The network; its batch size is the file's.
        path: Ends in `.onnx`, `.tflite` or `.pt2` (a program of torch.export).
        reference: What the file must compute, images (N, C, H, W) to outputs.
        options: How it is written; float32 by default.
        images: What to check it with, (N, C, H, W), normalised; by default the calibration images,
            and without those random normal ones.
        calibration: What activations' ranges in `int8` are taken from. Of `images` or these alone
            every second one serves for that, and the file is checked with the others.
        metadata: Written into the file.
        force: Whether to replace a file of this name.

    Raises:
        ExportError: If the ending names no format or none of this data type, images are missing,
            or the folder cannot be written.
        OutputExistsError: If there is a file of this name and `force` is false.
        ParityError: If the file computes something else.
    """
    path, options = Path(path), options or ExportOptions()
    check_output(path, force=force)
    require_form(format_of(path), options.form)
    batch = graph.input_shape[0]
    given = calibration if images is None else images
    are_real, notes = given is not None, []
    if options.dtype == "int8" and (images is None or calibration is None):
        if given is None or len(given) < 2 * batch:
            raise ExportError(
                f"{path.name} in int8 needs images to take the ranges of its activations from, and "
                f"others to be compared on, some hundred of those it is for; got "
                f"{0 if given is None else len(given)}, and {2 * batch} are the least"
            )
        calibration, images = given[::2], given[1::2]
    elif given is not None:
        images = given
    else:
        rng = np.random.default_rng(0)
        images = rng.standard_normal((4 * batch, *graph.input_shape[1:]), np.float32)
        notes.append("compared on noise, for want of images")
    own = {"ofa_hw.dtype": options.dtype, "ofa_hw.input": _input(options)}
    network, pixels = graph, calibration
    if options.normalisation:
        network = options.normalisation.before(graph)
        if calibration is not None:
            pixels = options.normalisation.undone(calibration).astype(np.float32)
    with beside(path) as draft:
        write_file(
            network,
            draft,
            dtype=options.dtype,
            form=options.form,
            calibration=pixels,
            metadata={**(metadata or {}), **own},
        )
        checked = check_file(
            draft,
            images,
            reference=reference,
            batch=batch,
            options=options,
            are_real=are_real,
            name=str(path),
        )
    return ExportedFile(path, path.stat().st_size, options.dtype, checked, tuple(notes))


def export_module(
    module: nn.Module,
    input_shape: Shape,
    path: str | Path,
    *,
    options: ExportOptions | None = None,
    images: Array | None = None,
    calibration: Array | None = None,
    metadata: Mapping[str, str] | None = None,
    force: bool = False,
) -> ExportedFile:
    """Writes a torch network in the format that the name ends in, and checks the file against it.

    Args:
        module: In eval mode, made of layers that a `Graph` has.
        input_shape: (N, C, H, W).
        path: Ends in `.onnx`, `.tflite` or `.pt2`.
        options: How it is written; float32 by default.
        images: What to check it with, (N, C, H, W), normalised; by default the calibration images,
            and without those random normal ones.
        calibration: What activations' ranges in `int8` are taken from (see `export_graph`).
        metadata: Written into the file.
        force: Whether to replace a file of this name.

    Raises:
        ExportError: If the network holds what a `Graph` cannot express, or as `export_graph`.
    """
    import torch

    def reference(x: Array) -> Array:
        with torch.inference_mode():
            parts = [module(part) for part in torch.from_numpy(x).split(32)]
            outputs: Array = torch.cat(parts).numpy()
        return outputs

    return export_graph(
        Graph.from_torch(module, input_shape),
        path,
        reference=reference,
        options=options,
        images=images,
        calibration=calibration,
        metadata=metadata,
        force=force,
    )


def _input(options: ExportOptions) -> str:
    """What the file takes, for its metadata."""
    found: dict[str, object] = {"dtype": "uint8" if options.normalisation else "float32"}
    if options.normalisation:
        found |= {"mean": options.normalisation.mean, "std": options.normalisation.std}
    return json.dumps(found)
