"""Reads the metadata that the lowerings write into a file."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any, Final

from ofa_hw.errors import ExportError

_TFLITE_MAGIC = slice(4, 8)
PROGRAM_ENTRY: Final = "ofa_hw.json"  # the file inside a .pt2 archive


def read_metadata(model: bytes | Path) -> dict[str, str]:
    """The metadata entries of an .onnx, .tflite or .pt2 file; its content tells which it is.

    Entries of a .tflite file that are no text (other tools write binary ones) are left out.

    Raises:
        ExportError: If it is none of them, or cannot be read.
    """
    name = str(model) if isinstance(model, Path) else "the model"
    try:
        content = model.read_bytes() if isinstance(model, Path) else model
    except OSError as error:
        raise ExportError(f"cannot read {name}: {error.strerror}") from error
    if content[_TFLITE_MAGIC] == b"TFL3":
        return _of_tflite(content, name)
    if content.startswith(b"PK"):
        return _of_program(content, name)
    return _of_onnx(content, name)


def _of_onnx(content: bytes, name: str) -> dict[str, str]:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ExportError(f"{name} is no .onnx, .tflite or .pt2 file") from error
    if not model.graph.node:
        raise ExportError(f"{name} is no .onnx, .tflite or .pt2 file")
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


def _of_program(content: bytes, name: str) -> dict[str, str]:
    """The entries in an archive of torch.export, which is a zip file."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for entry in archive.namelist():
                if PurePosixPath(entry).name == PROGRAM_ENTRY:
                    return {str(k): str(v) for k, v in json.loads(archive.read(entry)).items()}
    except (zipfile.BadZipFile, ValueError, AttributeError) as error:
        raise ExportError(f"{name} is a damaged .pt2 file: {error}") from error
    return {}
