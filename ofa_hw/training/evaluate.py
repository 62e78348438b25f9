"""Accuracy of a sub-network: extracted, its batch norms calibrated, run on held-out images."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import nn

from ofa_hw.errors import SpecError
from ofa_hw.spaces import SearchSpace, SubnetSpec
from ofa_hw.supernet import Supernet, calibrate_batch_norm
from ofa_hw.training.data import ImageData, Split

CALIBRATION_IMAGES: Final = 2000  # the paper's, section 3.3; a smaller training set gives all
_BATCH: Final = 100


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A sub-network of a trained supernet.

    Attributes:
        name: What it is.
        spec: The sub-network.
        macs: Of one image.
        top1: Fraction of the validation images that it classifies rightly.
    """

    name: str
    spec: SubnetSpec
    macs: int
    top1: float


def evaluate_supernet(
    net: Supernet,
    data: ImageData,
    specs: Sequence[tuple[str, SubnetSpec]],
    *,
    images: int = CALIBRATION_IMAGES,
) -> tuple[Evaluated, ...]:
    """The validation accuracy of named sub-networks, each calibrated on training images."""
    found = []
    for name, spec in specs:
        accuracy = top1(
            calibrated(net, spec, data, images=images), data, "validation", spec.resolution
        )
        found.append(Evaluated(name, spec, net.space.macs(spec), accuracy))
    return tuple(found)


def measured_last(space: SearchSpace) -> list[tuple[str, SubnetSpec]]:
    """The smallest and the largest at the lowest and the highest resolution, and `watched`'s."""
    chosen = [
        (name, spec)
        for resolution in dict.fromkeys((space.resolutions[0], space.resolutions[-1]))
        for name, spec in (
            ("smallest", space.smallest(resolution)),
            ("largest", space.largest(resolution)),
        )
    ]
    chosen += watched(space)[2:]
    return [(f"{name} at {spec.resolution} px", spec) for name, spec in chosen]


def watched(space: SearchSpace) -> list[tuple[str, SubnetSpec]]:
    """What a run evaluates as it goes: the smallest, the largest and two random sub-networks."""
    rng = np.random.default_rng(0)
    return [
        ("smallest", space.smallest(space.resolutions[0])),
        ("largest", space.largest(space.resolutions[-1])),
        ("random 1", space.sample(rng=rng)),
        ("random 2", space.sample(rng=rng)),
    ]


def calibrated(
    net: Supernet, spec: SubnetSpec, data: ImageData, *, images: int = CALIBRATION_IMAGES
) -> nn.Module:
    """A sub-network as a plain module whose batch norms have statistics of their own.

    Shared weights leave a sub-network with the statistics of others; they are estimated anew on
    training images (https://arxiv.org/abs/1908.09791, section 3.3).

    Args:
        net: The supernet, which is not changed.
        spec: The sub-network.
        data: Where the images come from.
        images: How many to use at most.
    """
    module = net.extract(spec)
    device = _device(module)
    batches = _calibration(data, spec.resolution, images)
    calibrate_batch_norm(module, (batch.to(device) for batch in batches))
    return module.eval()


def calibration_batches(
    data: ImageData, resolution: int, *, images: int = CALIBRATION_IMAGES
) -> list[torch.Tensor]:
    """Training images to calibrate batch norms on, (B, C, H, W) each."""
    return list(_calibration(data, resolution, images))


def _calibration(data: ImageData, resolution: int, images: int) -> Iterator[torch.Tensor]:
    batches = data.batches("train", resolution, _BATCH)
    return (batch for batch, _ in itertools.islice(batches, -(-images // _BATCH)))


def top1(module: nn.Module, data: ImageData, split: Split, resolution: int) -> float:
    """Fraction of a part's images that a module classifies rightly.

    Raises:
        SpecError: If the part has no images.
    """
    right, seen = count_right(module, data, split, resolution)
    return right / seen


def count_right(
    module: nn.Module, data: ImageData, split: Split, resolution: int
) -> tuple[int, int]:
    """How many of a part's images a module classifies rightly, and of how many that can be read.

    Raises:
        SpecError: If there are none.
    """
    device = _device(module)
    right = seen = 0
    with torch.inference_mode():
        for images, labels in data.batches(split, resolution, _BATCH):
            right += int((module(images.to(device)).argmax(1).cpu() == labels).sum())
            seen += len(labels)
    if not seen:
        raise SpecError(f"there are no {split} images to measure an accuracy on")
    return right, seen


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device
