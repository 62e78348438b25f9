from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ofa_hw.graph import Conv, Graph, Linear, ShapesOnly, network_graph
from ofa_hw.graph.ir import Primitive
from ofa_hw.ops import OpSpec
from ofa_hw.spaces import SubnetSpec, get_space, read_network_config, space_names
from ofa_hw.supernet import build_network, load_supernet


def described(op: Primitive) -> object:
    match op:
        case Conv():
            return ("conv", op.weight.shape, op.bias is None, op.stride, op.padding, op.groups)
        case Linear():
            return ("linear", op.weight.shape, op.bias is None)
    return op


def specs(name: str) -> list[SubnetSpec]:
    space = get_space(name)
    drawn = [space.sample(rng=np.random.default_rng(seed)) for seed in range(2)]
    return [space.smallest(), space.largest(), *drawn]


@pytest.mark.parametrize("name", space_names())
def test_traced_network_is_node_for_node_the_graph_of_its_operators(name: str) -> None:
    net = load_supernet(name)
    for spec in specs(name):
        ops = net.space.ops(spec)
        traced = Graph.from_torch(net.extract(spec), ops[0].input_shape())
        expected = network_graph(ops, weights=ShapesOnly())
        assert [(n.output, n.inputs) for n in traced.nodes] == [
            (n.output, n.inputs) for n in expected.nodes
        ]
        for own, other in zip(traced.nodes, expected.nodes, strict=True):
            assert described(own.op) == described(other.op), own.output


OWN_OPS = (
    OpSpec("conv", 17, 2, 8, kernel_size=5, stride=2, activation="relu6"),
    OpSpec("max_pool", 9, 8, 8, kernel_size=3, stride=2),
    OpSpec("conv", 5, 8, 8, kernel_size=3, activation="relu", shortcut="identity"),
    OpSpec("bottleneck", 5, 8, 16, mid_channels=8, stride=2, kernel_size=3, shortcut="project"),
    OpSpec("mbconv", 3, 16, 16, mid_channels=16, kernel_size=7, se_channels=8),
    OpSpec("mbconv", 3, 16, 16, mid_channels=24, kernel_size=3, shortcut="identity"),
    OpSpec("global_pool", 3, 16, 16),
    OpSpec("linear", 1, 16, 4, activation="relu"),
    OpSpec("linear", 1, 4, 3),
)


def test_own_operators_train_and_trace() -> None:
    torch.manual_seed(0)
    network = build_network(OWN_OPS, norm_eps=1e-3, norm_momentum=0.2)
    x = torch.randn(4, 2, 17, 17)
    network(x).sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    traced = Graph.from_torch(network.eval(), (1, 2, 17, 17))
    expected = [described(node.op) for node in network_graph(OWN_OPS).nodes]
    assert [described(node.op) for node in traced.nodes] == expected
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.2)}
    assert sum(p.numel() for p in network.parameters()) == sum(op.params for op in OWN_OPS)


def test_children_are_named_after_their_operators() -> None:
    keys = build_network(OWN_OPS, device="meta").state_dict().keys()
    assert "mbconv5.inverted_bottleneck.conv.weight" in keys
    assert "bottleneck3.downsample.bn.running_mean" in keys
    assert "linear8.linear.bias" in keys


def test_published_specialised_network_runs(shared_data: Path) -> None:
    path = shared_data / "specialized" / "flops-595M_top1-80.0_finetune-75.net.json"
    config = read_network_config(path)
    network = build_network(config.ops, norm_eps=config.norm_eps).eval()
    with torch.no_grad():
        assert network(torch.zeros(config.ops[0].input_shape())).shape == (1, 1000)
    assert sum(p.numel() for p in network.parameters()) == sum(op.params for op in config.ops)
