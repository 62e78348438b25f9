"""Cells to measure, small enough that a test takes seconds."""

from collections.abc import Callable

import numpy as np

from ofa_hw.graph import op_graph
from ofa_hw.ops import OpSpec
from ofa_hw.profiling.types import Cell, Measurement, SamplingPlan

SMALL = OpSpec("mbconv", 14, 16, 16, 32, kernel_size=3, activation="relu")
LARGE = OpSpec("mbconv", 28, 48, 48, 144, kernel_size=5, activation="relu")
QUICK = SamplingPlan(relative_ci=0.2, min_time_s=0.002, max_time_s=0.05)


def cells(count: int, make: Callable[[int], OpSpec] | None = None) -> list[Cell]:
    """Cells that differ in their channels."""
    make = make or (lambda i: OpSpec("mbconv", 14, 8, 8, 8 + 8 * i, kernel_size=3))
    return [Cell(f"cell{i}", lambda i=i: op_graph(make(i))) for i in range(count)]  # type: ignore[misc]


def two_cells() -> list[Cell]:
    """`small` and `large`."""
    return [Cell("small", lambda: op_graph(SMALL)), Cell("large", lambda: op_graph(LARGE))]


def median_ns(measurement: Measurement) -> float:
    """Its latency."""
    return float(np.median(measurement.samples_ns))
