"""Whole networks measured on a table's device, and how far the table is off on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from ofa_hw.latency.rows import Statistics
from ofa_hw.spaces import SubnetSpec


@dataclass(frozen=True, slots=True)
class ValidatedNetwork:
    """One sub-network, measured twice.

    Attributes:
        spec: The sub-network.
        first: Its measurement.
        second: Another one of the same network, loaded anew.
        shift: How much longer operators of the table took beside it than their rows say, though
            the sentinels' level is divided out; divided out as well.
    """

    spec: SubnetSpec
    first: Statistics
    second: Statistics
    shift: float = 1.0


@dataclass(frozen=True, slots=True)
class ErrorFigures:
    """How far estimates are from measurements; all but the rank correlations are fractions.

    Attributes:
        networks: How many networks.
        mape: Mean absolute relative error.
        rmspe: Root mean square relative error.
        bias: Mean relative error; positive where estimates are too high.
        within_5: Share of networks within 5 %.
        within_10: Share of networks within 10 %.
        spearman: Rank correlation; None of fewer than three networks.
        kendall: Rank correlation; None of fewer than three networks.
    """

    networks: int
    mape: float
    rmspe: float
    bias: float
    within_5: float
    within_10: float
    spearman: float | None
    kendall: float | None

    def to_dict(self) -> dict[str, float | int | None]:
        """For JSON."""
        return asdict(self)


def error_figures(estimated: npt.ArrayLike, measured: npt.ArrayLike) -> ErrorFigures:
    """Compares estimates with measurements of the same networks, both in milliseconds."""
    from scipy.stats import kendalltau, spearmanr

    estimates, truth = np.asarray(estimated, np.float64), np.asarray(measured, np.float64)
    error = estimates / truth - 1
    ranked = len(truth) >= 3 and np.ptp(truth) > 0 and np.ptp(estimates) > 0
    return ErrorFigures(
        networks=len(truth),
        mape=float(np.abs(error).mean()),
        rmspe=float(np.sqrt((error**2).mean())),
        bias=float(error.mean()),
        within_5=float((np.abs(error) <= 0.05).mean()),
        within_10=float((np.abs(error) <= 0.10).mean()),
        spearman=float(spearmanr(estimates, truth).statistic) if ranked else None,
        kendall=float(kendalltau(estimates, truth).statistic) if ranked else None,
    )


def noise_floor(networks: Sequence[ValidatedNetwork], level_ms: float | None) -> ErrorFigures:
    """The second measurements as estimates of the first: what no table can be better than."""
    first, second = measured_ms(networks, level_ms)
    return error_figures(second, first)


def measured_ms(
    networks: Sequence[ValidatedNetwork], level_ms: float | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """First and second measurements as the table's own operators were measured, each (n,)."""

    def at_level(measured: Statistics) -> float:
        return measured.at_level(level_ms) if level_ms else measured.median_ms

    first = np.array([at_level(network.first) / network.shift for network in networks])
    return first, np.array([at_level(network.second) / network.shift for network in networks])
