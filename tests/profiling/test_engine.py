"""The measuring engine on a fake machine: what it recovers whatever the machine does."""

from __future__ import annotations

import numpy as np
import pytest

from ofa_hw.profiling import Engine, Measurement, SamplingPlan
from ofa_hw.testing import FakeMachine

COSTS_NS = {f"cell {i}": cost for i, cost in enumerate(np.geomspace(2e4, 2e7, 8))}
PLAN = SamplingPlan(relative_ci=0.01, min_time_s=0.05, max_time_s=3, seed=7)


def measure(machine: FakeMachine, plan: SamplingPlan = PLAN) -> dict[str, Measurement]:
    sentinels = [machine.runnable(80e3), machine.runnable(150e3)]
    engine = Engine(sentinels, plan, clock=machine.clock)
    cells = {key: machine.runnable(cost) for key, cost in COSTS_NS.items()}
    return {m.key: m for m in engine.measure(cells)}


def slow_third(now_ns: float) -> float:
    return 1.4 if 0.4e9 < now_ns < 1.1e9 else 1.0


MACHINES = {
    "constant": {},
    "noise": {"noise": 0.03},
    "drift": {"slowdown": lambda now_ns: 1 + now_ns / 10e9, "noise": 0.01},
    "slow phase": {"slowdown": slow_third, "noise": 0.01},
    "swinging": {"slowdown": lambda now_ns: 1.2 + 0.2 * np.sin(now_ns / 3e8), "noise": 0.01},
    "bursts": {"burst_every_ns": 5e7, "noise": 0.01},
}


@pytest.mark.parametrize("kind", MACHINES)
@pytest.mark.parametrize("seed", [0, 1])
def test_ratios_are_recovered_to_one_percent(kind: str, seed: int) -> None:
    machine = FakeMachine(seed=seed, **MACHINES[kind])
    measured = measure(machine)
    ratios = {
        key: float(np.median(m.samples_ns)) / m.sentinel_ns / COSTS_NS[key]
        for key, m in measured.items()
    }
    spread = np.array(list(ratios.values())) / np.median(list(ratios.values()))
    assert spread == pytest.approx(1, abs=0.01)


def test_a_slow_phase_is_within_the_run_it_is_tested_in() -> None:
    machine = FakeMachine(seed=0, slowdown=slow_third, noise=0.01)
    measure(machine)
    assert machine.clock.perf_counter_ns() > 1.5e9


def test_without_sentinels_a_slow_phase_spoils_the_ratios() -> None:
    """The check above would catch an engine that divides nothing out."""
    machine = FakeMachine(seed=0, slowdown=lambda now_ns: 1 + now_ns / 2e9)
    engine = Engine([], PLAN, clock=machine.clock)
    cells = {key: machine.runnable(cost) for key, cost in COSTS_NS.items()}
    ratios = [np.median(m.samples_ns) / COSTS_NS[m.key] for m in engine.measure(cells)]
    assert np.ptp(ratios) > 0.05


def test_quiet_cells_leave_early_and_noisy_ones_stay_until_the_interval_is_narrow() -> None:
    plan = SamplingPlan(relative_ci=0.01, min_time_s=0.02, max_time_s=20)
    quiet, noisy = (measure(FakeMachine(seed=0, noise=n), plan) for n in (0.0, 0.03))
    for key in COSTS_NS:
        assert noisy[key].stable
        assert len(noisy[key].samples_ns) >= len(quiet[key].samples_ns)


def test_a_cell_that_never_settles_is_given_up_and_called_unstable() -> None:
    plan = SamplingPlan(relative_ci=1e-6, min_time_s=0.01, max_time_s=0.05)
    machine = FakeMachine(seed=0, noise=0.1)
    measured = measure(machine, plan)
    assert not any(m.stable for m in measured.values())
    assert machine.clock.perf_counter_ns() < 20e9


def test_a_cell_that_will_not_be_in_time_is_given_up_early() -> None:
    plan = SamplingPlan(relative_ci=1e-4, min_time_s=0.01, max_time_s=8)
    machine = FakeMachine(seed=0, noise=0.05)
    (measurement,) = Engine([], plan, clock=machine.clock).measure({"a": machine.runnable(1e6)})
    assert not measurement.stable
    assert 2 <= machine.clock.perf_counter_ns() * 1e-9 < 4


