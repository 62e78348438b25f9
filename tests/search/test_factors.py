import time
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ofa_hw.errors import MissingOpError
from ofa_hw.graph import op_graph
from ofa_hw.graph.blocks import ShapesOnly
from ofa_hw.ops import OpSpec
from ofa_hw.search import (
    MACS,
    PARAMS,
    PEAK_BYTES,
    WEIGHT_BYTES,
    Cost,
    FactorTables,
    compile_costs,
    latency_cost,
)
from ofa_hw.search.factors import covered_resolutions
from ofa_hw.spaces import SearchSpace, get_space, space_names


def _milliseconds(op: OpSpec) -> float:
    return 0.01 + op.macs / 3e7 + op.kernel_size / 7


def _own(op: OpSpec, resolution: int) -> float:
    return op.kernel_size * resolution


COSTS = (
    Cost("latency_ms", lambda op, _: _milliseconds(op), constant=0.5),
    MACS,
    PARAMS,
    WEIGHT_BYTES,
    PEAK_BYTES,
    Cost("own", _own),
)


@cache
def _compiled(name: str) -> tuple[SearchSpace, FactorTables]:
    space = get_space(name)
    resolutions = space.resolutions[::8] + space.resolutions[-1:]
    return space, compile_costs(space, COSTS, allowed=space.allowed({"resolution": resolutions}))


@pytest.mark.parametrize("name", space_names())
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_factor_tables_equal_the_sum_over_operators(name: str, seed: int) -> None:
    space, tables = _compiled(name)
    rng = np.random.default_rng(seed)
    rows = space.sample_rows(4, rng=rng, allowed=tables.allowed)  # not canonical
    values = tables.evaluate(rows)
    for spec, found in zip(space.decode(rows), values, strict=True):
        ops = space.ops(spec)
        graphs = [op_graph(op, weights=ShapesOnly()) for op in ops]
        assert found[0] == pytest.approx(0.5 + sum(map(_milliseconds, ops)), rel=1e-12)
        assert found[1] == space.macs(spec)
        assert found[2] == space.params(spec)
        assert found[3] == sum(graph.weight_bytes for graph in graphs)
        assert found[4] == max(graph.peak_bytes for graph in graphs)
        assert found[5] == sum(_own(op, spec.resolution) for op in ops)


def test_ten_thousand_networks_take_milliseconds() -> None:
    space, tables = _compiled("ofa_mbv3_d234_e346_k357_w1.2")
    rows = space.sample_rows(10_000, rng=np.random.default_rng(0), allowed=tables.allowed)
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        tables.evaluate(rows)
        taken.append(time.perf_counter() - start)
    assert min(taken) < 0.2  # it takes 0.01 s for six costs; the rest is for a busy machine


def test_choices_that_are_not_allowed_cost_infinity() -> None:
    tiny = get_space("tiny")
    tables = compile_costs(tiny, [MACS], allowed=tiny.allowed({"kernel_sizes": [3, 5]}))
    largest = tiny.encode([tiny.largest()])
    assert tables.evaluate(largest)[0, 0] == np.inf


def test_missing_operators_are_all_named() -> None:
    tiny = get_space("tiny")
    rows = dict.fromkeys(tiny.table_ops(), 1.0)
    gone = sorted(rows)[3:90:9]
    for op in gone:
        del rows[op]
    with pytest.raises(MissingOpError) as caught:
        compile_costs(tiny, [latency_cost(rows)])
    assert list(caught.value.missing) == gone


def test_resolutions_without_rows_are_left_out() -> None:
    tiny = get_space("tiny")
    known = [tiny.resolutions[0], tiny.resolutions[-1]]
    rows = dict.fromkeys(tiny.table_ops(known), 1.0)
    covered = covered_resolutions(tiny, [latency_cost(rows)], tiny.allowed({}))[0]
    assert [tiny.resolutions[i] for i in covered] == known
    with pytest.raises(MissingOpError):
        covered_resolutions(tiny, [latency_cost({})], tiny.allowed({}))
