"""The measuring engine: cells in shuffled rounds, sentinels between them, drift divided out.

A visit runs one cell a few times and keeps the median. Between every few visits the sentinels run;
each visit's latency is divided by the level of the sentinels around it, relative to their level
over the whole group. Visits that the process had to share the processor in are thrown away. A
cell leaves the rounds when the confidence interval of its median is narrow enough, or when it
shows that it will not be in time: an interval shrinks with the root of the samples.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ofa_hw.profiling.clock import Clock
from ofa_hw.profiling.sentinel import THROTTLED, SentinelLog
from ofa_hw.profiling.statistics import median_interval
from ofa_hw.profiling.types import Measurement, SamplingPlan

Runnable: TypeAlias = Callable[[], object]

_VISIT_NS = 3_000_000  # of timed inference; a visit of long cells takes longer
_SENTINEL_VISIT_NS = 300_000
_LUMP_NS = 100_000  # below this, several inferences share one reading of the clock
_LARGEST_LUMP = 1000
_LEAST_LUMPS = 3
_LONG_NS = 20_000_000  # an inference this long is a visit of its own: rounds make the sample
_MOST_LUMPS = 100
_LEAST_SAMPLES = 6  # fewer have no 95 % interval
_MOST_VISITS = 1000
_TRIAL = 0.25  # of a cell's most time, after which it is judged whether it can succeed
_TRIAL_SAMPLES = 20  # fewer have an interval that is itself too uncertain to judge by
_HOPE = 2.0  # how far a forecast may be off
_SPACING = 4  # cells between two visits of the sentinels
_LEAST_CPU_SHARE = 0.95
_SENTINEL_TRIES = 3
_WARM_UP_RUNS = 30
_STEADY = 1.05


@dataclass(slots=True, eq=False)
class _Sampled:
    """One cell while it is in the rounds."""

    key: str
    run: Runnable
    estimate_ns: float
    visit_ns: int = _VISIT_NS
    samples_ns: list[float] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    shared_ns: list[float] = field(default_factory=list)
    shared_positions: list[int] = field(default_factory=list)
    spent_ns: float = 0.0

    @property
    def visits(self) -> int:
        return len(self.samples_ns) + len(self.shared_ns)


class Engine:
    """Measures groups of loaded cells; what the sentinels showed carries over between groups.

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
        self._plan = plan
        self._clock = clock
        self.timed_ns = 0.0
        self._end_ns = clock.perf_counter_ns() + plan.total_time_s * 1e9
        self._cpu_bound = cpu_bound
        self._rng = np.random.default_rng(plan.seed)
        self._log = SentinelLog()
        self._sentinels = [
            _Sampled("sentinel", run, self._warm_up(run), _SENTINEL_VISIT_NS) for run in sentinels
        ]

    @property
    def out_of_time(self) -> bool:
        """Whether the plan's time for all cells has passed."""
        return self._clock.perf_counter_ns() >= self._end_ns

    def measure(self, runnables: Mapping[str, Runnable]) -> Iterator[Measurement]:
        """Yields each cell's measurement after the round that made it final.

        When the time for all cells has passed, those with enough samples for an interval are
        yielded as they are, and the others are not.
        """
        since = len(self._log)
        active = []
        for key, run in runnables.items():
            if self.out_of_time:
                return
            active.append(_Sampled(key, run, self._warm_up(run)))
        self._visit_sentinels()
        while active:
            order = self._rng.permutation(len(active))
            for place, index in enumerate(order, 1):
                self._visit_cell(active[index])
                if place % _SPACING == 0 or place == len(order):
                    self._visit_sentinels()
                if self.out_of_time:
                    self._visit_sentinels()
                    enough = [cell for cell in active if len(cell.samples_ns) >= _LEAST_SAMPLES]
                    yield from (self._result(cell, since) for cell in enough)
                    return
            done = [cell for cell in active if self._is_done(cell, since)]
            active = [cell for cell in active if cell not in done]
            yield from (self._result(cell, since) for cell in done)

    def _warm_up(self, run: Runnable) -> float:
        """Runs until two runs in a row come close to the fastest; returns its nanoseconds."""
        fastest, steady, spent = math.inf, 0, 0.0
        for _ in range(_WARM_UP_RUNS):
            elapsed, _ = self._time(run, 1)
            steady = steady + 1 if elapsed <= _STEADY * fastest else 0
            fastest = min(fastest, elapsed)
            spent += elapsed
            if steady >= 2 or spent > self._plan.max_time_s * 1e9:
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

    def _visit(self, cell: _Sampled) -> tuple[float, bool]:
        """Median nanoseconds of one inference, and whether the process had the processor.

        Lumps in which it had to share are left out where at least half remain.
        """
        lump = min(_LARGEST_LUMP, math.ceil(_LUMP_NS / cell.estimate_ns))
        lumps = round(cell.visit_ns / (lump * cell.estimate_ns))
        least = _LEAST_LUMPS if cell.estimate_ns < _LONG_NS else 1
        lumps = min(_MOST_LUMPS, max(least, lumps))
        collecting = gc.isenabled()
        gc.disable()
        try:
            cell.run()  # the caches hold another cell's data
            timed = np.array([self._time(cell.run, lump) for _ in range(lumps)])
        finally:
            if collecting:
                gc.enable()
        wall_ns, cpu_ns = timed.T
        cell.spent_ns += float(wall_ns.sum()) * lump
        self.timed_ns += float(wall_ns.sum()) * lump
        undisturbed = cpu_ns >= _LEAST_CPU_SHARE * wall_ns
        if not self._cpu_bound or 2 * undisturbed.sum() < lumps:
            return float(np.median(wall_ns)), not self._cpu_bound
        return float(np.median(wall_ns[undisturbed])), True

    def _visit_cell(self, cell: _Sampled) -> None:
        latency_ns, undisturbed = self._visit(cell)
        (cell.samples_ns if undisturbed else cell.shared_ns).append(latency_ns)
        (cell.positions if undisturbed else cell.shared_positions).append(len(self._log))

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
        self._log.add(latencies)

    def _without_drift(
        self, samples_ns: list[float], positions: list[int], since: int
    ) -> npt.NDArray[np.float64]:
        samples = np.array(samples_ns)
        if not self._sentinels:
            return samples
        return samples * self._log.level_ns(since) / self._log.around_ns(np.array(positions))

    def _is_done(self, cell: _Sampled, since: int) -> bool:
        most_ns = self._plan.max_time_s * 1e9
        if cell.visits >= _MOST_VISITS:
            return True
        if cell.spent_ns >= most_ns and cell.visits >= _LEAST_SAMPLES:
            return True
        if len(cell.samples_ns) < _LEAST_SAMPLES or cell.spent_ns < self._plan.min_time_s * 1e9:
            return False
        excess = self._excess(self._without_drift(cell.samples_ns, cell.positions, since))
        tried = cell.spent_ns >= _TRIAL * most_ns and len(cell.samples_ns) >= _TRIAL_SAMPLES
        return excess <= 1 or (tried and cell.spent_ns * excess**2 > _HOPE * most_ns)

    def _excess(self, samples: npt.NDArray[np.float64]) -> float:
        """Width of the median's interval as a multiple of what was asked for."""
        interval, median = median_interval(samples), float(np.median(samples))
        if interval is None or median <= 0:
            return math.inf
        return (interval[1] - interval[0]) / (self._plan.relative_ci * median)

    def _result(self, cell: _Sampled, since: int) -> Measurement:
        notes = []
        samples_ns, positions = cell.samples_ns, cell.positions
        if len(samples_ns) < _LEAST_SAMPLES and cell.shared_ns:
            samples_ns = samples_ns + cell.shared_ns
            positions = positions + cell.shared_positions
            notes.append(f"{len(cell.shared_ns)} of {cell.visits} visits shared the processor")
        samples = self._without_drift(samples_ns, positions, since)
        if self._log.slowdown > THROTTLED:
            notes.append(f"throttled: the sentinel took {self._log.slowdown:.2f} times its best")
        return Measurement(
            cell.key,
            tuple(samples.tolist()),
            stable=self._excess(samples) <= 1 and len(samples_ns) == len(cell.samples_ns),
            notes=tuple(notes),
            visits=cell.visits,
            sentinel_ns=self._log.level_ns(since) if self._sentinels else None,
        )
