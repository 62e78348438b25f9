"""Depthwise convolution whose weight gradient is fast on CPUs.

oneDNN, which runs torch's convolutions on CPUs, has a fast weight gradient for depthwise kernels of
up to three columns and any number of rows; a tap of a wider one costs about ten times as much, and
is then most of a training step. The gradient of a wide kernel is therefore computed in strips of
three columns, which are convolutions of shifted images.

Shapes: B batch, C channels, H and W height and width, K kernel size.
"""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

_FAST_COLUMNS: Final = 3
_CACHED_BYTES: Final = 2**21


def depthwise_conv(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Convolves each channel with its own square kernel of odd size, padded to keep the size.

    Args:
        x: (B, C, H, W).
        weight: (C, 1, K, K).
        stride: In both directions.

    Returns:
        (B, C, H', W').
    """
    slow = weight.shape[3] > _FAST_COLUMNS and x.device.type == "cpu" and weight.requires_grad
    if slow and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu"):
        result: Tensor = _StripedDepthwise.apply(x, weight, stride)  # type: ignore[no-untyped-call]
        return result
    return F.conv2d(x, weight, None, stride, weight.shape[3] // 2, groups=x.shape[1])


class _StripedDepthwise(torch.autograd.Function):
    """The convolution of `depthwise_conv` with the weight gradient in strips."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, None, stride, weight.shape[3] // 2, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None]:  # noqa: ANN401
        x, weight = ctx.saved_tensors
        (gradient,) = gradients
        edge = weight.shape[3] // 2
        x_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient = _gradients(gradient, x, weight, ctx.stride, edge, (True, False))[0]
        return x_gradient, _weight_gradient(gradient, x, weight, ctx.stride), None


def _weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """(C, 1, K, K), summed over some images at a time, whose padded copy stays in the cache."""
    size, edge = weight.shape[3], weight.shape[3] // 2
    _, channels, height, width = x.shape
    shape = (channels, height + 2 * edge, width + 2 * edge)
    images = max(1, min(len(x), _CACHED_BYTES // (x.element_size() * math.prod(shape))))
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    padded = torch.empty(
        (images, *shape),
        dtype=x.dtype,
        memory_format=torch.channels_last if channels_last else torch.contiguous_format,
    ).zero_()
    total = torch.zeros_like(weight)
    reach = (gradient.shape[3] - 1) * stride
    for some, wanted in zip(x.split(images), gradient.split(images), strict=True):
        filled = padded[: len(some)]
        filled[:, :, edge : edge + height, edge : edge + width] = some
        for first in range(0, size, _FAST_COLUMNS):
            columns = min(_FAST_COLUMNS, size - first)
            seen = filled.narrow(3, first, reach + columns)
            strip = weight.narrow(3, first, columns)
            found = _gradients(wanted, seen, strip, stride, 0, (False, True))[1]
            total.narrow(3, first, columns).add_(found)
    return total


def _gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: int, edge: int, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """Of the images and of the weight, as far as they are wanted."""
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        *(gradient, x, weight, None),
        *([stride] * 2, [edge] * 2, [1, 1], False, [0, 0], x.shape[1]),
        [*wanted, False],
    )
    return found[0], found[1]
