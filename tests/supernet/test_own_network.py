"""A torch network of one's own becomes the largest sub-network of a space, weights and all."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ofa_hw.errors import SpecError
from ofa_hw.ops import OpSpec
from ofa_hw.spaces import ChainSpace, SubnetSpec, with_classes
from ofa_hw.supernet import ChainSupernet, load_supernet, space_from_torch, supernet_from_torch
from ofa_hw.training.recipe import get_recipe

torch.set_num_threads(1)


class InvertedResidual(nn.Module):
    """As people write it: a list of layers, functional activations inside the gate."""

    def __init__(self, cin, mid, cout, k, stride, act: Callable[[], nn.Module], se=0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if mid != cin:
            layers += [nn.Conv2d(cin, mid, 1, bias=False), nn.BatchNorm2d(mid), act()]
        layers += [
            nn.Conv2d(mid, mid, k, stride, k // 2, groups=mid, bias=False),
            nn.BatchNorm2d(mid),
            act(),
        ]
        self.layers = nn.Sequential(*layers)
        self.reduce = nn.Conv2d(mid, se, 1) if se else None
        self.expand = nn.Conv2d(se, mid, 1) if se else None
        self.project = nn.Conv2d(mid, cout, 1)  # its bias is the batch norm's to take away
        self.norm = nn.BatchNorm2d(cout)
        self.shortcut = stride == 1 and cin == cout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layers(x)
        if self.reduce is not None:
            gate = F.adaptive_avg_pool2d(y, 1)
            y = F.hardsigmoid(self.expand(F.relu(self.reduce(gate)))) * y
        y = self.norm(self.project(y))
        return x + y if self.shortcut else y


class MobileNet(nn.Module):
    """Blocks that differ inside a stage, like those of MobileNetV3."""

    def __init__(self, last: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(
            InvertedResidual(16, 16, 16, 3, 1, nn.ReLU),
            InvertedResidual(16, 64, 24, 3, 2, nn.ReLU),
            InvertedResidual(24, 72, 24, 3, 1, nn.ReLU),
            InvertedResidual(24, 144, 40, 7, 2, nn.Hardswish, se=40),
            InvertedResidual(40, 240, 40, 5, 1, nn.Hardswish, se=16),
            InvertedResidual(40, 120, 40, 5, 1, nn.Hardswish),
            InvertedResidual(40, 240, 48, 3, 1, nn.Hardswish),
        )
        self.head, self.head_norm = nn.Conv2d(48, 96, 1, bias=False), nn.BatchNorm2d(96)
        self.classifier = nn.Sequential(
            nn.Linear(96, 64), nn.Hardswish(), nn.Dropout(0.2), last or nn.Linear(64, 10)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(F.hardswish(self.stem_norm(self.stem(x))))
        x = F.hardswish(self.head_norm(self.head(x)))
        return self.classifier(x.mean([2, 3]))


class Bottleneck(nn.Module):
    def __init__(self, cin, mid, cout, stride=1) -> None:
        super().__init__()
        self.a, self.a_norm = nn.Conv2d(cin, mid, 1, bias=False), nn.BatchNorm2d(mid)
        self.b = nn.Conv2d(mid, mid, 3, stride, 1, bias=False)
        self.b_norm = nn.BatchNorm2d(mid)
        self.c, self.c_norm = nn.Conv2d(mid, cout, 1, bias=False), nn.BatchNorm2d(cout)
        self.down = None
        if stride > 1 or cin != cout:
            pool = [nn.AvgPool2d(stride, stride, ceil_mode=True)] if stride > 1 else []
            norm = nn.BatchNorm2d(cout)
            self.down = nn.Sequential(*pool, nn.Conv2d(cin, cout, 1, bias=False), norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.down is None else self.down(x)  # before the branch
        y = F.relu(self.b_norm(self.b(F.relu(self.a_norm(self.a(x))))))
        return F.relu(self.c_norm(self.c(y)) + shortcut)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )  # fmt: skip
        self.stages = nn.Sequential(
            Bottleneck(16, 16, 64), Bottleneck(64, 16, 64), Bottleneck(64, 24, 64),
            Bottleneck(64, 32, 96, 2), Bottleneck(96, 32, 96),
        )  # fmt: skip
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(96, 7, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.flatten(self.pool(self.stages(self.stem(x))), 1))


def trained(network: nn.Module) -> nn.Module:
    """With statistics, weights and biases as training leaves them, none of them a default."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.uniform_(-1, 1, generator=generator)
                layer.running_var.uniform_(0.5, 2, generator=generator)
                layer.weight.uniform_(0.5, 2, generator=generator)
                layer.bias.uniform_(-1, 1, generator=generator)
    return network.eval()


