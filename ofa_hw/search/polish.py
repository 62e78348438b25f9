"""Polish: steepest ascent by moves of one and of two genes.

Under a tight limit single moves are stuck: what is worth more also costs more. Pairs get on, one
gene paying for the other. There are thousands of pairs, so they are ranked by the sum of their two
single moves, in value and in costs, and the best ranked are evaluated; `polish_exactly` evaluates
all that are feasible.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ofa_hw.search.factors import Floats
from ofa_hw.search.problem import Flags, Problem
from ofa_hw.spaces import Rows

_PAIRS = 32
_MOST_STEPS = 60
_LEAST_GAIN = 1e-9


def polish(problem: Problem, rows: Rows) -> Rows:
    """Climbs from each of some feasible canonical rows; returns where they end, (n, genes)."""
    rows = rows.copy()
    climbing = np.arange(len(rows))
    for _ in range(_MOST_STEPS):
        if not len(climbing) or not problem.moves:
            break
        stepped, improved = _step(problem, rows[climbing])
        rows[climbing] = stepped
        # Starts that have met go on as one.
        first = np.zeros(len(climbing), np.bool_)
        first[np.unique(problem.ids(stepped), return_index=True)[1]] = True
        climbing = climbing[improved & first]
    return rows


def polish_exactly(problem: Problem, row: Rows) -> Rows:
    """Climbs from one row (1, genes) until none of all its 1- and 2-gene neighbours is better."""
    moves = np.array(problem.moves, np.int64).reshape(-1, 2)
    pairs = _pairs(moves)
    for _ in range(_MOST_STEPS if len(moves) else 0):
        neighbours = np.concatenate([_moved(row, moves), _moved_twice(row, moves, *pairs)])
        neighbours = problem.canonical(neighbours)
        best, values = problem.best(neighbours[problem.feasible(neighbours)], 1)
        if not len(best) or values[0] <= problem.values(row)[0] + _LEAST_GAIN:
            break
        row = best
    return row


def _step(problem: Problem, rows: Rows) -> tuple[Rows, Flags]:
    """The best neighbour found of each row, or the row itself where none is better."""
    moves = np.array(problem.moves, np.int64)
    n, m = len(rows), len(moves)
    singles = np.concatenate([_moved(rows[i : i + 1], moves) for i in range(n)])
    base_costs, base_values = problem.tables.evaluate(rows), problem.values(rows)
    costs = problem.tables.evaluate(singles).reshape(n, m, -1)
    singles = problem.canonical(singles)
    values = problem.values(singles).reshape(n, m)
    singles = singles.reshape(n, m, -1)
    pairs = _pairs(moves)
    pools, owners = [], []
    for i in range(n):
        gain, extra = values[i] - base_values[i], costs[i] - base_costs[i]
        fits = (costs[i] <= problem.limits).all(axis=1) & (gain > 0)
        likely = _likely_pairs(pairs, gain, extra, problem.limits - base_costs[i])
        both = _moved_twice(rows[i : i + 1], moves, pairs[0][likely], pairs[1][likely])
        pools += [singles[i][fits], problem.canonical(both)]
        owners.append(np.full(int(fits.sum()) + len(likely), i))
    pool, owner = np.concatenate(pools), np.concatenate(owners)
    kept = problem.feasible(pool)
    pool, owner = pool[kept], owner[kept]
    stepped, improved = rows.copy(), np.zeros(n, np.bool_)
    if len(pool):
        found = problem.values(pool)
        for position in np.lexsort((found, owner)):  # the best of each owner comes last
            i = owner[position]
            if found[position] > base_values[i] + _LEAST_GAIN:
                stepped[i], improved[i] = pool[position], True
    return stepped, improved


def _pairs(moves: Rows) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Every two moves that are of different genes."""
    first, second = np.triu_indices(len(moves), 1)
    different = moves[first, 0] != moves[second, 0]
    return first[different], second[different]


def _likely_pairs(
    pairs: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]],
    gain: Floats,
    extra: Floats,
    slack: Floats,
) -> npt.NDArray[np.intp]:
    """The pairs that promise most, taking gains (moves,) and costs (moves, costs) to add up."""
    first, second = pairs
    total = gain[first] + gain[second]
    likely = total > 0
    for column in np.flatnonzero(np.isfinite(slack)):
        added = extra[:, column]
        likely &= added[first] + added[second] <= slack[column]
    where = np.flatnonzero(likely)
    if len(where) > _PAIRS:
        where = where[np.argpartition(-total[where], _PAIRS)[:_PAIRS]]
    return where


def _moved(row: Rows, moves: Rows) -> Rows:
    """`row` (1, genes) after each single move, (moves, genes)."""
    rows = np.repeat(row, len(moves), axis=0)
    rows[np.arange(len(moves)), moves[:, 0]] = moves[:, 1]
    return rows


def _moved_twice(
    row: Rows, moves: Rows, first: npt.NDArray[np.intp], second: npt.NDArray[np.intp]
) -> Rows:
    """`row` (1, genes) after each pair of moves, (pairs, genes)."""
    rows = _moved(row, moves[first])
    rows[np.arange(len(second)), moves[second, 0]] = moves[second, 1]
    return rows
