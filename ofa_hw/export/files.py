"""Writes a network to a file, and hands it over only after it ran and computed the same."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from ofa_hw.errors import ExportError, OutputExistsError
from ofa_hw.graph import Graph
from ofa_hw.graph.ir import Array, Shape
from ofa_hw.lowering.files import format_of, open_file, write_file
from ofa_hw.lowering.parity import check_parity

if TYPE_CHECKING:
    from torch import nn

TOLERANCE: Final = 1e-3
Reference: TypeAlias = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """A file that was written, run and compared.

    Attributes:
        path: Where it lies.
        size_bytes: Its size.
        max_relative_error: Largest deviation of its outputs from the reference's, over their
            largest value, on the images it was checked with.
    """

    path: Path
    size_bytes: int
    max_relative_error: float


def export_graph(
    graph: Graph,
    path: str | Path,
    *,
    reference: Reference,
    images: Array | None = None,
    metadata: Mapping[str, str] | None = None,
    force: bool = False,
) -> ExportedFile:
    """Writes a graph in the format that the name ends in, and checks the file.

    The file is loaded by its runtime and run; its outputs must be those of `reference`. Only then
    does it get its name, so a failed check leaves nothing behind.

    Args:
        graph: The network.
        path: Ends in `.onnx`, `.tflite` or `.pt2` (a program of torch.export).
        reference: What the file must compute, images (N, C, H, W) to outputs.
        images: What to check it with, (N, C, H, W); random normal ones by default.
        metadata: Written into the file.
        force: Whether to replace a file of this name.

    Raises:
        ExportError: If the ending names no format, or the folder cannot be written.
        OutputExistsError: If there is a file of this name and `force` is false.
        ParityError: If the file computes something else.
    """
    path = Path(path)
    check_output(path, force=force)
    batch = graph.input_shape[0]
    if images is None:
        rng = np.random.default_rng(0)
        images = rng.standard_normal((4 * batch, *graph.input_shape[1:]), np.float32)
    with beside(path) as draft:
        write_file(graph, draft, metadata=metadata)
        session = open_file(draft)
        actual = np.concatenate([session.run(part) for part in _parts(images, batch)])
        expected = reference(images[: len(actual)])
        error = check_parity(actual, expected, tolerance=TOLERANCE, name=str(path))
    return ExportedFile(path, path.stat().st_size, error)


def export_module(
    module: nn.Module,
    input_shape: Shape,
    path: str | Path,
    *,
    images: Array | None = None,
    metadata: Mapping[str, str] | None = None,
    force: bool = False,
) -> ExportedFile:
    """Writes a torch network in the format that the name ends in, and checks the file against it.

    Args:
        module: In eval mode, made of layers that a `Graph` has.
        input_shape: (N, C, H, W).
        path: Ends in `.onnx`, `.tflite` or `.pt2`.
        images: What to check it with, (N, C, H, W); random normal ones by default.
        metadata: Written into the file.
        force: Whether to replace a file of this name.

    Raises:
        ExportError: If the network holds what a `Graph` cannot express, or as `export_graph`.
    """
    import torch

    def reference(x: Array) -> Array:
        with torch.inference_mode():
            outputs: Array = module(torch.from_numpy(x)).numpy()
        return outputs

    return export_graph(
        Graph.from_torch(module, input_shape),
        path,
        reference=reference,
        images=images,
        metadata=metadata,
        force=force,
    )


def check_output(path: Path, *, force: bool) -> None:
    """Says before any work is done whether a file can be written.

    Raises:
        ExportError: If the ending names no format.
        OutputExistsError: If the file exists and `force` is false.
    """
    format_of(path)
    if path.exists() and not force:
        raise OutputExistsError(path)


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Gives a path in the same folder that takes the name `path` if the block ends well.

    Raises:
        ExportError: If the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-", suffix=path.suffix)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror}") from error
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        draft.chmod(0o644)
        draft.replace(path)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file in one piece.

    Raises:
        ExportError: If the folder cannot be written.
    """
    with beside(path) as draft:
        draft.write_text(text)


def _parts(images: Array, batch: int) -> list[Array]:
    """The images in batches of the file's size; a smaller last one is left out."""
    if len(images) < batch:
        raise ExportError(f"a check needs at least {batch} images, a batch; got {len(images)}")
    return [images[i : i + batch] for i in range(0, len(images) - batch + 1, batch)]
