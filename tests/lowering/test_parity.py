import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofa_hw.errors import ParityError
from ofa_hw.lowering.parity import check_parity, relative_error

EXPECTED = np.array([[1, -4, 2]], np.float32)


@given(st.floats(1e-6, 1e6), st.floats(0, 1))
def test_error_is_relative_to_the_largest_magnitude(scale: float, off: float) -> None:
    expected = EXPECTED.astype(np.float64) * scale
    actual = expected + np.array([[0, 0, 4 * off * scale]])
    assert relative_error(actual, expected) == pytest.approx(off, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    "actual",
    [np.array([[1, np.nan, 2]]), np.array([[1, np.inf, 2]]), EXPECTED[0], np.zeros((1, 0))],
    ids=["nan", "infinity", "rank", "empty"],
)
def test_what_is_no_result_never_passes(actual: np.ndarray) -> None:
    assert relative_error(actual, EXPECTED) == math.inf
    with pytest.raises(ParityError):
        check_parity(actual, EXPECTED, tolerance=1e9)


def test_nothing_is_near_zeros_but_zeros() -> None:
    zeros = np.zeros(3)
    assert relative_error(zeros, zeros) == 0
    assert relative_error(zeros + 1e-30, zeros) == math.inf


def test_error_within_the_tolerance_is_returned() -> None:
    assert check_parity(EXPECTED * 1.00001, EXPECTED) == pytest.approx(1e-5, rel=0.1)


def test_error_beyond_the_tolerance_names_the_network() -> None:
    with pytest.raises(ParityError, match=r"net.tflite is off by 0.01 .* more than 0.0001"):
        check_parity(EXPECTED * 1.01, EXPECTED, name="net.tflite")
