"""Keeps a hot device from being measured: waits for it to cool down, or says that it was hot."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence

import numpy as np

from ofa_hw_profilers.adb.state import Snapshot

_logger = logging.getLogger(__name__)

_SLOW = 1.10  # times the best block; what Jetpack Microbenchmark calls throttled
_BLOCK = 8  # sentinel levels that make a block


class ThrottleGuard:
    """Looks at the device between rounds.

    A device is throttled when Android says so (thermal status above none), when a core may no
    longer reach the frequency it could at the start, or when the sentinels of a block took over
    1.10 times as long as those of the best block. Then it may cool down, twice at most; if it is
    throttled even so, measuring goes on and every cell of the round is marked. After it has been
    cool again, it may cool down again.

    Args:
        take_snapshot: Asks the device how it is doing.
        cool_down_s: How long to let it cool down; 0 for not at all.
        interval_s: Least time between two snapshots.
        tries: How often it may cool down in a row.
        sleep: Waits some seconds.
        clock: Tells the seconds since any moment.

    Attributes:
        start: How the device was at the start.
        note: Why the device is throttled, and what else has changed since the start; empty while
            nothing is amiss.
        cool_downs: How often it had to cool down so far.
    """

    def __init__(
        self,
        take_snapshot: Callable[[], Snapshot],
        *,
        cool_down_s: float = 90.0,
        interval_s: float = 5.0,
        tries: int = 2,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._take_snapshot = take_snapshot
        self._cool_down_s = cool_down_s
        self._interval_s = interval_s
        self._tries = tries
        self._sleep = sleep
        self._clock = clock
        self.start = take_snapshot()
        self._changes = ""
        self._looked = clock()
        self._reason = self.start.throttled_since(self.start)
        self._levels_ns: list[float] = []
        self._best_ns = math.inf
        self._in_a_row = 0
        self.note = ""
        self.cool_downs = 0

    def accepts(self, levels_ns: Sequence[float]) -> bool:
        """Whether a round counts; if not, the device has cooled down and it is to be repeated.

        Args:
            levels_ns: The sentinel's levels during the round.
        """
        reason = self._hot() or self._slow(levels_ns)
        if not reason:
            self._in_a_row, self.note = 0, self._changes
            return True
        if self._cool_down_s and self._in_a_row < self._tries:
            self._in_a_row += 1
            self.cool_downs += 1
            _logger.warning("throttled (%s); cooling down %g s", reason, self._cool_down_s)
            self._sleep(self._cool_down_s)
            self._look()
            return False
        self.note = "; ".join(filter(None, (f"throttled: {reason}", self._changes)))
        return True

    def _hot(self) -> str:
        if self._clock() - self._looked >= self._interval_s:
            self._look()
        return self._reason

    def _look(self) -> None:
        now = self._take_snapshot()
        self._reason = now.throttled_since(self.start)
        self._changes = now.changed_since(self.start)
        self._looked = self._clock()

    def _slow(self, levels_ns: Sequence[float]) -> str:
        """Whether the last block of sentinel levels is slower than the best one was."""
        self._levels_ns = [*self._levels_ns, *levels_ns]
        if len(self._levels_ns) < _BLOCK:
            return ""
        level_ns = float(np.median(self._levels_ns))
        self._levels_ns.clear()
        self._best_ns = min(self._best_ns, level_ns)
        slowdown = level_ns / self._best_ns
        return f"the sentinel took {slowdown:.2f} times its best" if slowdown > _SLOW else ""
