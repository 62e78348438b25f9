"""How long one inference on a GPU takes, and the clock that is made of such times."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import torch

Forward: TypeAlias = Callable[[torch.Tensor], object]
Timed: TypeAlias = Callable[[Forward, torch.Tensor], float]  # nanoseconds


class InferenceClock:
    """A clock that moves only while inferences run, by what each of them reports.

    What comes before an inference, such as the next input, is thus not part of it. The time that a
    plan allows for all cells is wall time, in which all of that counts.
    """

    monotonic_ns = staticmethod(time.monotonic_ns)

    def __init__(self) -> None:
        self._total_ns = 0.0

    def add(self, elapsed_ns: float) -> None:
        """Moves it on by one inference."""
        self._total_ns += elapsed_ns

    def perf_counter_ns(self) -> int:
        """Nanoseconds spent in inferences."""
        return round(self._total_ns)

    def process_time_ns(self) -> int:
        """The same: whether the host shared its processor is not asked of a GPU."""
        return round(self._total_ns)


def host_ns(forward: Forward, x: torch.Tensor) -> float:
    """The wall time of this process until the GPU has finished."""
    start = time.perf_counter_ns()
    forward(x)
    torch.cuda.synchronize()
    return time.perf_counter_ns() - start


class EventTimer:
    """Takes the time on the GPU from before the first kernel to after the last."""

    def __init__(self) -> None:
        """Makes its events, which torch does when they are first recorded, not while one waits."""
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._start.record()
        self._end.record()
        self._end.synchronize()

    def __call__(self, forward: Forward, x: torch.Tensor) -> float:
        """The nanoseconds of one inference."""
        self._start.record()
        forward(x)
        self._end.record()
        self._end.synchronize()
        return float(self._start.elapsed_time(self._end)) * 1e6


TIMINGS: Final[Mapping[str, Callable[[], Timed]]] = {"host": lambda: host_ns, "events": EventTimer}
