"""The primitive operations of a `Graph`.

Shapes are (N, C, H, W), or (N, C) after `Flatten`. Semantics are torch's: symmetric padding,
average pools that round their size up and divide by the elements they see.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float32]
Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Conv:
    """Convolution with square kernel, stride and symmetric padding.

    Attributes:
        weight: (out_channels, in_channels / groups, k, k).
        bias: (out_channels,) or None.
    """

    weight: Array
    bias: Array | None = None
    stride: int = 1
    padding: int = 0
    groups: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """Fully connected layer on (N, C); `weight` is (out_features, in_features)."""

    weight: Array
    bias: Array | None = None


@dataclass(frozen=True, slots=True)
class MaxPool:
    """Max pool with symmetric padding by minus infinity; sizes round down."""

    kernel_size: int
    stride: int
    padding: int = 0


@dataclass(frozen=True, slots=True)
class AvgPool:
    """Average pool without padding; sizes round up, a cut-off window averages what it sees."""

    kernel_size: int
    stride: int


@dataclass(frozen=True, slots=True)
class GlobalAvgPool:
    """Average over H and W, which become 1."""


@dataclass(frozen=True, slots=True)
class Flatten:
    """(N, C, H, W) to (N, C * H * W)."""


@dataclass(frozen=True, slots=True)
class Add:
    """Sum of two tensors of one shape."""


@dataclass(frozen=True, slots=True)
class Mul:
    """Product of two tensors; (N, C, 1, 1) is broadcast over H and W."""


@dataclass(frozen=True, slots=True, eq=False)
class Shift:
    """x + `offset`, which is one number () or one a channel (C,)."""

    offset: Array


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """x * `factor`, which is one number () or one a channel (C,)."""

    factor: Array


@dataclass(frozen=True, slots=True)
class Relu:
    """max(x, 0)."""


@dataclass(frozen=True, slots=True)
class Relu6:
    """min(max(x, 0), 6)."""


@dataclass(frozen=True, slots=True)
class HardSigmoid:
    """relu6(x + 3) / 6."""


@dataclass(frozen=True, slots=True)
class HardSwish:
    """x * relu6(x + 3) / 6 (https://arxiv.org/abs/1905.02244)."""


Primitive: TypeAlias = (
    Conv
    | Linear
    | MaxPool
    | AvgPool
    | GlobalAvgPool
    | Flatten
    | Add
    | Mul
    | Shift
    | Scale
    | Relu
    | Relu6
    | HardSigmoid
    | HardSwish
)


@dataclass(frozen=True, slots=True)
class Node:
    """One primitive, the names of the tensors it reads and of the one it writes."""

    output: str
    op: Primitive
    inputs: tuple[str, ...]
