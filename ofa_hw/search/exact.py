"""CostBounds: exact extremes of a cost over a space, and random networks within limits.

Variable elimination (bucket elimination; Dechter 1999) on the graph of slots and genes: genes are
minimised away one by one, each leaving a small array over the genes it shares a slot with. In a
chain of blocks that stays small, and it is dynamic programming. What an eliminated gene's choice
costs above the best one is its regret; a network's cost is the minimum plus its genes' regrets, so
genes drawn in reverse order know exactly which choices a limit still admits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ofa_hw.errors import SpecError
from ofa_hw.search.factors import MOST_ENTRIES, FactorTables, Floats
from ofa_hw.spaces import Rows


@dataclass(frozen=True, slots=True, eq=False)
class Regret:
    """What each choice of a gene costs above the best, given the genes it depends on.

    Attributes:
        gene: The gene.
        given: Genes drawn before it, on which its regret depends.
        table: Indexed by positions in the allowed choices of `given`, then of the gene.
    """

    gene: int
    given: tuple[int, ...]
    table: Floats


@dataclass(frozen=True, slots=True, eq=False)
class CostBounds:
    """The exact minimum of an additive cost, and every gene's regret.

    Attributes:
        minimum: The smallest cost; infinite where every network is forbidden.
        regrets: In the order of drawing: the resolution first.
    """

    minimum: float
    regrets: tuple[Regret, ...]


def cost_bounds(
    tables: FactorTables,
    weights: Sequence[float] | Floats,
    *,
    limits: Sequence[float] | Floats | None = None,
) -> CostBounds:
    """Minimises a weighted sum of additive costs exactly.

    Args:
        tables: The costs.
        weights: Of each cost in the sum; must be 0 for maxima.
        limits: Of each cost; a network breaks the limit of a maximum by one operator alone, so
            such operators are forbidden. Limits of sums are not looked at.

    Raises:
        SpecError: If the space couples too many genes for an exact answer.
    """
    allowed = tables.allowed
    factors: list[tuple[tuple[int, ...], Floats]] = []
    constant = 0.0
    for column, cost in enumerate(tables.costs):
        limit = math.inf if limits is None else limits[column]
        if not cost.maximum:
            constant += weights[column] * cost.constant
        elif cost.constant > limit:
            constant = math.inf
        for scope, table in zip(tables.scopes, tables.tables[column], strict=True):
            entries = table[np.ix_(*(allowed[i] for i in scope))]
            if not cost.maximum and weights[column]:
                factors.append((scope, weights[column] * entries))
            elif cost.maximum and limit < math.inf:
                factors.append((scope, np.where(entries > limit, np.inf, 0.0)))
    sizes = [len(indices) for indices in allowed]
    regrets = []
    for gene in _order(tables.scopes, sizes):
        joined, total = _combine([f for f in factors if gene in f[0]], gene, sizes)
        factors = [f for f in factors if gene not in f[0]]
        given = joined[:-1]
        best = total.min(axis=-1)
        with np.errstate(invalid="ignore"):
            regret = np.where(np.isfinite(total), total - best[..., None], np.inf)
        regrets.append(Regret(gene, given, regret))
        factors.append((given, best))
    minimum = constant + sum(float(table) for _, table in factors)
    return CostBounds(minimum, tuple(reversed(regrets)))


def draw_rows(
    tables: FactorTables,
    bounds: Sequence[CostBounds],
    limits: Sequence[float],
    count: int,
    *,
    rng: np.random.Generator,
) -> Rows:
    """Random rows, each gene uniform over the choices that its limits still admit.

    With one limit every row keeps it. With several, a row may keep each as long as it can and
    still break one in the end; it then takes the least excess at every step.

    Args:
        tables: The costs.
        bounds: Of the limited sums.
        limits: Of the same sums.
        count: Rows to draw.
        rng: Source of randomness.
    """
    allowed = tables.allowed
    positions = np.zeros((count, len(allowed)), np.int64)
    scales = [max(abs(limit), 1e-12) for limit in limits]
    slack = np.array([limit - b.minimum for limit, b in zip(limits, bounds, strict=True)])
    slacks = np.tile(slack + 1e-9 * np.array(scales), (count, 1))
    for step, first in enumerate(bounds[0].regrets):
        excess = np.zeros((count, len(allowed[first.gene])))
        here = []
        for k, bound in enumerate(bounds):
            regret = bound.regrets[step]
            costs = regret.table[tuple(positions[:, g] for g in regret.given)]  # (n, choices)
            costs = np.broadcast_to(costs, excess.shape)
            here.append(costs)
            excess += np.maximum(costs - slacks[:, k : k + 1], 0) / scales[k]
        # The least excess wins, which is 0 for all that fit; among equals, chance.
        keys = np.where(excess == excess.min(axis=1, keepdims=True), rng.random(excess.shape), -1)
        chosen = keys.argmax(axis=1)
        positions[:, first.gene] = chosen
        for k, costs in enumerate(here):
            slacks[:, k] -= costs[np.arange(count), chosen]
    columns = [np.array(indices)[positions[:, g]] for g, indices in enumerate(allowed)]
    return np.stack(columns, axis=1)


def cheapest_row(tables: FactorTables, bounds: CostBounds) -> Rows:
    """A row of the minimum, (1, genes)."""
    limit = [bounds.minimum]
    return draw_rows(tables, [bounds], limit, 1, rng=np.random.default_rng(0))


def _order(scopes: Sequence[tuple[int, ...]], sizes: Sequence[int]) -> list[int]:
    """An order of elimination, by the smallest array next; the resolution comes last."""
    groups = [set(scope) for scope in scopes]
    left = set(range(1, len(sizes)))
    order = []
    while left:
        joined = {
            gene: set().union(*(group for group in groups if gene in group), {gene})
            for gene in left
        }
        entries = {gene: math.prod(sizes[i] for i in joined[gene]) for gene in left}
        gene = min(left, key=lambda g: (entries[g], g))
        if entries[gene] > MOST_ENTRIES:
            raise SpecError(
                f"the space couples {len(joined[gene])} genes with each other, too many for exact "
                f"limits ({entries[gene]:.0e} combinations); let each slot depend on fewer genes"
            )
        groups = [group for group in groups if gene not in group] + [joined[gene] - {gene}]
        left.remove(gene)
        order.append(gene)
    return [*order, 0]


def _combine(
    factors: Sequence[tuple[tuple[int, ...], Floats]], gene: int, sizes: Sequence[int]
) -> tuple[tuple[int, ...], Floats]:
    """The sum of arrays over the union of their genes, `gene` on the last axis."""
    union = sorted({i for scope, _ in factors for i in scope} - {gene})
    scope = (*union, gene)
    total = np.zeros([sizes[i] for i in scope])
    for genes, table in factors:
        axes = np.argsort([scope.index(i) for i in genes])
        shape = [sizes[i] if i in genes else 1 for i in scope]
        total = total + table.transpose(axes).reshape(shape)
    return scope, total
