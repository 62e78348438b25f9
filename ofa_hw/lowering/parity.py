"""Says whether two runs of one network agree."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ofa_hw.errors import ParityError


def relative_error(actual: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """The largest difference over the largest expected magnitude.

    Infinite where `actual` holds a NaN or has another shape, so that no such result passes a limit.
    """
    if actual.shape != expected.shape:
        return math.inf
    difference = float(np.abs(actual.astype(np.float64) - expected).max(initial=0))
    scale = float(np.abs(expected).max(initial=0))
    if difference == 0:
        return 0.0
    error = difference / scale if scale else math.inf
    return math.inf if math.isnan(error) else error


def check_parity(
    actual: npt.NDArray[Any],
    expected: npt.NDArray[Any],
    *,
    tolerance: float = 1e-4,
    name: str = "the network",
) -> float:
    """Compares a network's output with what it should be.

    Args:
        actual: What it computed.
        expected: What it should have.
        tolerance: Largest `relative_error` that passes.
        name: Of the network, for the message.

    Returns:
        The relative error.

    Raises:
        ParityError: If the error is larger, a value is not a number or the shapes differ.
    """
    if actual.shape != expected.shape:
        raise ParityError(f"{name} gives a tensor {actual.shape} instead of {expected.shape}")
    error = relative_error(actual, expected)
    if not error <= tolerance:
        raise ParityError(
            f"{name} is off by {error:.2g} of its largest output, more than {tolerance:g}"
        )
    return error
