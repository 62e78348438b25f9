import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ofa_hw.errors import SpecError
from ofa_hw.ops import OpSpec
from ofa_hw.spaces import (
    Gene,
    InvertedResidualNet,
    InvertedResidualSpace,
    ResNet50Space,
    SearchSpace,
    Slot,
    SubnetSpec,
    Unit,
    get_space,
    mobilenetv3,
    register_space,
    space_names,
)

TOY = InvertedResidualSpace(
    "toy",
    InvertedResidualNet(
        stem_channels=8,
        stem_activation="relu",
        first_channels=8,
        first_activation="relu",
        units=(Unit(8, 1, "relu", False, (1, 2)), Unit(16, 2, "h_swish", True, (1, 2))),
        expand_channels=0,
        feature_channels=16,
    ),
    resolutions=(8, 9),
    kernel_sizes=(3, 5),
    expand_ratios=(2, 3),
    num_classes=2,
)
TOY_RESNET = ResNet50Space(
    "toy-resnet", depths=(0, 1), expand_ratios=(0.25,), widths=(0.5, 1.0), resolutions=(32,)
)
SPACES = {name: get_space(name) for name in space_names()} | {"toy": TOY, "resnet": TOY_RESNET}
SEEDS = st.integers(0, 2**32 - 1)


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_rows_and_json_round_trip(name: str, seed: int) -> None:
    space = SPACES[name]
    specs = [space.sample(rng=generator(seed + i)) for i in range(3)]
    rows = space.encode(specs)
    assert space.decode(rows) == specs
    assert np.array_equal(space.encode(space.decode(rows)), rows)
    assert [SubnetSpec.from_json(spec.to_json()) for spec in specs] == specs
    assert all(space.require(spec) is spec for spec in specs)


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, rate=st.floats(0, 1))
def test_mutants_and_children_are_networks_of_the_space(name: str, seed: int, rate: float) -> None:
    space, rng = SPACES[name], generator(seed)
    a, b = space.sample(rng=rng), space.sample(rng=rng)
    for child in (space.mutate(a, rng=rng, rate=rate), space.crossover(a, b, rng=rng)):
        space.require(child)
        assert child.resolution in space.resolutions
    assert space.mutate(a, rng=rng, rate=0) == a
    assert space.crossover(a, a, rng=rng) == a


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_specs_are_equal_and_hash_equal_exactly_when_their_networks_are(
    name: str, seed: int
) -> None:
    space, rng = SPACES[name], generator(seed)
    rows = space.sample_rows(1, rng=rng)
    inactive_redrawn = np.where(space.active(rows), rows, space.sample_rows(1, rng=rng))
    (a,), (b,) = space.decode(rows), space.decode(inactive_redrawn)
    assert a == b
    assert hash(a) == hash(b)
    assert np.array_equal(space.canonical_rows(rows), space.canonical_rows(inactive_redrawn))
    other = space.mutate(a, rng=rng, rate=0.3)
    assert (other == a) == np.array_equal(space.encode([other]), space.encode([a]))


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_operators_chain_and_stand_in_the_table(name: str, seed: int) -> None:
    space = SPACES[name]
    spec = space.sample(rng=generator(seed))
    ops = space.ops(spec)
    assert ops[0].resolution == spec.resolution
    assert ops[0].in_channels == space.in_channels
    assert ops[-1].out_channels == space.num_classes
    for before, after in itertools.pairwise(ops):
        assert (before.out_channels, before.out_resolution) == (after.in_channels, after.resolution)
    assert set(ops) <= set(space.table_ops([spec.resolution]))
    assert space.macs(spec) == sum(op.macs for op in ops)


@pytest.mark.parametrize("space", [TOY, TOY_RESNET], ids=lambda space: space.name)
def test_size_and_table_are_those_of_all_networks(space: SearchSpace) -> None:
    indices = itertools.product(*(range(len(gene.choices)) for gene in space.genes))
    rows = np.unique(space.canonical_rows(np.array(list(indices))), axis=0)
    assert len(rows) == space.size
    specs = space.decode(rows)
    assert len(set(specs)) == len(specs)
    contained = {op for spec in specs for op in space.ops(spec)}
    assert contained == set(space.table_ops())


