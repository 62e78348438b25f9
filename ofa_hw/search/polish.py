"""Polish: steepest ascent by moves of one and of two genes.

Under a tight limit single moves are stuck: what is worth more also costs more. Pairs get on, one
gene paying for the other. There are thousands of pairs, so they are ranked by the sum of their two
single moves, in value and in costs, and the best ranked are evaluated. What single moves gain is
measured every few steps only, because a step changes little of it: most networks that a search
predicts would be single moves otherwise. `polish_exactly` evaluates all pairs that are feasible.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ofa_hw.search.factors import Floats
from ofa_hw.search.problem import Flags, Problem
from ofa_hw.spaces import Rows

_PAIRS = 32
_SINGLES = 8
_OLDEST = 8
_MOST_STEPS = 60
_LEAST_GAIN = 1e-9


def polish(problem: Problem, rows: Rows) -> Rows:
    """Climbs from each of some feasible canonical rows; returns where they end, (n, genes)."""
    rows = rows.copy()
    moves = np.array(problem.moves, np.int64).reshape(-1, 2)
    gains = np.zeros((len(rows), len(moves)))
    age = np.full(len(rows), _OLDEST)  # steps since the gains were measured
    climbing = np.arange(len(rows) if len(moves) else 0)
    for _ in range(_MOST_STEPS):
        if not len(climbing):
            break
        old = climbing[age[climbing] >= _OLDEST]
        gains[old], age[old] = _gains(problem, rows[old], moves), 0
        stepped, improved = _step(problem, rows[climbing], gains[climbing], moves)
        rows[climbing] = stepped
        gains[climbing] = _from_here(gains[climbing], stepped, moves)
        # Where old gains lead no further, new ones may; where new ones do not, it is the end.
        ended = ~improved & (age[climbing] == 0)
        age[climbing] = np.where(improved, age[climbing] + 1, _OLDEST)
        # Starts that have met go on as one.
        first = np.zeros(len(climbing), np.bool_)
        first[np.unique(problem.ids(stepped), return_index=True)[1]] = True
        climbing = climbing[~ended & first]
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


def _gains(problem: Problem, rows: Rows, moves: Rows) -> Floats:
    """What each single move adds to the value of each row, feasible or not, (n, moves)."""
    if not len(rows):
        return np.empty((0, len(moves)))
    singles = np.concatenate([_moved(row[None], moves) for row in rows])
    values = problem.values(problem.canonical(singles)).reshape(len(rows), len(moves))
    gains: Floats = values - problem.values(rows)[:, None]
    return gains


def _from_here(gains: Floats, rows: Rows, moves: Rows) -> Floats:
    """Gains (n, moves) shifted so that what each gene has now gains nothing."""
    place = np.zeros(moves.max(axis=0) + 1, np.int64)
    place[moves[:, 0], moves[:, 1]] = np.arange(len(moves))
    now = place[moves[:, 0], rows[:, moves[:, 0]]]  # (n, moves), the move that changes nothing
    shifted: Floats = gains - np.take_along_axis(gains, now, axis=1)
    return shifted


def _step(problem: Problem, rows: Rows, gains: Floats, moves: Rows) -> tuple[Rows, Flags]:
    """The best neighbour found of each row, or the row itself where none is better."""
    base_costs, base_values = problem.tables.evaluate(rows), problem.values(rows)
    pairs = _pairs(moves)
    pools, owners = [], []
    for i, gain in enumerate(gains):
        singles = _moved(rows[i : i + 1], moves)
        costs = problem.tables.evaluate(singles)
        fits = np.flatnonzero((costs <= problem.limits).all(axis=1) & (gain > 0))
        fits = fits[np.argsort(-gain[fits])[:_SINGLES]]
        extra, slack = costs - base_costs[i], problem.limits - base_costs[i]
        likely = _likely_pairs(pairs, gain, extra, slack)
        both = _moved_twice(rows[i : i + 1], moves, pairs[0][likely], pairs[1][likely])
        pools += [singles[fits], both]
        owners.append(np.full(len(fits) + len(likely), i))
    pool, owner = problem.canonical(np.concatenate(pools)), np.concatenate(owners)
    kept = problem.feasible(pool)
    pool, owner = pool[kept], owner[kept]
    stepped, improved = rows.copy(), np.zeros(len(rows), np.bool_)
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
