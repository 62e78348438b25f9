"""A small elastic MobileNetV3 for small grey images, which trains in a minute on a CPU."""

from __future__ import annotations

from ofa_hw.spaces.inverted_residual import InvertedResidualNet, InvertedResidualSpace, Unit


def tiny(name: str = "tiny", *, num_classes: int = 10) -> InvertedResidualSpace:
    """A MobileNetV3-like space for 8x8 digits enlarged to 24, 28 or 32 pixels.

    Args:
        name: Of the space.
        num_classes: Outputs.
    """
    net = InvertedResidualNet(
        stem_channels=16,
        stem_activation="h_swish",
        first_channels=16,
        first_activation="relu",
        units=(
            #   channels, stride, activation, squeeze-excite, depths
            Unit(24, 2, "relu", False, (1, 2, 3)),
            Unit(40, 2, "h_swish", True, (1, 2, 3)),
            Unit(64, 1, "h_swish", True, (1, 2, 3)),
        ),
        expand_channels=192,
        feature_channels=128,
        in_channels=1,
    )
    return InvertedResidualSpace(name, net, resolutions=(24, 28, 32), num_classes=num_classes)
