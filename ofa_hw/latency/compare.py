"""Compares two tables: what differs in how they were measured, and by how much their rows do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np

from ofa_hw.errors import TableError
from ofa_hw.latency.table import Header, LatencyTable
from ofa_hw.ops import OpSpec

# What makes a row mean something else, whatever device it is of.
_MEANING: Final = ("dtype", "batch", "threads")


@dataclass(frozen=True, slots=True)
class Difference:
    """A field of the header that two tables do not share; None where one lacks it.

    Attributes:
        field: Its name; that of a setting begins with `setting`, that of a detail with `detail`.
        first: Its value in the first table.
        second: Its value in the second table.
        identity: Whether it keeps the tables from being merged.
    """

    field: str
    first: object
    second: object
    identity: bool


@dataclass(frozen=True, slots=True)
class RowRatio:
    """An operator that both tables have.

    Attributes:
        op: The operator.
        first_ms: Its latency by the first table.
        second_ms: By the second.
    """

    op: OpSpec
    first_ms: float
    second_ms: float

    @property
    def ratio(self) -> float:
        """Second over first."""
        return self.second_ms / self.first_ms


@dataclass(frozen=True)
class TableComparison:
    """How two tables differ.

    Attributes:
        first: Name of the first table.
        second: Name of the second table.
        differences: Fields of the header, those first that are part of the tables' identity.
        only_first: Operators that only the first has.
        only_second: Operators that only the second has.
        rows: Operators that both have, those first whose ratio is farthest from the median's.
        level_ratio: The sentinel's level in the second over that in the first. Both tables of one
            device: how much faster or slower the machine was, which is in `rows` too. None where
            one was measured without a sentinel.
    """

    first: str
    second: str
    differences: tuple[Difference, ...]
    only_first: tuple[OpSpec, ...]
    only_second: tuple[OpSpec, ...]
    rows: tuple[RowRatio, ...]
    level_ratio: float | None

    @property
    def median_ratio(self) -> float:
        """The median of second over first."""
        return self.quantile(0.5)

    def quantile(self, share: float) -> float:
        """The ratio that this share of the rows lies below."""
        return float(np.quantile([row.ratio for row in self.rows], share))

    def within(self, limit: float) -> float:
        """The share of rows whose ratio is within this fraction of the median's."""
        median = self.median_ratio
        return float(np.mean([abs(row.ratio / median - 1) <= limit for row in self.rows]))

    def to_dict(self, worst: int | None = None) -> dict[str, object]:
        """For JSON, with this many of the rows that both have, or all."""
        return {
            "first": self.first,
            "second": self.second,
            "differences": [asdict(difference) for difference in self.differences],
            "only_first": [str(op) for op in self.only_first],
            "only_second": [str(op) for op in self.only_second],
            "rows_in_both": len(self.rows),
            "median_ratio": self.median_ratio,
            "p5_ratio": self.quantile(0.05),
            "p95_ratio": self.quantile(0.95),
            "within_5": self.within(0.05),
            "level_ratio": self.level_ratio,
            "rows": [
                {"op": str(r.op), "first_ms": r.first_ms, "second_ms": r.second_ms} | _ratio(r)
                for r in self.rows[:worst]
            ],
        }


def compare_tables(
    first: LatencyTable, second: LatencyTable, *, anyway: bool = False
) -> TableComparison:
    """Compares two tables by what they answer for the operators that both hold.

    Devices, runtimes, versions and settings may differ: that is what tables are compared for. A
    row that counts as part of another, and so holds no latency, is left out.

    Args:
        first: A table.
        second: Another one.
        anyway: Whether to compare tables of another data type, batch size or number of threads,
            or of which one is unknown.

    Raises:
        TableError: If the tables must not be compared, or have no operator in common.
    """
    differences = header_differences(first.header, second.header)
    if not anyway and (wrong := [d for d in differences if d.field in _MEANING]):
        raise TableError(
            f"{first.name} and {second.name} hold latencies of different things: "
            f"{in_words(wrong)}; pass --anyway (in Python anyway=True) to compare them all the same"
        )
    mine, theirs = first.rows_ms, second.rows_ms
    rows = [
        RowRatio(op, mine[op], theirs[op]) for op in mine if mine[op] > 0 and theirs.get(op, 0) > 0
    ]
    if not rows:
        raise TableError(
            f"{first.name} and {second.name} have no operator in common; they are tables of "
            f"{first.header.space or 'no space'} and {second.header.space or 'no space'}"
        )
    middle = np.log(np.median([row.ratio for row in rows]))
    rows.sort(key=lambda row: (-abs(np.log(row.ratio) - middle), row.op))
    levels = (first.sentinel_ms, second.sentinel_ms)
    return TableComparison(
        first.name,
        second.name,
        tuple(differences),
        tuple(sorted(op for op in mine if op not in theirs)),
        tuple(sorted(op for op in theirs if op not in mine)),
        tuple(rows),
        levels[1] / levels[0] if levels[0] and levels[1] else None,
    )


def header_differences(first: Header, second: Header) -> list[Difference]:
    """Every field in which two headers differ, those first that keep rows from mixing."""
    found = [
        Difference(name, a.get(name), b.get(name), identity)
        for a, b, identity in (
            (first.identity(), second.identity(), True),
            (_remarks(first), _remarks(second), False),
        )
        for name in sorted(a.keys() | b.keys())
        if a.get(name) != b.get(name)
    ]
    return found


def in_words(differences: Sequence[Difference]) -> str:
    """Such as `dtype is 'fp32' and 'fp16'`."""
    return "; ".join(f"{d.field} is {d.first!r} and {d.second!r}" for d in differences)


def _remarks(header: Header) -> dict[str, object]:
    details = {f"detail {name}": value for name, value in header.device.details.items()}
    return {"created": header.created, **details}


def _ratio(row: RowRatio) -> dict[str, float]:
    return {"ratio": row.ratio}
