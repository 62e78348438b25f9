import math
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.exceptions import ConvergenceWarning

from ofa_hw.errors import SpecError
from ofa_hw.predictor import feature_layout, fit_predictor, load_predictor
from ofa_hw.predictor.fit import Labelled
from ofa_hw.predictor.models import MODELS, ModelOptions
from ofa_hw.spaces import Rows, get_space, space_names

TINY = get_space("tiny")


def _labels(rows: Rows) -> npt.NDArray[np.float64]:
    """An accuracy that grows with every active choice, as real ones do."""
    size = np.where(TINY.active(rows), rows + 1, 0).sum(1)
    return np.asarray(0.5 + 0.4 * size / 60)


def _sample(count: int) -> Rows:
    return TINY.canonical_rows(TINY.sample_rows(count, rng=np.random.default_rng(3)))


@pytest.mark.parametrize("name", MODELS)
def test_numpy_agrees_with_sklearn_before_and_after_a_file(name: str, tmp_path: Path) -> None:
    rows, unseen = np.split(_sample(400), [250])
    layout = feature_layout("generic", TINY)
    make, fold = MODELS[name]
    model = make(ModelOptions(name, 0, hidden=(32, 32), max_epochs=60), len(rows))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(layout(rows), _labels(rows) + np.random.default_rng(0).normal(0, 0.01, len(rows)))
    common = {"layout": layout, "source": "test", "resolutions": (24,), "report": None}
    predictor = fold(model, common)
    expected = model.predict(layout(unseen))
    np.testing.assert_allclose(predictor.predict_rows(unseen), expected, rtol=0, atol=1e-6)
    assert np.ptp(expected) > 0.05
    predictor.save(tmp_path / "p.npz")
    loaded = load_predictor(tmp_path / "p.npz")
    assert type(loaded) is type(predictor)
    assert loaded.predict_rows(unseen).tolist() == predictor.predict_rows(unseen).tolist()


@pytest.mark.parametrize("name", MODELS)
def test_every_model_learns_and_reports_it(name: str) -> None:
    rows = _sample(300)
    predictor = fit_predictor(
        TINY, TINY.decode(rows), _labels(rows), seed=0, model=name, hidden=(64,), max_epochs=100
    )
    assert predictor.report is not None
    assert predictor.report.spearman > 0.85
    assert predictor.report.rmse < 0.02


@pytest.mark.parametrize("held_out", [0.1, 0.2, 0.5])
def test_as_many_of_each_resolution_are_held_out(held_out: float) -> None:
    rows = _sample(300)
    rows[:, 0] = np.repeat([0, 1, 2], 100)  # below: only a few of one of them
    for kept in (np.arange(300), np.arange(90, 300)):
        split = Labelled.split(
            *(TINY, TINY.decode(rows[kept]), np.full(len(kept), 0.5)), held_out=held_out, seed=0
        )
        there, out = (np.bincount(split.rows[some, 0]) for some in (slice(None), split.test))
        assert np.abs(out - held_out * there).max() <= 1


def test_a_model_that_does_not_exist_or_cannot_take_so_many_labels_is_refused() -> None:
    rows = _sample(20)
    specs = TINY.decode(rows)
    with pytest.raises(SpecError, match=r"no model 'svm'; there are mlp, ridge, forest"):
        fit_predictor(TINY, specs, _labels(rows), seed=0, model="svm")
    with pytest.raises(SpecError, match="9000 are more than 5000"):
        MODELS["gaussian"][0](ModelOptions("gaussian", 0), 9000)


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
