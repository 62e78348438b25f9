"""Evolution: a population of feasible networks that mutate, cross over and are selected.

Regularised neither by age nor by noise: the predictor is deterministic, so truncation selection
over distinct networks suffices (Real et al., https://arxiv.org/abs/1802.01548, compare the two).
"""

from __future__ import annotations

import numpy as np

from ofa_hw.search.factors import Floats
from ofa_hw.search.problem import Problem
from ofa_hw.search.types import Step
from ofa_hw.spaces import Rows


def evolve(
    problem: Problem,
    rows: Rows,
    *,
    rng: np.random.Generator,
    generations: int,
    population: int,
    history: list[Step],
    mutation_rate: float = 0.1,
) -> Rows:
    """Evolves feasible canonical rows; returns the final population, the best first."""
    rows, values = select(problem.canonical(rows), problem, population)
    for _ in range(generations):
        children = _children(problem, rows, 2 * population, rng=rng, rate=mutation_rate)
        children = children[problem.feasible(children)][:population]
        rows, values = select(np.concatenate([rows, children]), problem, population)
        history.append(Step(problem.distinct, float(values[0])))
    return rows


def select(rows: Rows, problem: Problem, count: int) -> tuple[Rows, Floats]:
    """The best distinct rows, the best first, and their values."""
    rows = np.unique(rows, axis=0)
    values = problem.values(rows)
    best = np.argsort(-values, kind="stable")[:count]
    return rows[best], values[best]


def _children(
    problem: Problem, rows: Rows, count: int, *, rng: np.random.Generator, rate: float
) -> Rows:
    """Half mutants, half crossings of pairs; parents by tournaments of two."""
    picks = rng.integers(0, len(rows), (2, 2, count)).min(axis=0)  # rows are sorted by value
    parents, others = rows[picks[0]], rows[picks[1]]
    crossed = np.where(rng.random(rows.shape[1:]) < 0.5, parents, others)
    fresh = problem.space.sample_rows(count, rng=rng, allowed=problem.allowed)
    mutants = np.where(rng.random(parents.shape) < rate, fresh, parents)
    half = rng.random((count, 1)) < 0.5
    return problem.canonical(np.where(half, crossed, mutants))
