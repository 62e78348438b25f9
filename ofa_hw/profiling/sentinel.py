"""Sentinels: the same few networks visited again and again, which show how fast the machine is.

A shared machine has speed regimes that last minutes. A cell measured in one of them and a cell
measured in the next compare only as multiples of what did not change: the sentinel beside them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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

    def level_ns(self, since: int = 0) -> float:
        """The median level over the visits from number `since` on."""
        return float(np.median(self._levels_ns[since:]))

    def around_ns(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Median level of the visits next to each position.

        Args:
            positions: How many sentinel visits had been made when something was measured, (n,).
        """
        levels = np.array(self._levels_ns)
        nearby = positions[:, None] + np.arange(-_NEIGHBOURS, _NEIGHBOURS)
        inside = (nearby >= 0) & (nearby < len(levels))
        near = np.where(inside, levels[nearby.clip(0, len(levels) - 1)], np.nan)
        median: npt.NDArray[np.float64] = np.nanmedian(near, axis=1)
        return median

    @property
    def slowdown(self) -> float:
        """The level of the last stretch of visits over that of the best one."""
        return self._recent_ns / self._best_ns if len(self) >= _STRETCH else 1.0
