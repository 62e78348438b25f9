"""The limits that a search is given, as constraints."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ofa_hw.errors import SpecError, TableError
from ofa_hw.ops import OpSpec
from ofa_hw.search.costs import (
    COSTS,
    Constraint,
    CostModel,
    IntervalModel,
    latency_cost,
    latency_costs,
)


def latency_constraints(
    lut: CostModel | Sequence[CostModel], latency_ms: float | Sequence[float]
) -> list[Constraint]:
    """A budget for each table.

    Raises:
        SpecError: If there are more of the one than of the other, or a budget is none.
    """
    costs = latency_costs(lut)
    budgets = list(latency_ms) if isinstance(latency_ms, Sequence) else [latency_ms]
    if len(costs) != len(budgets) or not costs:
        raise SpecError(f"{len(costs)} latency tables need as many budgets, got {len(budgets)}")
    return [Constraint(cost, budget) for cost, budget in zip(costs, budgets, strict=True)]


def at_confidence(
    lut: CostModel | Sequence[CostModel],
    limited: Sequence[Constraint],
    confidence: float,
    ops: Sequence[OpSpec],
) -> list[Constraint]:
    """The budgets on the upper ends of the intervals; the estimates stay, for the report."""
    estimates = [Constraint(constraint.cost, math.inf) for constraint in limited]
    models = lut if isinstance(lut, Sequence) else [lut]
    uppers = [
        Constraint(
            latency_cost(
                model,
                name=f"upper_{constraint.cost.name}",
                scale=_upper_end(model, confidence, ops),
            ),
            constraint.at_most,
        )
        for model, constraint in zip(models, limited, strict=True)
    ]
    return estimates + uppers


def _upper_end(model: CostModel, confidence: float, ops: Sequence[OpSpec]) -> float:
    """The upper end of the prediction interval over the estimate, the same for any `ops`."""
    if not isinstance(model, IntervalModel):
        raise TableError(
            f"a confidence of {confidence:g} needs a calibrated latency table, got given rows; "
            "pass a table, or drop the confidence"
        )
    return model.latency_interval_ms(ops, confidence)[1] / model.latency_ms(ops)


def size_limits(
    macs: float | None,
    params: float | None,
    weight_bytes: float | None,
    peak_bytes: float | None,
) -> list[Constraint]:
    """Constraints of those that are given."""
    given = {
        "macs": macs,
        "params": params,
        "weight_bytes": weight_bytes,
        "peak_bytes": peak_bytes,
    }
    return [Constraint(COSTS[name], limit) for name, limit in given.items() if limit is not None]
