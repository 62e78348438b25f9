"""fit_predictor: fits an accuracy predictor on measured sub-networks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ofa_hw.errors import SpecError
from ofa_hw.predictor.features import GENERIC, feature_layout
from ofa_hw.predictor.mlp import Array, FitReport, MlpPredictor
from ofa_hw.spaces import SearchSpace, SubnetSpec

if TYPE_CHECKING:
    from sklearn.compose import TransformedTargetRegressor


def fit_predictor(
    space: SearchSpace,
    specs: Sequence[SubnetSpec],
    top1: Sequence[float] | npt.NDArray[np.float64],
    *,
    seed: int,
    hidden: Sequence[int] = (400, 400, 400),
    held_out: float = 0.2,
    weight_decay: float = 1e-4,
    max_epochs: int = 200,
) -> MlpPredictor:
    """Fits a multi-layer perceptron, as once-for-all does (https://arxiv.org/abs/1908.09791).

    Args:
        space: Whose sub-networks were measured.
        specs: The sub-networks; equal ones stay on one side of the split.
        top1: Their accuracies as fractions.
        seed: Of the split and of the weights.
        hidden: Widths of the hidden layers.
        held_out: Share of the sub-networks kept for the report, between 0 and 1.
        weight_decay: L2 penalty.
        max_epochs: Passes over the data at most.

    Returns:
        The predictor; its `report` is of the sub-networks held out.

    Raises:
        SpecError: If there are too few sub-networks, an accuracy is no fraction, or a
            sub-network is none of the space.
    """
    labels = np.asarray(top1, np.float64)
    if len(specs) != len(labels):
        raise SpecError(f"{len(specs)} sub-networks and {len(labels)} accuracies do not pair")
    if bad := [value for value in labels.tolist() if not 0 <= value <= 1]:
        raise SpecError(f"accuracies are fractions between 0 and 1, got {bad[0]}")
    if not 0 < held_out < 1:
        raise SpecError(f"the share held out must lie between 0 and 1, got {held_out}")
    rows = space.encode(specs)
    distinct, group = np.unique(rows, axis=0, return_inverse=True)
    if len(distinct) < 10:
        raise SpecError(f"{len(distinct)} distinct sub-networks are too few to fit; measure 10")
    rng = np.random.default_rng(seed)
    kept = max(2, round(held_out * len(distinct)))
    test = np.isin(group.ravel(), rng.permutation(len(distinct))[:kept])
    layout = feature_layout(GENERIC, space)
    model = _regressor(hidden, weight_decay, max_epochs, seed)
    converged = _fit(model, layout(rows[~test]), labels[~test])
    weights, biases = fold(model)
    source = f"fitted on {np.count_nonzero(~test)} sub-networks of {space.name}"
    seen = tuple(space.resolutions[i] for i in np.unique(rows[~test, 0]))
    predictor = MlpPredictor(layout, weights, biases, source, seen)
    found = predictor.predict_rows(rows[test])
    report = _report(found, labels[test], int(np.count_nonzero(~test)), converged, seed)
    return replace(predictor, report=report)


def fold(model: TransformedTargetRegressor) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Weights and biases of a fitted regressor, its target's scaling folded into the last."""
    scaler, mlp = model.transformer_, model.regressor_
    weights, biases = list(mlp.coefs_), list(mlp.intercepts_)
    weights[-1] = weights[-1] * scaler.scale_
    biases[-1] = biases[-1] * scaler.scale_ + scaler.mean_
    return (
        tuple(np.ascontiguousarray(weight, np.float32) for weight in weights),
        tuple(np.ascontiguousarray(bias, np.float32) for bias in biases),
    )


def _regressor(
    hidden: Sequence[int], weight_decay: float, max_epochs: int, seed: int
) -> TransformedTargetRegressor:
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.neural_network import MLPRegressor
    from sklearn.preprocessing import StandardScaler

    mlp = MLPRegressor(
        hidden_layer_sizes=tuple(hidden), alpha=weight_decay, max_iter=max_epochs, random_state=seed
    )
    return TransformedTargetRegressor(mlp, transformer=StandardScaler())


def _fit(
    model: TransformedTargetRegressor, features: Array, labels: npt.NDArray[np.float64]
) -> bool:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(features, labels)
    return not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)


def _report(
    found: npt.NDArray[np.float64],
    labels: npt.NDArray[np.float64],
    fitted: int,
    converged: bool,
    seed: int,
) -> FitReport:
    from scipy.stats import kendalltau, spearmanr

    error = found - labels
    differ = np.ptp(labels) > 0 and np.ptp(found) > 0
    return FitReport(
        fitted=fitted,
        held_out=len(labels),
        rmse=float(np.sqrt(np.mean(error**2))),
        mae=float(np.mean(np.abs(error))),
        spearman=float(spearmanr(found, labels).statistic) if differ else float("nan"),
        kendall=float(kendalltau(found, labels).statistic) if differ else float("nan"),
        converged=converged,
        seed=seed,
    )
