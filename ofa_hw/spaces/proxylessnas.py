"""ProxylessNAS as once-for-all made it elastic (https://arxiv.org/abs/1908.09791, 1812.00332)."""

from __future__ import annotations

from collections.abc import Sequence

from ofa_hw.spaces.inverted_residual import InvertedResidualNet, InvertedResidualSpace, Unit
from ofa_hw.spaces.mobilenetv3 import RESOLUTIONS


def proxylessnas(
    name: str,
    *,
    width: float = 1.3,
    depths: Sequence[int] = (2, 3, 4),
    kernel_sizes: Sequence[int] = (3, 5, 7),
    expand_ratios: Sequence[float] = (3, 4, 6),
    resolutions: Sequence[int] = RESOLUTIONS,
    num_classes: int = 1000,
) -> InvertedResidualSpace:
    """The elastic ProxylessNAS; the defaults are the published choices.

    Its last unit always has one block, so its depth, the sixth, is always 1. The arguments are
    those of `mobilenetv3`.
    """
    d = tuple(sorted(depths))
    net = InvertedResidualNet(
        stem_channels=32,
        stem_activation="relu6",
        first_channels=16,
        first_activation="relu6",
        units=(
            #   channels, stride, activation, squeeze-excite, depths
            Unit(24, 2, "relu6", False, d),
            Unit(40, 2, "relu6", False, d),
            Unit(80, 2, "relu6", False, d),
            Unit(96, 1, "relu6", False, d),
            Unit(192, 2, "relu6", False, d),
            Unit(320, 1, "relu6", False, (1,)),
        ),
        expand_channels=0,
        feature_channels=1280,
        norm_eps=1e-3,
    )
    return InvertedResidualSpace(
        name,
        net.scaled(width),
        resolutions=resolutions,
        kernel_sizes=kernel_sizes,
        expand_ratios=expand_ratios,
        num_classes=num_classes,
    )
