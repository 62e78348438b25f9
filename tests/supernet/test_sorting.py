from collections.abc import Callable

import numpy as np
import pytest
import torch

from ofa_hw.errors import SpecError
from ofa_hw.spaces import (
    InvertedResidualSpace,
    ResNet50Space,
    SearchSpace,
    SubnetSpec,
    mobilenetv3,
    proxylessnas,
)
from ofa_hw.supernet import Supernet, load_supernet
from ofa_hw.supernet.sorting import channel_order

MAKERS: dict[str, Callable[[], SearchSpace]] = {
    "mobilenetv3": lambda: mobilenetv3("small", width=0.5, resolutions=(32,), num_classes=5),
    "resnet": lambda: ResNet50Space("small", widths=(0.25, 0.5), resolutions=(32,), num_classes=5),
}


def noisy_supernet(space: SearchSpace) -> Supernet:
    net = load_supernet(space).eval()
    generator = torch.Generator().manual_seed(2)
    for tensor in net.state_dict().values():
        if tensor.dim() == 1:  # batch norms and biases, which start equal
            tensor += 0.2 * torch.rand(tensor.shape, generator=generator) - 0.1
    return net


def outputs(net: Supernet, spec: SubnetSpec) -> torch.Tensor:
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits: torch.Tensor = net.extract(spec)(x)
    return logits


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("phase", [0, 1, 2])
def test_sorting_leaves_the_full_network_as_it_was(kind: str, phase: int) -> None:
    net = noisy_supernet(MAKERS[kind]())
    full = outputs(net, net.space.largest())
    weights = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    net.sort_channels(phase)
    assert any(not torch.equal(weights[k], t) for k, t in net.state_dict().items())
    assert torch.allclose(outputs(net, net.space.largest()), full, rtol=1e-4, atol=1e-5)


def of_expansions(space: SearchSpace, expand_ratio: float) -> SubnetSpec:
    assert isinstance(space, InvertedResidualSpace)
    blocks = len(space.block_channels())
    return space.spec(
        resolution=32,
        depths=[max(unit.depths) for unit in space.net.units],
        kernel_sizes=[5] * blocks,
        expand_ratios=[expand_ratio] * blocks,
    )


@pytest.mark.parametrize(
    ("phase", "kept"), [(0, [6]), (1, [6, 4]), (2, [6, 4, 3])], ids=["0", "1", "2"]
)
def test_later_phases_keep_trained_expansions(phase: int, kept: list[int]) -> None:
    # Without squeeze-excite, whose own middle channels have an importance over all channels.
    net = noisy_supernet(proxylessnas("small", width=0.5, resolutions=(32,), num_classes=5))
    before = {e: outputs(net, of_expansions(net.space, e)) for e in (3, 4, 6)}
    net.sort_channels(phase)
    for e, expected in before.items():
        same = torch.allclose(outputs(net, of_expansions(net.space, e)), expected, rtol=1e-4)
        assert same == (e in kept), e


def test_with_squeeze_excite_a_later_phase_changes_a_trained_expansion_a_little() -> None:
    net = noisy_supernet(MAKERS["mobilenetv3"]())
    before = outputs(net, of_expansions(net.space, 4))
    net.sort_channels(1)
    after = outputs(net, of_expansions(net.space, 4))
    assert not torch.allclose(after, before, rtol=1e-4)  # as the docstring of sort_channels says
    torch.testing.assert_close(after, before, rtol=0, atol=0.1 * float(before.abs().max()))


def test_most_important_channels_come_first() -> None:
    net = noisy_supernet(MAKERS["mobilenetv3"]())
    net.sort_channels()
    weight = net.state_dict()["blocks.7.conv.point_linear.conv.conv.weight"]
    importance = weight.abs().sum((0, 2, 3)).numpy()
    assert (np.diff(importance) <= 0).all()
    expand = net.state_dict()["blocks.7.conv.depth_conv.se.fc.expand.weight"]
    assert (np.diff(expand.abs().sum((0, 2, 3)).numpy()) <= 0).all()


def test_bands_are_sorted_each_for_itself() -> None:
    weight = torch.tensor([1.0, 9, 3, 7, 5, 8]).view(1, 6, 1, 1)
    assert channel_order(weight, [2, 4, 6], 0).tolist() == [1, 5, 3, 4, 2, 0]
    assert channel_order(weight, [2, 4, 6], 1).tolist() == [1, 3, 2, 0, 5, 4]
    assert channel_order(weight, [2, 4, 6], 2).tolist() == [1, 0, 3, 2, 5, 4]


@pytest.mark.parametrize("phase", [-1, 3])
def test_phase_that_does_not_exist_is_refused_and_nothing_moves(phase: int) -> None:
    net = load_supernet("tiny")
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    with pytest.raises(SpecError, match=f"phase {phase}: choose from 0 to 2"):
        net.sort_channels(phase)
    assert all(torch.equal(before[key], tensor) for key, tensor in net.state_dict().items())
