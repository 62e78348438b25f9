import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ofa_hw.errors import InfeasibleError, SpecError
from ofa_hw.predictor import fit_predictor
from ofa_hw.search import MACS, PARAMS, hypervolume, pareto
from ofa_hw.search.fronts import nondominated
from ofa_hw.spaces import get_space

TINY = get_space("tiny")
MS = {op: 1e-3 + op.macs / 1e6 for op in TINY.table_ops()}
POINTS = st.integers(2, 3).flatmap(
    lambda k: arrays(
        np.float64, st.tuples(st.integers(1, 12), st.just(k)), elements=st.integers(0, 6)
    )
)


@pytest.fixture(scope="module")
def predictor() -> object:
    specs = TINY.decode(TINY.sample_rows(80, rng=np.random.default_rng(0)))
    top1 = [0.5 + TINY.macs(spec) / 4e7 for spec in specs]
    return fit_predictor(TINY, specs, np.clip(top1, 0, 1), seed=0, hidden=(16,), max_epochs=30)


@settings(max_examples=60, deadline=None)
@given(points=POINTS)
def test_front_is_what_nothing_beats(points: np.ndarray) -> None:
    kept = nondominated(points)
    beaten = [any((q <= p).all() and (q < p).any() for q in points) for p in points]
    expected = {tuple(p) for p, lost in zip(points.tolist(), beaten, strict=True) if not lost}
    assert {tuple(p) for p in points[kept].tolist()} == expected
    assert len(kept) == len(expected)


@settings(max_examples=60, deadline=None)
@given(points=POINTS)
def test_hypervolume_counts_the_dominated_cells(points: np.ndarray) -> None:
    k = points.shape[1]
    corners = np.stack(np.meshgrid(*[np.arange(7)] * k, indexing="ij"), -1).reshape(-1, k)
    dominated = (points[:, None] <= corners).all(axis=2).any(axis=0).sum()
    assert hypervolume(points, np.full(k, 7.0)) == pytest.approx(dominated)


@pytest.mark.parametrize("against", [(), (PARAMS,)], ids=["latency", "latency and parameters"])
def test_no_point_of_a_front_beats_another(predictor: object, against: tuple[object, ...]) -> None:
    front = pareto(
        TINY,
        predictor=predictor,
        lut=MS,
        against=against,
        budgets=9,
        rounds=1,  # type: ignore[arg-type]
    )
    points = np.array(
        [[*(p.costs[name] for name in front.objectives), -p.top1] for p in front.points]
    )
    assert len(nondominated(points)) == len(points) > 3
    assert (np.diff(points[:, 0]) >= 0).all()
    assert 0 < front.hypervolume < 1
    for point in front.points:
        assert point.latency_ms == pytest.approx(sum(MS[op] for op in TINY.ops(point.spec)))


def test_front_answers_for_a_budget(predictor: object) -> None:
    front = pareto(TINY, predictor=predictor, lut=MS, budgets=4, rounds=1)  # type: ignore[arg-type]
    budget = front.points[len(front.points) // 2].latency_ms
    assert front.within("latency_ms", budget) == front.points[len(front.points) // 2]
    with pytest.raises(InfeasibleError, match="the least is"):
        front.within("latency_ms", front.points[0].latency_ms / 2)


@pytest.mark.parametrize(
    ("against", "budgets"), [((MACS, PARAMS), 9), ((), 1)], ids=["three costs", "one budget"]
)
def test_front_that_cannot_be_is_refused(
    predictor: object, against: tuple[object, ...], budgets: int
) -> None:
    with pytest.raises(SpecError, match="one or two costs"):
        pareto(TINY, predictor=predictor, lut=MS, against=against, budgets=budgets)  # type: ignore[arg-type]


def test_limits_hold_for_every_point_of_a_front(predictor: object) -> None:
    given = {"predictor": predictor, "lut": MS, "budgets": 5, "rounds": 1}
    free = pareto(TINY, **given)  # type: ignore[arg-type]
    limit = sorted(TINY.macs(point.spec) for point in free.points)[len(free.points) // 2]
    limited = pareto(TINY, macs=limit, **given)  # type: ignore[arg-type]
    assert all(point.costs["macs"] <= limit for point in limited.points)
    assert limited.objectives == free.objectives
    assert limited.hypervolume < free.hypervolume
    with pytest.raises(InfeasibleError, match="macs can be at most 1 but is at least"):
        pareto(TINY, macs=1, **given)  # type: ignore[arg-type]
