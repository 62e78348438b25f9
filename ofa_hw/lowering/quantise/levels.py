"""The real numbers that 8-bit integers stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from ofa_hw.graph.ir import Array, Conv, Linear

LOWEST: Final = -128
HIGHEST: Final = 127
Int8: TypeAlias = npt.NDArray[np.int8]
_BIAS_LIMIT: Final = 2.0**30  # leaves room in 32 bits for what is accumulated
_SMALLEST: Final = 1e-8  # a tensor that is always 0 has some scale, too
# The factor from sums to outputs, s_in * s_w / s_out, which kernels keep as a 32-bit fixed point.
_SMALLEST_FACTOR: Final = 2.0**-30


@dataclass(frozen=True, slots=True)
class Levels:
    """The integer q from -128 to 127 stands for scale * (q - zero_point); 0 is always among them.

    What is smaller than the first or larger than the last saturates. An activation function that
    only clips is therefore nothing but the levels of what it writes.
    """

    scale: float
    zero_point: int

    @classmethod
    def covering(cls, low: float, high: float) -> Levels:
        """Levels from `low` to `high`, widened to hold 0."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = float(np.float32(max((high - low) / 255, _SMALLEST)))
        return cls(scale, int(np.clip(round(LOWEST - low / scale), LOWEST, HIGHEST)))

    @classmethod
    def of_constant(cls, values: Array) -> Levels:
        """Levels symmetric about 0 on which the largest magnitude of `values` lies exactly."""
        largest = float(np.abs(values).max(initial=0))
        return cls(float(np.float32(max(largest / HIGHEST, _SMALLEST))), 0)

    @property
    def low(self) -> float:
        """The smallest number that has a level."""
        return self.scale * (LOWEST - self.zero_point)

    @property
    def high(self) -> float:
        """The largest number that has a level."""
        return self.scale * (HIGHEST - self.zero_point)

    def quantised(self, values: npt.NDArray[Any]) -> Int8:
        """The nearest levels."""
        integers = np.rint(values / self.scale) + self.zero_point
        return integers.clip(LOWEST, HIGHEST).astype(np.int8)

    def real(self, integers: npt.NDArray[Any]) -> Array:
        """What integers stand for."""
        return ((integers.astype(np.float32) - self.zero_point) * self.scale).astype(np.float32)


@dataclass(frozen=True, slots=True)
class QuantisedWeights:
    """Weights of a convolution or a linear layer.

    Attributes:
        weight: Integers in the shape of the weights, the zero point is 0.
        scales: (out_channels,).
        bias: (out_channels,), in steps of `bias_scales`.
        bias_scales: (out_channels,), the input's scale by `scales`.
    """

    weight: Int8
    scales: Array
    bias: npt.NDArray[np.int32]
    bias_scales: Array


def quantise_weights(op: Conv | Linear, source: Levels, target: Levels) -> QuantisedWeights:
    """Quantises weights for the levels of what they read and what they write.

    A channel whose weights are next to nothing gets a scale that its bias and the kernel's fixed
    point can be expressed in.
    """
    out = op.weight.shape[0]
    bias = np.zeros(out, np.float32) if op.bias is None else op.bias
    largest = np.abs(op.weight.reshape(out, -1)).max(1, initial=0)
    least = max(target.scale / source.scale * _SMALLEST_FACTOR, _SMALLEST)
    floor = (np.abs(bias) / (source.scale * _BIAS_LIMIT)).clip(least, None)
    scales = np.maximum(largest / HIGHEST, floor).astype(np.float32)
    per_channel = scales.reshape(-1, *(1 for _ in op.weight.shape[1:]))
    weight = np.rint(op.weight / per_channel).clip(-HIGHEST, HIGHEST).astype(np.int8)
    bias_scales = (np.float32(source.scale) * scales).astype(np.float32)
    steps = np.rint(bias.astype(np.float64) / bias_scales).astype(np.int32)
    return QuantisedWeights(weight, scales, steps, bias_scales)
