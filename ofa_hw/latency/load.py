"""Finds a latency table: a file, a folder of published ones, or one that comes bundled."""

from __future__ import annotations

import importlib.resources
from dataclasses import replace
from pathlib import Path

from ofa_hw.errors import TableError
from ofa_hw.latency.journal import read_table
from ofa_hw.latency.published import import_published
from ofa_hw.latency.table import LatencyTable

_SUFFIX = ".jsonl"


def bundled_tables() -> tuple[str, ...]:
    """Names of the tables that come with ofa_hw, sorted."""
    files = importlib.resources.files("ofa_hw_luts").iterdir()
    return tuple(sorted(f.name.removesuffix(_SUFFIX) for f in files if f.name.endswith(_SUFFIX)))


def load_table(source: Path | str, *, interpolate: bool = False) -> LatencyTable:
    """Loads a latency table.

    Args:
        source: A table's file, a published YAML table or a folder of them, or the name of a
            bundled table.
        interpolate: Whether operators between measured input sizes shall have interpolated
            latencies (`LatencyTable.interpolated`).

    Raises:
        TableError: If there is nothing of this name.
        TableFormatError: If the file is not of a format that this version reads.
    """
    table = _load(source)
    return table.interpolated() if interpolate else table


def _load(source: Path | str) -> LatencyTable:
    path = Path(source)
    if path.is_dir() or path.suffix in (".yaml", ".yml"):
        return import_published(path)
    if path.is_file():
        return read_table(path)
    name = str(source).removesuffix(_SUFFIX)
    if name in bundled_tables():
        resource = importlib.resources.files("ofa_hw_luts") / f"{name}{_SUFFIX}"
        with importlib.resources.as_file(resource) as file:
            return replace(read_table(file), name=name)
    raise TableError(
        f"no latency table {str(source)!r}: it is no file, no folder, and none of the bundled "
        f"tables ({', '.join(bundled_tables()) or 'none in this version'}); "
        "fill one: ofa-hw profile --space SPACE --backend BACKEND --output FILE"
    )
