import numpy as np
import pytest
import torch

from ofa_hw.errors import SpecError
from ofa_hw.spaces import get_space, space_names
from ofa_hw.supernet import load_supernet


@pytest.mark.parametrize("name", space_names())
def test_extracted_network_computes_what_the_supernet_does(name: str) -> None:
    net = load_supernet(name).eval()
    space = get_space(name)
    spec = space.sample(rng=np.random.default_rng(1), resolution=space.resolutions[0])
    size = spec.resolution
    x = torch.randn(2, space.in_channels, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, actual = net(x, spec), net.extract(spec)(x)
    assert torch.allclose(expected, actual, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


def test_forward_refuses_another_spaces_network() -> None:
    net = load_supernet("tiny")
    spec = get_space("ofa_resnet50").smallest()
    with pytest.raises(SpecError, match="ofa_resnet50, not of tiny"):
        net(torch.zeros(1, 1, 16, 16), spec)


def test_forward_refuses_images_of_another_size() -> None:
    net = load_supernet("tiny")
    with pytest.raises(SpecError, match="resize them"):
        net(torch.zeros(1, 1, 24, 24), net.space.smallest(16))
