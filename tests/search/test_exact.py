import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ofa_hw.errors import InfeasibleError, SpecError
from ofa_hw.ops import OpSpec
from ofa_hw.search import MACS, PARAMS, PEAK_BYTES, Cost, FactorTables, compile_costs
from ofa_hw.search.exact import cost_bounds, draw_rows
from ofa_hw.search.feasible import cost_range, feasible_rows
from ofa_hw.spaces import Gene, Rows, SearchSpace, Slot, get_space, space_names


def _arbitrary(seed: int) -> Cost:
    """A cost with no order in it, so that no shortcut finds its extremes."""

    def cost(op: OpSpec, resolution: int) -> float:
        return float(np.random.default_rng([seed, hash(op) & 0xFFFFFFFF, resolution]).normal())

    return Cost("arbitrary", cost, constant=1.0)


def _all_rows(space: SearchSpace) -> Rows:
    ranges = [range(len(gene.choices)) for gene in space.genes]
    return np.array(list(itertools.product(*ranges)))


def _conv(in_channels: int, out_channels: int, resolution: int) -> tuple[OpSpec, ...]:
    return (OpSpec("conv", resolution, in_channels, out_channels, kernel_size=3),)


def _widths(count: int) -> SearchSpace:
    """Convolutions whose neighbours share a width, as a user might write them."""
    genes = [Gene("resolution", 0, (8, 16, 32))]
    genes += [Gene("width_indices", i, (8, 16, 24, 32)) for i in range(count)]
    slots = [
        Slot((0, i, i + 1), lambda r, a, b: _conv(int(a), int(b), int(r))) for i in range(1, count)
    ]
    return SearchSpace("widths", genes, slots, num_classes=2)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_extremes_equal_those_of_all_networks(seed: int) -> None:
    space = _widths(4)
    tables = compile_costs(space, [_arbitrary(seed), PEAK_BYTES])
    values = tables.evaluate(_all_rows(space))
    for column in range(2):
        smallest, largest = values[:, column].min(), values[:, column].max()
        assert cost_range(tables, column) == pytest.approx((smallest, largest))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), quantile=st.floats(0, 1))
def test_rows_are_drawn_within_any_limit_and_reach_all_that_are(seed: int, quantile: float) -> None:
    space = _widths(3)
    tables = compile_costs(space, [_arbitrary(seed)])
    values = tables.evaluate(_all_rows(space))[:, 0]
    limit = float(np.quantile(values, quantile))
    bounds = cost_bounds(tables, [1.0])
    drawn = draw_rows(tables, [bounds], [limit], 3000, rng=np.random.default_rng(seed))
    assert tables.evaluate(drawn).max() <= limit + 1e-9
    if quantile < 0.1:
        assert len(np.unique(drawn, axis=0)) == np.count_nonzero(values <= limit + 1e-12)


@pytest.mark.parametrize("name", space_names())
def test_published_spaces_have_exact_extremes(name: str) -> None:
    space = get_space(name)
    allowed = space.allowed({"resolution": space.resolutions[:2] + space.resolutions[-1:]})
    tables = compile_costs(space, [MACS, PARAMS, PEAK_BYTES], allowed=allowed)
    smallest, largest = space.smallest(), space.largest()
    assert cost_range(tables, 0) == (space.macs(smallest), space.macs(largest))
    assert cost_range(tables, 1) == (space.params(smallest), space.params(largest))
    rows = space.encode([smallest, largest])
    assert cost_range(tables, 2) == pytest.approx(tuple(tables.evaluate(rows)[:, 2]))


@pytest.mark.parametrize("name", ["tiny", "ofa_resnet50"])
def test_several_limits_at_once_are_kept(name: str) -> None:
    space = get_space(name)
    allowed = space.allowed({"resolution": space.resolutions[:2]})
    tables = compile_costs(space, [MACS, PARAMS, PEAK_BYTES], allowed=allowed)
    limits = [1.15 * cost_range(tables, column)[0] for column in range(3)]
    rows = feasible_rows(tables, limits, 200, rng=np.random.default_rng(0))
    assert (tables.evaluate(rows) <= limits).all()
    assert len(rows) > 20


def _opposed() -> FactorTables:
    space = _widths(4)
    narrowness = Cost("narrowness", lambda op, _: 100.0 - op.out_channels)
    return compile_costs(space, [MACS, narrowness])


def test_limits_that_cannot_be_kept_alone_name_the_nearest_of_each() -> None:
    tables, limits = _opposed(), [10.0, 150.0]
    smallest = [cost_range(tables, column)[0] for column in range(2)]
    with pytest.raises(InfeasibleError) as caught:
        feasible_rows(tables, limits, 50, rng=np.random.default_rng(0))
    named = re.findall(r"at least ([\d.]+)", str(caught.value))
    assert [float(value) for value in named] == pytest.approx(smallest, rel=1e-4)
    assert (np.array(named, float) >= smallest).all()


def test_limits_that_cannot_be_kept_together_name_the_nearest_network_found() -> None:
    tables, limits = _opposed(), [150_000.0, 206.0]
    values = tables.evaluate(_all_rows(tables.space))
    assert (values <= limits).any(axis=0).all()
    assert not (values <= limits).all(axis=1).any()
    with pytest.raises(InfeasibleError, match=r"together.*nearest found has macs"):
        feasible_rows(tables, limits, 50, rng=np.random.default_rng(0))


@settings(max_examples=25, deadline=None)
@given(quantile=st.floats(0.0, 1.0), seed=st.integers(0, 100))
def test_limits_that_few_networks_keep_together_are_found(quantile: float, seed: int) -> None:
    tables = _opposed()
    values = tables.evaluate(_all_rows(tables.space))
    anchor = values[int(quantile * (len(values) - 1))]
    rows = feasible_rows(tables, anchor.tolist(), 100, rng=np.random.default_rng(seed))
    assert (tables.evaluate(rows) <= anchor * (1 + 1e-9)).all()


def test_space_that_couples_everything_is_refused_in_a_sentence() -> None:
    genes = [Gene("resolution", 0, (8, 16))]
    genes += [Gene("width_indices", i, (8, 16, 24, 32)) for i in range(12)]
    slots = [
        Slot((0, i, j), lambda r, a, b: _conv(int(a), int(b), int(r)))
        for i, j in itertools.combinations(range(1, 13), 2)
    ]
    tables = compile_costs(SearchSpace("clique", genes, slots, num_classes=2), [MACS])
    with pytest.raises(SpecError, match="couples 13 genes"):
        cost_range(tables, 0)


def test_slot_of_too_many_genes_is_refused_in_a_sentence() -> None:
    genes = [Gene("resolution", 0, (8, 16))]
    genes += [Gene("width_indices", i, (8, 16, 24, 32)) for i in range(12)]
    slot = Slot(tuple(range(13)), lambda r, *widths: _conv(3, sum(widths), int(r)))
    with pytest.raises(SpecError, match="fewer genes"):
        compile_costs(SearchSpace("one", genes, [slot], num_classes=2), [MACS])
