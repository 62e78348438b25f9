"""Builds the supernet of a space, with random or given weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ofa_hw.errors import SpecError
from ofa_hw.spaces import ChainSpace, InvertedResidualSpace, ResNet50Space, SearchSpace, get_space
from ofa_hw.supernet.base import Supernet
from ofa_hw.supernet.chain import ChainSupernet
from ofa_hw.supernet.checkpoint import load_weights
from ofa_hw.supernet.inverted_residual import InvertedResidualSupernet
from ofa_hw.supernet.resnet import ResNet50Supernet


def load_supernet(
    space: SearchSpace | str,
    weights: str | Path | Mapping[str, Tensor] | None = None,
    *,
    seed: int = 0,
    identity_matrices: bool = False,
) -> Supernet:
    """The supernet of a space, in training mode on the CPU.

    Args:
        space: A space or the name of one.
        weights: A checkpoint (torch's or safetensors), its contents, or None for random weights.
        seed: Of the random weights.
        identity_matrices: Whether kernel transformation matrices that `weights` lack, as those of
            a network trained at its full size do, start as identities.

    Raises:
        SpecError: If there is no such space, or no supernet of its kind.
        CheckpointError: If the file cannot be read or holds other weights than the space's.
    """
    supernet = _build(get_space(space) if isinstance(space, str) else space)
    if weights is None:
        supernet.reset_parameters(torch.Generator().manual_seed(seed))
    else:
        load_weights(supernet, weights, identity_matrices=identity_matrices)
    return supernet


def _build(space: SearchSpace) -> Supernet:
    # Every weight is set right after; on the meta device torch does not draw them twice.
    with torch.device("meta"):
        supernet: Supernet
        match space:
            case InvertedResidualSpace():
                supernet = InvertedResidualSupernet(space)
            case ResNet50Space():
                supernet = ResNet50Supernet(space)
            case ChainSpace():
                supernet = ChainSupernet(space)
            case _:
                raise SpecError(
                    f"no supernet for {space.name}, a {type(space).__name__}; write one as a "
                    "subclass of ofa_hw.supernet.Supernet, or train sub-networks by "
                    "ofa_hw.supernet.build_network(space.ops(spec))"
                )
    return supernet.to_empty(device="cpu")
