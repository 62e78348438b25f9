"""MobileNetV3 as once-for-all made it elastic (https://arxiv.org/abs/1908.09791, 1905.02244)."""

from __future__ import annotations

from collections.abc import Sequence

from ofa_hw.spaces.inverted_residual import InvertedResidualNet, InvertedResidualSpace, Unit

RESOLUTIONS = tuple(range(128, 225, 4))


def mobilenetv3(
    name: str,
    *,
    width: float = 1.0,
    depths: Sequence[int] = (2, 3, 4),
    kernel_sizes: Sequence[int] = (3, 5, 7),
    expand_ratios: Sequence[float] = (3, 4, 6),
    resolutions: Sequence[int] = RESOLUTIONS,
    num_classes: int = 1000,
) -> InvertedResidualSpace:
    """The elastic MobileNetV3; the defaults are the published choices.

    Args:
        name: Of the space.
        width: Multiplier of every channel count.
        depths: Blocks that a unit may run.
        kernel_sizes: Of the depthwise convolution of every elastic block.
        expand_ratios: Of every elastic block.
        resolutions: Of the input image.
        num_classes: Outputs.
    """
    d = tuple(sorted(depths))
    net = InvertedResidualNet(
        stem_channels=16,
        stem_activation="h_swish",
        first_channels=16,
        first_activation="relu",
        units=(
            #   channels, stride, activation, squeeze-excite, depths
            Unit(24, 2, "relu", False, d),
            Unit(40, 2, "relu", True, d),
            Unit(80, 2, "h_swish", False, d),
            Unit(112, 1, "h_swish", True, d),
            Unit(160, 2, "h_swish", True, d),
        ),
        expand_channels=960,
        feature_channels=1280,
    )
    return InvertedResidualSpace(
        name,
        net.scaled(width),
        resolutions=resolutions,
        kernel_sizes=kernel_sizes,
        expand_ratios=expand_ratios,
        num_classes=num_classes,
    )
