"""Merges tables that were measured alike into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from ofa_hw.errors import TableError
from ofa_hw.latency.compare import TableComparison, compare_tables, header_differences, in_words
from ofa_hw.latency.rows import Statistics
from ofa_hw.latency.table import Header, LatencyTable

# As multiples of the sentinel; two runs of one device were up to 7 % apart.
_MOST_APART: Final = 0.10


@dataclass(frozen=True)
class MergedTable:
    """A table made of several.

    Attributes:
        table: It, with the networks of all and no calibration.
        taken: How many of its rows each of the tables gave, in their order.
        overlaps: How each later table compares with the rows merged before it, as multiples of the
            sentinel; None where they share no operator.
        calibrations_dropped: How many of the tables were calibrated. A calibration is of its own
            rows and networks, so that it does not go along.
    """

    table: LatencyTable
    taken: tuple[int, ...]
    overlaps: tuple[TableComparison | None, ...]
    calibrations_dropped: int


def merge_tables(tables: Sequence[LatencyTable], *, name: str = "merged") -> MergedTable:
    """Merges tables of the same device, backend, settings and space.

    Of an operator that several hold, the first table's row is kept, or the first that settled
    where that one did not; rows are never averaged. Networks go along with what was measured beside
    them; of a network that several hold, the first. The sentinel's level stays with each row, so
    that rows of different runs compare as they do within a table.

    Args:
        tables: At least two.
        name: Of the new table.

    Raises:
        TableError: If fewer than two are given, two were measured otherwise or do not say how, or
            the operators that two share have latencies that are 10 % apart in the median.
    """
    if len(tables) < 2:
        raise TableError(f"merging takes at least two tables, got {len(tables)}")
    first = tables[0]
    for table in tables:
        _require_known(table)
        if wrong := [d for d in header_differences(first.header, table.header) if d.identity]:
            raise TableError(
                f"{first.name} and {table.name} were measured otherwise and must not mix: "
                f"{in_words(wrong)}"
            )
    merged = replace(first, name=name, header=_header([t.header for t in tables]), calibration=None)
    source = dict.fromkeys(first.rows, 0)
    overlaps: list[TableComparison | None] = []
    for index, table in enumerate(tables[1:], 1):
        overlaps.append(_overlap(merged, table))
        better = {op: row for op, row in table.rows.items() if _replaces(row, merged.rows.get(op))}
        source |= dict.fromkeys(better, index)
        overhead = table.overhead
        if overhead is None or not _replaces(overhead, merged.overhead):
            overhead = merged.overhead
        known = {network.spec for network in merged.validation}
        more = tuple(network for network in table.validation if network.spec not in known)
        merged = replace(
            merged,
            rows={**merged.rows, **better},
            overhead=overhead,
            validation=(*merged.validation, *more),
        )
    places = list(source.values())
    return MergedTable(
        merged,
        tuple(places.count(index) for index in range(len(tables))),
        tuple(overlaps),
        sum(table.calibration is not None for table in tables),
    )


def _require_known(table: LatencyTable) -> None:
    if table.device.backend == "unknown" or table.variants:
        raise TableError(
            f"{table.name} does not say how it was measured, so nothing may be merged with it; "
            "fill one: ofa-hw profile --space SPACE --backend BACKEND --output FILE"
        )


def _replaces(row: Statistics, before: Statistics | None) -> bool:
    return before is None or (row.stable and not before.stable)


def _overlap(merged: LatencyTable, table: LatencyTable) -> TableComparison | None:
    """Compares the operators that both have, at one level of the sentinel."""
    if not any(op in merged.rows for op in table.rows):
        return None
    level_ms = merged.sentinel_ms
    rows = {op: _at_level(row, level_ms) for op, row in table.rows.items()}
    comparison = compare_tables(merged, replace(table, rows=rows))
    ratio = comparison.median_ratio
    if abs(ratio - 1) > _MOST_APART:
        worst = comparison.rows[0]
        raise TableError(
            f"{table.name} has {ratio:.3f} times the latency of what it is to be merged with, in "
            f"the median of {len(comparison.rows)} operators that both hold; the device has "
            f"changed between them, so fill one anew (ofa-hw lut diff shows the rows, such as "
            f"{worst.op}: {worst.first_ms:.4g} and {worst.second_ms:.4g} ms)"
        )
    return comparison


def _at_level(row: Statistics, level_ms: float | None) -> Statistics:
    if level_ms is None or row.sentinel_ms is None:
        return row
    return replace(row, median_ms=row.at_level(level_ms), sentinel_ms=level_ms)


def _header(headers: Sequence[Header]) -> Header:
    """The first's, its date the earliest, with all values of details that differ."""
    details: dict[str, dict[str, None]] = {}
    for header in headers:
        for name, value in header.device.details.items():
            details.setdefault(name, {})[value] = None
    device = replace(
        headers[0].device, details={name: ", ".join(values) for name, values in details.items()}
    )
    return replace(headers[0], device=device, created=min(header.created for header in headers))
