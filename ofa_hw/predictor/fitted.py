"""FittedPredictor: what every predictor that this project runs shares, and its file.

A file is a `.npz` of arrays and a header in JSON: nothing in it is executed, and reading it takes
numpy alone, whatever fitted it.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Self, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt

from ofa_hw.predictor.features import FeatureLayout
from ofa_hw.spaces import Rows, SearchSpace, SubnetSpec

Array: TypeAlias = npt.NDArray[np.float32]
Values: TypeAlias = npt.NDArray[np.float64]

FORMAT: Final = 1
_BATCH: Final = 1024  # activations of so many rows stay in the cache of a core


@dataclass(frozen=True, slots=True)
class FitReport:
    """How well a fitted predictor does on sub-networks that it has not seen.

    Attributes:
        fitted: Sub-networks it was fitted on.
        held_out: Sub-networks it was tested on.
        rmse: Root mean square error of the top-1 fraction.
        mae: Mean absolute error of the top-1 fraction.
        spearman: Rank correlation; nan where the labels do not differ.
        kendall: Rank correlation; nan where the labels do not differ.
        converged: Whether the fit stopped by itself.
        seed: Of the split and of the weights.
    """

    fitted: int
    held_out: int
    rmse: float
    mae: float
    spearman: float
    kendall: float
    converged: bool
    seed: int


class Common(TypedDict):
    """The fields that every predictor has."""

    layout: FeatureLayout
    source: str
    resolutions: tuple[int, ...]
    report: FitReport | None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FittedPredictor(ABC):
    """An `AccuracyPredictor` over architecture features, run by numpy alone.

    Attributes:
        kind: Name of the model.
        layout: How a sub-network becomes features; it carries the space.
        source: Where it comes from.
        resolutions: The resolutions it was fitted on; for others it says nothing of worth.
        report: What it does on unseen sub-networks; None where nobody measured that.
    """

    kind: ClassVar[str]
    layout: FeatureLayout
    source: str
    resolutions: tuple[int, ...]
    report: FitReport | None = None

    @abstractmethod
    def estimate(self, features: Array) -> Values:
        """Top-1 fractions (n,) of features (n, width)."""

    @abstractmethod
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What the file holds beside the header."""

    @classmethod
    @abstractmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], common: Common) -> Self:
        """The predictor of what `arrays` gave; raises KeyError, ValueError or SpecError."""

    @property
    def space(self) -> SearchSpace:
        """The space whose sub-networks it knows."""
        return self.layout.space

    def predict(self, specs: Sequence[SubnetSpec]) -> Values:
        """Top-1 fractions, (n,).

        Raises:
            SpecError: If a sub-network is none of the space.
        """
        return self.predict_rows(self.space.encode(specs))

    def predict_rows(self, rows: Rows) -> Values:
        """The same for canonical rows (n, genes) of the space, which is faster."""
        top1 = np.empty(len(rows))
        for start in range(0, len(rows), _BATCH):
            part = slice(start, start + _BATCH)
            top1[part] = self.estimate(self.layout(rows[part]))
        return top1

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a `.npz` that `load_predictor` reads without torch and scikit-learn."""
        path = Path(path)
        header = {
            "format": FORMAT,
            "model": self.kind,
            "space": self.space.name,
            "choices": choices_of(self.space),
            "layout": self.layout.name,
            "source": self.source,
            "resolutions": self.resolutions,
            "report": asdict(self.report) if self.report else None,
        }
        arrays = {"header": np.array(json.dumps(header)), **self.arrays()}
        beside = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with beside.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def choices_of(space: SearchSpace) -> dict[str, list[int | float]]:
    """The choices of a space by gene, for JSON."""
    return {gene.name: list(gene.choices) for gene in space.genes}