def test_published_spaces_have_their_published_size() -> None:
    space = get_space("ofa_mbv3_d234_e346_k357_w1.0")
    per_unit = sum(9**depth for depth in (2, 3, 4))
    assert space.size == 25 * per_unit**5
    assert 1e19 < space.size / 25 < 3e19
    proxyless = get_space("ofa_proxyless_d234_e346_k357_w1.3")
    assert proxyless.size == 25 * per_unit**5 * 9


@pytest.mark.parametrize("name", SPACES)
def test_smallest_and_largest_bound_the_costs(name: str) -> None:
    space = SPACES[name]
    low, high = space.smallest(), space.largest()
    assert low.resolution == space.resolutions[0]
    assert high.resolution == space.resolutions[-1]
    for seed in range(10):
        spec = space.sample(rng=generator(seed))
        assert space.macs(low) <= space.macs(spec) <= space.macs(high)
        assert space.params(low) <= space.params(spec) <= space.params(high)


def test_all_wrong_entries_are_named_with_their_choices() -> None:
    with pytest.raises(SpecError) as caught:
        TOY.spec(
            resolution=7,
            depths=[2, 1],
            kernel_sizes=[3, 4, 5, 77],
            expand_ratios=[9, 2, 2, 77],
        )
    message = str(caught.value)
    assert "resolution is 7, choose from 8, 9" in message
    assert "kernel_sizes[1] is 4, choose from 3, 5" in message
    assert "expand_ratios[0] is 9, choose from 2, 3" in message
    assert "[3]" not in message  # skipped by its depth


@pytest.mark.parametrize("depth", ["two", None, [2]], ids=repr)
def test_entries_that_are_no_numbers_are_refused(depth: object) -> None:
    with pytest.raises(SpecError, match=r"depths\[0\] is .*, which is no number"):
        TOY.spec(
            resolution=8,
            depths=[depth, 1],  # type: ignore[list-item]
            kernel_sizes=[3] * 4,
            expand_ratios=[2] * 4,
        )


def test_lists_of_another_length_are_refused() -> None:
    with pytest.raises(SpecError, match="toy takes 4 kernel_sizes, got 3"):
        TOY.spec(resolution=8, depths=[1, 1], kernel_sizes=[3] * 3, expand_ratios=[2] * 4)


def test_another_spaces_network_is_refused() -> None:
    spec = get_space("ofa_mbv3_d234_e346_k357_w1.0").smallest()
    space = get_space("ofa_mbv3_d234_e346_k357_w1.2")
    for use in (space.require, space.ops, lambda spec: space.encode([spec])):
        with pytest.raises(SpecError, match=r"w1\.0, not of .*w1\.2; use get_space"):
            use(spec)


def test_spec_that_is_not_canonical_is_refused() -> None:
    spec = SubnetSpec("toy", 8, (1, 1), (3, 3, 3, 3), (2, 2, 2, 2))
    with pytest.raises(SpecError, match="not canonical"):
        TOY.require(spec)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"space": "toy"}', '{"space": "toy", "resolution": 8, "depths": 3}', "3"],
)
def test_broken_json_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="not the JSON of a sub-network"):
        SubnetSpec.from_json(text)


