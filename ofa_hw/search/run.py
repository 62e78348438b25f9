"""search: the most accurate network within a latency budget and other limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from ofa_hw.errors import SpecError
from ofa_hw.predictor import AccuracyPredictor, ResolutionAware
from ofa_hw.search.costs import Constraint, Cost, CostModel, latency_costs
from ofa_hw.search.evolution import evolve, refine, select
from ofa_hw.search.factors import FactorTables, compile_costs, covered_resolutions
from ofa_hw.search.feasible import cost_range, feasible_rows
from ofa_hw.search.limits import at_confidence, latency_constraints, size_limits
from ofa_hw.search.polish import polish_exactly
from ofa_hw.search.problem import Problem
from ofa_hw.search.types import Candidate, SearchResult, Step
from ofa_hw.spaces import Allowed, Rows, SearchSpace

ROUNDS: Final = 8

_POPULATION = 200
_STARTS = 60


def search(
    space: SearchSpace,
    *,
    predictor: AccuracyPredictor,
    lut: CostModel | Sequence[CostModel],
    latency_ms: float | Sequence[float],
    resolutions: Sequence[int] | None = None,
    restrict: Mapping[str, Sequence[int | float]] | None = None,
    macs: float | None = None,
    params: float | None = None,
    weight_bytes: float | None = None,
    peak_bytes: float | None = None,
    constraints: Iterable[Constraint] = (),
    confidence: float | None = None,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> SearchResult:
    """Finds the most accurate network within limits.

    Args:
        space: The space to search.
        predictor: What to maximise: predicted top-1, or anything else with its interface.
        lut: A latency table; several for one network on several devices.
        latency_ms: The budget, in milliseconds; one a table.
        resolutions: Input resolutions to choose from; by default all that the tables cover and
            the predictor knows.
        restrict: Allowed values of other fields or of single genes, e.g. `{"kernel_sizes": (3, 5),
            "depths[0]": (2,)}`.
        macs: Limit of the multiply-accumulates of one image.
        params: Limit of the parameters.
        weight_bytes: Limit of the float32 weights.
        peak_bytes: Limit of the activations alive at once, batch 1 in float32.
        constraints: Limits of other costs.
        confidence: Applies the budgets to the upper end of the tables' prediction intervals, e.g.
            0.9; the tables must be calibrated. By default to the estimate itself.
        rounds: How long to go on; time grows with it.
        seed: The same seed gives the same answer.

    Raises:
        SpecError: If a limit or a choice is none, or the predictor is of another space.
        MissingOpError: If a table lacks operators; it names all of them.
        InfeasibleError: If no network is within the limits; it names the nearest values.
    """
    known = known_resolutions(predictor, space)
    limited = latency_constraints(lut, latency_ms)
    if confidence is not None:
        allowed = _allowed(space, [c.cost for c in limited], resolutions, restrict, known)
        network = space.decode(np.array([[indices[0] for indices in allowed]]))[0]
        limited = at_confidence(lut, limited, confidence, space.ops(network))
    limited += size_limits(macs, params, weight_bytes, peak_bytes)
    limited += constraints
    rng = np.random.default_rng(seed)
    tables = compile_for(space, [c.cost for c in limited], resolutions, restrict, known)
    problem = Problem(tables, [c.at_most * (1 + 1e-9) for c in limited], predictor)
    rows = feasible_rows(tables, [c.at_most for c in limited], 2 * _POPULATION, rng=rng)
    history: list[Step] = []
    rows = evolve(problem, rows, rng=rng, generations=8, population=_POPULATION, history=history)
    resolutions_left = len(tables.allowed[0])
    starts = select(problem, rows, 0, max(1, _STARTS // resolutions_left))
    pool = refine(
        problem,
        starts,
        rng=rng,
        rounds=rounds,
        population=10,
        each=max(1, _STARTS // (2 * resolutions_left)),
        children=16,
        history=history,
    )
    best = polish_exactly(problem, pool[:1])
    history.append(Step(problem.distinct, float(problem.values(best)[0])))
    return SearchResult(
        best=candidates(problem, best)[0],
        front=candidates(problem, problem.front([0])),
        history=tuple(history),
        seed=seed,
        evaluations=problem.evaluations,
        distinct=problem.distinct,
    )


def latency_range(
    space: SearchSpace,
    lut: CostModel,
    *,
    resolutions: Sequence[int] | None = None,
    restrict: Mapping[str, Sequence[int | float]] | None = None,
) -> tuple[float, float]:
    """The exact smallest and largest latency of a space by a table, in milliseconds."""
    return cost_range(compile_for(space, latency_costs(lut), resolutions, restrict), 0)


def known_resolutions(predictor: AccuracyPredictor, space: SearchSpace) -> tuple[int, ...]:
    """The resolutions of which the predictor knows something.

    Raises:
        SpecError: If the predictor is of another space.
    """
    if predictor.space.name != space.name:
        raise SpecError(
            f"the predictor knows sub-networks of {predictor.space.name}, not of {space.name}; "
            f"load it with load_predictor(path, space=...) or search {predictor.space.name}"
        )
    return predictor.resolutions if isinstance(predictor, ResolutionAware) else space.resolutions


def compile_for(
    space: SearchSpace,
    costs: Sequence[Cost],
    resolutions: Sequence[int] | None,
    restrict: Mapping[str, Sequence[int | float]] | None,
    known: Sequence[int] | None = None,
) -> FactorTables:
    """Tabulates costs over the choices that a user leaves and the predictor knows."""
    allowed = _allowed(space, costs, resolutions, restrict, known)
    return compile_costs(space, costs, allowed=allowed)


def _allowed(
    space: SearchSpace,
    costs: Sequence[Cost],
    resolutions: Sequence[int] | None,
    restrict: Mapping[str, Sequence[int | float]] | None,
    known: Sequence[int] | None,
) -> Allowed:
    fields = dict(restrict or {})
    if resolutions is not None:
        fields["resolution"] = resolutions
    known = space.resolutions if known is None else known
    asked = fields.get("resolution")
    if asked is None:
        allowed = space.allowed({**fields, "resolution": known})
        return covered_resolutions(space, costs, allowed)
    if absent := [r for r in asked if r not in space.resolutions]:
        raise SpecError(
            f"{space.name} has no resolution {', '.join(map(str, absent))}; "
            f"it has {', '.join(map(str, space.resolutions))}"
        )
    if strange := [r for r in asked if r not in known]:
        raise SpecError(
            f"the predictor was not fitted on resolution {', '.join(map(str, strange))} and would "
            f"say anything; it knows {', '.join(map(str, known))}"
        )
    return space.allowed(fields)


def candidates(problem: Problem, rows: Rows) -> tuple[Candidate, ...]:
    """Rows as a user reads them."""
    rows = problem.canonical(rows)
    names = [cost.name for cost in problem.tables.costs]
    return tuple(
        Candidate(spec, float(value), dict(zip(names, costs, strict=True)))
        for spec, value, costs in zip(
            problem.space.decode(rows),
            problem.values(rows),
            problem.tables.evaluate(rows).tolist(),
            strict=True,
        )
    )
