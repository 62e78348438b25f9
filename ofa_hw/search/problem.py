"""Problem: what a search may choose, must keep to and wants, for populations of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ofa_hw.predictor import AccuracyPredictor
from ofa_hw.search.factors import FactorTables, Floats
from ofa_hw.search.fronts import nondominated
from ofa_hw.spaces import Allowed, Rows, SearchSpace

Flags: TypeAlias = npt.NDArray[np.bool_]


class Problem:
    """A space with allowed choices, limits on costs and an objective to maximise.

    It remembers the value of every network seen, so that none is predicted twice.

    Attributes:
        tables: The costs.
        limits: Of each cost; infinite for none.
        allowed: For each gene the indices of its allowed choices.
        evaluations: Values asked for.
    """

    def __init__(
        self, tables: FactorTables, limits: Sequence[float], objective: AccuracyPredictor
    ) -> None:
        self.tables = tables
        self.limits = np.array(limits, np.float64)
        self.allowed: Allowed = tables.allowed
        self.evaluations = 0
        self._objective = objective
        self._dtype = np.min_scalar_type(max(indices[-1] for indices in self.allowed))
        self._index: dict[bytes, int] = {}
        self._rows: list[npt.NDArray[np.unsignedinteger]] = []
        self._costs: list[Floats] = []
        self._values = np.empty(0)
        lowest = [indices[0] for indices in self.allowed]
        self._lowest = np.array(lowest, np.int64)
        self.moves = [
            (gene, choice)
            for gene, indices in enumerate(self.allowed)
            for choice in indices
            if len(indices) > 1
        ]

    @property
    def space(self) -> SearchSpace:
        """The space."""
        return self.tables.space

    @property
    def distinct(self) -> int:
        """Different networks seen."""
        return len(self._index)

    def feasible(self, rows: Rows) -> Flags:
        """Which rows keep every limit, (n,)."""
        kept: Flags = np.all(self.tables.evaluate(rows) <= self.limits, axis=1)
        return kept

    def canonical(self, rows: Rows) -> Rows:
        """Equal rows for equal networks; inactive entries are the lowest allowed choice."""
        return np.where(self.space.active(rows), rows, self._lowest)

    def ids(self, rows: Rows) -> npt.NDArray[np.intp]:
        """A number for each canonical row, equal for equal networks; new ones are predicted."""
        self.evaluations += len(rows)
        compact = np.ascontiguousarray(rows, self._dtype)
        keys = compact.view(f"V{compact.itemsize * rows.shape[1]}").ravel().tolist()
        fresh: list[int] = []
        for position, key in enumerate(keys):
            if key not in self._index:
                self._index[key] = len(self._index)
                fresh.append(position)
        if fresh:
            new = rows[fresh]
            values = self._objective.predict_rows(self.space.canonical_rows(new))
            self._rows.append(compact[fresh])
            self._costs.append(self.tables.evaluate(new))
            self._values = np.append(self._values, values)
        return np.array([self._index[key] for key in keys], np.intp)

    def values(self, rows: Rows) -> Floats:
        """The objective of canonical rows, (n,)."""
        ids = self.ids(rows)
        return self._values[ids]

    def best(self, rows: Rows, count: int) -> tuple[Rows, Floats]:
        """The best distinct canonical rows, the best first, and their values."""
        ids, first = np.unique(self.ids(rows), return_index=True)
        values = self._values[ids]
        order = np.argsort(-values, kind="stable")[:count]
        return rows[first[order]], values[order]

    def front(self, columns: Sequence[int]) -> Rows:
        """Feasible networks seen that none beats in value and in these costs, cheapest first."""
        if not self._rows:
            return np.empty((0, len(self.allowed)), np.int64)
        costs = np.concatenate(self._costs)
        kept = np.flatnonzero((costs <= self.limits).all(axis=1))
        points = np.column_stack([costs[kept][:, list(columns)], -self._values[kept]])
        best = kept[nondominated(points)]
        return np.concatenate(self._rows)[best].astype(np.int64)
