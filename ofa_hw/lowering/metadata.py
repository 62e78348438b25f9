"""Reads the metadata that the lowerings write into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ofa_hw.errors import ExportError

_TFLITE_MAGIC = slice(4, 8)


def read_metadata(model: bytes | Path) -> dict[str, str]:
    """The metadata entries of an .onnx or a .tflite file; its content tells which it is.

    Entries of a .tflite file that are no text (other tools write binary ones) are left out.

    Raises:
        ExportError: If it is neither, or cannot be read.
    """
    name = str(model) if isinstance(model, Path) else "the model"
    try:
        content = model.read_bytes() if isinstance(model, Path) else model
    except OSError as error:
        raise ExportError(f"cannot read {name}: {error.strerror}") from error
    if content[_TFLITE_MAGIC] == b"TFL3":
        return _of_tflite(content, name)
    return _of_onnx(content, name)


def _of_onnx(content: bytes, name: str) -> dict[str, str]:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ExportError(f"{name} is neither an .onnx nor a .tflite file") from error
    if not model.graph.node:
        raise ExportError(f"{name} is neither an .onnx nor a .tflite file")
    return {entry.key: entry.value for entry in model.metadata_props}


def _of_tflite(content: bytes, name: str) -> dict[str, str]:
    import struct

    from ai_edge_litert import schema_py_generated as schema

    entries: dict[str, str] = {}
    try:
        model: Any = schema.Model.GetRootAs(content, 0)
        for i in range(model.MetadataLength()):
            entry = model.Metadata(i)
            buffer = model.Buffers(entry.Buffer())
            data = b"" if buffer.DataIsNone() else buffer.DataAsNumpy().tobytes()
            try:
                entries[entry.Name().decode()] = data.decode()
            except UnicodeDecodeError:
                continue
    except (struct.error, IndexError, ValueError, TypeError) as error:
        raise ExportError(f"{name} is a damaged .tflite file: {error}") from error
    return entries