def test_json_with_unknown_fields_is_refused() -> None:
    with pytest.raises(SpecError, match="no field colour"):
        SubnetSpec.from_json('{"space": "toy", "resolution": 8, "colour": []}')


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel_sizes": (3, 4)}, "odd, got 4"),
        ({"expand_ratios": (0, 3)}, "above 0, got 0"),
        ({"depths": (0, 2)}, r"at least one block, got depths \(0, 2\)"),
        ({"kernel_sizes": ()}, "at least one"),
        ({"resolutions": ()}, "at least one"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_impossible_choices_are_refused(changes: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        mobilenetv3("own", **changes)  # type: ignore[arg-type]


def test_repeated_and_unsorted_choices_are_put_in_order() -> None:
    space = mobilenetv3("own", kernel_sizes=(5, 3, 5), depths=(2, 1, 2), resolutions=(64, 32))
    assert space.kernel_sizes == (3, 5)
    assert space.resolutions == (32, 64)


def test_resnet_needs_depths_over_its_base() -> None:
    with pytest.raises(SpecError, match="on top of its base"):
        ResNet50Space("own", depths=(-1, 0))


def test_resnet_without_elastic_depth_counts_its_stem_once() -> None:
    space = ResNet50Space(
        "own", depths=(0,), expand_ratios=(0.25,), widths=(1.0,), resolutions=(64,)
    )
    assert space.size == 2  # with and without the optional stem convolution


def test_own_space_of_genes_and_slots() -> None:
    genes = (Gene("resolution", 0, (4, 8)), Gene("kernel_sizes", 0, (1, 3)))

    def body(resolution: int, kernel_size: int) -> tuple[OpSpec, ...]:
        return (OpSpec("conv", resolution, 1, 2, kernel_size=kernel_size),)

    def head(resolution: int) -> tuple[OpSpec, ...]:
        return (OpSpec("global_pool", resolution, 2, 2), OpSpec("linear", 1, 2, 3))

    space = SearchSpace("own", genes, (Slot((0, 1), body), Slot((0,), head)), num_classes=3)
    assert space.size == 4
    assert len(space.table_ops()) == 4 + 2 + 1
    assert space.macs(space.spec(resolution=4, kernel_sizes=[3])) == 16 * 18 + 6


def test_choices_must_ascend() -> None:
    with pytest.raises(SpecError, match="ascending"):
        SearchSpace("own", [Gene("resolution", 0, (8, 4))], [], num_classes=1)
    with pytest.raises(SpecError, match="must be its resolution"):
        SearchSpace("own", [Gene("depths", 0, (1,))], [], num_classes=1)


def test_unknown_space_names_a_near_one() -> None:
    with pytest.raises(SpecError, match="did you mean 'ofa_resnet50'"):
        get_space("ofa_resnet_50")


def test_known_space_is_not_replaced() -> None:
    with pytest.raises(SpecError, match="another name"):
        register_space("tiny", lambda name: TOY)


def test_unknown_resolution_is_refused_with_those_that_exist() -> None:
    with pytest.raises(SpecError, match="128 to 224 in steps of 4"):
        get_space("ofa_resnet50").largest(300)


def test_single_genes_are_restricted_and_join_their_field() -> None:
    space = get_space("tiny")
    allowed = space.allowed({"kernel_sizes": [3, 5], "kernel_sizes[3]": [5, 7], "depths[0]": [2]})
    left = {
        gene.name: [gene.choices[i] for i in kept]
        for gene, kept in zip(space.genes, allowed, strict=True)
    }
    assert left["kernel_sizes[3]"] == [5]
    assert left["kernel_sizes[4]"] == [3, 5]
    assert (left["depths[0]"], left["depths[1]"]) == ([2], [1, 2, 3])


@pytest.mark.parametrize(
    ("restrict", "message"),
    [
        ({"kernel_sizes[9]": [3]}, r"cannot restrict kernel_sizes\[9\]"),
        ({"kernel_sizes[3]": [4]}, r"kernel_sizes\[3\] .* none is left of 4"),
        ({"kernel_sizes": [3], "kernel_sizes[3]": [7]}, "none is left of 7"),
    ],
    ids=["no such gene", "no such value", "field and gene exclude each other"],
)
def test_restrictions_of_single_genes_that_leave_nothing_are_refused(restrict, message) -> None:
    with pytest.raises(SpecError, match=message):
        get_space("tiny").allowed(restrict)
