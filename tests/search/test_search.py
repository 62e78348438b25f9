import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ofa_hw.errors import InfeasibleError, MissingOpError, SpecError
from ofa_hw.ops import OpSpec
from ofa_hw.predictor import load_predictor
from ofa_hw.search import latency_range, search
from ofa_hw.spaces import Rows, SearchSpace, SubnetSpec, get_space

TINY = get_space("tiny")
MS = {op: 1e-3 + op.macs / 1e6 for op in TINY.table_ops()}


class SizePredictor:
    """An objective that grows with every active choice, and is cheap to check by hand."""

    def __init__(self, space: SearchSpace = TINY) -> None:
        self.space = space

    def predict(self, specs: list[SubnetSpec]) -> npt.NDArray[np.float64]:
        return self.predict_rows(self.space.encode(specs))

    def predict_rows(self, rows: Rows) -> npt.NDArray[np.float64]:
        return np.where(self.space.active(rows), rows + 1, 0).sum(1) / 100


def _latency_ms(spec: SubnetSpec) -> float:
    return sum(MS[op] for op in TINY.ops(spec))


@pytest.mark.parametrize("budget", [0.7, 0.9, 1.5, 1e9])
def test_best_network_keeps_the_budget_and_its_costs_are_true(budget: float) -> None:
    result = search(TINY, predictor=SizePredictor(), lut=MS, latency_ms=budget, rounds=2)
    best = result.best
    assert best.latency_ms <= budget
    assert best.latency_ms == pytest.approx(_latency_ms(best.spec))
    assert best.top1 == SizePredictor().predict([best.spec])[0]
    if budget == 1e9:
        assert best.spec == TINY.largest()


def test_budget_at_the_exact_minimum_is_feasible() -> None:
    smallest, largest = latency_range(TINY, MS)
    result = search(TINY, predictor=SizePredictor(), lut=MS, latency_ms=smallest, rounds=2)
    assert result.best.latency_ms == pytest.approx(smallest)
    assert (smallest, largest) == pytest.approx(
        (_latency_ms(TINY.smallest()), _latency_ms(TINY.largest()))
    )


def test_infeasible_budget_names_the_nearest_that_is_feasible() -> None:
    smallest, _ = latency_range(TINY, MS)
    with pytest.raises(InfeasibleError) as caught:
        search(TINY, predictor=SizePredictor(), lut=MS, latency_ms=smallest * 0.999)
    named = float(re.findall(r"at least ([\d.]+)", str(caught.value))[0])
    result = search(TINY, predictor=SizePredictor(), lut=MS, latency_ms=named, rounds=2)
    assert result.best.latency_ms == pytest.approx(smallest)


def test_same_seed_gives_the_same_result() -> None:
    a, b = (
        search(TINY, predictor=SizePredictor(), lut=MS, latency_ms=0.8, rounds=2, seed=3)
        for _ in range(2)
    )
    assert a == b


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"latency_ms": -1.0}, SpecError, "positive, got -1"),
        ({"latency_ms": float("nan")}, SpecError, "positive, got nan"),
        ({"resolutions": [17]}, SpecError, "no resolution 17"),
        ({"lut": [MS, MS]}, SpecError, "2 latency tables need as many budgets, got 1"),
        ({"lut": dict(list(MS.items())[5:])}, MissingOpError, "no row for"),
        ({"restrict": {"kernels": [3]}}, SpecError, "cannot restrict kernels"),
        ({"predictor": SizePredictor(get_space("ofa_resnet50"))}, SpecError, "ofa_resnet50"),
    ],
    ids=["negative", "nan", "resolution", "budgets", "rows", "field", "predictor"],
)
def test_bad_input_is_one_sentence(
    arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    given = {"predictor": SizePredictor(), "lut": MS, "latency_ms": 1.0, **arguments}
    if error is MissingOpError:
        given["resolutions"] = TINY.resolutions
    with pytest.raises(error, match=message):
        search(TINY, **given)  # type: ignore[arg-type]


def test_search_reaches_what_long_searches_reached(shared_data: Path) -> None:
    from ofa_hw.latency import load_table

    predictor = load_predictor(shared_data / "acc_predictor.pth")
    table = load_table(shared_data / "note10")
    result = search(predictor.space, predictor=predictor, lut=table, latency_ms=20, seed=0)
    assert result.best.top1 > 0.80737 - 0.0015
    assert result.best.latency_ms == pytest.approx(
        table.latency_ms(predictor.space.ops(result.best.spec))
    )


def test_missing_rows_are_named_all_at_once() -> None:
    rows = dict(MS)
    gone: list[OpSpec] = sorted(rows)[::7]
    for op in gone:
        del rows[op]
    with pytest.raises(MissingOpError) as caught:
        search(
            TINY,
            predictor=SizePredictor(),
            lut=rows,
            latency_ms=1.0,
            resolutions=TINY.resolutions,
        )
    assert list(caught.value.missing) == gone
