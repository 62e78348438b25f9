"""GaussianPredictor: the mean of a Gaussian process with a squared exponential kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from ofa_hw.errors import SpecError
from ofa_hw.predictor.fitted import Array, Common, FittedPredictor, Values


@dataclass(frozen=True, slots=True, eq=False)
class GaussianPredictor(FittedPredictor):
    """base + sum of weight_i * exp(-|x - known_i|^2 / 2) with x and known_i scaled.

    C. E. Rasmussen and C. K. I. Williams, "Gaussian Processes for Machine Learning", 2006,
    equation 2.25.

    Attributes:
        known: (labels, width), the features of the labelled sub-networks.
        weights: (labels,), of each of them.
        scale: (1,), what features are divided by.
        base: (1,), the mean of the labels.
    """

    kind: ClassVar[str] = "gaussian"
    known: Array
    weights: Values
    scale: Values
    base: Values

    def __post_init__(self) -> None:
        if self.known.shape != (len(self.weights), self.layout.width) or not (
            self.scale.shape == self.base.shape == (1,) and self.scale[0] > 0
        ):
            raise SpecError(
                f"known points of {self.known.shape} do not fit {len(self.weights)} weights and "
                f"{self.layout.width} features"
            )

    def estimate(self, features: Array) -> Values:
        """See `FittedPredictor`."""
        x, known = features.astype(np.float64), self.known.astype(np.float64)
        squares = (x**2).sum(1)[:, None] + (known**2).sum(1) - 2 * (x @ known.T)  # (batch, labels)
        kernel = np.exp(-0.5 * np.maximum(squares, 0) / self.scale[0] ** 2)
        return np.asarray(self.base[0] + kernel @ self.weights)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """See `FittedPredictor`."""
        return {name: getattr(self, name) for name in ("known", "weights", "scale", "base")}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], common: Common) -> Self:
        """See `FittedPredictor`."""
        return cls(
            known=arrays["known"].astype(np.float32),
            weights=arrays["weights"].astype(np.float64),
            scale=arrays["scale"].astype(np.float64),
            base=arrays["base"].astype(np.float64),
            **common,
        )
