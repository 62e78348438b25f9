"""Costs of a network: sums or maxima over its operators, and limits on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, runtime_checkable

from ofa_hw.errors import MissingOpError, SpecError
from ofa_hw.graph import op_graph
from ofa_hw.graph.blocks import ShapesOnly
from ofa_hw.ops import OpSpec


@runtime_checkable
class LatencyModel(Protocol):
    """A latency estimate that is a sum: `overhead_ms` and each operator's `op_latency_ms`.

    `ofa_hw.latency.LatencyTable` is one.
    """

    @property
    def name(self) -> str:
        """Which names it in messages."""
        ...

    @property
    def overhead_ms(self) -> float:
        """What a network takes beside its operators."""
        ...

    def op_latency_ms(self, op: OpSpec, resolution: int | None = None) -> float:
        """What an operator adds, in a network of this input resolution."""
        ...

    def require(self, ops: Iterable[OpSpec]) -> None:
        """Raises `MissingOpError` naming all of `ops` that it does not know."""
        ...


@runtime_checkable
class IntervalModel(LatencyModel, Protocol):
    """A latency estimate with a prediction interval that is relative to it."""

    def latency_ms(self, ops: Iterable[OpSpec]) -> float:
        """The estimate for a network."""
        ...

    def latency_interval_ms(
        self, ops: Iterable[OpSpec], confidence: float = 0.9
    ) -> tuple[float, float]:
        """The interval; raises `TableError` if there is none."""
        ...


CostModel: TypeAlias = LatencyModel | Mapping[OpSpec, float]


@dataclass(frozen=True, slots=True, eq=False)
class Cost:
    """A number that a network costs, composed of what its operators cost.

    Attributes:
        name: With its unit, e.g. `latency_ms`.
        op_cost: Of an operator in a network of an input resolution.
        constant: Added to the sum, or a lower bound of the maximum.
        maximum: Whether the network costs the maximum over its operators instead of their sum.
        require: Raises `MissingOpError` naming the operators that `op_cost` does not know.
    """

    name: str
    op_cost: Callable[[OpSpec, int], float]
    constant: float = 0.0
    maximum: bool = False
    require: Callable[[Iterable[OpSpec]], None] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Constraint:
    """An upper limit on a cost.

    Attributes:
        cost: What is limited.
        at_most: The largest value that is feasible.
    """

    cost: Cost
    at_most: float

    def __post_init__(self) -> None:
        if not self.at_most > 0:  # false for nan too
            raise SpecError(f"the limit of {self.cost.name} must be positive, got {self.at_most}")

    def violation(self, value: float) -> float:
        """By how much `value` exceeds the limit; feasible where this is at most 0."""
        return value - self.at_most


def latency_cost(model: CostModel, *, name: str = "latency_ms", scale: float = 1.0) -> Cost:
    """The latency that a table, or a mapping of operators to milliseconds, estimates.

    Args:
        model: The table.
        name: Of the cost.
        scale: Multiplies the estimate.
    """
    if isinstance(model, Mapping):
        rows = model

        def require(ops: Iterable[OpSpec]) -> None:
            if missing := set(ops) - rows.keys():
                raise MissingOpError(name, missing, remedy="give a row for each")

        return Cost(name, lambda op, _: scale * rows[op], require=require)
    return Cost(
        name,
        lambda op, resolution: scale * model.op_latency_ms(op, resolution),
        constant=scale * model.overhead_ms,
        require=model.require,
    )


def latency_costs(lut: CostModel | Sequence[CostModel]) -> list[Cost]:
    """The costs of one table or of several: `latency_ms`, `latency_ms_2`, ..."""
    models = lut if isinstance(lut, Sequence) else [lut]
    return [
        latency_cost(model, name=f"latency_ms_{i}" if i > 1 else "latency_ms")
        for i, model in enumerate(models, start=1)
    ]


def weight_bytes(op: OpSpec) -> int:
    """Bytes of an operator's weights and biases in float32, batch norm folded."""
    return sum(
        4 * (conv.weights + (conv.out_channels if conv.norm or conv.bias else 0))
        for conv in op.convolutions()
    )


def peak_bytes(op: OpSpec) -> int:
    """Most bytes of an operator's float32 activations that are alive at once."""
    return op_graph(op, weights=ShapesOnly()).peak_bytes


MACS: Final = Cost("macs", lambda op, _: op.macs)
PARAMS: Final = Cost("params", lambda op, _: op.params)
WEIGHT_BYTES: Final = Cost("weight_bytes", lambda op, _: weight_bytes(op))
PEAK_BYTES: Final = Cost("peak_bytes", lambda op, _: peak_bytes(op), maximum=True)
COSTS: Final = {cost.name: cost for cost in (MACS, PARAMS, WEIGHT_BYTES, PEAK_BYTES)}
