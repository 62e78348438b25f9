"""A row of a latency table: the statistics of one measured operator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Self

import numpy as np

from ofa_hw.profiling import Measurement
from ofa_hw.profiling.statistics import median_interval

_NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class Statistics:
    """The latency of one thing, in milliseconds; None where a figure is not known.

    Attributes:
        median_ms: The latency that the table answers with.
        n: Samples behind it.
        min_ms: Least sample.
        p25_ms: Lower quartile.
        p75_ms: Upper quartile.
        p90_ms: 90th percentile.
        ci_low_ms: Lower end of the median's 95 % confidence interval.
        ci_high_ms: Its upper end.
        rounds: Visits in all, those that were thrown away included.
        stable: Whether the interval became as narrow as asked for.
        sentinel_ms: Latency of the sentinel at the level that the figures are given at.
        notes: What a reader has to know.
    """

    median_ms: float
    n: int
    min_ms: float | None = None
    p25_ms: float | None = None
    p75_ms: float | None = None
    p90_ms: float | None = None
    ci_low_ms: float | None = None
    ci_high_ms: float | None = None
    rounds: int | None = None
    stable: bool = False
    sentinel_ms: float | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, measurement: Measurement) -> Self:
        """The statistics of a measurement."""
        samples_ms = np.array([_rounded(ns / _NS_PER_MS) for ns in measurement.samples_ns])
        low, p25, median, p75, p90 = np.quantile(samples_ms, (0, 0.25, 0.5, 0.75, 0.9)).tolist()
        interval = median_interval(samples_ms)
        sentinel_ns = measurement.sentinel_ns
        return cls(
            median_ms=_rounded(median),
            n=len(samples_ms),
            min_ms=low,
            p25_ms=_rounded(p25),
            p75_ms=_rounded(p75),
            p90_ms=_rounded(p90),
            ci_low_ms=interval[0] if interval else None,
            ci_high_ms=interval[1] if interval else None,
            rounds=measurement.visits,
            stable=measurement.stable,
            sentinel_ms=None if sentinel_ns is None else _rounded(sentinel_ns / _NS_PER_MS),
            notes=measurement.notes,
        )

    def at_level(self, sentinel_ms: float) -> float:
        """The median where the sentinel takes this long."""
        return self.median_ms * (sentinel_ms / self.sentinel_ms if self.sentinel_ms else 1.0)

    def to_dict(self) -> dict[str, object]:
        """What is known, for JSON."""
        return {k: v for k, v in asdict(self).items() if v is not None and v != ()}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Self:
        """Reads what `to_dict` gave; raises `ValueError` saying what is wrong with it."""
        if unknown := sorted(data.keys() - {f.name for f in fields(cls)}):
            raise ValueError(f"a row has no field {', '.join(unknown)}")
        for name, value in data.items():
            if name.endswith("_ms") and not (
                isinstance(value, int | float) and math.isfinite(value) and value >= 0
            ):
                raise ValueError(f"{name} must be a number of milliseconds, got {value!r}")
        if not data.get("median_ms", 0) and not data.get("notes"):
            raise ValueError("median_ms is missing or 0")
        values = dict(data)
        notes = values.get("notes", ())
        values["notes"] = tuple(notes) if isinstance(notes, list | tuple) else (str(notes),)
        try:
            return cls(**values)  # type: ignore[arg-type]
        except TypeError as error:
            raise ValueError("a row needs median_ms and n") from error


def _rounded(latency_ms: float) -> float:
    """To seven digits, which are more than any clock gives."""
    return float(f"{latency_ms:.7g}")
