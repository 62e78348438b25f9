"""Tracing a torch network gives a graph that computes the same, or names what it cannot."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ofa_hw.errors import ExportError
from ofa_hw.graph import AvgPool, Conv, Flatten, GlobalAvgPool, Graph, Linear, network_graph
from ofa_hw.lowering.parity import check_parity
from ofa_hw.lowering.torch import to_torch
from ofa_hw.ops import OpSpec

torch.set_num_threads(1)
SHAPE = (2, 4, 9, 9)


class Lambda(nn.Module):
    """A network of one's own in a line: layers by name and what is done with them."""

    def __init__(self, forward: Callable[..., torch.Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self._forward = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._forward(self, x)


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """In eval mode, with statistics and weights that a folding mistake would show in."""
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low, high in (
                (layer.running_mean, -1, 1),
                (layer.running_var, 0.5, 2),
                (layer.weight, 0.5, 2),
                (layer.bias, -1, 1),
            ):
                if tensor is not None:
                    with torch.no_grad():
                        tensor.uniform_(low, high, generator=generator)
    return module.eval()


def assert_traced(module: nn.Module, shape: tuple[int, ...] = SHAPE) -> Graph:
    module = randomised(module)
    graph = Graph.from_torch(module, shape)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal(shape, np.float32))
    with torch.inference_mode():
        expected, actual = module(x).numpy(), to_torch(graph)(x).numpy()
    check_parity(actual, expected, tolerance=1e-5)
    return graph


class MBConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(
            nn.Conv2d(16, 48, 1, bias=False), nn.BatchNorm2d(48), nn.Hardswish(inplace=True)
        )
        self.depth = nn.Sequential(
            nn.Conv2d(48, 48, 5, padding=2, groups=48, bias=False),
            nn.BatchNorm2d(48, eps=1e-3),
            nn.Hardswish(),
        )
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(48, 16, 1), nn.ReLU(), nn.Conv2d(16, 48, 1)
        )
        self.project = nn.Sequential(nn.Conv2d(48, 16, 1, bias=False), nn.BatchNorm2d(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.depth(self.expand(x))
        y = y * F.hardsigmoid(self.gate(y))
        return self.project(y) + x


class Bottleneck(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.a_norm = nn.Conv2d(16, 8, 1, bias=False), nn.BatchNorm2d(8)
        self.b, self.b_norm = nn.Conv2d(8, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.c, self.c_norm = nn.Conv2d(8, 32, 1, bias=False), nn.BatchNorm2d(32)
        self.pool = nn.AvgPool2d(2, 2, ceil_mode=True)
        self.down, self.down_norm = nn.Conv2d(16, 32, 1, bias=False), nn.BatchNorm2d(32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.a_norm(self.a(x)))
        y = F.relu(self.b_norm(self.b(y)), inplace=True)
        y = self.c_norm(self.c(y))
        y += self.down_norm(self.down(self.pool(x)))
        return torch.relu(y)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish()
        )
        self.blocks = nn.Sequential(MBConv(), Bottleneck())
        self.pool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.blocks(self.stem(x)))
        return self.classifier(self.dropout(torch.flatten(x, 1)))


OPS = [
    OpSpec("conv", 33, 3, 16, kernel_size=3, stride=2, activation="h_swish"),
    OpSpec("mbconv", 17, 16, 16, 48, 5, activation="h_swish", se_channels=16, shortcut="identity"),
    OpSpec("bottleneck", 17, 16, 32, 8, 3, 2, activation="relu", shortcut="project"),
    OpSpec("global_pool", 9, 32, 32),
    OpSpec("linear", 1, 32, 10),
]


def test_traced_network_computes_the_same_and_has_the_primitives_of_its_operators() -> None:
    traced = assert_traced(Network(), (2, 3, 33, 33))
    built = network_graph(OPS, batch=2)
    assert [type(node.op) for node in traced.nodes] == [type(node.op) for node in built.nodes]
    assert traced.shapes[traced.output] == built.shapes[built.output]
    assert (traced.macs, traced.weight_bytes) == (built.macs, built.weight_bytes)


def test_lowered_network_is_traced_back_to_its_graph() -> None:
    graph = network_graph(OPS)
    again = Graph.from_torch(to_torch(graph), graph.input_shape)
    assert [type(node.op) for node in again.nodes] == [type(node.op) for node in graph.nodes]
    for node, copy in zip(graph.nodes, again.nodes, strict=True):
        if isinstance(node.op, Conv | Linear):
            assert isinstance(copy.op, Conv | Linear)
            np.testing.assert_array_equal(node.op.weight, copy.op.weight)


TRACED: dict[str, nn.Module] = {
    "batch norm without affine": nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4, affine=False)
    ),
    "batch norm on a grouped convolution": nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2), nn.BatchNorm2d(8)
    ),
    "two convolutions before their batch norms": Lambda(
        lambda m, x: (lambda a, b: m.an(a) + m.bn(b))(m.a(x), m.b(x)),
        a=nn.Conv2d(4, 4, 1),
        b=nn.Conv2d(4, 4, 1),
        an=nn.BatchNorm2d(4),
        bn=nn.BatchNorm2d(4),
    ),
    "one convolution twice": Lambda(
        lambda m, x: m.norm(m.conv(m.norm(m.conv(x)))),
        conv=nn.Conv2d(4, 4, 1),
        norm=nn.BatchNorm2d(4),
    ),
    "identity between convolution and batch norm": nn.Sequential(
        nn.Conv2d(4, 4, 1), nn.Identity(), nn.BatchNorm2d(4)
    ),
    "identity at the end": nn.Sequential(nn.ReLU6(), nn.Identity()),
    "a branch that nobody reads": Lambda(
        lambda m, x: (lambda y, unused: y)(F.relu6(x), m.conv(x)), conv=nn.Conv2d(4, 8, 1)
    ),
    "tensor added to itself": Lambda(lambda m, x: x + x),
    "mean over the image": Lambda(lambda m, x: x.mean([2, 3])),
    "mean over the image, kept": Lambda(lambda m, x: torch.mean(x, (-1, -2), keepdim=True)),
    "functional pools": Lambda(
        lambda m, x: F.adaptive_avg_pool2d(
            F.avg_pool2d(F.max_pool2d(x, 3, stride=2, padding=1), 2, ceil_mode=True), (1, 1)
        )
    ),
    "max pool": nn.MaxPool2d((3, 3), stride=2, padding=1),
    "average pool that rounds up": nn.AvgPool2d(2, ceil_mode=True),
    "average pool that fits": nn.AvgPool2d(3),
    "flatten by keyword": Lambda(lambda m, x: torch.flatten(x, start_dim=1)),
    "flatten by layer": nn.Sequential(nn.Flatten(), nn.Linear(4 * 81, 3)),
    "flatten by method": Lambda(lambda m, x: x.flatten(1, -1)),
}


