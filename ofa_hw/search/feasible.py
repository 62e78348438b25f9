"""Feasible starting points within any limits, or at once an InfeasibleError that says what is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ofa_hw.errors import InfeasibleError
from ofa_hw.search.exact import CostBounds, cost_bounds, draw_rows
from ofa_hw.search.factors import FactorTables, Floats
from ofa_hw.spaces import Rows

_BLENDS = 64


def cost_range(tables: FactorTables, column: int) -> tuple[float, float]:
    """The exact smallest and largest value of a cost over the allowed networks."""
    if tables.costs[column].maximum:
        return _smallest_maximum(tables, column), _largest_maximum(tables, column)
    weights = np.zeros(len(tables.costs))
    weights[column] = 1
    smallest = cost_bounds(tables, weights).minimum
    return smallest, -cost_bounds(tables, -weights).minimum


def feasible_rows(
    tables: FactorTables, limits: Sequence[float], count: int, *, rng: np.random.Generator
) -> Rows:
    """Random rows within all limits, some of `count` of them or all.

    Args:
        tables: The costs.
        limits: Of each cost; infinite for none.
        count: Rows to draw.
        rng: Source of randomness.

    Raises:
        InfeasibleError: If no network is within the limits; it names the nearest feasible value of
            each, or the nearest network found where only their combination is out of reach.
    """
    _require_each(tables, limits)
    sums = [
        column
        for column, cost in enumerate(tables.costs)
        if not cost.maximum and np.isfinite(limits[column])
    ]
    if not sums:
        bound = cost_bounds(tables, [0.0] * len(tables.costs), limits=limits)
        return draw_rows(tables, [bound], [0.0], count, rng=rng)
    bounds = [cost_bounds(tables, _unit(tables, [c], [1.0]), limits=limits) for c in sums]
    sum_limits = [limits[column] for column in sums]
    rows = draw_rows(tables, bounds, sum_limits, count, rng=rng)
    values = tables.evaluate(rows)
    kept = _violation(tables, values, limits) <= 0
    if kept.any():
        return rows[kept]
    return _blended(tables, limits, sums, bounds, count, rng=rng)


def _require_each(tables: FactorTables, limits: Sequence[float]) -> None:
    """Raises if a limit is out of reach even alone, or the maxima are out of reach together."""
    unreachable = []
    for column, (cost, limit) in enumerate(zip(tables.costs, limits, strict=True)):
        if np.isfinite(limit):
            smallest = cost_range(tables, column)[0]
            if smallest > limit * (1 + 1e-9):
                unreachable.append(
                    f"{cost.name} can be at most {limit:g} but is at least {_up(smallest)}"
                )
    if unreachable:
        raise InfeasibleError(
            f"no network of {tables.space.name} is within the limits: {'; '.join(unreachable)}; "
            "raise the limits to these values or allow more choices"
        )


def _blended(
    tables: FactorTables,
    limits: Sequence[float],
    sums: Sequence[int],
    bounds: Sequence[CostBounds],
    count: int,
    *,
    rng: np.random.Generator,
) -> Rows:
    """Looks for rows where limits that can be kept one by one are hard to keep together.

    A blend of the costs, each over its limit, has an exact minimum; where that is above 1 no
    network keeps all limits. Blends move weight to the limits that their minimum breaks.
    """
    weights = np.ones(len(sums)) / len(sums)
    scale = np.array([limits[column] for column in sums])
    nearest, least = None, np.inf
    for step in range(_BLENDS):
        bound = cost_bounds(tables, _unit(tables, sums, weights / scale), limits=limits)
        if not np.isfinite(bound.minimum) or bound.minimum > 1 + 1e-9:
            break
        rows = draw_rows(tables, [bound], [1.0], count, rng=rng)
        cheapest = draw_rows(tables, [bound], [bound.minimum], 1, rng=rng)
        rows = np.concatenate([rows, cheapest])
        values = tables.evaluate(rows)
        violation = _violation(tables, values, limits)
        if (violation <= 0).any():
            return rows[violation <= 0]
        best = int(violation.argmin())
        if violation[best] < least:
            nearest, least = values[best], violation[best]
        excess = tables.evaluate(cheapest)[0, sums] / scale - 1
        weights = weights * np.exp(excess / max(np.abs(excess).max(), 1e-12) / (1 + step / 8))
        weights /= weights.sum()
    if nearest is None:
        rows = draw_rows(tables, bounds, list(scale), count, rng=rng)
        values = tables.evaluate(rows)
        nearest = values[int(_violation(tables, values, limits).argmin())]
    limited = [c for c in range(len(tables.costs)) if np.isfinite(limits[c])]
    wanted = " and ".join(f"{tables.costs[c].name} <= {limits[c]:g}" for c in limited)
    found = ", ".join(f"{tables.costs[c].name} {_up(nearest[c])}" for c in limited)
    raise InfeasibleError(
        f"found no network of {tables.space.name} with {wanted} together, though each limit can be "
        f"kept alone; the nearest found has {found}"
    )


def _unit(
    tables: FactorTables, columns: Sequence[int], weights: Sequence[float] | Floats
) -> Floats:
    full = np.zeros(len(tables.costs))
    full[list(columns)] = weights
    return full


def _violation(tables: FactorTables, values: Floats, limits: Sequence[float]) -> Floats:
    """How far each row is over its limits in all, as a share of them, (n,)."""
    limit = np.array(limits)
    over = np.where(np.isfinite(limit), values / np.where(np.isfinite(limit), limit, 1) - 1, 0)
    over = np.where(over > 1e-9, over, 0)
    total: Floats = over.sum(axis=1)
    return total


def _smallest_maximum(tables: FactorTables, column: int) -> float:
    """The smallest value that a maximum can have, by bisection over its entries."""
    cost = tables.costs[column]
    entries = np.unique(np.concatenate([table.ravel() for table in tables.tables[column]]))
    entries = np.unique(np.maximum(entries[np.isfinite(entries)], cost.constant))
    limits = np.full(len(tables.costs), np.inf)
    low, high = 0, len(entries) - 1
    while low < high:
        middle = (low + high) // 2
        limits[column] = entries[middle]
        bound = cost_bounds(tables, [0.0] * len(limits), limits=limits)
        low, high = (low, middle) if np.isfinite(bound.minimum) else (middle + 1, high)
    return float(entries[low])


def _largest_maximum(tables: FactorTables, column: int) -> float:
    largest = max(
        float(table[np.ix_(*(tables.allowed[i] for i in scope))].max())
        for scope, table in zip(tables.scopes, tables.tables[column], strict=True)
    )
    return max(largest, tables.costs[column].constant)


def _up(value: float) -> str:
    """`value` to five digits, rounded up, so that it can be used as a limit."""
    if value <= 0 or not np.isfinite(value):
        return f"{value:g}"
    unit = 10.0 ** (int(np.floor(np.log10(value))) - 4)
    return f"{np.ceil(value / unit - 1e-9) * unit:.8g}"
