"""What a search returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ofa_hw.spaces import SubnetSpec


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network that a search looked at.

    Attributes:
        spec: What it is.
        top1: Its predicted top-1 fraction, or the value of another objective.
        costs: Each cost by name, e.g. `latency_ms`, `macs`.
    """

    spec: SubnetSpec
    top1: float
    costs: Mapping[str, float]

    @property
    def latency_ms(self) -> float:
        """Its latency by the first table, in milliseconds."""
        return self.costs["latency_ms"]


@dataclass(frozen=True, slots=True)
class Step:
    """The state of a search after one of its rounds.

    Attributes:
        evaluations: Predictions asked for so far, those of equal networks counted once.
        top1: Best feasible value so far.
    """

    evaluations: int
    top1: float


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found.

    Attributes:
        best: The best feasible network.
        front: Feasible networks that no other one seen beats in both top-1 and first cost, the
            cheapest first.
        history: The best value after each round.
        seed: Of the search.
        evaluations: How often a network's prediction was asked for.
        distinct: Different networks among them; only these were predicted.
    """

    best: Candidate
    front: tuple[Candidate, ...]
    history: tuple[Step, ...]
    seed: int
    evaluations: int
    distinct: int
