"""The time for all cells is wall time, and what has enough samples when it is up is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ofa_hw.graph import Graph
from ofa_hw.latency import fill_table
from ofa_hw.ops import OpSpec
from ofa_hw.profiling import (
    Cell,
    DeviceInfo,
    Engine,
    InProcessProfiler,
    Measurement,
    Runnable,
    SamplingPlan,
    SystemClock,
)
from ofa_hw.testing import FakeClock, FakeMachine

OPS = [OpSpec("linear", 1, 8 + i, 8) for i in range(10)]
DEVICE = DeviceInfo("fake", "fake", "fake", "1")
NEVER_DONE = SamplingPlan(relative_ci=1e-9, max_time_s=1e3)


class OwnTime(FakeClock):
    """Times what inferences report; deadlines are the machine's."""

    monotonic_ns = staticmethod(SystemClock.monotonic_ns)


class Waiting(InProcessProfiler):
    """An inference reports less than half of the time that goes by for it."""

    def __init__(self) -> None:
        self.own_time = OwnTime()
        super().__init__(DEVICE, clock=self.own_time)

    def load(self, graph: Graph) -> Runnable:
        def run() -> None:
            time.sleep(1e-3)
            self.own_time.advance(4e5 * rng.uniform(0.9, 1.1))

        rng = np.random.default_rng(0)
        return run


class Deaf:
    """Answers a cell every three seconds, whatever the plan says."""

    device = DEVICE

    def __init__(self, sleep: Callable[[float], None]) -> None:
        self._sleep = sleep

    def measure(
        self,
        cells: Sequence[Cell],
        plan: SamplingPlan,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[Measurement]:
        for cell in cells:
            self._sleep(3)
            yield Measurement(cell.key, (1e6,) * 10, stable=True)

    def close(self) -> None:
        """Holds nothing."""


def test_time_that_the_clock_of_inferences_does_not_see_counts_and_the_group_is_kept(
    tmp_path: Path,
) -> None:
    start = time.monotonic()
    profiler = Waiting()
    table = fill_table(OPS, profiler, tmp_path / "t.jsonl", plan=NEVER_DONE, max_minutes=4 / 60)
    assert 4 <= time.monotonic() - start < 12
    assert profiler.own_time.now_ns < 3e9
    assert set(table.rows) == set(OPS)
    assert table.overhead is not None


def test_a_profiler_that_does_not_look_at_the_clock_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("ofa_hw.latency.fill.time", SimpleNamespace(monotonic=lambda: now[0]))
    table = fill_table(OPS, Deaf(sleep), tmp_path / "t.jsonl", max_minutes=0.2)
    assert 12 <= now[0] <= 21
    assert len(table) < len(OPS)


def test_time_that_passes_while_a_measurement_is_handed_over_loses_none_of_the_others() -> None:
    machine = FakeMachine(seed=0, noise=0.02)
    cells = {"done at once": machine.runnable(4e7), "noisy": machine.runnable(1e6)}
    plan = SamplingPlan(relative_ci=1e-9, max_time_s=0.3, total_time_s=100)
    engine = Engine([machine.runnable(1e5)], plan, clock=machine.clock)
    keys = []
    for measurement in engine.measure(cells):
        keys.append(measurement.key)
        machine.clock.advance(200e9)
    assert sorted(keys) == sorted(cells)
