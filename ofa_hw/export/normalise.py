"""Normalisation: from the bytes of an image to what a network takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ofa_hw.errors import ExportError
from ofa_hw.graph import Graph, Node, Scale, Shift
from ofa_hw.graph.ir import Array

# Mean and standard deviation of photographs, by channels: those of ImageNet, and their grey.
IMAGE_MEAN: Final[Mapping[int, tuple[float, ...]]] = {1: (0.449,), 3: (0.485, 0.456, 0.406)}
IMAGE_STD: Final[Mapping[int, tuple[float, ...]]] = {1: (0.226,), 3: (0.229, 0.224, 0.225)}


@dataclass(frozen=True, slots=True)
class Normalisation:
    """(byte / 255 - mean) / std, each channel by its own.

    Attributes:
        mean: Of each channel, as a fraction of 255.
        std: Of each channel, likewise.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std) or not min(self.std) > 0:
            raise ExportError(
                "normalisation takes a mean and a positive standard deviation of each channel, as "
                f"fractions of 255; got {self.mean} and {self.std}"
            )

    @classmethod
    def of_photographs(cls, channels: int) -> Normalisation:
        """The usual one, which folders of images are trained with.

        Raises:
            ExportError: If images have neither one channel nor three.
        """
        if channels not in IMAGE_MEAN:
            raise ExportError(f"images of {channels} channels have no usual normalisation")
        return cls(IMAGE_MEAN[channels], IMAGE_STD[channels])

    def applied(self, pixels: npt.NDArray[Any]) -> Array:
        """Pixels (N, C, H, W) as the network takes them."""
        mean, std = self._shaped()
        normalised: Array = (pixels.astype(np.float32) / np.float32(255) - mean) / std
        return normalised

    def undone(self, images: Array) -> npt.NDArray[np.uint8]:
        """The nearest pixels of images that were normalised, (N, C, H, W)."""
        mean, std = self._shaped()
        pixels: npt.NDArray[np.uint8] = np.rint((images * std + mean) * 255).clip(0, 255)
        return pixels.astype(np.uint8)

    def before(self, graph: Graph) -> Graph:
        """The network with this in front of it: it takes pixels.

        Two nodes of their own, not folded into the first convolution: that pads with zeros after
        the normalisation, which are other pixels in each channel.

        Raises:
            ExportError: If the network takes another number of channels.
        """
        if graph.input_shape[1] != len(self.mean):
            raise ExportError(
                f"the network takes {graph.input_shape[1]} channels, and the normalisation has "
                f"{len(self.mean)}"
            )
        mean, std = np.array(self.mean, np.float64), np.array(self.std, np.float64)
        scaled, normalised = "pixels_scaled", "pixels_normalised"
        nodes = [
            Node(scaled, Scale((1 / (255 * std)).astype(np.float32)), ("pixels",)),
            Node(normalised, Shift((-mean / std).astype(np.float32)), (scaled,)),
        ]
        for node in graph.nodes:
            inputs = (normalised if name == graph.input else name for name in node.inputs)
            nodes.append(replace(node, inputs=tuple(inputs)))
        return Graph(graph.input_shape, tuple(nodes), "pixels")

    def _shaped(self) -> tuple[Array, Array]:
        mean, std = (np.array(each, np.float32)[:, None, None] for each in (self.mean, self.std))
        return mean, std
