"""SearchSpace: what may vary in a family of networks, and which operators each choice gives.

A space is two lists. Its genes are the choices: a resolution, the depths, and for each block that a
depth may skip its kernel size and expansion. Its slots are the positions of the network in order:
each names the few genes that it depends on and builds its operators from their values. Everything
else follows from the two: sampling, counting, every operator a table needs, and costs as sums of
small arrays (`ofa_hw.search`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Final

import numpy as np

from ofa_hw.errors import SpecError
from ofa_hw.ops import OpSpec
from ofa_hw.spaces.genes import Choice, Gene, Genome, Rows
from ofa_hw.spaces.spec import SubnetSpec

FIELDS: Final = ("depths", "kernel_sizes", "expand_ratios", "width_indices")


@dataclass(frozen=True, slots=True)
class Slot:
    """One position of the network.

    Attributes:
        genes: Indices in `SearchSpace.genes` of the genes that decide what stands here.
        build: Gives the operators here from those genes' values, in order; none if skipped.
            Values of inactive genes are arbitrary choices, and must not matter.
    """

    genes: tuple[int, ...]
    build: Callable[..., tuple[OpSpec, ...]]


class SearchSpace(Genome):
    """A family of networks.

    Attributes:
        name: Under which specs, tables and checkpoints know it.
        genes: The choices; the first is the resolution.
        slots: The positions of the network, in order.
        num_classes: Outputs of the classifier.
    """

    def __init__(
        self, name: str, genes: Sequence[Gene], slots: Sequence[Slot], *, num_classes: int
    ) -> None:
        if not genes or genes[0].field != "resolution":
            raise SpecError(f"the first gene of space {name!r} must be its resolution")
        super().__init__(name, genes)
        self.slots = tuple(slots)
        self.num_classes = num_classes

    def __repr__(self) -> str:
        return (
            f"<SearchSpace {self.name}: {len(self.genes)} genes, {float(self.size):.1e} networks>"
        )

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Input resolutions, ascending."""
        return tuple(int(r) for r in self.genes[0].choices)

    @property
    def in_channels(self) -> int:
        """Channels of an input image."""
        return self.ops(self.largest())[0].in_channels

    def spec(
        self,
        *,
        resolution: int,
        depths: Sequence[int] = (),
        kernel_sizes: Sequence[int] = (),
        expand_ratios: Sequence[float] = (),
        width_indices: Sequence[int] = (),
    ) -> SubnetSpec:
        """A sub-network from full-length lists, made canonical.

        Raises:
            SpecError: If a list has another length than the space's or an entry is none of its
                choices; all such entries are named. Entries of skipped blocks may be anything.
        """
        lists: dict[str, Sequence[Choice]] = {
            "resolution": (resolution,),
            "depths": depths,
            "kernel_sizes": kernel_sizes,
            "expand_ratios": expand_ratios,
            "width_indices": width_indices,
        }
        for field in FIELDS:
            expected = sum(gene.field == field for gene in self.genes)
            if len(lists[field]) != expected:
                raise SpecError(f"{self.name} takes {expected} {field}, got {len(lists[field])}")
        values = [lists[gene.field][gene.index] for gene in self.genes]
        for gene, value in zip(self.genes, values, strict=True):
            if not isinstance(value, Real):
                raise SpecError(f"{gene.name} is {value!r}, which is no number")
        wrong = [
            f"{gene.name} is {value}, choose from {', '.join(map(str, gene.choices))}"
            for gene, value in zip(self.genes, values, strict=True)
            if self._is_active(gene, values) and value not in gene.choices
        ]
        if wrong:
            raise SpecError(f"not a network of {self.name}: {'; '.join(wrong)}")
        return self._spec_of(values)

    def require(self, spec: SubnetSpec) -> SubnetSpec:
        """Returns `spec` if it is a canonical sub-network of this space.

        Raises:
            SpecError: If it is another space's, or no network of this one.
        """
        if spec.space != self.name:
            raise SpecError(
                f"the sub-network is one of {spec.space}, not of {self.name}; "
                f"use get_space({spec.space!r})"
            )
        canonical = self.spec(
            resolution=spec.resolution,
            depths=spec.depths,
            kernel_sizes=spec.kernel_sizes,
            expand_ratios=spec.expand_ratios,
            width_indices=spec.width_indices,
        )
        if canonical != spec:
            raise SpecError(f"{spec} is not canonical; make specs with get_space(...).spec(...)")
        return spec

    def smallest(self, resolution: int | None = None) -> SubnetSpec:
        """The network of all the lowest choices."""
        values = [gene.choices[0] for gene in self.genes]
        return self._at_resolution(values, resolution)

    def largest(self, resolution: int | None = None) -> SubnetSpec:
        """The network of all the highest choices: the whole supernet."""
        values = [gene.choices[-1] for gene in self.genes]
        return self._at_resolution(values, resolution)

    def sample(self, *, rng: np.random.Generator, resolution: int | None = None) -> SubnetSpec:
        """A sub-network with every gene drawn uniformly from its choices."""
        row = self.sample_rows(1, rng=rng)
        if resolution is not None:
            row[0, 0] = self._resolution_index(resolution)
        return self.decode(row)[0]

    def mutate(
        self, spec: SubnetSpec, *, rng: np.random.Generator, rate: float = 0.1
    ) -> SubnetSpec:
        """Redraws each gene with probability `rate`."""
        return self.decode(self.mutate_rows(self._free_row(spec, rng), rng=rng, rate=rate))[0]

    def crossover(self, a: SubnetSpec, b: SubnetSpec, *, rng: np.random.Generator) -> SubnetSpec:
        """Takes each gene from either parent, with equal odds."""
        rows_a, rows_b = self._free_row(a, rng), self._free_row(b, rng)
        return self.decode(np.where(rng.random(rows_a.shape) < 0.5, rows_a, rows_b))[0]

    def ops(self, spec: SubnetSpec) -> tuple[OpSpec, ...]:
        """The operators of a sub-network, in order."""
        values = self._values_of(self.require(spec))
        return tuple(
            itertools.chain.from_iterable(
                slot.build(*(values[i] for i in slot.genes)) for slot in self.slots
            )
        )

    def macs(self, spec: SubnetSpec) -> int:
        """Multiply-accumulates of one image."""
        return sum(op.macs for op in self.ops(spec))

    def params(self, spec: SubnetSpec) -> int:
        """Trainable parameters."""
        return sum(op.params for op in self.ops(spec))

    def table_ops(self, resolutions: Iterable[int] | None = None) -> tuple[OpSpec, ...]:
        """Every distinct operator that a sub-network at these resolutions can contain, sorted.

        Raises:
            SpecError: If a resolution is none of the space's.
        """
        wanted = self.resolutions if resolutions is None else tuple(resolutions)
        for resolution in wanted:
            self._resolution_index(resolution)
        ops: set[OpSpec] = set()
        for slot in self.slots:
            choices = [wanted if i == 0 else self.genes[i].choices for i in slot.genes]
            for values in itertools.product(*choices):
                ops.update(slot.build(*values))
        return tuple(sorted(ops))

    def encode(self, specs: Iterable[SubnetSpec]) -> Rows:
        """Canonical rows (n, genes) of sub-networks."""
        rows = [
            [
                gene.choices.index(value) if value in gene.choices else 0
                for gene, value in zip(self.genes, self._values_of(self.require(s)), strict=True)
            ]
            for s in specs
        ]
        return self.canonical_rows(np.array(rows, np.int64).reshape(-1, len(self.genes)))

    def decode(self, rows: Rows) -> list[SubnetSpec]:
        """The sub-networks of rows; inactive entries may be any of their gene's choices."""
        return [
            self._spec_of([g.choices[i] for g, i in zip(self.genes, row, strict=True)])
            for row in rows.tolist()
        ]

    def _spec_of(self, values: Sequence[Choice]) -> SubnetSpec:
        lists: dict[str, list[Choice]] = {field: [] for field in FIELDS}
        for gene, value in zip(self.genes[1:], values[1:], strict=True):
            kept = gene.choices[gene.choices.index(value)] if self._is_active(gene, values) else 0
            lists[gene.field].append(kept)
        return SubnetSpec(
            self.name,
            int(values[0]),
            tuple(int(v) for v in lists["depths"]),
            tuple(int(v) for v in lists["kernel_sizes"]),
            tuple(lists["expand_ratios"]),
            tuple(int(v) for v in lists["width_indices"]),
        )

    def _values_of(self, spec: SubnetSpec) -> list[Choice]:
        return [spec.resolution, *self._list_values(spec)]

    def _list_values(self, spec: SubnetSpec) -> Iterator[Choice]:
        for gene in self.genes[1:]:
            yield getattr(spec, gene.field)[gene.index]

    def _free_row(self, spec: SubnetSpec, rng: np.random.Generator) -> Rows:
        """The row of `spec` with inactive genes drawn, so that a deeper child finds values."""
        row = self.encode([spec])
        return np.where(self.active(row), row, self.sample_rows(1, rng=rng))

    def _at_resolution(self, values: list[Choice], resolution: int | None) -> SubnetSpec:
        if resolution is not None:
            values[0] = self.resolutions[self._resolution_index(resolution)]
        return self._spec_of(values)

    def _resolution_index(self, resolution: int) -> int:
        if resolution not in self.resolutions:
            known = self.resolutions
            listed = (
                ", ".join(map(str, known))
                if len(known) < 10
                else f"{known[0]} to {known[-1]} in steps of {known[1] - known[0]}"
            )
            raise SpecError(f"{self.name} has no resolution {resolution}; it has {listed}")
        return self.resolutions.index(resolution)
