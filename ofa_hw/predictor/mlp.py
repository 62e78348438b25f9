"""MlpPredictor: a multi-layer perceptron; without hidden layers, a linear model.

The predictor of once-for-all (https://arxiv.org/abs/1908.09791) has three hidden layers of 400.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from ofa_hw.errors import SpecError
from ofa_hw.predictor.fitted import Array, Common, FittedPredictor, Values


@dataclass(frozen=True, slots=True, eq=False)
class MlpPredictor(FittedPredictor):
    """Linear layers with ReLU between them.

    Attributes:
        weights: (inputs, outputs) of each layer.
        biases: (outputs,) of each layer.
    """

    kind: ClassVar[str] = "mlp"
    weights: tuple[Array, ...]
    biases: tuple[Array, ...]

    def __post_init__(self) -> None:
        widths = [self.layout.width, *(len(bias) for bias in self.biases)]
        expected = list(itertools.pairwise(widths))
        if [weight.shape for weight in self.weights] != expected or widths[-1] != 1:
            shapes = ", ".join(str(weight.shape) for weight in self.weights)
            raise SpecError(f"layers of {shapes} do not lead from {widths[0]} features to one")

    def estimate(self, features: Array) -> Values:
        """See `FittedPredictor`."""
        x = features  # (batch, width)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = x @ weight
            x += bias
            np.maximum(x, 0, out=x)  # (batch, hidden)
        return np.asarray(x @ self.weights[-1][:, 0] + self.biases[-1], np.float64)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """See `FittedPredictor`."""
        weights = {f"weight_{i}": weight for i, weight in enumerate(self.weights)}
        return weights | {f"bias_{i}": bias for i, bias in enumerate(self.biases)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], common: Common) -> Self:
        """See `FittedPredictor`."""
        count = len(arrays) // 2
        return cls(
            tuple(arrays[f"weight_{i}"].astype(np.float32) for i in range(count)),
            tuple(arrays[f"bias_{i}"].astype(np.float32) for i in range(count)),
            **common,
        )
