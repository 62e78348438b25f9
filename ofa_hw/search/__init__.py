"""Search: the best sub-network for a budget, over factor tables of its costs."""

from ofa_hw.search.costs import (
    COSTS,
    MACS,
    PARAMS,
    PEAK_BYTES,
    WEIGHT_BYTES,
    Constraint,
    Cost,
    CostModel,
    IntervalModel,
    LatencyModel,
    latency_cost,
)
from ofa_hw.search.factors import FactorTables, compile_costs
from ofa_hw.search.fronts import hypervolume
from ofa_hw.search.pareto import ParetoFront, pareto
from ofa_hw.search.run import ROUNDS, latency_range, search
from ofa_hw.search.types import Candidate, SearchResult, Step

__all__ = [
    "COSTS",
    "MACS",
    "PARAMS",
    "PEAK_BYTES",
    "ROUNDS",
    "WEIGHT_BYTES",
    "Candidate",
    "Constraint",
    "Cost",
    "CostModel",
    "FactorTables",
    "IntervalModel",
    "LatencyModel",
    "ParetoFront",
    "SearchResult",
    "Step",
    "compile_costs",
    "hypervolume",
    "latency_cost",
    "latency_range",
    "pareto",
    "search",
]
