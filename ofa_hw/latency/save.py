"""Writes a whole table into a file at once, e.g. one that was imported."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ofa_hw.errors import OutputExistsError, TableError
from ofa_hw.latency.format import (
    calibration_line,
    header_line,
    network_line,
    overhead_line,
    row_line,
)
from ofa_hw.latency.table import LatencyTable


def save_table(table: LatencyTable, path: Path | str, *, force: bool = False) -> Path:
    """Writes a table's file; what is interpolated is left out.

    Args:
        table: The table.
        path: The file, which appears whole or not at all.
        force: Whether to replace a file that is there.

    Raises:
        OutputExistsError: If there is a file and `force` is false.
        TableError: If it cannot be written.
    """
    path = Path(path)
    if path.exists() and not force:
        raise OutputExistsError(path)
    beside = None
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            beside = Path(file.name)
            file.writelines(_lines(table))
        beside.chmod(0o644)
        os.replace(beside, path)
    except OSError as error:
        if beside is not None:
            beside.unlink(missing_ok=True)
        raise TableError(f"cannot write {path}: {error.strerror}") from error
    return path


def _lines(table: LatencyTable) -> Iterator[str]:
    yield header_line(table.header)
    if table.overhead is not None:
        yield overhead_line(table.overhead)
    within: set[object] = set()
    for resolution, rows in table.variants.items():
        within.update(rows)
        yield from (row_line(op, row, resolution) for op, row in rows.items())
    yield from (row_line(op, row) for op, row in table.rows.items() if op not in within)
    yield from map(network_line, table.validation)
    if table.calibration is not None:
        yield calibration_line(table.calibration)
