"""What an accuracy predictor is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ofa_hw.spaces import Rows, SearchSpace, SubnetSpec


@runtime_checkable
class AccuracyPredictor(Protocol):
    """Predicts the accuracy of sub-networks without running them."""

    @property
    def space(self) -> SearchSpace:
        """The space whose sub-networks it knows."""
        ...

    def predict(self, specs: Sequence[SubnetSpec]) -> npt.NDArray[np.float64]:
        """Top-1 fractions, (n,)."""
        ...

    def predict_rows(self, rows: Rows) -> npt.NDArray[np.float64]:
        """The same for canonical rows (n, genes) of the space, which is faster."""
        ...


@runtime_checkable
class ResolutionAware(Protocol):
    """A predictor that was not fitted on every resolution of its space.

    What it says of another resolution is noise, which a search would exploit.
    """

    @property
    def resolutions(self) -> tuple[int, ...]:
        """The resolutions it knows."""
        ...
