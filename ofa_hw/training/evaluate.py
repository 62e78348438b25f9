"""Accuracy of a sub-network: extracted, its batch norms calibrated, run on held-out images."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from ofa_hw.spaces import SubnetSpec
from ofa_hw.supernet import Supernet, calibrate_batch_norm
from ofa_hw.training.data import ImageData, Split

_BATCH = 100


def calibrated(net: Supernet, spec: SubnetSpec, data: ImageData, *, images: int = 500) -> nn.Module:
    """A sub-network as a plain module whose batch norms have statistics of their own.

    Shared weights leave a sub-network with the statistics of others; they are estimated anew on
    training images (https://arxiv.org/abs/1908.09791, section 3.3; the paper takes 2,000).

    Args:
        net: The supernet, which is not changed.
        spec: The sub-network.
        data: Where the images come from.
        images: How many to use at most.
    """
    module = net.extract(spec)
    calibrate_batch_norm(module, calibration_batches(data, spec.resolution, images=images))
    return module.eval()


def calibration_batches(
    data: ImageData, resolution: int, *, images: int = 500
) -> list[torch.Tensor]:
    """Training images to calibrate batch norms on, (B, C, H, W) each."""
    batches = data.batches("train", resolution, _BATCH)
    return [batch for batch, _ in itertools.islice(batches, -(-images // _BATCH))]


def top1(module: nn.Module, data: ImageData, split: Split, resolution: int) -> float:
    """Fraction of a part's images that a module classifies rightly."""
    right = 0
    with torch.inference_mode():
        for images, labels in data.batches(split, resolution, _BATCH):
            right += int((module(images).argmax(1) == labels).sum())
    return right / data.size(split)
