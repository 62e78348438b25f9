"""Interpolates operators between input sizes at which the same block was measured.

What a block costs grows with the elements that it touches, so between two sizes the latency is
taken to be linear in the area of the input.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ofa_hw.ops import OpSpec


def interpolate(rows_ms: Mapping[OpSpec, float], wanted: Iterable[OpSpec]) -> dict[OpSpec, float]:
    """Latencies of the wanted operators that lie between measured ones.

    Args:
        rows_ms: Measured latencies.
        wanted: Operators without one.

    Returns:
        In milliseconds; without the operators that lack a smaller or a larger neighbour.
    """
    measured: dict[OpSpec, dict[int, float]] = defaultdict(dict)
    for op, latency_ms in rows_ms.items():
        measured[replace(op, resolution=1)][op.resolution] = latency_ms
    sizes = {block: sorted(known) for block, known in measured.items()}
    estimates_ms = {}
    for op in wanted:
        block = replace(op, resolution=1)
        known = sizes.get(block, [])
        place = bisect_left(known, op.resolution)
        if 0 < place < len(known):
            small, large = known[place - 1], known[place]
            share = (op.resolution**2 - small**2) / (large**2 - small**2)
            low_ms, high_ms = measured[block][small], measured[block][large]
            estimates_ms[op] = low_ms + share * (high_ms - low_ms)
    return estimates_ms
