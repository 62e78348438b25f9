"""Hardware in the loop: what ships is what the device ran within the budget."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from ofa_hw import LatencyTable, get_space, load_table, specialize
from ofa_hw.errors import InfeasibleError, SpecError
from ofa_hw.predictor import MlpPredictor
from ofa_hw.profiling import Cell, Measurement, SamplingPlan, open_profiler
from ofa_hw.search import Candidate, latency_range
from ofa_hw.shortlist import measure_best, shortlist

TINY = get_space("tiny")
QUICK = SamplingPlan(relative_ci=1.0, min_time_s=0.02, max_time_s=0.1)


class Scripted:
    """Answers with latencies from a list, so that a test decides which candidates are too slow."""

    def __init__(self, table: LatencyTable, latencies_ms: Sequence[float]) -> None:
        self.device = table.device
        self._latencies_ms = latencies_ms

    def measure(
        self,
        cells: Sequence[Cell],
        plan: SamplingPlan,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[Measurement]:
        for cell, ms in reversed(list(zip(cells, self._latencies_ms, strict=True))):
            yield Measurement(cell.key, (ms * 1e6,) * 9, stable=True)

    def close(self) -> None:
        pass


def scaled(table: LatencyTable, factor: float) -> LatencyTable:
    """The table with every row this many times what was measured."""
    rows = {op: replace(row, median_ms=factor * row.median_ms) for op, row in table.rows.items()}
    overhead = table.overhead and replace(
        table.overhead, median_ms=factor * table.overhead.median_ms
    )
    return replace(table, rows=rows, overhead=overhead)


def points(latencies_ms: Sequence[float]) -> list[Candidate]:
    """A front: the slower, the more accurate."""
    specs = [TINY.smallest(24), TINY.largest(24), TINY.smallest(32), TINY.largest(32)]
    return [
        Candidate(specs[i % 4], 0.5 + 0.01 * i, {"latency_ms": ms})
        for i, ms in enumerate(latencies_ms)
    ]


@pytest.mark.parametrize("by_name", [True, False], ids=["backend by name", "profiler"])
def test_a_budget_that_the_device_keeps_ships_the_best(
    table: LatencyTable, predictor: MlpPredictor, by_name: bool
) -> None:
    budget = 10 * latency_range(TINY, table, resolutions=[24])[1]
    profiler = "onnxruntime" if by_name else open_profiler("onnxruntime")
    subnet = specialize(
        TINY,
        predictor=predictor,
        lut=table,
        latency_ms=budget,
        resolutions=[24],
        measure_top=3,
        profiler=profiler,
        plan=QUICK,
    )
    assert subnet.spec == subnet.result.best.spec
    assert len(subnet.measured) == 3
    assert len({c.candidate.spec for c in subnet.measured}) == 3
    assert subnet.measured_ms == subnet.measured[0].measured_ms <= budget
    summary = subnet.summary()
    assert summary["measured_latency_ms"] == subnet.measured_ms
    assert [c["predicted_latency_ms"] for c in summary["candidates"]] == pytest.approx(
        [table.latency_ms(TINY.ops(c.candidate.spec)) for c in subnet.measured]
    )
    promised = subnet.provenance()
    assert promised.device == table.device
    assert promised.measured_latency_ms == subnet.measured_ms
    assert subnet.provenance("int8").measured_latency_ms is None  # that was another network


def test_a_table_that_promises_a_fifth_of_the_latency_is_found_out(
    table: LatencyTable, predictor: MlpPredictor
) -> None:
    lying = scaled(table, 0.2)  # no change of load makes up for this
    low, high = latency_range(TINY, lying, resolutions=[32])
    with pytest.raises(InfeasibleError, match=r"over the budget.* times what the table says") as e:
        specialize(
            TINY,
            predictor=predictor,
            lut=lying,
            latency_ms=(low + high) / 2,
            resolutions=[32],
            measure_top=4,
            plan=QUICK,
        )
    assert "none of the 4 best" in str(e.value)


def test_the_most_accurate_of_those_that_meet_the_budget_is_shipped(table: LatencyTable) -> None:
    front = points([0.6, 0.8, 0.9, 1.0])
    budgets = [1.0]
    chosen, measured = measure_best(
        TINY,
        front,
        count=4,
        tables=[table],
        budgets_ms=budgets,
        profiler=Scripted(table, [1.3, 1.1, 0.95, 0.5]),
    )
    assert chosen.candidate == front[1]
    assert chosen.measured_ms == 0.95
    assert [c.candidate for c in measured] == front[::-1]


def test_a_broken_promise_says_by_how_much_and_what_to_ask_for(table: LatencyTable) -> None:
    front = points([0.9, 1.0])
    truth = [table.latency_ms(TINY.ops(point.spec)) for point in front[::-1]]
    with pytest.raises(InfeasibleError) as caught:
        measure_best(
            TINY,
            front,
            count=2,
            tables=[table],
            budgets_ms=[min(truth)],
            profiler=Scripted(table, [2 * ms for ms in truth]),
        )
    message = str(caught.value)
    assert "100.0% over the budget" in message
    assert "2.00 times what the table says" in message
    assert f"ask it for {min(truth) / 2:.4g} ms" in message


def test_the_profiler_is_held_against_the_table_of_its_device(table: LatencyTable) -> None:
    phone = replace(table, header=replace(table.header, device=replace(table.device, name="phone")))
    chosen, _ = measure_best(
        TINY,
        points([0.9, 1.0]),
        count=2,
        tables=[phone, table],
        budgets_ms=[0.1, 2.0],
        profiler=Scripted(table, [1.0, 1.0]),
    )
    assert chosen.measured_ms == 1.0


def test_a_table_of_another_device_is_named_when_its_promise_breaks(
    table: LatencyTable, caplog: pytest.LogCaptureFixture
) -> None:
    other = replace(table, header=replace(table.header, device=replace(table.device, name="phone")))
    with pytest.raises(InfeasibleError, match="measured otherwise: name is 'phone' there"):
        measure_best(
            TINY,
            points([1.0]),
            count=1,
            tables=[other],
            budgets_ms=[1.0],
            profiler=Scripted(table, [3.0]),
        )
    assert "measured otherwise" in caplog.text


def test_the_shortlist_leaves_a_margin_where_the_front_has_one() -> None:
    front = points([0.8, 0.9, 0.985, 0.992, 0.999, 1.0])
    assert [p.latency_ms for p in shortlist(front, 3)] == [1.0, 0.985, 0.9]
    assert [p.latency_ms for p in shortlist(front, 5)] == [1.0, 0.999, 0.985, 0.9, 0.8]
    assert len(shortlist(front, 99)) == 6


def test_measuring_none_and_a_profiler_for_nothing_are_refused(
    table: LatencyTable, predictor: MlpPredictor
) -> None:
    with pytest.raises(SpecError, match="at least 1, got 0"):
        shortlist(points([1.0]), 0)
    with pytest.raises(SpecError, match="measure_top"):
        specialize(TINY, predictor=predictor, lut=table, latency_ms=9, profiler="onnxruntime")


def test_one_network_for_two_tables_by_name(table_file, predictor_file) -> None:
    table = load_table(table_file)
    low, high = latency_range(TINY, table)
    subnet = specialize(
        "tiny",
        predictor=predictor_file,
        lut=[table_file, str(table_file)],
        latency_ms=[high, (low + high) / 2],
        restrict={"depths[0]": (1, 2)},
        macs=2e6,
        rounds=1,
    )
    assert subnet.latency_ms <= (low + high) / 2
    assert subnet.table == f"{table.name}, {table.name}"
    assert subnet.summary()["costs"]["latency_ms_2"] == pytest.approx(subnet.latency_ms)
    assert TINY.macs(subnet.spec) <= 2e6
    assert subnet.spec.depths[0] <= 2
