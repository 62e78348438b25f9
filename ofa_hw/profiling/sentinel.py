"""Sentinels: the same few networks visited again and again, which show how fast the machine is.

A shared machine has speed regimes that last minutes. A cell measured in one of them and a cell
measured in the next compare only as multiples of what did not change: the sentinel beside them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ofa_hw.ops import OpSpec

# One limited by arithmetic and one by memory: machines slow down for either alone, and a cell is
# usually limited by both. Level is the geometric mean of the two.
SENTINEL_OPS = (
    OpSpec("mbconv", 14, 40, 40, 120, kernel_size=3, activation="relu", shortcut="identity"),
    OpSpec("mbconv", 56, 16, 16, 32, kernel_size=3, activation="relu", shortcut="identity"),
)
THROTTLED = 1.10
_NEIGHBOURS = 4  # on each side of a visit; fewer would add their own noise to it
_STRETCH = 60  # visits that make a level "for long"


@dataclass(frozen=True, slots=True, eq=False)
class Drift:
    """How the machine's speed changed while a group of cells was measured.

    Attributes:
        level_ns: The sentinels' median level meanwhile; None without sentinels.
        since: How many visits the sentinels had had before.
        around_ns: Median level of the visits next to each position from `since` on, where a
            position is how many visits the sentinels had had when something was measured.
    """

    level_ns: float | None
    since: int
    around_ns: npt.NDArray[np.float64]

    def divide_out(
        self, samples_ns: Sequence[float], positions: Sequence[int]
    ) -> npt.NDArray[np.float64]:
        """What samples at these positions would have been at the one level."""
        samples = np.array(samples_ns)
        if self.level_ns is None:
            return samples
        around: npt.NDArray[np.float64] = self.around_ns[np.array(positions) - self.since]
        return samples * self.level_ns / around


class SentinelLog:
    """The sentinel's level at each of its visits, in order."""

    def __init__(self) -> None:
        self._levels_ns: list[float] = []
        self._best_ns = math.inf
        self._recent_ns = math.inf

    def __len__(self) -> int:
        return len(self._levels_ns)

    def add(self, latencies_ns: Sequence[float]) -> None:
        """Records one visit to every sentinel."""
        self._levels_ns.append(math.exp(sum(map(math.log, latencies_ns)) / len(latencies_ns)))
        if len(self) >= _STRETCH:
            self._recent_ns = float(np.median(self._levels_ns[-_STRETCH:]))
            self._best_ns = min(self._best_ns, self._recent_ns)

    def drift(self, since: int) -> Drift:
        """What the visits from number `since` on show."""
        if since == len(self):
            return Drift(None, since, np.ones(1))
        levels = np.array(self._levels_ns[max(0, since - _NEIGHBOURS) :])
        positions = np.arange(since, len(self) + 1) - (len(self) - len(levels))
        nearby = positions[:, None] + np.arange(-_NEIGHBOURS, _NEIGHBOURS)
        inside = (nearby >= 0) & (nearby < len(levels))
        near = np.where(inside, levels[nearby.clip(0, len(levels) - 1)], np.nan)
        return Drift(float(np.median(self._levels_ns[since:])), since, np.nanmedian(near, axis=1))

    @property
    def slowdown(self) -> float:
        """The level of the last stretch of visits over that of the best one."""
        return self._recent_ns / self._best_ns if len(self) >= _STRETCH else 1.0
