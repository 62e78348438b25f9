"""FactorTables: costs of a space as small arrays, one a slot, indexed by the slot's few genes.

A network's cost is a sum (or maximum) over the space's slots, and each slot depends on a few genes
only. So a cost over 10^20 networks is some twenty arrays of a hundred entries, and a population's
costs are one gather of (population, slots).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from ofa_hw.errors import MissingOpError, SpecError
from ofa_hw.ops import OpSpec
from ofa_hw.search.costs import Cost
from ofa_hw.spaces import Allowed, Rows, SearchSpace, Slot

Floats: TypeAlias = npt.NDArray[np.float64]
Entry: TypeAlias = tuple[tuple[int, ...], tuple[OpSpec, ...]]

MOST_ENTRIES: Final = 4_000_000


@dataclass(frozen=True, slots=True, eq=False)
class FactorTables:
    """Costs of every network that the allowed choices of a space give.

    Attributes:
        space: The space.
        allowed: For each gene the indices of its allowed choices; entries of others are infinite.
        costs: What is tabulated.
        scopes: For each slot the genes it depends on, the resolution first.
        tables: For each cost an array a slot, indexed by the choices of the slot's scope.
    """

    space: SearchSpace
    allowed: Allowed
    costs: tuple[Cost, ...]
    scopes: tuple[tuple[int, ...], ...]
    tables: tuple[tuple[Floats, ...], ...]
    _strides: Floats  # (genes, slots): flat index of a row's entry in each slot's array
    _offsets: Floats  # (slots,)
    _flat: tuple[Floats, ...]

    def evaluate(self, rows: Rows) -> Floats:
        """Costs of rows, (n, costs); inactive entries may be any choice."""
        # A float64 product is exact here, and several times faster than an integer one.
        index = (rows.astype(np.float64) @ self._strides + self._offsets).astype(np.intp)
        values = np.empty((len(rows), len(self.costs)))
        for column, (cost, flat) in enumerate(zip(self.costs, self._flat, strict=True)):
            entries = flat[index]  # (n, slots)
            if cost.maximum:
                values[:, column] = np.maximum(entries.max(axis=1), cost.constant)
            else:
                values[:, column] = entries.sum(axis=1) + cost.constant
        return values


def compile_costs(
    space: SearchSpace, costs: Sequence[Cost], *, allowed: Allowed | None = None
) -> FactorTables:
    """Tabulates costs over the allowed choices of a space.

    Raises:
        MissingOpError: If a cost does not know operators; it names all of them.
        SpecError: If a slot depends on too many genes.
    """
    allowed = allowed or space.allowed({})
    scopes = tuple((0, *(i for i in slot.genes if i)) for slot in space.slots)
    for scope in scopes:
        if (combinations := math.prod(len(allowed[i]) for i in scope)) > MOST_ENTRIES:
            raise SpecError(
                f"a slot of {space.name} depends on {len(scope)} genes, {combinations:.0e} "
                "combinations; let each slot depend on fewer genes"
            )
    entries = [
        list(_entries(space, slot, scope, allowed))
        for slot, scope in zip(space.slots, scopes, strict=True)
    ]
    for cost in costs:
        _require(cost, entries)
    tables = tuple(
        tuple(
            _tabulate(space, cost, scope, listed)
            for scope, listed in zip(scopes, entries, strict=True)
        )
        for cost in costs
    )
    sizes = [math.prod(len(space.genes[i].choices) for i in scope) for scope in scopes]
    return FactorTables(
        space,
        allowed,
        tuple(costs),
        scopes,
        tables,
        _strides(space, scopes),
        np.cumsum([0, *sizes[:-1]]).astype(np.float64),
        tuple(np.concatenate([table.ravel() for table in per_cost]) for per_cost in tables),
    )


def covered_resolutions(space: SearchSpace, costs: Sequence[Cost], allowed: Allowed) -> Allowed:
    """`allowed` with only the resolutions all of whose operators the costs know.

    Raises:
        MissingOpError: If there is none; it names what the largest one lacks.
    """
    covered = tuple(r for r in allowed[0] if _covers(space, costs, ((r,), *allowed[1:])))
    if not covered:
        largest = ((allowed[0][-1],), *allowed[1:])
        for cost in costs:
            _require(cost, [_entries(space, slot, slot.genes, largest) for slot in space.slots])
    return (covered, *allowed[1:])


def _covers(space: SearchSpace, costs: Sequence[Cost], allowed: Allowed) -> bool:
    try:
        for slot in space.slots:  # one after another: most that lack a row lack the first
            for cost in costs:
                _require(cost, [_entries(space, slot, slot.genes, allowed)])
    except MissingOpError:
        return False
    return True


def _entries(
    space: SearchSpace, slot: Slot, scope: tuple[int, ...], allowed: Allowed
) -> Iterator[Entry]:
    """Each allowed index of a slot's array with the operators that stand there."""
    genes = [space.genes[i] for i in scope]
    places = [scope.index(i) for i in slot.genes]
    for index in itertools.product(*(allowed[i] for i in scope)):
        values = [gene.choices[i] for gene, i in zip(genes, index, strict=True)]
        yield index, slot.build(*(values[i] for i in places))


def _require(cost: Cost, entries: Iterable[Iterable[Entry]]) -> None:
    if cost.require is not None:
        cost.require({op for listed in entries for _, ops in listed for op in ops})


def _tabulate(
    space: SearchSpace, cost: Cost, scope: tuple[int, ...], entries: Iterable[Entry]
) -> Floats:
    table = np.full([len(space.genes[i].choices) for i in scope], np.inf)
    known: dict[tuple[OpSpec, int], float] = {}
    resolutions = space.resolutions
    for index, ops in entries:
        resolution = resolutions[index[0]]
        for op in ops:
            if (op, resolution) not in known:
                known[op, resolution] = float(cost.op_cost(op, resolution))
        values = [known[op, resolution] for op in ops]
        table[index] = max(values, default=-np.inf) if cost.maximum else math.fsum(values)
    return table


def _strides(space: SearchSpace, scopes: Sequence[tuple[int, ...]]) -> Floats:
    strides = np.zeros((len(space.genes), len(scopes)))
    for column, scope in enumerate(scopes):
        stride = 1
        for gene in reversed(scope):
            strides[gene, column] = stride
            stride *= len(space.genes[gene].choices)
    return strides
