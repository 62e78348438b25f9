import pytest
import torch
from torch import nn

from ofa_hw.supernet import calibrate_batch_norm, load_supernet


def test_statistics_are_exact_averages_weighted_by_images() -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(n, 3, 4, 4, generator=generator) for n in (8, 8, 2)]
    network = nn.Sequential(nn.BatchNorm2d(3))
    network(torch.randn(4, 3, 4, 4, generator=generator))  # statistics that must not remain
    network.eval()
    calibrate_batch_norm(network, iter(batches))
    total = sum(len(b) for b in batches)
    mean = sum(len(b) * b.mean((0, 2, 3)) for b in batches) / total
    var = sum(len(b) * b.var((0, 2, 3)) for b in batches) / total
    norm = network[0]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert torch.allclose(norm.running_mean, torch.as_tensor(mean), atol=1e-6)
    assert torch.allclose(norm.running_var, torch.as_tensor(var), atol=1e-6)
    assert norm.momentum == 0.1
    assert not any(module.training for module in network.modules())


def test_supernet_and_weights_stay_as_they_are() -> None:
    net = load_supernet("tiny")
    spec = net.space.largest()
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    plain = net.extract(spec)
    weights = [p.clone() for p in plain.parameters()]
    statistics = {key: b.clone() for key, b in plain.named_buffers()}
    size = spec.resolution
    calibrate_batch_norm(plain, [torch.randn(4, net.space.in_channels, size, size)])
    assert all(torch.equal(before[key], tensor) for key, tensor in net.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(weights, plain.parameters(), strict=True))
    changed = [not torch.equal(statistics[key], b) for key, b in plain.named_buffers()]
    assert all(changed)


def test_without_images_nothing_changes() -> None:
    plain = load_supernet("tiny").extract(load_supernet("tiny").space.smallest())
    before = {key: tensor.clone() for key, tensor in plain.state_dict().items()}
    with pytest.raises(ValueError, match="at least one batch"):
        calibrate_batch_norm(plain, [])
    assert all(torch.equal(before[key], tensor) for key, tensor in plain.state_dict().items())
