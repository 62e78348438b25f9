"""pareto: the front of accuracy against one or two costs, in one call."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ofa_hw.errors import InfeasibleError, SpecError
from ofa_hw.predictor import AccuracyPredictor
from ofa_hw.search.costs import Cost, CostModel, latency_costs
from ofa_hw.search.evolution import evolve, refine, select
from ofa_hw.search.feasible import cost_range, feasible_rows
from ofa_hw.search.fronts import hypervolume
from ofa_hw.search.limits import size_limits
from ofa_hw.search.problem import Problem
from ofa_hw.search.run import candidates, compile_for, known_resolutions
from ofa_hw.search.types import Candidate
from ofa_hw.spaces import SearchSpace

_POPULATION = 60


@dataclass(frozen=True, slots=True)
class ParetoFront:
    """Networks that none found beats in top-1 and all costs.

    Attributes:
        points: The networks, by the first cost ascending.
        objectives: Names of the costs beside top-1.
        hypervolume: Share of the box that the front dominates; the box reaches from top-1 0 to 1
            and over the exact range that each cost has in the space.
        seed: Of the search.
        distinct: Different networks that were predicted.
    """

    points: tuple[Candidate, ...]
    objectives: tuple[str, ...]
    hypervolume: float
    seed: int
    distinct: int

    def within(self, cost: str, at_most: float) -> Candidate:
        """The best network whose cost is at most this.

        Raises:
            InfeasibleError: If there is none on the front.
        """
        fitting = [point for point in self.points if point.costs[cost] <= at_most]
        if not fitting:
            least = min(point.costs[cost] for point in self.points)
            raise InfeasibleError(
                f"no network of the front has {cost} of {at_most:g} or less; the least is {least:g}"
            )
        return max(fitting, key=lambda point: point.top1)


def pareto(
    space: SearchSpace,
    *,
    predictor: AccuracyPredictor,
    lut: CostModel | Sequence[CostModel],
    against: Sequence[Cost] = (),
    budgets: int = 50,
    resolutions: Sequence[int] | None = None,
    restrict: Mapping[str, Sequence[int | float]] | None = None,
    macs: float | None = None,
    params: float | None = None,
    weight_bytes: float | None = None,
    peak_bytes: float | None = None,
    rounds: int = 3,
    seed: int = 0,
) -> ParetoFront:
    """Finds the front of accuracy against latency, or against two costs.

    One search a budget, each starting where those of smaller budgets ended; what they predicted
    is shared. Budgets spread geometrically over the exact range of each cost.

    Args:
        space: The space to search.
        predictor: What to maximise.
        lut: A latency table, or two for a front over two devices.
        against: A further cost, e.g. `ofa_hw.search.MACS`.
        budgets: How many limits to search at; with two costs, of pairs of limits.
        resolutions: Input resolutions to choose from; by default all that the tables cover and
            the predictor knows.
        restrict: Allowed values of other fields or of single genes, e.g. `{"kernel_sizes": (3, 5),
            "depths[0]": (2,)}`.
        macs: Limit of the multiply-accumulates of one image, for every point.
        params: Limit of the parameters, likewise.
        weight_bytes: Limit of the float32 weights.
        peak_bytes: Limit of the activations alive at once, batch 1 in float32.
        rounds: How long to go on at each budget; time grows with it.
        seed: The same seed gives the same answer.

    Raises:
        SpecError: If there are more than two costs or less than two budgets, or a choice is none.
        MissingOpError: If a table lacks operators; it names all of them.
        InfeasibleError: If no network is within the limits; it names the nearest values.
    """
    costs = [*latency_costs(lut), *against]
    if len(costs) > 2 or budgets < 2:
        raise SpecError(
            f"a front is against one or two costs at two budgets or more, got {len(costs)} costs "
            f"({', '.join(cost.name for cost in costs)}) and {budgets} budgets"
        )
    limited = size_limits(macs, params, weight_bytes, peak_bytes)
    fixed = [constraint.at_most for constraint in limited]
    known = known_resolutions(predictor, space)
    tables = compile_for(
        space, [*costs, *(constraint.cost for constraint in limited)], resolutions, restrict, known
    )
    ranges = [cost_range(tables, column) for column in range(len(costs))]
    problem = Problem(tables, [*[np.inf] * len(costs), *fixed], predictor)
    rng = np.random.default_rng(seed)
    each = max(2, round(budgets ** (1 / len(costs))))
    grids = [
        np.geomspace(low, high, each) if low > 0 else np.linspace(low, high, each)
        for low, high in ranges
    ]
    pool = np.empty((0, len(space.genes)), np.int64)
    feasible_rows(tables, [*[np.inf] * len(costs), *fixed], 1, rng=rng)  # raises if there is none
    for budgets_here in itertools.product(*grids):
        limits = [*budgets_here, *fixed]
        try:
            rows = feasible_rows(tables, limits, _POPULATION, rng=rng)
        except InfeasibleError:
            continue  # the corner of small limits may be empty
        problem.limits = np.array(limits) * (1 + 1e-9)
        rows = evolve(problem, rows, rng=rng, generations=4, population=_POPULATION, history=[])
        starts = np.concatenate([select(problem, rows, 0, 1), pool[problem.feasible(pool)]])
        best = refine(
            problem, starts, rng=rng, rounds=rounds, population=16, each=1, children=8, history=[]
        )
        pool = select(problem, np.concatenate([pool, best]), 24, 1)
    problem.limits = np.array([*[np.inf] * len(costs), *fixed]) * (1 + 1e-9)
    points = candidates(problem, problem.front(range(len(costs))))
    return ParetoFront(
        points,
        tuple(cost.name for cost in costs),
        _dominated_share(points, ranges),
        seed,
        problem.distinct,
    )


def _dominated_share(points: Sequence[Candidate], ranges: Sequence[tuple[float, float]]) -> float:
    lows, highs = np.array(ranges).T
    scale = np.where(highs > lows, highs - lows, 1)
    scaled = [
        [*((np.array(list(point.costs.values())[: len(lows)]) - lows) / scale), 1 - point.top1]
        for point in points
    ]
    return hypervolume(np.array(scaled), np.ones(len(ranges) + 1))
