"""The measuring engine for networks in this process: cells in rounds, timed with this clock.

A visit runs one cell a few times and keeps the median. Visits that the process had to share the
processor in are thrown away. Order, drift and the end of a cell are those of
`ofa_hw.profiling.rounds`.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from ofa_hw.profiling.clock import Clock
from ofa_hw.profiling.rounds import (
    LEAST_CPU_SHARE,
    LEAST_RUNS,
    SPACING,
    STEADY,
    Rounds,
    SampledCell,
)
from ofa_hw.profiling.types import SamplingPlan

Runnable: TypeAlias = Callable[[], object]

_VISIT_NS = 3_000_000  # of timed inference; a visit of long cells takes longer
_SENTINEL_VISIT_NS = 300_000
_LUMP_NS = 100_000  # below this, several inferences share one reading of the clock
_LARGEST_LUMP = 1000
_MOST_LUMPS = 100
_LONG_NS = 20_000_000  # an inference this long is a visit of its own: rounds make the sample
_SENTINEL_TRIES = 3
_WARM_UP_RUNS = 30


class Engine(Rounds[Runnable]):
    """Measures groups of loaded cells (see `Rounds`).

    Args:
        sentinels: Their runnables; none if drift shall not be divided out.
        plan: How well to measure.
        clock: What to time with.
        cpu_bound: Whether an inference keeps one processor busy, so that a visit with less
            processor time than wall time was disturbed.

    Attributes:
        timed_ns: Spent so far in the inferences of visits, the sentinels' included.
    """

    def __init__(
        self,
        sentinels: Sequence[Runnable],
        plan: SamplingPlan,
        *,
        clock: Clock,
        cpu_bound: bool = True,
    ) -> None:
        super().__init__(plan, clock=clock)
        self.timed_ns = 0.0
        self._cpu_bound = cpu_bound
        self._sentinels = [
            SampledCell("sentinel", run, self._warm_up(run), _SENTINEL_VISIT_NS)
            for run in sentinels
        ]

    def warm_up(self, networks: Mapping[str, Runnable]) -> list[SampledCell[Runnable]]:
        """Runs each until two runs in a row come close to the fastest (see `Rounds`)."""
        cells = []
        for key, run in networks.items():
            if self.out_of_time:
                return []
            cells.append(SampledCell(key, run, self._warm_up(run), _VISIT_NS))
        self._visit_sentinels()
        return cells

    def visit(self, cells: Sequence[SampledCell[Runnable]]) -> None:
        """Makes one round in random order (see `Rounds`)."""
        for place, index in enumerate(self.rng.permutation(len(cells)), 1):
            latency_ns, undisturbed = self._visit(cells[index])
            cells[index].add(latency_ns, len(self.log), undisturbed=undisturbed)
            if place % SPACING == 0 or place == len(cells):
                self._visit_sentinels()
            if self.out_of_time:
                self._visit_sentinels()
                return

    def _warm_up(self, run: Runnable) -> float:
        """Runs until two runs in a row come close to the fastest; returns its nanoseconds."""
        fastest, steady, spent = math.inf, 0, 0.0
        for _ in range(_WARM_UP_RUNS):
            elapsed, _ = self._time(run, 1)
            steady = steady + 1 if elapsed <= STEADY * fastest else 0
            fastest = min(fastest, elapsed)
            spent += elapsed
            if steady >= 2 or spent > self.plan.max_time_s * 1e9:
                break
        return max(fastest, 1.0)

    def _time(self, run: Runnable, count: int) -> tuple[float, float]:
        """Wall and processor nanoseconds of one of `count` inferences in a row."""
        clock = self._clock
        cpu = clock.process_time_ns()
        start = clock.perf_counter_ns()
        for _ in range(count):
            run()
        wall = clock.perf_counter_ns() - start
        return wall / count, (clock.process_time_ns() - cpu) / count

    def _visit(self, cell: SampledCell[Runnable]) -> tuple[float, bool]:
        """Median nanoseconds of one inference, and whether the process had the processor.

        Lumps in which it had to share are left out where at least half remain.
        """
        lump = min(_LARGEST_LUMP, math.ceil(_LUMP_NS / cell.estimate_ns))
        lumps = round(cell.visit_ns / (lump * cell.estimate_ns))
        least = LEAST_RUNS if cell.estimate_ns < _LONG_NS else 1
        lumps = min(_MOST_LUMPS, max(least, lumps))
        collecting = gc.isenabled()
        gc.disable()
        try:
            cell.network()  # the caches hold another cell's data
            timed = np.array([self._time(cell.network, lump) for _ in range(lumps)])
        finally:
            if collecting:
                gc.enable()
        wall_ns, cpu_ns = timed.T
        cell.spent_ns += float(wall_ns.sum()) * lump
        self.timed_ns += float(wall_ns.sum()) * lump
        undisturbed = cpu_ns >= LEAST_CPU_SHARE * wall_ns
        if not self._cpu_bound or 2 * undisturbed.sum() < lumps:
            return float(np.median(wall_ns)), not self._cpu_bound
        return float(np.median(wall_ns[undisturbed])), True

    def _visit_sentinels(self) -> None:
        if not self._sentinels:
            return
        latencies = []
        for sentinel in self._sentinels:
            for _ in range(_SENTINEL_TRIES):
                latency_ns, undisturbed = self._visit(sentinel)
                if undisturbed:
                    break
            latencies.append(latency_ns)
        self.log.add(latencies)