def test_a_cell_of_seconds_has_an_interval_and_is_run_no_more_than_that_takes() -> None:
    machine = FakeMachine(seed=0, noise=0.001)
    plan = SamplingPlan(max_time_s=0.5)
    (measurement,) = Engine([], plan, clock=machine.clock).measure({"a": machine.runnable(2e9)})
    assert measurement.stable
    assert len(measurement.samples_ns) == 6
    assert machine.inferences <= 16


def test_out_of_time_answers_what_has_an_interval_and_leaves_out_the_rest() -> None:
    machine = FakeMachine(seed=0, noise=0.02)
    cells = {f"cell {i}": machine.runnable(1e6) for i in range(40)}

    def measured_in(total_time_s: float) -> list[Measurement]:
        plan = SamplingPlan(relative_ci=1e-6, max_time_s=10, total_time_s=total_time_s)
        start_ns = machine.clock.now_ns
        engine = Engine([machine.runnable(1e5)], plan, clock=machine.clock)
        measured = list(engine.measure(cells))
        assert machine.clock.now_ns - start_ns < total_time_s * 1e9 + 20e6
        return measured

    assert measured_in(0.4) == []
    in_time = measured_in(2.0)
    assert len(in_time) == len(cells)
    assert all(len(m.samples_ns) >= 6 and not m.stable for m in in_time)


def test_visits_without_the_processor_are_repeated() -> None:
    """Bursts come every 4 ms, in which cells of 20 ms cannot run undisturbed at all."""
    machine = FakeMachine(seed=0, burst_every_ns=4e6)
    measured = measure(machine)
    short = [m for m in measured.values() if COSTS_NS[m.key] < 2e6]
    assert all(m.stable and not m.notes for m in short)
    assert sum(m.visits or 0 for m in short) > sum(len(m.samples_ns) for m in short)


def test_a_machine_that_never_gives_the_processor_ends_with_a_note() -> None:
    measured = measure(FakeMachine(seed=0, burst_every_ns=1.0))
    for measurement in measured.values():
        assert not measurement.stable
        assert len(measurement.samples_ns) > 0
        assert any("shared the processor" in note for note in measurement.notes)


def test_a_clock_that_stands_still_does_not_hang() -> None:
    machine = FakeMachine(seed=0)
    engine = Engine([], PLAN, clock=machine.clock)
    (measurement,) = engine.measure({"cell": lambda: None})
    assert not measurement.stable


def test_throttling_is_noted() -> None:
    machine = FakeMachine(seed=0, slowdown=lambda now_ns: 1.0 if now_ns < 6e9 else 1.3)
    plan = SamplingPlan(relative_ci=1e-9, min_time_s=0.3, max_time_s=4.0)
    machine.noise = 0.01
    measured = measure(machine, plan)
    assert any("throttled" in note for m in measured.values() for note in m.notes)


def test_groups_measured_at_different_speeds_agree_as_multiples_of_the_sentinel() -> None:
    machine = FakeMachine(
        seed=3, slowdown=lambda now_ns: 1.0 if now_ns < 1.0e9 else 1.4, noise=0.01
    )
    engine = Engine([machine.runnable(1e5)], PLAN, clock=machine.clock)
    first, second, third = (
        next(iter(engine.measure({name: machine.runnable(1e6)}))) for name in "abc"
    )
    machine.clock.advance(1e9)
    fourth = next(iter(engine.measure({"d": machine.runnable(1e6)})))
    multiples = [np.median(m.samples_ns) / m.sentinel_ns for m in (first, second, third, fourth)]
    assert multiples == pytest.approx([10] * 4, rel=0.01)
    assert fourth.sentinel_ns / first.sentinel_ns == pytest.approx(1.4, rel=0.02)


def test_the_same_seed_gives_the_same_measurements() -> None:
    one, two = (measure(FakeMachine(seed=5, noise=0.02)) for _ in range(2))
    assert one == two


def test_short_cells_share_readings_of_the_clock() -> None:
    machine = FakeMachine(seed=0)
    list(Engine([], PLAN, clock=machine.clock).measure({"cell": machine.runnable(1e3)}))
    assert machine.inferences > 10 * machine.clock.readings
