"""The clock that the measuring engine reads, so that tests can give it another."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells how long something took, and how much of that this process had a processor."""

    def perf_counter_ns(self) -> int:
        """Monotonic wall time in nanoseconds, of any origin."""
        ...

    def process_time_ns(self) -> int:
        """Processor time of this process, all threads together, in nanoseconds."""
        ...

    def monotonic_ns(self) -> int:
        """What deadlines are held by: wall time that passes whatever is done, of any origin."""
        ...


class SystemClock:
    """This machine's clock."""

    perf_counter_ns = staticmethod(time.perf_counter_ns)
    process_time_ns = staticmethod(time.process_time_ns)
    monotonic_ns = staticmethod(time.monotonic_ns)
