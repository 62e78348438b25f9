"""The graph of an operator does the work that the operator's figures say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofa_hw.errors import ExportError
from ofa_hw.graph import (
    Conv,
    Graph,
    Linear,
    RandomWeights,
    ShapesOnly,
    network_graph,
    op_graph,
)
from ofa_hw.ops import OpSpec
from ofa_hw.spaces import get_space, space_names

CHANNELS = st.integers(1, 24)
KERNELS = st.sampled_from([1, 3, 5, 7])
ACTIVATIONS = st.sampled_from(["none", "relu", "relu6", "h_swish"])


@st.composite
def operators(draw: st.DrawFn) -> OpSpec:
    kind = draw(
        st.sampled_from(["conv", "mbconv", "bottleneck", "max_pool", "global_pool", "linear"])
    )
    size, cin = draw(st.integers(1, 20)), draw(CHANNELS)
    if kind in ("max_pool", "global_pool"):
        window = {"kernel_size": draw(KERNELS), "stride": draw(st.integers(1, 3))}
        return OpSpec(kind, size, cin, cin, **(window if kind == "max_pool" else {}))
    activation = draw(ACTIVATIONS)
    if kind == "linear":
        return OpSpec(kind, 1, cin, draw(CHANNELS), activation=activation)
    shortcut = draw(st.sampled_from(["none", "identity"]))
    if kind == "bottleneck":
        shortcut = draw(st.sampled_from(["none", "identity", "project"]))
    same = shortcut == "identity"
    return OpSpec(
        kind,
        size,
        cin,
        cin if same else draw(CHANNELS),
        draw(CHANNELS) if kind != "conv" else 0,
        draw(KERNELS),
        1 if same else draw(st.integers(1, 2)),
        activation,
        draw(st.integers(0, 8)) if kind == "mbconv" else 0,
        shortcut,
        draw(st.booleans()) if kind == "conv" else True,
    )


@given(operators(), st.integers(1, 3))
def test_graph_has_the_macs_and_the_shapes_of_its_operator(op: OpSpec, batch: int) -> None:
    graph = op_graph(op, batch=batch, weights=ShapesOnly())
    assert graph.macs == batch * op.macs
    assert graph.input_shape == op.input_shape(batch)
    image = (batch, op.out_channels, op.out_resolution, op.out_resolution)
    assert graph.output_shape == (image[:2] if op.kind == "linear" else image)


@given(operators())
def test_graph_has_the_parameters_of_its_operator_with_norms_folded(op: OpSpec) -> None:
    folded = sum(c.weights + c.out_channels * (c.norm or c.bias) for c in op.convolutions())
    assert op_graph(op, weights=ShapesOnly()).weight_bytes == 4 * folded


@given(operators())
def test_graph_of_an_operator_is_always_the_same(op: OpSpec) -> None:
    first, again = op_graph(op), op_graph(op)
    assert [(n.output, n.inputs) for n in first.nodes] == [
        (n.output, n.inputs) for n in again.nodes
    ]
    for a, b in zip(first.nodes, again.nodes, strict=True):
        if isinstance(a.op, Conv | Linear):
            assert isinstance(b.op, Conv | Linear)
            np.testing.assert_array_equal(a.op.weight, b.op.weight)


def test_weights_depend_on_the_operator_and_on_the_seed() -> None:
    op = OpSpec("linear", 1, 8, 8)

    def weights(graph: Graph) -> np.ndarray:
        linear = graph.nodes[-1].op
        assert isinstance(linear, Linear)
        return linear.weight

    assert not np.array_equal(
        weights(op_graph(op, weights=RandomWeights(1))), weights(op_graph(op))
    )
    np.testing.assert_array_equal(
        weights(op_graph(op, weights=RandomWeights(1))),
        weights(op_graph(op, weights=RandomWeights(1))),
    )


def test_another_batch_shares_the_weights() -> None:
    graph = op_graph(OpSpec("conv", 8, 3, 4, kernel_size=3))
    larger = graph.with_batch(5)
    assert larger.output_shape == (5, 4, 8, 8)
    assert larger.nodes is graph.nodes


@pytest.mark.parametrize("name", space_names())
def test_network_is_its_operators_one_after_another(name: str) -> None:
    space = get_space(name)
    spec = space.sample(rng=np.random.default_rng(3))
    ops = space.ops(spec)
    network = network_graph(ops, weights=ShapesOnly())
    assert network.macs == space.macs(spec)
    assert network.output_shape == (1, space.num_classes)
    kinds = [type(n.op) for op in ops for n in op_graph(op, weights=ShapesOnly()).nodes]
    assert [type(node.op) for node in network.nodes] == kinds


def test_operators_that_do_not_follow_each_other_are_refused() -> None:
    ops = [OpSpec("conv", 8, 3, 4), OpSpec("conv", 8, 5, 6)]
    with pytest.raises(ExportError, match="takes 5 channels and is given 4"):
        network_graph(ops)
