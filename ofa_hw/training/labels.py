"""Labels for an accuracy predictor: the measured top-1 of many sub-networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ofa_hw.spaces import SearchSpace, SubnetSpec
from ofa_hw.supernet import Supernet
from ofa_hw.training.data import ImageData
from ofa_hw.training.evaluate import calibrated, top1


@dataclass(frozen=True, slots=True)
class Label:
    """A sub-network and its accuracy.

    Attributes:
        spec: The sub-network.
        top1: Fraction of the validation images that it classifies rightly.
    """

    spec: SubnetSpec
    top1: float


def collect_labels(
    net: Supernet,
    data: ImageData,
    count: int,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Label]:
    """Evaluates sub-networks drawn at random, each resolution equally often.

    Args:
        net: The trained supernet.
        data: Its images; batch norms are calibrated on `train`, accuracy is of `validation`.
        count: How many sub-networks.
        seed: Of their choice.
        progress: Called with sub-networks done and sub-networks in all.
    """
    labels = []
    for index in range(count):
        spec = drawn_spec(net.space, index, seed=seed)
        module = calibrated(net, spec, data)
        labels.append(Label(spec, top1(module, data, "validation", spec.resolution)))
        if progress:
            progress(index + 1, count)
    return labels


def drawn_spec(space: SearchSpace, index: int, *, seed: int) -> SubnetSpec:
    """The sub-network drawn as number `index`, whatever was drawn before it."""
    resolution = space.resolutions[index % len(space.resolutions)]
    return space.sample(rng=np.random.default_rng((seed, index)), resolution=resolution)
