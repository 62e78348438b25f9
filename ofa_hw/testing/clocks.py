"""Seeded clocks and networks that only pretend to run, for tests of the measuring engine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


class FakeClock:
    """A clock that moves only when it is told to.

    Attributes:
        readings: How often its wall time was read.
    """

    def __init__(self) -> None:
        self.readings = 0
        self._wall_ns = 0.0
        self._cpu_ns = 0.0

    def perf_counter_ns(self) -> int:
        """Wall time so far."""
        self.readings += 1
        return int(self._wall_ns)

    def process_time_ns(self) -> int:
        """Processor time so far."""
        return int(self._cpu_ns)

    def monotonic_ns(self) -> int:
        """Wall time so far, which does not count as a reading."""
        return int(self._wall_ns)

    @property
    def now_ns(self) -> float:
        """Wall time so far, which does not count as a reading."""
        return self._wall_ns

    def advance(self, wall_ns: float, cpu_ns: float | None = None) -> None:
        """Lets time pass, with the processor unless `cpu_ns` says less."""
        self._wall_ns += wall_ns
        self._cpu_ns += wall_ns if cpu_ns is None else cpu_ns


class FakeMachine:
    """A machine on which running something takes as long as the test says.

    Attributes:
        clock: Its clock.
        inferences: How many were run.
        slowdown: What multiplies every cost at a time in nanoseconds.
        noise: Standard deviation of the logarithm of a cost.
        burst_every_ns: Mean time until the processor is taken away, for `burst_ns`.
    """

    def __init__(
        self,
        *,
        seed: int,
        slowdown: Callable[[float], float] = lambda now_ns: 1.0,
        noise: float = 0.0,
        burst_every_ns: float = np.inf,
        burst_ns: float = 3e6,
    ) -> None:
        self.clock = FakeClock()
        self.inferences = 0
        self.slowdown = slowdown
        self.noise = noise
        self.burst_every_ns = burst_every_ns
        self.burst_ns = burst_ns
        self._rng = np.random.default_rng(seed)

    def runnable(self, cost_ns: float) -> Callable[[], None]:
        """A network that takes `cost_ns` where nothing slows it down."""

        def run() -> None:
            factor = self.slowdown(self.clock.now_ns) * np.exp(self._rng.normal(0, self.noise))
            self.inferences += 1
            self.clock.advance(cost_ns * factor)
            if self._rng.exponential(self.burst_every_ns) < cost_ns:
                self.clock.advance(self.burst_ns, cpu_ns=0)

        return run
