import itertools

import numpy as np
import numpy.typing as npt
import pytest

from ofa_hw.search import MACS, compile_costs
from ofa_hw.search.feasible import feasible_rows
from ofa_hw.search.polish import polish, polish_exactly
from ofa_hw.search.problem import Problem
from ofa_hw.spaces import Rows, SearchSpace, SubnetSpec, get_space

TINY = get_space("tiny")


class Rugged:
    """An objective with interactions between genes, so that ascents get stuck."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        size = sum(len(gene.choices) for gene in TINY.genes)
        self._starts = np.cumsum([0, *(len(gene.choices) for gene in TINY.genes[:-1])])
        self._pairs = rng.normal(size=(size, size))

    @property
    def space(self) -> SearchSpace:
        return TINY

    def predict(self, specs: list[SubnetSpec]) -> npt.NDArray[np.float64]:
        return self.predict_rows(TINY.encode(specs))

    def predict_rows(self, rows: Rows) -> npt.NDArray[np.float64]:
        ones = np.zeros((len(rows), len(self._pairs)))
        columns = self._starts + rows
        np.put_along_axis(ones, columns, TINY.active(rows).astype(float), axis=1)
        return np.einsum("ni,ij,nj->n", ones, self._pairs, ones)


def _problem(restrict: dict[str, list[int | float]] | None = None) -> tuple[Problem, Rows]:
    tables = compile_costs(TINY, [MACS], allowed=TINY.allowed(restrict or {}))
    limit = 3e6
    rows = feasible_rows(tables, [limit], 6, rng=np.random.default_rng(1))
    problem = Problem(tables, [limit], Rugged())
    return problem, problem.canonical(rows)


def test_polish_never_gets_worse_and_stays_feasible() -> None:
    problem, rows = _problem()
    ends = polish(problem, rows)
    assert (problem.values(ends) >= problem.values(rows)).all()
    assert (problem.values(ends) > problem.values(rows)).any()
    assert problem.feasible(ends).all()


def test_exact_polish_ends_where_no_pair_of_moves_helps() -> None:
    problem, rows = _problem()
    end = polish_exactly(problem, rows[:1])
    best = problem.values(end)[0]
    for (a, i), (b, j) in itertools.product(problem.moves, repeat=2):
        neighbour = end.copy()
        neighbour[0, a], neighbour[0, b] = i, j
        neighbour = problem.canonical(neighbour)
        assert not problem.feasible(neighbour)[0] or problem.values(neighbour)[0] <= best + 1e-9


@pytest.mark.parametrize("restrict", [{"kernel_sizes": [5]}, {"depths": [2, 3]}], ids=str)
def test_moves_keep_to_the_allowed_choices(restrict: dict[str, list[int | float]]) -> None:
    problem, rows = _problem(restrict)
    for spec in TINY.decode(polish(problem, rows)):
        for field, allowed in restrict.items():
            assert set(getattr(spec, field)) - {0} <= set(allowed)


def test_no_network_is_predicted_twice() -> None:
    problem, rows = _problem()
    first = problem.values(rows)
    before = problem.distinct
    assert problem.values(rows[::-1].copy()).tolist() == first[::-1].tolist()
    assert problem.distinct == before