@pytest.mark.parametrize("module", TRACED.values(), ids=TRACED)
def test_traced_module_computes_the_same(module: nn.Module) -> None:
    assert_traced(module)


def test_dead_branches_and_identities_leave_no_node() -> None:
    assert len(assert_traced(TRACED["a branch that nobody reads"]).nodes) == 1
    assert len(assert_traced(TRACED["identity between convolution and batch norm"]).nodes) == 1


def test_mean_and_pool_functions_become_pools() -> None:
    graph = assert_traced(TRACED["mean over the image"])
    assert [type(node.op) for node in graph.nodes] == [GlobalAvgPool, Flatten]
    assert AvgPool(2, 2) in [node.op for node in assert_traced(TRACED["functional pools"]).nodes]


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "unknown layer": (nn.Sequential(nn.Conv2d(4, 4, 1), nn.GELU()), "GELU"),
    "unknown function": (Lambda(lambda m, x: torch.sigmoid(x)), "sigmoid"),
    "unknown method": (Lambda(lambda m, x: x.view(2, -1)), "view"),
    "constant": (Lambda(lambda m, x: x + 3), "combine two tensors"),
    "weighted sum": (Lambda(lambda m, x: torch.add(x, x, alpha=2)), "combine two tensors"),
    "batch norm first": (nn.BatchNorm2d(4), "does not follow a convolution"),
    "batch norm of a shared tensor": (
        Lambda(
            lambda m, x: (lambda y: m.norm(y) + y)(m.conv(x)),
            conv=nn.Conv2d(4, 4, 1),
            norm=nn.BatchNorm2d(4),
        ),
        "norm does not follow a convolution of its own",
    ),
    "batch norm of a tensor shared through an identity": (
        Lambda(
            lambda m, x: (lambda y: m.norm(m.same(y)) + y)(m.conv(x)),
            conv=nn.Conv2d(4, 4, 1),
            same=nn.Identity(),
            norm=nn.BatchNorm2d(4),
        ),
        "norm does not follow a convolution of its own",
    ),
    "batch norm without statistics": (
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
        "no running statistics",
    ),
    "dilation": (nn.Conv2d(4, 4, 3, dilation=2), "no plain square convolution"),
    "kernel that is not square": (nn.Conv2d(4, 4, (1, 3)), "no plain square convolution"),
    "reflection": (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "pads otherwise"),
    "uneven padding": (nn.Conv2d(4, 4, 3, padding=(1, 0)), "pads otherwise"),
    "pool that is not square": (nn.MaxPool2d((3, 2)), "not square"),
    "max pool that rounds up": (nn.MaxPool2d(2, ceil_mode=True), "MaxPool2d"),
    "average pool that cuts off": (nn.AvgPool2d(2), "AvgPool2d"),
    "average pool with its own divisor": (nn.AvgPool2d(3, divisor_override=2), "AvgPool2d"),
    "padded average pool": (nn.AvgPool2d(3, padding=1), "AvgPool2d"),
    "pool to several": (nn.AdaptiveAvgPool2d(2), "AdaptiveAvgPool2d"),
    "partial flatten": (Lambda(lambda m, x: torch.flatten(x, 1, 2)), "flattens other dimensions"),
    "partial flatten by keyword": (
        Lambda(lambda m, x: torch.flatten(x, start_dim=1, end_dim=2)),
        "flattens other dimensions",
    ),
    "flatten everything": (Lambda(lambda m, x: torch.flatten(x)), "flattens other dimensions"),
    "mean over channels": (Lambda(lambda m, x: x.mean(1)), "averages over other dimensions"),
    "mean over everything": (Lambda(lambda m, x: x.mean()), "averages over other dimensions"),
    "nothing": (nn.Identity(), "must compute one tensor"),
    "two outputs": (Lambda(lambda m, x: (x + x, x * x)), "must compute one tensor"),
    "control flow": (Lambda(lambda m, x: x if x.sum() > 0 else -x), "torch.fx cannot trace"),
}


@pytest.mark.parametrize(("module", "message"), REFUSED.values(), ids=REFUSED)
def test_what_no_primitive_expresses_is_refused_by_name(module: nn.Module, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        Graph.from_torch(randomised(module), SHAPE)


def test_second_input_is_refused() -> None:
    class Sum(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x + y

    with pytest.raises(ExportError, match="'y'"):
        Graph.from_torch(Sum().eval(), SHAPE)


@pytest.mark.parametrize("whole", [True, False], ids=["network", "one layer"])
def test_training_mode_is_refused(whole: bool) -> None:
    module = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)).train()
    if not whole:
        module.eval()[1].train()
    with pytest.raises(ExportError, match="training mode"):
        Graph.from_torch(module, SHAPE)


def test_tracing_leaves_the_network_as_it_was() -> None:
    module = randomised(Network())
    before = {key: value.clone() for key, value in module.state_dict().items()}
    Graph.from_torch(module, (1, 3, 32, 32))
    after = module.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert isinstance(module.dropout, nn.Dropout)
