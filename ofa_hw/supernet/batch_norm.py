"""Re-estimates batch norm statistics of an extracted network on images."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def calibrate_batch_norm(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replaces running statistics by their averages over batches, weighted by images.

    A sub-network's statistics are not those of the supernet it was taken from
    (https://arxiv.org/abs/1908.09791). Only batch norms run in training mode; the mode of
    every module is as before afterwards.

    Args:
        network: A plain network, changed in place; an extracted one shares nothing with its
            supernet.
        batches: Images, (B, C, H, W) each.

    Raises:
        ValueError: If there are no batches; statistics are then unchanged.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    training = {module: module.training for module in network.modules()}
    momenta = {norm: norm.momentum for norm in norms}
    network.eval()
    seen = 0
    try:
        for norm in norms:
            norm.train()
        for images in batches:
            if not seen:
                for norm in norms:
                    norm.reset_running_stats()
            seen += len(images)
            for norm in norms:
                norm.momentum = len(images) / seen
            network(images)
    finally:
        for norm in norms:
            norm.momentum = momenta[norm]
        for module, mode in training.items():
            module.training = mode
    if not seen:
        raise ValueError("no images to calibrate batch norm on; give at least one batch")
