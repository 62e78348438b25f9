"""Evolution: populations of feasible networks that mutate, cross over and are selected.

First plain evolution, then a memetic one (https://arxiv.org/abs/1802.01548 has the former; the
latter polishes every child): networks that pairs of moves cannot improve are crossed, and their
children polished. The best of every resolution stay in the population, because no path of small
steps leads from one resolution to another.
"""

from __future__ import annotations

import numpy as np

from ofa_hw.search.polish import polish
from ofa_hw.search.problem import Problem
from ofa_hw.search.types import Step
from ofa_hw.spaces import Rows

_MUTATION_RATE = 0.25
_SURPLUS = 8  # candidates made for each child wanted, since many break a tight limit


def evolve(
    problem: Problem,
    rows: Rows,
    *,
    rng: np.random.Generator,
    generations: int,
    population: int,
    history: list[Step],
) -> Rows:
    """Evolves feasible rows by truncation; returns the final population, the best first."""
    each = max(4, population // len(problem.allowed[0]))
    rows = select(problem, problem.canonical(rows), 0, each)
    for _ in range(generations):
        children = breed(problem, rows, 2 * population, rng=rng)[:population]
        rows = select(problem, np.concatenate([rows, children]), 0, each)
        history.append(_step(problem, rows))
    return rows


def refine(
    problem: Problem,
    rows: Rows,
    *,
    rng: np.random.Generator,
    rounds: int,
    population: int,
    each: int,
    children: int,
    history: list[Step],
) -> Rows:
    """Crosses polished networks and polishes their children; returns the best first.

    The best `population` of all and the best `each` of every resolution stay. With fewer of each,
    the resolution that is polished first takes over the crossings before the best one is found.
    """
    pool = select(problem, polish(problem, rows), population, each)
    for _ in range(rounds):
        history.append(_step(problem, pool))
        bred = breed(problem, pool, _SURPLUS * children, rng=rng)
        bred, _ = problem.best(bred, children)
        pool = select(problem, np.concatenate([pool, polish(problem, bred)]), population, each)
    history.append(_step(problem, pool))
    return pool


def select(problem: Problem, rows: Rows, count: int, each: int) -> Rows:
    """The best `count` distinct rows and the best `each` of every resolution, best first."""
    rows, _ = problem.best(rows, len(rows))
    kept = np.arange(len(rows)) < count
    for resolution in problem.allowed[0]:
        kept[np.flatnonzero(rows[:, 0] == resolution)[:each]] = True
    return rows[kept]


def breed(problem: Problem, rows: Rows, count: int, *, rng: np.random.Generator) -> Rows:
    """Feasible children of rows that stand best first: half mutants, half crossings of two."""
    # The better of two drawn at random becomes a parent.
    picks = rng.integers(0, len(rows), (2, 2, count)).min(axis=0)
    parents, others = rows[picks[0]], rows[picks[1]]
    fresh = problem.space.sample_rows(count, rng=rng, allowed=problem.allowed)
    mutants = np.where(rng.random(parents.shape) < _MUTATION_RATE, fresh, parents)
    crossed = np.where(rng.random(parents.shape) < 0.5, parents, others)
    made = problem.canonical(np.where(rng.random((count, 1)) < 0.5, crossed, mutants))
    return made[problem.feasible(made)]


def _step(problem: Problem, rows: Rows) -> Step:
    return Step(problem.distinct, float(problem.values(rows[:1])[0]))
