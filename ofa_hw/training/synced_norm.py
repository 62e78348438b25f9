"""Batch norms whose statistics are those of the images of all workers together.

Two workers then step as one with the double batch does. torch's own SyncBatchNorm runs on GPUs
alone, and cannot be an elastic norm, which runs on the first of its channels.

Shapes: B images of a worker, C channels, H and W height and width, N workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class SynchronisedNorms(TorchFunctionMode):
    """While it is entered, batch norms in training mode normalise over all workers.

    Every worker must run the same layers in the same order, on as many images as the others.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever torch returns
        """Runs a function of torch, batch norms in another way."""
        if func is F.batch_norm and (kwargs or {}).get("training"):
            return _batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """As `F.batch_norm` of the images of all workers, (B, C, H, W) to the same shape."""
    assert training
    size = torch.distributed.get_world_size()
    own = torch.stack(torch.var_mean(x.float(), (0, 2, 3), correction=0))  # (2, C)
    # One message with a row a worker: sums of squares would lose what a large mean leaves over.
    rows = [
        own if rank == torch.distributed.get_rank() else own.new_zeros(own.shape)
        for rank in range(size)
    ]
    everyone: Tensor = _Summed.apply(torch.stack(rows))  # type: ignore[no-untyped-call]
    variances, means = everyone.unbind(1)  # (N, C) each
    mean = means.mean(0)
    variance = (variances + (means - mean) ** 2).mean(0)
    if running_mean is not None and running_var is not None:
        count = size * x.numel() // x.shape[1]
        with torch.no_grad():
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(variance * (count / max(1, count - 1)), momentum)
    scale = weight * torch.rsqrt(variance + eps)
    shift = bias - mean * scale
    y: Tensor = x * scale[:, None, None] + shift[:, None, None]
    return y.to(x.dtype)


class _Summed(torch.autograd.Function):
    """A tensor's sum over the workers; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:  # noqa: ANN401
        return _sum(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401
        return _sum(gradients[0])


def _sum(tensor: Tensor) -> Tensor:
    summed = tensor.clone(memory_format=torch.contiguous_format)
    torch.distributed.all_reduce(summed)
    return summed
