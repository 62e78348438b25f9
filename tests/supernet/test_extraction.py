from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ofa_hw.errors import SpecError
from ofa_hw.spaces import (
    InvertedResidualSpace,
    ResNet50Space,
    SearchSpace,
    SubnetSpec,
    get_space,
    mobilenetv3,
    proxylessnas,
)
from ofa_hw.supernet import InvertedResidualSupernet, Supernet, load_supernet

SMALL_SPACES: dict[str, SearchSpace] = {
    "tiny": get_space("tiny"),
    "mobilenetv3": mobilenetv3("small-mbv3", width=0.25, resolutions=(32, 48), num_classes=7),
    "proxylessnas": proxylessnas("small-proxyless", width=0.25, resolutions=(33, 48)),
    "two kernels": mobilenetv3(
        "k35", width=0.25, kernel_sizes=(3, 5), depths=(1, 3), resolutions=(32,)
    ),
    "one kernel, no expansion": mobilenetv3(
        "k9e1", width=0.25, kernel_sizes=(9,), expand_ratios=(1, 2), resolutions=(32,)
    ),
    "resnet": ResNet50Space(
        "small-resnet", depths=(0, 1), widths=(0.125, 0.25), resolutions=(33, 64), num_classes=5
    ),
}
SEEDS = st.integers(0, 2**32 - 1)


@cache
def supernet(key: str) -> Supernet:
    """A supernet whose statistics and matrices are not those of a fresh one."""
    net = load_supernet(SMALL_SPACES[key]).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif name.endswith(("_matrix", "running_mean", "bias")):
                tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
    return net


def images(spec: SubnetSpec, net: Supernet, batch: int = 2) -> torch.Tensor:
    size = spec.resolution
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, net.space.in_channels, size, size, generator=generator)


@pytest.mark.parametrize("key", SMALL_SPACES)
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
@torch.no_grad()
def test_extracted_network_computes_what_the_supernet_does(key: str, seed: int) -> None:
    net = supernet(key)
    spec = net.space.sample(rng=np.random.default_rng(seed))
    x = images(spec, net)
    expected, plain = net(x, spec), net.extract(spec)
    assert not plain.training
    assert (plain(x) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert sum(p.numel() for p in plain.parameters()) == net.space.params(spec)


def test_extracted_network_shares_no_memory_with_the_supernet() -> None:
    net = load_supernet("tiny").eval()
    spec = net.space.largest()
    x = images(spec, net)
    before = net(x, spec)
    with torch.no_grad():
        for tensor in net.extract(spec).state_dict().values():
            tensor.zero_()
    assert torch.equal(net(x, spec), before)


def test_supernets_of_one_seed_are_equal_and_torchs_own_random_numbers_untouched() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    a, b, other = (load_supernet("tiny", seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.equal(a["first_conv.conv.weight"], other["first_conv.conv.weight"])


def test_gradients_reach_only_the_weights_that_ran() -> None:
    net = load_supernet("tiny")
    assert isinstance(net, InvertedResidualSupernet)
    assert isinstance(net.space, InvertedResidualSpace)
    count = len(net.space.block_channels())
    spec = net.space.spec(
        resolution=net.space.resolutions[0],
        depths=[2] * 3,
        kernel_sizes=[5] * count,
        expand_ratios=[3] * count,
    )
    net(images(spec, net, 4), spec).square().mean().backward()
    grads = {name: p.grad for name, p in net.named_parameters()}
    middle = net.space.middle_channels(16, 3)
    weight = grads["blocks.1.conv.inverted_bottleneck.conv.conv.weight"]
    assert weight is not None
    assert weight[:middle].any()
    assert not weight[middle:].any()
    weight = grads["blocks.1.conv.point_linear.conv.conv.weight"]
    assert weight is not None
    assert weight[:, :middle].any()
    assert not weight[:, middle:].any()
    # Kernel 5 is made of the inner 5x5 of the kernel of 7 by one matrix; 3 has no part in it.
    weight = grads["blocks.1.conv.depth_conv.conv.conv.weight"]
    assert weight is not None
    assert weight[:middle, :, 1:-1, 1:-1].all()
    assert not weight[:, :, 0].any()
    assert grads["blocks.1.conv.depth_conv.conv.7to5_matrix"] is not None
    assert grads["blocks.1.conv.depth_conv.conv.5to3_matrix"] is None
    # The third block of the first unit was skipped.
    assert all(g is None for name, g in grads.items() if name.startswith("blocks.3."))


def test_training_changes_running_statistics_of_active_channels_only() -> None:
    net = load_supernet("tiny")
    assert isinstance(net.space, InvertedResidualSpace)
    spec = net.space.smallest()
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    net(images(spec, net, 4), spec)
    after = net.state_dict()
    middle = net.space.middle_channels(16, min(net.space.expand_ratios))
    key = "blocks.1.conv.depth_conv.bn.bn."
    changed = before[key + "running_mean"] != after[key + "running_mean"]
    assert changed[:middle].all()
    assert not changed[middle:].any()
    assert after[key + "num_batches_tracked"] == 1
    untouched = [k for k in before if k.startswith(("blocks.2.", "blocks.3."))]
    assert all(torch.equal(before[k], after[k]) for k in untouched)


def test_training_step_equals_that_of_the_extracted_network() -> None:
    net = load_supernet("tiny")
    spec = net.space.sample(rng=np.random.default_rng(3))
    plain = net.extract(spec).train()
    x = images(spec, net, 4)
    expected, actual = net(x, spec), plain(x)
    assert torch.allclose(actual, expected, atol=1e-5 * expected.abs().max().item())
    again = net.extract(spec).state_dict()
    for key, tensor in plain.state_dict().items():
        assert torch.allclose(tensor, again[key], atol=1e-6), key


def test_channels_last_gives_the_same_and_stays_so() -> None:
    net = load_supernet("tiny").eval()
    spec = net.space.sample(rng=np.random.default_rng(4))
    x = images(spec, net)
    expected = net(x, spec)
    net.to(memory_format=torch.channels_last)
    formats = []
    for layer in net.layers(spec):
        layer.register_forward_hook(
            lambda _m, _x, y: (
                formats.append(y.is_contiguous(memory_format=torch.channels_last))
                if y.dim() == 4
                else None
            )
        )
    actual = net(x.to(memory_format=torch.channels_last), spec)
    assert torch.allclose(actual, expected, atol=1e-5 * expected.abs().max().item())
    assert formats
    assert all(formats)


def test_forward_refuses_another_spaces_network() -> None:
    net = load_supernet("tiny")
    spec = get_space("ofa_resnet50").smallest()
    with pytest.raises(SpecError, match="ofa_resnet50, not of tiny"):
        net(torch.zeros(1, 1, 16, 16), spec)
    with pytest.raises(SpecError, match="ofa_resnet50, not of tiny"):
        net.extract(spec)


def test_forward_refuses_images_of_another_size() -> None:
    net = load_supernet("tiny")
    small, large = net.space.resolutions[0], net.space.resolutions[-1]
    with pytest.raises(SpecError, match=f"take a spec of resolution {large}"):
        net(torch.zeros(1, 1, large, large), net.space.smallest(small))


def test_space_of_another_kind_has_no_supernet() -> None:
    tiny = get_space("tiny")
    space = SearchSpace("own", tiny.genes, tiny.slots, num_classes=10)
    with pytest.raises(SpecError, match="build_network"):
        load_supernet(space)