def mobile() -> tuple[nn.Module, ChainSpace]:
    network = trained(MobileNet())
    return network, space_from_torch(network, "own:make", resolutions=(48, 64))


def residual() -> tuple[nn.Module, ChainSpace]:
    network = trained(ResNet())
    ratios = (0.125, 0.25)
    return network, space_from_torch(
        network, "own:make", resolutions=(32, 48), depths=(1, 2), expand_ratios=ratios
    )


@pytest.mark.parametrize("make", [mobile, residual])
def test_the_largest_sub_network_computes_what_the_network_does(make) -> None:
    network, space = make()
    net = supernet_from_torch(space, network).eval()
    for resolution in space.resolutions:
        spec = space.largest(resolution)
        x = torch.randn((2, space.in_channels, resolution, resolution))
        with torch.no_grad():
            expected = network(x)
            torch.testing.assert_close(net(x, spec), expected, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(net.extract(spec)(x), expected, rtol=1e-4, atol=1e-4)
    parameters = sum(p.numel() for p in network.parameters())
    missing = {mobile: -(16 + 24 + 24 + 40 + 40 + 40 + 48), residual: 7}  # biases: too many, none
    assert space.params(space.largest()) == parameters + missing[make]


@pytest.mark.parametrize("make", [mobile, residual])
def test_in_training_it_takes_the_steps_that_the_network_takes(make) -> None:
    """The batch norms are taken over as they are, and not folded."""
    network, space = make()
    net = supernet_from_torch(space, network)
    x = torch.randn((8, space.in_channels, 48, 48))
    net.train(), network.train()
    for layer in network.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    torch.testing.assert_close(net(x, space.largest(48)), network(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("make", [mobile, residual])
def test_every_sub_network_is_the_one_that_is_extracted(make) -> None:
    network, space = make()
    net, rng = supernet_from_torch(space, network).eval(), np.random.default_rng(0)
    specs = [space.smallest(), *(space.sample(rng=rng) for _ in range(5))]
    for spec in specs:
        assert SubnetSpec.from_json(spec.to_json()) == spec == space.require(spec)
        x = torch.randn((1, space.in_channels, spec.resolution, spec.resolution))
        with torch.no_grad():
            torch.testing.assert_close(net.extract(spec)(x), net(x, spec), rtol=1e-4, atol=1e-4)
        parameters = sum(p.numel() for p in net.extract(spec).parameters())
        assert parameters == space.params(spec)
    assert space.macs(specs[0]) < 0.6 * space.macs(space.largest(specs[0].resolution))
    with torch.no_grad():
        before = net(x, space.largest(spec.resolution))
        net.sort_channels(phase=1)
        after = net(x, space.largest(spec.resolution))
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
    assert get_recipe("paper").phases[-1].allowed(space) == space.allowed({})


def test_the_choices_of_a_block_are_those_below_its_own() -> None:
    _, space = mobile()
    assert [len(stage) for stage in space.stages] == [1, 2, 3, 1]
    chosen = {gene.name: gene.choices for gene in space.genes}
    assert [chosen[f"depths[{i}]"] for i in range(4)] == [(1,), (1, 2), (2, 3), (1,)]
    assert [chosen[f"kernel_sizes[{i}]"] for i in range(7)] == [
        (3,), (3,), (3,), (3, 5, 7), (3, 5), (3, 5), (3,)
    ]  # fmt: skip
    assert [chosen[f"expand_ratios[{i}]"] for i in range(7)] == [
        (1,), (3, 4), (3,), (3, 4, 6), (3, 4, 6), (3,), (3, 4, 6)
    ]  # fmt: skip
    ops = space.ops(space.smallest(48))
    gates = [op.se_channels for op in ops if op.kind == "mbconv"]
    assert gates == [0, 0, 24, 16, 0]  # 72 // 4 made divisible; a gate of its own width stays
    assert [op.resolution for op in ops][-3:] == [6, 1, 1]


def test_a_saved_supernet_and_another_number_of_classes_load(tmp_path) -> None:
    network, space = mobile()
    net = supernet_from_torch(space, network).eval()
    again = load_supernet(space, net.state_dict()).eval()
    x, spec = torch.randn((1, 3, 48, 48)), space.smallest(48)
    with torch.no_grad():
        assert torch.equal(net(x, spec), again(x, spec))
    other = with_classes(space, 5)
    assert isinstance(load_supernet(other), ChainSupernet)
    assert load_supernet(other)(x.repeat(2, 1, 1, 1), other.largest(48)).shape == (2, 5)


class Sequential(nn.Sequential):
    """Of an unsupported middle between a stem and a head that are."""

    def __init__(self, middle: nn.Module, channels: int = 16) -> None:
        block = InvertedResidual(16, 64, 16, 3, 1, nn.ReLU)
        stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        pool, flat = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        super().__init__(stem, block, middle, pool, flat, nn.Linear(channels, 4))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        pytest.param(Sequential(nn.SiLU()), r"no primitive for _2, a SiLU", id="activation"),
        pytest.param(Sequential(nn.ReLU()), r"the Relu after 1\.project", id="loose activation"),
        pytest.param(
            Sequential(nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1, groups=2), nn.BatchNorm2d(16))),
            r"2\.0 begins no supported block",
            id="groups",
        ),
        pytest.param(
            Sequential(nn.Conv2d(16, 16, 1)), r"2: in a conv .* no bias", id="bias without norm"
        ),
        pytest.param(
            Sequential(InvertedResidual(16, 16, 24, 4, 1, nn.ReLU), channels=24),
            r"2\.layers\.0 begins no supported block",
            id="even kernel",
        ),
        pytest.param(nn.Sequential(nn.Linear(4, 4)), "no convolution", id="no convolution"),
        pytest.param(
            nn.Sequential(
                nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
                nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
            ),
            "nothing can be elastic",
            id="nothing elastic",
        ),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_named(network: nn.Module, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        space_from_torch(network, "own:make", resolutions=(32,))


def test_a_strided_shortcut_without_a_pool_is_named() -> None:
    network = ResNet()
    network.stages[3].down = nn.Sequential(nn.Conv2d(64, 96, 1, 2, bias=False), nn.BatchNorm2d(96))
    with pytest.raises(SpecError, match=r"stages\.3\..* begins no supported block"):
        space_from_torch(network, "own:make", resolutions=(32,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": (0, 1)}, "at least one block, got depth 0"),
        ({"kernel_sizes": (4,)}, "odd, got 4"),
        ({"expand_ratios": (0,)}, "above 0, got 0"),
    ],
    ids=["depth", "kernel", "ratio"],
)
def test_choices_that_no_block_can_have_are_refused(changes, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        space_from_torch(MobileNet(), "own:make", resolutions=(32,), **changes)


def test_another_network_is_refused_and_so_are_unequal_epsilons() -> None:
    _, space = mobile()
    with pytest.raises(SpecError, match="not the one that the space own:make was made from"):
        supernet_from_torch(space, MobileNet(nn.Linear(64, 11)))
    network = MobileNet()
    network.stem_norm.eps = 0.5
    with pytest.raises(SpecError, match="different epsilons"):
        space_from_torch(network, "own:make", resolutions=(32,))


def test_the_operators_of_a_bottleneck_are_found_whatever_the_order_of_its_branches() -> None:
    _, space = residual()
    ops = space.ops(space.largest(48))
    assert OpSpec("bottleneck", 12, 64, 96, 32, 3, 2, "relu", shortcut="project") in ops
    assert [op.kind for op in ops].count("bottleneck") == 5
