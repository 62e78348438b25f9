"""Fits a table's calibration to its validated networks, and says how good it is on unseen ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ofa_hw.errors import TableError
from ofa_hw.latency.calibration import EXTRA_TERMS, Calibration, relative_half_width
from ofa_hw.latency.format import calibration_line
from ofa_hw.latency.journal import Journal, read_table
from ofa_hw.latency.table import LatencyTable
from ofa_hw.latency.validation import error_figures, measured_ms, noise_floor
from ofa_hw.ops import OpSpec
from ofa_hw.spaces import get_space

_LEAST_NETWORKS = 5
_NETWORKS_PER_TERM = 5
_LEAST_GAIN = 0.05  # of the held-out error, for another term to earn its place
_LEAST_DEVIATION = 0.002  # of two measurements; closer ones agree by chance
_CONFIDENCE = 0.9

_Floats = npt.NDArray[np.float64]


def calibrate_table(path: Path | str) -> LatencyTable:
    """Fits the calibration to the networks in a table's file, and appends it there.

    Returns:
        The calibrated table; `calibration.figures` are of networks that the fit had not seen.

    Raises:
        TableError: If too few networks were validated, or the file cannot be written.
    """
    path = Path(path)
    table = read_table(path)
    calibration = fit_calibration(table)
    with Journal.open(path, table.header)[0] as journal:
        journal.append(calibration_line(calibration))
    return read_table(path)


def fit_calibration(table: LatencyTable) -> Calibration:
    """The calibration that a table's validated networks ask for.

    Relative least squares: a network of 1 ms counts as much as one of 100, but one whose two
    measurements disagree counts less. A term joins the scaled sum only if it lowers the error on
    held-out networks, and the figures come from fits, choice of terms included, that had not seen
    the network that they are about (leave one out, twice).

    Raises:
        TableError: If there are too few networks.
    """
    networks = table.validated()
    if len(networks) < _LEAST_NETWORKS:
        raise TableError(
            f"table {table.name!r} has {len(networks)} validated networks and calibration takes "
            f"{_LEAST_NETWORKS}; run: ofa-hw lut validate {table.name}"
        )
    first, second = measured_ms(networks, table.sentinel_ms)
    target, trust = np.sqrt(first * second), _trust(first, second)
    ops = [get_space(network.spec.space).ops(network.spec) for network in networks]
    terms = _terms(table, ops)
    held_out = np.array([_predict_unseen(terms, target, trust, i) for i in range(len(target))])
    residuals = first / held_out - 1
    figures = error_figures(held_out, first).to_dict()
    figures["floor_mape"] = noise_floor(networks, table.sentinel_ms).mape
    figures["coverage_90"] = _coverage(residuals)
    names = _choose(terms, target, trust)
    weights = dict(zip(names, _fit(terms, names, target, trust), strict=True))
    return Calibration(
        scale=weights.pop("rows"),
        constant_ms=weights.pop("constant", 0.0),
        extra_ms=weights,
        residuals=tuple(residuals.tolist()),
        networks=table.validated_places(),
        figures={name: value for name, value in figures.items() if value is not None},
    )


def _terms(table: LatencyTable, networks: Sequence[Sequence[OpSpec]]) -> dict[str, _Floats]:
    """Each term's value for each network, (n,)."""
    call_ms = table.call_ms
    rows = [call_ms + sum(table.rows_ms[op] - call_ms for op in ops) for ops in networks]
    terms = {"rows": np.array(rows), "constant": np.ones(len(networks))}
    for name, term in EXTRA_TERMS.items():
        values = np.array([sum(map(term, ops)) for ops in networks])
        if values.any():
            terms[name] = values
    return terms


def _trust(first: _Floats, second: _Floats) -> _Floats:
    """How much each network counts, (n,): over its two measurements' deviation, 1 on average."""
    deviation = np.log(first / second)
    deviation = np.abs(deviation - np.median(deviation))
    trust = 1 / np.hypot(deviation, max(float(np.median(deviation)), _LEAST_DEVIATION))
    weights: _Floats = trust / trust.mean()
    return weights


def _design(
    terms: dict[str, _Floats], names: Sequence[str], target: _Floats, trust: _Floats
) -> _Floats:
    """The named terms relative to the target, (n, terms), each column at most 1."""
    matrix = np.column_stack([terms[name] / target * trust for name in names])
    design: _Floats = matrix / np.abs(matrix).max(0)
    return design


def _fit(
    terms: dict[str, _Floats], names: Sequence[str], target: _Floats, trust: _Floats
) -> list[float]:
    """Weights of the named terms by relative least squares."""
    scale = [np.abs(terms[name] / target * trust).max() for name in names]
    weights, *_ = np.linalg.lstsq(_design(terms, names, target, trust), trust, rcond=1e-8)
    fitted: list[float] = (weights / scale).tolist()
    return fitted


def _choose(terms: dict[str, _Floats], target: _Floats, trust: _Floats) -> list[str]:
    """The terms that earn their place, added one by one."""
    chosen = ["rows"]
    error = _held_out_error(terms, chosen, target, trust)
    while len(target) >= _NETWORKS_PER_TERM * (len(chosen) + 1) and len(chosen) < len(terms):
        errors = {
            name: _held_out_error(terms, [*chosen, name], target, trust)
            for name in terms
            if name not in chosen
        }
        best = min(errors, key=lambda name: errors[name])
        if errors[best] > (1 - _LEAST_GAIN) * error:
            break
        chosen.append(best)
        error = errors[best]
    return chosen


def _held_out_error(
    terms: dict[str, _Floats], names: Sequence[str], target: _Floats, trust: _Floats
) -> float:
    """Root mean square of the trusted relative error, each network left out in turn."""
    # The residual of a network left out is that of the full fit over 1 - its leverage.
    q, _ = np.linalg.qr(_design(terms, names, target, trust))
    residual = trust - q @ (q.T @ trust)
    leverage = np.minimum((q**2).sum(1), 1 - 1e-9)
    return float(np.sqrt(np.mean((residual / (1 - leverage)) ** 2)))


def _predict_unseen(
    terms: dict[str, _Floats], target: _Floats, trust: _Floats, index: int
) -> float:
    """The latency of one network by a fit, choice of terms included, to all the others."""
    others = np.arange(len(target)) != index
    seen = {name: values[others] for name, values in terms.items()}
    names = _choose(seen, target[others], trust[others])
    weights = _fit(seen, names, target[others], trust[others])
    return sum(w * float(terms[name][index]) for name, w in zip(names, weights, strict=True))


def _coverage(residuals: _Floats) -> float | None:
    """Share of networks inside the interval that all the others' residuals give."""
    try:
        inside = [
            abs(residual) <= relative_half_width(np.delete(residuals, i).tolist(), _CONFIDENCE)
            for i, residual in enumerate(residuals)
        ]
    except TableError:  # too few networks for an interval
        return None
    return float(np.mean(inside))
