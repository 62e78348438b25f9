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
_WATCH_S = 10.0  # between two looks within a round


class ThrottleGuard:
    """Looks at the device between rounds, and within long ones.

    A device is throttled when Android says so (thermal status above none), when a core may no
    longer reach the frequency it could at the start, or when the sentinels of a block took over
    1.10 times as long as those of the best block. Then it may cool down, twice at most; if it is
    throttled even so, measuring goes on and every cell of the round is marked. After it has been
    cool again, it may cool down again. A round of few sentinel levels makes no block; what the
    last block showed holds until the next is full.

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
        self._looked = clock()
        # Why it was throttled and what had changed, at each look since the last round's end, or at
        # the last one before if there was none since.
        self._seen = [(self.start.throttled_since(self.start), "")]
        self._is_old = True
        self._slowness = ""
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
        is_judged = self._judge(levels_ns)
        if self._clock() - self._looked >= self._interval_s:
            self._look()
        hot = next((reason for reason, _ in self._seen if reason), "")
        changes = "; ".join(dict.fromkeys(change for _, change in self._seen if change))
        self._is_old = True
        reason = hot or self._slowness
        if not reason:
            self._in_a_row, self.note = 0, changes
            return True
        if self._cool_down_s and self._in_a_row < self._tries and (hot or is_judged):
            self._in_a_row += 1
            self.cool_downs += 1
            _logger.warning("throttled (%s); cooling down %g s", reason, self._cool_down_s)
            self._sleep(self._cool_down_s)
            self._levels_ns.clear()  # of the device before it cooled down
            self._look()
            self._is_old = True
            return False
        self.note = "; ".join(filter(None, (f"throttled: {reason}", changes)))
        return True

    def watch(self) -> None:
        """Looks at the device within a round, unless that was done a little while ago."""
        if self._clock() - self._looked >= _WATCH_S:
            self._look()

    def _look(self) -> None:
        now = self._take_snapshot()
        if self._is_old:
            self._seen.clear()
            self._is_old = False
        self._seen.append((now.throttled_since(self.start), now.changed_since(self.start)))
        self._looked = self._clock()

    def _judge(self, levels_ns: Sequence[float]) -> bool:
        """Adds sentinel levels; whether they fill a block, which says if the device is slow."""
        self._levels_ns += levels_ns
        if len(self._levels_ns) < _BLOCK:
            return False
        level_ns = float(np.median(self._levels_ns))
        self._levels_ns.clear()
        self._best_ns = min(self._best_ns, level_ns)
        slowdown = level_ns / self._best_ns
        is_slow = slowdown > _SLOW
        self._slowness = f"the sentinel took {slowdown:.2f} times its best" if is_slow else ""
        return True
