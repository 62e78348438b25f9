"""Calibration: a few terms, each a sum over operators, that make sums agree with networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ofa_hw.errors import TableError
from ofa_hw.ops import OpSpec

# What may be added to the scaled sum for each operator. All are sums over operators, so a search
# can still add a network up from parts.
EXTRA_TERMS: Final[Mapping[str, Callable[[OpSpec], float]]] = {
    "operators": lambda op: 1.0,
    "border": lambda op: op.in_channels * op.resolution**2 / 1e6,  # elements passed on
    "gates": lambda op: float(op.se_channels > 0),
    # Millions read anew in every network; those of an operator run again and again stay cached.
    "weights": lambda op: op.params / 1e6,
}


@dataclass(frozen=True, slots=True)
class Calibration:
    """estimate = constant + scale * sum of rows + extra terms.

    Attributes:
        scale: Of the sum of rows.
        constant_ms: Once for a network.
        extra_ms: Of each of `EXTRA_TERMS` that earned its place.
        residuals: Measured over estimated latency, less 1, of each network when it was held out.
        networks: Of which of the file's validated networks, counted from 0, the residuals are.
        figures: The errors on held-out networks, by name.
    """

    scale: float = 1.0
    constant_ms: float = 0.0
    extra_ms: Mapping[str, float] = field(default_factory=dict)
    residuals: tuple[float, ...] = ()
    networks: tuple[int, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)

    def op_ms(self, op: OpSpec, own_ms: float) -> float:
        """What an operator adds to a network when its row says `own_ms`."""
        extra = sum(ms * EXTRA_TERMS[name](op) for name, ms in self.extra_ms.items())
        return self.scale * own_ms + extra

    def relative_interval(self, confidence: float) -> tuple[float, float]:
        """The interval of measured over estimated latency.

        Its half width is a residual of a held-out network, chosen by rank so that a new network
        lies inside with this confidence whatever the distribution (conformal prediction,
        https://arxiv.org/abs/1604.04173).

        Raises:
            TableError: If there are too few residuals for this confidence.
        """
        half = relative_half_width(self.residuals, confidence)
        return 1 - half, 1 + half


def relative_half_width(residuals: Sequence[float], confidence: float) -> float:
    """The residual that a new one stays below, in magnitude, with this confidence.

    Raises:
        TableError: If there are too few residuals for this confidence.
    """
    if not 0 < confidence < 1:
        raise TableError(f"a confidence lies between 0 and 1, got {confidence}")
    n = len(residuals)
    rank = math.ceil((n + 1) * confidence - 1e-9)
    if rank > n:
        least = math.ceil(confidence / (1 - confidence) - 1e-9)
        raise TableError(
            f"no {confidence:.0%} interval from {n} validated networks; it takes {least}: "
            f"measure more: ofa-hw lut validate FILE --networks {least - n}"
        )
    return sorted(map(abs, residuals))[rank - 1]
