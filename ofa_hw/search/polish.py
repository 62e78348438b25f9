"""Polish: steepest ascent by moves of one and of two genes.

Under a tight limit single moves are stuck: what is worth more also costs more. Pairs get on, one
gene paying for the other. There are thousands of pairs, so they are first ranked by the sum of
their two single moves, in value and in costs; the best ranked are then evaluated.
"""

from __future__ import annotations

import numpy as np

from ofa_hw.search.problem import Flags, Problem
from ofa_hw.spaces import Rows


def polish(problem: Problem, rows: Rows, *, pairs: int = 64, most_steps: int = 60) -> Rows:
    """Climbs from each of some feasible canonical rows; returns where they end.

    Args:
        problem: What is allowed and wanted.
        rows: Where to start, (n, genes).
        pairs: How many of the best ranked pairs are evaluated at each step.
        most_steps: Bound on the steps.
    """
    moves = np.array(problem.moves, np.int64).reshape(-1, 2)
    rows = rows.copy()
    climbing = np.arange(len(rows))
    for _ in range(most_steps):
        if not len(climbing) or not len(moves):
            break
        stepped, improved = _step(problem, rows[climbing], moves, pairs)
        rows[climbing] = stepped
        # Starts that have met go on as one.
        _, first = np.unique(stepped, axis=0, return_index=True)
        merged = np.zeros(len(climbing), np.bool_)
        merged[first] = True
        climbing = climbing[improved & merged]
    return rows


def _step(problem: Problem, rows: Rows, moves: Rows, pairs: int) -> tuple[Rows, Flags]:
    """The best neighbour found of each row, or the row itself where none is better."""
    n, m = len(rows), len(moves)
    singles = np.repeat(rows[:, None], m, axis=1)  # (n, m, genes)
    singles[:, np.arange(m), moves[:, 0]] = moves[:, 1]
    flat = singles.reshape(n * m, -1)
    canonical = problem.canonical(flat)
    costs = problem.tables.evaluate(flat).reshape(n, m, -1)
    values = problem.values(canonical).reshape(n, m)
    base_values = problem.values(rows)
    base_costs = problem.tables.evaluate(rows)
    gain = values - base_values[:, None]
    extra = costs - base_costs[:, None]
    first, second = np.triu_indices(m, 1)
    different = moves[first, 0] != moves[second, 0]
    first, second = first[different], second[different]
    candidates, owners = [], []
    for i in range(n):
        fits = (costs[i] <= problem.limits).all(axis=1) & (gain[i] > 0)
        candidates.append(canonical.reshape(n, m, -1)[i][fits])
        owners.append(np.full(int(fits.sum()), i))
        total = gain[i][first] + gain[i][second]
        likely = total > 0
        for column, limit in enumerate(problem.limits):
            added = extra[i, :, column]
            likely &= base_costs[i, column] + added[first] + added[second] <= limit
        where = np.flatnonzero(likely)
        if len(where) > pairs:
            where = where[np.argpartition(-total[where], pairs)[:pairs]]
        both = np.repeat(rows[i : i + 1], len(where), axis=0)
        for side in (first[where], second[where]):
            both[np.arange(len(where)), moves[side, 0]] = moves[side, 1]
        candidates.append(problem.canonical(both))
        owners.append(np.full(len(where), i))
    pool, owner = np.concatenate(candidates), np.concatenate(owners)
    kept = problem.feasible(pool)
    pool, owner = pool[kept], owner[kept]
    found = problem.values(pool) if len(pool) else np.empty(0)
    stepped, improved = rows.copy(), np.zeros(n, np.bool_)
    order = np.lexsort((found, owner))  # the best of each owner comes last
    for position in order:
        i = owner[position]
        if found[position] > base_values[i] + 1e-9:
            stepped[i], improved[i] = pool[position], True
    return stepped, improved
