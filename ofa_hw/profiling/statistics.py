"""The median and its confidence interval, without assuming a distribution."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt


@lru_cache(maxsize=4096)
def median_rank(n: int, confidence: float = 0.95) -> int:
    """How many of `n` sorted samples lie outside each end of the median's interval.

    The interval from the k-th smallest to the k-th largest sample misses the median with the
    probability that a fair coin thrown n times shows fewer than k heads, or fewer than k tails
    (David and Nagaraja, Order Statistics, 7.1).

    Returns:
        k, at least 1; or 0 where even the smallest and the largest sample do not suffice.
    """
    allowed = (1 - confidence) / 2
    tail, term, k = 0.0, 0.5**n, 0
    while k <= n // 2 and tail + term <= allowed:
        tail += term
        term *= (n - k) / (k + 1)
        k += 1
    return k


def median_interval(samples: npt.ArrayLike, confidence: float = 0.95) -> tuple[float, float] | None:
    """The order-statistic confidence interval of the median; None of too few samples."""
    ordered = np.sort(np.asarray(samples, np.float64))
    k = median_rank(len(ordered), confidence)
    return (float(ordered[k - 1]), float(ordered[-k])) if k else None


def relative_width(samples: npt.NDArray[np.float64]) -> float:
    """Width of the median's interval over the median; infinite of too few samples."""
    interval, median = median_interval(samples), float(np.median(samples))
    if interval is None or median <= 0:
        return math.inf
    return (interval[1] - interval[0]) / median
