"""Genome: the choices of a search space, and populations of them as integer rows.

A population is an integer matrix, one row a network, one column a gene, each entry an index into
the gene's choices; entries of inactive genes carry no meaning, and are 0 in a canonical row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ofa_hw.errors import SpecError

Rows: TypeAlias = npt.NDArray[np.int64]
Choice: TypeAlias = int | float
Allowed: TypeAlias = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Gene:
    """One choice of a space.

    Attributes:
        field: The field of `SubnetSpec` that holds it.
        index: Its place in that field; 0 for the resolution, which is no list.
        choices: The values it may take, ascending.
        parent: Index in `SearchSpace.genes` of the depth that can skip its block; None for none.
        needs: The smallest value of the parent with which the block is there.
    """

    field: str
    index: int
    choices: tuple[Choice, ...]
    parent: int | None = None
    needs: int = 0

    @property
    def name(self) -> str:
        """As a user writes it, e.g. `kernel_sizes[3]`."""
        return self.field if self.field == "resolution" else f"{self.field}[{self.index}]"


class Genome:
    """The choices of a space.

    Attributes:
        name: Of the space.
        genes: The choices; the first is the resolution.
    """

    def __init__(self, name: str, genes: Sequence[Gene]) -> None:
        for gene in genes:
            if not gene.choices or list(gene.choices) != sorted(set(gene.choices)):
                raise SpecError(
                    f"{gene.name} of space {name!r} has choices {gene.choices}; give at least one, "
                    "ascending, each once"
                )
        self.name = name
        self.genes = tuple(genes)
        self._parents = np.array([-1 if g.parent is None else g.parent for g in self.genes])
        self._needs = np.array([g.needs for g in self.genes])
        self._counts = np.array([len(g.choices) for g in self.genes])
        self._values = np.zeros((len(self.genes), int(self._counts.max())))
        for values, gene in zip(self._values, self.genes, strict=True):
            values[: len(gene.choices)] = gene.choices

    @property
    def size(self) -> int:
        """Number of distinct networks, resolutions counted."""
        dependents = self._dependents()
        size = 1
        for index, gene in enumerate(self.genes):
            if gene.parent is not None:
                continue
            size *= sum(
                math.prod(len(d.choices) for d in dependents.get(index, ()) if value >= d.needs)
                for value in gene.choices
            )
        return size

    def _dependents(self) -> dict[int, list[Gene]]:
        dependents: dict[int, list[Gene]] = {}
        for gene in self.genes:
            if gene.parent is not None:
                dependents.setdefault(gene.parent, []).append(gene)
        return dependents

    def allowed(self, restrict: Mapping[str, Sequence[Choice]]) -> Allowed:
        """Which choices of each gene are left when some fields or single genes are restricted.

        Args:
            restrict: The values allowed in a field or in one gene, e.g. `{"resolution": [32],
                "kernel_sizes": [3, 5], "depths[0]": [2]}`; where both are given, both hold. A gene
                that has one choice only keeps it, unless it is named itself.

        Returns:
            For each gene the indices into its choices, ascending.

        Raises:
            SpecError: If there is no such field or gene, or a gene is left without a choice.
        """
        fields = {gene.field for gene in self.genes}
        if unknown := sorted(restrict.keys() - fields - {gene.name for gene in self.genes}):
            raise SpecError(
                f"{self.name} cannot restrict {', '.join(unknown)}; "
                f"it has {', '.join(sorted(fields))}, and of each its genes, "
                f"e.g. {self.genes[-1].name}"
            )
        allowed = []
        for gene in self.genes:
            of_field = restrict.get(gene.field, gene.choices)
            own = restrict.get(gene.name, gene.choices)
            kept = tuple(i for i, c in enumerate(gene.choices) if c in of_field and c in own)
            if len(gene.choices) == 1 and gene.choices[0] in own:
                kept = (0,)
            if not kept:
                wanted = own if gene.name in restrict else of_field
                raise SpecError(
                    f"{gene.name} of {self.name} is one of {', '.join(map(str, gene.choices))}; "
                    f"none is left of {', '.join(map(str, wanted)) or 'nothing'}"
                )
            allowed.append(kept)
        return tuple(allowed)

    def sample_rows(
        self, count: int, *, rng: np.random.Generator, allowed: Allowed | None = None
    ) -> Rows:
        """Uniform rows, not canonical: inactive genes are drawn too."""
        if allowed is None:
            return rng.integers(0, self._counts, (count, len(self.genes)))
        columns = [rng.choice(np.array(indices), count) for indices in allowed]
        return np.stack(columns, axis=1)

    def mutate_rows(self, rows: Rows, *, rng: np.random.Generator, rate: float) -> Rows:
        """Redraws each entry with probability `rate`."""
        fresh = self.sample_rows(len(rows), rng=rng)
        return np.where(rng.random(rows.shape) < rate, fresh, rows)

    def active(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Which genes matter in each row, (n, genes)."""
        values = self._values[self._parents, rows[:, self._parents]]
        active: npt.NDArray[np.bool_] = (self._parents < 0) | (values >= self._needs)
        return active

    def canonical_rows(self, rows: Rows) -> Rows:
        """The rows with inactive entries set to 0: equal networks have equal rows."""
        return np.where(self.active(rows), rows, 0)

    def _is_active(self, gene: Gene, values: Sequence[Choice]) -> bool:
        return gene.parent is None or values[gene.parent] >= gene.needs
