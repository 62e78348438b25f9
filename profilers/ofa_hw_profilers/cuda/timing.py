"""How long one inference on a GPU takes, and the clock that is made of such times."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeAlias

import torch

Forward: TypeAlias = Callable[[torch.Tensor], object]


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


def device_ns(forward: Forward, x: torch.Tensor) -> float:
    """The time on the GPU from before the first kernel to after the last."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    forward(x)
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) * 1e6


TIMINGS: Final = {"host": host_ns, "events": device_ns}
