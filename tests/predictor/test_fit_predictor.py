import math

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

from ofa_hw.errors import SpecError
from ofa_hw.predictor import MlpPredictor, feature_layout, fit_predictor
from ofa_hw.predictor.fit import fold
from ofa_hw.spaces import Rows, get_space, space_names

TINY = get_space("tiny")


def _labels(rows: Rows) -> npt.NDArray[np.float64]:
    """An accuracy that grows with every active choice, as real ones do."""
    size = np.where(TINY.active(rows), rows + 1, 0).sum(1)
    return np.asarray(0.5 + 0.4 * size / 60)


def _sample(count: int) -> Rows:
    return TINY.canonical_rows(TINY.sample_rows(count, rng=np.random.default_rng(3)))


def test_numpy_agrees_with_sklearn() -> None:
    rows = _sample(300)
    layout = feature_layout("generic", TINY)
    mlp = MLPRegressor(hidden_layer_sizes=(32, 32), max_iter=300, random_state=0, tol=1e-3)
    model = TransformedTargetRegressor(mlp, transformer=StandardScaler())
    model.fit(layout(rows), _labels(rows))
    predictor = MlpPredictor(layout, *fold(model), source="test", resolutions=TINY.resolutions)
    expected = model.predict(layout(rows))
    np.testing.assert_allclose(predictor.predict_rows(rows), expected, rtol=0, atol=1e-5)


def test_fit_learns_what_the_labels_say() -> None:
    rows = _sample(400)
    predictor = fit_predictor(TINY, TINY.decode(rows), _labels(rows), seed=0, hidden=(64, 64))
    report = predictor.report
    assert report is not None
    assert (report.fitted, report.held_out) == (320, 80)
    assert report.mae <= report.rmse < 0.01
    assert report.spearman > 0.97
    assert report.kendall > 0.85


def test_fit_knows_the_resolutions_it_has_seen() -> None:
    rows = _sample(60)
    rows = TINY.canonical_rows(np.column_stack([np.minimum(rows[:, 0], 1), rows[:, 1:]]))
    predictor = fit_predictor(
        TINY, TINY.decode(rows), _labels(rows), seed=0, hidden=(8,), max_epochs=2
    )
    assert predictor.resolutions == TINY.resolutions[:2]


def test_fit_is_repeatable() -> None:
    rows = _sample(60)
    a, b = (
        fit_predictor(TINY, TINY.decode(rows), _labels(rows), seed=5, hidden=(8,), max_epochs=9)
        for _ in range(2)
    )
    assert a.report == b.report
    assert a.report is not None
    assert not a.report.converged
    assert a.predict_rows(rows).tolist() == b.predict_rows(rows).tolist()


def test_equal_networks_are_never_on_both_sides_of_the_split() -> None:
    rows = np.repeat(_sample(20), 5, axis=0)
    predictor = fit_predictor(
        TINY, TINY.decode(rows), _labels(rows), seed=0, hidden=(8,), max_epochs=3
    )
    assert predictor.report is not None
    assert predictor.report.held_out == 20


def test_constant_labels_have_no_rank_correlation() -> None:
    rows = _sample(30)
    predictor = fit_predictor(
        TINY, TINY.decode(rows), [0.5] * 30, seed=0, hidden=(8,), max_epochs=3
    )
    assert predictor.report is not None
    assert math.isnan(predictor.report.spearman)


@pytest.mark.parametrize(
    ("count", "labels", "held_out", "message"),
    [
        (12, [0.5] * 11, 0.2, "12 sub-networks and 11 accuracies"),
        (12, [55.0] * 12, 0.2, "fractions"),
        (12, [math.nan] * 12, 0.2, "fractions"),
        (5, [0.5] * 5, 0.2, "too few"),
        (12, [0.5] * 12, 1.0, "held out"),
    ],
    ids=["unpaired", "percent", "nan", "few", "share"],
)
def test_bad_labels_are_refused(
    count: int, labels: list[float], held_out: float, message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        fit_predictor(TINY, TINY.decode(_sample(count)), labels, seed=0, held_out=held_out)


@pytest.mark.parametrize("name", space_names())
def test_generic_features_tell_networks_apart(name: str) -> None:
    space = get_space(name)
    rows = space.canonical_rows(space.sample_rows(300, rng=np.random.default_rng(0)))
    features = feature_layout("generic", space)(rows)
    assert len(np.unique(features, axis=0)) == len(np.unique(rows, axis=0))
    assert features.sum(1).tolist() == space.active(rows).sum(1).tolist()
