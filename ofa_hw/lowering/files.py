"""The formats of files: which runtime writes and runs what a name ends in.

What one format needs is imported when it is asked for: a host has the runtimes that it needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from keyword import iskeyword
from pathlib import Path
from typing import Final

from ofa_hw.errors import ExportError
from ofa_hw.graph import Graph
from ofa_hw.graph.ir import Array
from ofa_hw.lowering.form import Form
from ofa_hw.lowering.quantise import QuantisedGraph
from ofa_hw.lowering.sessions import OnnxSession, Session, TfliteSession

FORMATS: Final = (".onnx", ".tflite", ".pt2")


def format_of(path: Path) -> str:
    """The format that a file's name ends in, e.g. `.onnx`.

    Raises:
        ExportError: If it is none of `FORMATS`.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ExportError(f"{path.name!r} names no known format; end it in {', '.join(FORMATS)}")
    return suffix


def require_form(suffix: str, form: Form) -> None:
    """Checks that a format has networks of a form.

    Raises:
        ExportError: If it has not.
    """
    name = form.input_name
    is_parameter = name.isidentifier() and not iskeyword(name) and name != "self"
    if suffix == ".pt2" and not is_parameter:
        raise ExportError(
            f"the input of a .pt2 file is a parameter of a Python function, which cannot be called "
            f"{name!r}; choose another name, or write .onnx or .tflite"
        )


def write_file(
    graph: Graph,
    path: Path,
    *,
    dtype: str = "fp32",
    form: Form | None = None,
    calibration: Array | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes a graph in the format that the file's name ends in.

    Args:
        graph: The network.
        path: Its name ends in one of `FORMATS`.
        dtype: Of weights and activations.
        form: How it takes images and gives scores.
        calibration: Images that the levels of `int8` are taken from.
        metadata: Written into the file.

    Raises:
        ExportError: If the name ends in none of `FORMATS`, or the graph has no such form.
    """
    suffix, form = format_of(path), form or Form()
    require_form(suffix, form)
    network: Graph | QuantisedGraph = graph
    if dtype == "int8":
        if calibration is None:
            raise ExportError("int8 needs images to take the ranges of activations from")
        from ofa_hw.lowering.calibrate import calibrated

        network = calibrated(graph, calibration)
    match suffix:
        case ".onnx":
            from ofa_hw.lowering.onnx import to_onnx

            path.write_bytes(to_onnx(network, dtype=dtype, form=form, metadata=metadata))
        case ".tflite":
            from ofa_hw.lowering.tflite import to_tflite

            path.write_bytes(to_tflite(network, dtype=dtype, form=form, metadata=metadata))
        case _:
            from ofa_hw.lowering.torch_session import write_program

            write_program(network, path, dtype=dtype, form=form, metadata=metadata)


@contextmanager
def opened(path: Path, *, threads: int = 1) -> Iterator[Session]:
    """Opens a file as `open_file` does, to be run with exactly so many threads in the block."""
    session = open_file(path, threads=threads)
    if session.runtime != "torch":
        yield session
        return
    from ofa_hw.lowering.torch_session import torch_threads

    with torch_threads(threads):  # torch has one number of threads for the whole process
        yield session


def open_file(path: Path, *, threads: int = 1) -> Session:
    """Opens a file in the runtime of its format.

    Args:
        path: The file.
        threads: Threads of the runtime; a .pt2 file runs with those that torch has (see `opened`).

    Raises:
        ExportError: If the name ends in none of `FORMATS`.
        ProfilerError: If the file is missing, or its runtime cannot load it.
    """
    match format_of(path):
        case ".onnx":
            return OnnxSession(path, threads=threads)
        case ".tflite":
            return TfliteSession(path, threads=threads)
        case _:
            from ofa_hw.lowering.torch_session import TorchSession

            return TorchSession(path)
