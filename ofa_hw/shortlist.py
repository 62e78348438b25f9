"""Hardware in the loop: measures the best candidates of a search on the device they are for."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from ofa_hw.errors import InfeasibleError, SpecError
from ofa_hw.graph import network_graph
from ofa_hw.latency import LatencyTable, Statistics
from ofa_hw.latency.table import Header
from ofa_hw.profiling import Cell, Profiler, ProfilerOptions, SamplingPlan, open_profiler
from ofa_hw.search import Candidate
from ofa_hw.spaces import SearchSpace

_STEP: Final = 0.01
_PLAN: Final = SamplingPlan(min_time_s=0.2, max_time_s=3.0)
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MeasuredCandidate:
    """A network that a search found and a device ran.

    Attributes:
        candidate: What it is and what was predicted of it.
        predicted_ms: Its latency by the table of the device.
        measured: Its latency on the device.
    """

    candidate: Candidate
    predicted_ms: float
    measured: Statistics

    @property
    def measured_ms(self) -> float:
        """The median that was measured."""
        return self.measured.median_ms

    def summary(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "predicted_top1": self.candidate.top1,
            "predicted_latency_ms": self.predicted_ms,
            "measured_latency_ms": self.measured_ms,
            "stable": self.measured.stable,
            "notes": list(self.measured.notes),
        }


def shortlist(front: Sequence[Candidate], count: int) -> list[Candidate]:
    """The best network of a front, and the best of those ever faster, the most accurate first.

    Each is predicted to be at least 1 % faster than the one before, so that a table that is a few
    per cent off still leaves one within the budget; where the front is too short for that, its
    most accurate networks fill up.

    Raises:
        SpecError: If `count` is less than 1.
    """
    if count < 1:
        raise SpecError(f"measure_top must be at least 1, got {count}")
    best_first = sorted(front, key=lambda point: -point.top1)
    chosen: list[Candidate] = []
    for point in best_first:
        if not chosen or point.latency_ms <= (1 - _STEP) * chosen[-1].latency_ms:
            chosen.append(point)
    chosen = chosen[:count]
    left = [point for point in best_first if point not in chosen]
    return sorted([*chosen, *left[: count - len(chosen)]], key=lambda point: -point.top1)


def open_like(
    tables: Sequence[LatencyTable],
    backend: str,
    serial: str | None = None,
    settings: Mapping[str, str] | None = None,
) -> Profiler:
    """Opens a backend with the settings of the first of these tables that was filled with it.

    Args:
        tables: The tables that a search relied on.
        backend: Name of the backend.
        serial: Of the device, for backends that reach others than this machine.
        settings: Further settings; a table does not tell where a machine keeps what it needs.

    Raises:
        ProfilerError: If the backend or the device is not there, or refuses the settings.
    """
    for table in tables:
        device = table.device
        if device.backend == backend:
            options = ProfilerOptions(
                serial,
                device.threads or 1,
                device.dtype,
                device.batch or 1,
                {**device.settings, **(settings or {})},
            )
            return open_profiler(backend, options)
    return open_profiler(backend, ProfilerOptions(serial, settings=settings or {}))


def measure_best(
    space: SearchSpace,
    front: Sequence[Candidate],
    *,
    count: int,
    tables: Sequence[LatencyTable],
    budgets_ms: Sequence[float],
    profiler: Profiler | str | None = None,
    plan: SamplingPlan | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[MeasuredCandidate, tuple[MeasuredCandidate, ...]]:
    """Measures the shortlist of a front; gives the best that meets its budget, and all.

    Args:
        space: The space searched.
        front: What the search found.
        count: Networks to measure.
        tables: The tables that the search relied on.
        budgets_ms: The budget of each.
        profiler: Of the device of one of the tables: the one that its device fits best. By name,
            the backend is opened with the settings of its table; by default it is the one that
            filled the first table.
        plan: How well to measure.
        progress: Called with networks measured and networks in all.

    Raises:
        InfeasibleError: If the device runs none within the budget; it says by how much it breaks
            the table's promise.
        ProfilerError: If the device cannot measure.
    """
    candidates = shortlist(front, count)
    if profiler is None or isinstance(profiler, str):
        opened = open_like(tables, profiler or tables[0].device.backend)
        with closing(opened):
            return measure_best(
                space,
                front,
                count=count,
                tables=tables,
                budgets_ms=budgets_ms,
                profiler=opened,
                plan=plan,
                progress=progress,
            )
    differences = [
        table.header.differences(Header(profiler.device, table.header.space)) for table in tables
    ]
    own = min(range(len(tables)), key=lambda i: len(differences[i]))
    if differences[own]:
        _logger.warning(
            "table %r was measured otherwise: %s", tables[own].name, "; ".join(differences[own])
        )
    batch = profiler.device.batch or 1
    cells = [
        Cell(f"candidate {i}", partial(network_graph, space.ops(c.spec), batch=batch))
        for i, c in enumerate(candidates)
    ]
    found = {
        measurement.key: Statistics.of(measurement)
        for measurement in profiler.measure(cells, plan or _PLAN, progress=progress)
    }
    measured = tuple(
        MeasuredCandidate(c, tables[own].latency_ms(space.ops(c.spec)), found[cell.key])
        for c, cell in zip(candidates, cells, strict=True)
    )
    for candidate in measured:  # the most accurate first
        if candidate.measured_ms <= budgets_ms[own]:
            return candidate, measured
    promise = _broken_promise(measured, tables[own], profiler, budgets_ms[own])
    if differences[own]:
        promise += f"; the table was measured otherwise: {'; '.join(differences[own])}"
    raise InfeasibleError(promise)


def _broken_promise(
    measured: Sequence[MeasuredCandidate],
    table: LatencyTable,
    profiler: Profiler,
    budget_ms: float,
) -> str:
    fastest = min(measured, key=lambda candidate: candidate.measured_ms)
    times = statistics.median(c.measured_ms / c.predicted_ms for c in measured)
    return (
        f"measured on {profiler.device.name}, none of the {len(measured)} best sub-networks meets "
        f"{budget_ms:g} ms: the fastest takes {fastest.measured_ms:.4g} ms, "
        f"{fastest.measured_ms / budget_ms - 1:.1%} over the budget, where table {table.name!r} "
        f"promised {fastest.predicted_ms:.4g} ms; the device takes {times:.2f} times what the "
        f"table says: fill, validate and calibrate it again, or ask it for "
        f"{budget_ms / times:.4g} ms"
    )
