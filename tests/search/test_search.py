import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ofa_hw.errors import InfeasibleError, MissingOpError, SpecError, TableError
from ofa_hw.latency import load_table
from ofa_hw.latency.calibration import Calibration
from ofa_hw.ops import OpSpec
from ofa_hw.predictor import load_predictor
from ofa_hw.search import COSTS, compile_costs, latency_range, search
from ofa_hw.search.feasible import cost_range
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
    predictor = load_predictor(shared_data / "acc_predictor.pth")
    table = load_table(shared_data / "note10")
    result = search(predictor.space, predictor=predictor, lut=table, latency_ms=20, seed=0)
    assert result.best.top1 > 0.80737 - 0.0015
    assert result.best.latency_ms == pytest.approx(
        table.latency_ms(predictor.space.ops(result.best.spec))
    )


def test_one_network_for_two_devices_keeps_both_budgets() -> None:
    other = {op: 0.1 + op.params / 1e5 for op in MS}
    ranges = [latency_range(TINY, rows) for rows in (MS, other)]
    budgets = [low + 0.2 * (high - low) for low, high in ranges]
    best = search(
        TINY, predictor=SizePredictor(), lut=[MS, other], latency_ms=budgets, rounds=2
    ).best
    alone = search(TINY, predictor=SizePredictor(), lut=MS, latency_ms=budgets[0], rounds=2).best
    assert best.latency_ms <= budgets[0]
    assert best.costs["latency_ms_2"] <= budgets[1]
    assert best.costs["latency_ms_2"] == pytest.approx(sum(other[op] for op in TINY.ops(best.spec)))
    assert best.top1 <= alone.top1


@pytest.mark.parametrize("cost", ["macs", "params", "weight_bytes", "peak_bytes"])
def test_limits_of_other_costs_are_kept(cost: str) -> None:
    free = search(TINY, predictor=SizePredictor(), lut=MS, latency_ms=2.0, rounds=2)
    low, high = cost_range(compile_costs(TINY, [COSTS[cost]]), 0)
    limit = (low + high) / 3
    found = search(
        TINY,
        predictor=SizePredictor(),
        lut=MS,
        latency_ms=2.0,
        rounds=2,
        **{cost: limit},  # type: ignore[arg-type]
    )
    assert found.best.costs[cost] <= limit
    assert found.best.top1 <= free.best.top1
    assert all(point.costs[cost] <= limit for point in found.front)


def test_restricted_fields_and_resolutions_are_kept() -> None:
    resolution = TINY.resolutions[1]
    best = search(
        TINY,
        predictor=SizePredictor(),
        lut=MS,
        latency_ms=1e9,
        resolutions=[resolution],
        restrict={"kernel_sizes": [3, 5], "depths": [2]},
        rounds=1,
    ).best
    assert best.spec.resolution == resolution
    assert max(best.spec.kernel_sizes) == 5
    assert set(best.spec.depths) == {2}


def test_space_of_one_network_is_searched() -> None:
    restrict = {"kernel_sizes": [3], "expand_ratios": [4], "depths": [2]}
    result = search(
        TINY,
        predictor=SizePredictor(),
        lut=MS,
        latency_ms=1e9,
        resolutions=[TINY.resolutions[0]],
        restrict=restrict,
    )
    assert result.distinct == 1
    assert result.front == (result.best,)


def test_front_and_history_rise_to_the_best() -> None:
    result = search(TINY, predictor=SizePredictor(), lut=MS, latency_ms=1.2, rounds=3)
    assert result.front[-1] == result.best
    assert [p.top1 for p in result.front] == sorted(p.top1 for p in result.front)
    assert [p.latency_ms for p in result.front] == sorted(p.latency_ms for p in result.front)
    values = [step.top1 for step in result.history]
    assert values == sorted(values)
    assert values[-1] == result.best.top1
    assert result.distinct == result.history[-1].evaluations <= result.evaluations


def test_confidence_needs_a_calibrated_table() -> None:
    with pytest.raises(TableError, match="calibrated"):
        search(TINY, predictor=SizePredictor(), lut=MS, latency_ms=1.0, confidence=0.9)


def test_confidence_applies_the_budget_to_the_upper_end_of_the_interval(shared_data: Path) -> None:
    table = load_table(shared_data / "note10")
    table = replace(table, calibration=Calibration(residuals=(0.05, -0.1, *[0.01] * 18)))
    predictor = load_predictor(shared_data / "acc_predictor.pth")
    best = search(
        predictor.space,
        predictor=predictor,
        lut=table,
        latency_ms=20,
        resolutions=[160, 176],
        confidence=0.95,
        rounds=1,
    ).best
    _, upper = table.latency_interval_ms(predictor.space.ops(best.spec), 0.95)
    assert best.costs["upper_latency_ms"] == pytest.approx(upper)
    assert upper <= 20
    assert best.latency_ms == pytest.approx(upper / 1.1)


def test_resolutions_that_the_predictor_never_saw_are_not_searched(shared_data: Path) -> None:
    predictor = load_predictor(shared_data / "acc_predictor.pth")
    rows = {op: op.macs / 1e8 for op in predictor.space.table_ops([128, 160])}
    arguments = {"predictor": predictor, "lut": rows, "latency_ms": 1e9, "rounds": 0}
    best = search(predictor.space, **arguments).best  # type: ignore[arg-type]
    assert best.spec.resolution == 160
    with pytest.raises(SpecError, match="not fitted on resolution 128"):
        search(predictor.space, **arguments, resolutions=[128, 160])  # type: ignore[arg-type]


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
