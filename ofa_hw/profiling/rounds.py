"""Rounds over cells, whoever runs them: when a cell leaves them, and what its samples say.

Each round visits every cell that is still in it, sentinels between them. A visit's latency is
divided by the level of the sentinels around it, relative to their level over the whole group. A
cell leaves the rounds when the confidence interval of its median is narrow enough, or when it
shows that it will not be in time: an interval shrinks with the root of the samples.

How a cell is warmed up and visited is the matter of an engine: `ofa_hw.profiling.sampling` runs
cells in this process, and another may run them on a device.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from ofa_hw.profiling.clock import Clock
from ofa_hw.profiling.sentinel import THROTTLED, Drift, SentinelLog
from ofa_hw.profiling.statistics import relative_width
from ofa_hw.profiling.types import Measurement, SamplingPlan

# What engines agree on.
SPACING: Final = 4  # cells between two visits of the sentinels
STEADY: Final = 1.05  # times the fastest run, up to which another one shows that all is warm
LEAST_CPU_SHARE: Final = 0.95  # of the wall time; with less, something else ran
LEAST_RUNS: Final = 3  # of a visit, for its median

_LEAST_SAMPLES = 6  # fewer have no 95 % interval
_MOST_VISITS = 1000
_TRIAL = 0.25  # of a cell's most time, after which it is judged whether it can succeed
_TRIAL_SAMPLES = 20  # fewer have an interval that is itself too uncertain to judge by
_HOPE = 2.0  # how far a forecast may be off

NetworkT = TypeVar("NetworkT")


@dataclass(slots=True, eq=False)
class SampledCell(Generic[NetworkT]):
    """One cell while it is in the rounds.

    Attributes:
        key: Names it.
        network: What the engine runs.
        estimate_ns: About how long one inference takes.
        visit_ns: Timed inference that a visit should hold.
        spent_ns: Of timed inference so far.
        samples_ns: Latencies of the visits that count.
        positions: How many visits the sentinels had had at each of them.
        shared_ns: Latencies of the visits in which something else ran on the processor too.
        shared_positions: As `positions`, for those.
    """

    key: str
    network: NetworkT
    estimate_ns: float
    visit_ns: int
    spent_ns: float = 0.0
    samples_ns: list[float] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    shared_ns: list[float] = field(default_factory=list)
    shared_positions: list[int] = field(default_factory=list)

    @property
    def visits(self) -> int:
        """How many there were, those that do not count included."""
        return len(self.samples_ns) + len(self.shared_ns)

    def add(self, latency_ns: float, position: int, *, undisturbed: bool) -> None:
        """Records one visit."""
        (self.samples_ns if undisturbed else self.shared_ns).append(latency_ns)
        (self.positions if undisturbed else self.shared_positions).append(position)


class Rounds(ABC, Generic[NetworkT]):
    """Measures groups of cells; what the sentinels showed carries over between groups.

    Args:
        plan: How well to measure.
        clock: Tells when the plan's time has passed.

    Attributes:
        plan: How well to measure.
        log: What the sentinels showed so far.
        rng: Of the order of visits.
    """

    def __init__(self, plan: SamplingPlan, *, clock: Clock) -> None:
        self.plan = plan
        self.log = SentinelLog()
        self.rng = np.random.default_rng(plan.seed)
        self._clock = clock
        self._end_ns = clock.monotonic_ns() + plan.total_time_s * 1e9

    @abstractmethod
    def warm_up(self, networks: Mapping[str, NetworkT]) -> list[SampledCell[NetworkT]]:
        """Runs each network until its runs are steady; gives up when out of time."""

    @abstractmethod
    def visit(self, cells: Sequence[SampledCell[NetworkT]]) -> None:
        """Makes one round; ends it early, with a visit of the sentinels, when out of time."""

    @property
    def out_of_time(self) -> bool:
        """Whether the plan's time for all cells has passed."""
        return self._clock.monotonic_ns() >= self._end_ns

    def measure(self, networks: Mapping[str, NetworkT]) -> Iterator[Measurement]:
        """Yields each cell's measurement after the round that made it final.

        When the time for all cells has passed, those with enough samples for an interval are
        yielded as they are, and the others are not.
        """
        since = len(self.log)
        active, late = self.warm_up(networks), False
        while active and not late:
            if not self.out_of_time:  # which it may have become in the caller's hands
                self.visit(active)
            late = self.out_of_time
            drift = self.log.drift(since)
            done = [c for c in active if (_is_enough(c) if late else self._is_done(c, drift))]
            active = [cell for cell in active if cell not in done]
            yield from (self.result(cell, drift) for cell in done)

    def result(self, cell: SampledCell[NetworkT], drift: Drift) -> Measurement:
        """A cell's measurement, the drift of its group divided out."""
        notes = []
        samples_ns, positions = cell.samples_ns, cell.positions
        if not _is_enough(cell) and cell.shared_ns:
            samples_ns = samples_ns + cell.shared_ns
            positions = positions + cell.shared_positions
            notes.append(f"{len(cell.shared_ns)} of {cell.visits} visits shared the processor")
        samples = drift.divide_out(samples_ns, positions)
        if self.log.slowdown > THROTTLED:
            notes.append(f"throttled: the sentinel took {self.log.slowdown:.2f} times its best")
        return Measurement(
            cell.key,
            tuple(samples.tolist()),
            stable=self._excess(samples) <= 1 and len(samples_ns) == len(cell.samples_ns),
            notes=tuple(notes),
            visits=cell.visits,
            sentinel_ns=drift.level_ns,
        )

    def _is_done(self, cell: SampledCell[NetworkT], drift: Drift) -> bool:
        most_ns = self.plan.max_time_s * 1e9
        if cell.visits >= _MOST_VISITS:
            return True
        if cell.spent_ns >= most_ns and cell.visits >= _LEAST_SAMPLES:
            return True
        if not _is_enough(cell) or cell.spent_ns < self.plan.min_time_s * 1e9:
            return False
        excess = self._excess(drift.divide_out(cell.samples_ns, cell.positions))
        tried = cell.spent_ns >= _TRIAL * most_ns and len(cell.samples_ns) >= _TRIAL_SAMPLES
        return excess <= 1 or (tried and cell.spent_ns * excess**2 > _HOPE * most_ns)

    def _excess(self, samples: npt.NDArray[np.float64]) -> float:
        """Width of the median's interval as a multiple of what was asked for."""
        return relative_width(samples) / self.plan.relative_ci


def _is_enough(cell: SampledCell[NetworkT]) -> bool:
    """Whether its samples have an interval."""
    return len(cell.samples_ns) >= _LEAST_SAMPLES
