"""Depthwise convolution: the same gradients as torch's own, whichever way they are computed."""

import pytest
import torch
from torch.nn import functional as F

from ofa_hw.supernet.depthwise import depthwise_conv


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [3, 5, 7])
@pytest.mark.parametrize("size", [4, 9])
def test_output_and_gradients_are_those_of_torch(
    size: int, kernel_size: int, stride: int, layout: torch.memory_format
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, size, size + 1, generator=generator).contiguous(memory_format=layout)
    weight = torch.randn(6, 1, kernel_size, kernel_size, generator=generator)
    found = []
    for conv in (
        lambda x, w: depthwise_conv(x, w, stride),
        lambda x, w: F.conv2d(x, w, None, stride, kernel_size // 2, groups=6),
    ):
        inputs = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
        y = conv(*inputs)
        found.append([y, *torch.autograd.grad((y * y.detach().cos()).sum(), inputs)])
    for ours, torchs in zip(*found, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-4, atol=1e-4)


def test_images_that_need_no_gradient_get_none() -> None:
    weight = torch.randn(3, 1, 5, 5, requires_grad=True)
    depthwise_conv(torch.randn(1, 3, 6, 6), weight, 1).sum().backward()
    assert weight.grad is not None
    assert weight.grad.shape == weight.shape
