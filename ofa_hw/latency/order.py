"""In which order operators are measured, so that a fill cut short is worth most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from ofa_hw.ops import OpSpec
from ofa_hw.spaces import SearchSpace

_SAMPLES = 100


def most_useful_first(
    space: SearchSpace, resolutions: Iterable[int] | None = None
) -> tuple[OpSpec, ...]:
    """Every distinct operator, those first that complete a resolution and are in most networks.

    Only a resolution whose operators are all there can be searched, so resolutions are filled one
    after another: the highest, the lowest, then always one in the middle of the widest gap, which
    is also what interpolation between them wants. Within a resolution the operators that most
    sub-networks contain come first.

    Raises:
        SpecError: If a resolution is none of the space's.
    """
    wanted = sorted(set(space.resolutions if resolutions is None else resolutions))
    rng = np.random.default_rng(0)
    rows = space.sample_rows(_SAMPLES, rng=rng)
    ordered: dict[OpSpec, None] = {}
    for resolution in _spread(wanted):
        ops = space.table_ops([resolution])
        rows[:, 0] = space.resolutions.index(resolution)
        uses = Counter(op for spec in space.decode(rows) for op in set(space.ops(spec)))
        ordered.update(dict.fromkeys(sorted(ops, key=lambda op: (-uses[op], op))))
    return tuple(ordered)


def _spread(values: Sequence[int]) -> list[int]:
    """The highest, the lowest, then always the value farthest from those before."""
    left = list(values)
    order: list[int] = []
    while left:
        far = max(left, key=lambda v: (min((abs(v - o) for o in order), default=0), v))
        order.append(far)
        left.remove(far)
    return order
