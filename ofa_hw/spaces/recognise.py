"""Finds the space that contains a published network, and its sub-network there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from ofa_hw.errors import SpecError
from ofa_hw.ops import OpSpec
from ofa_hw.spaces.base import SearchSpace
from ofa_hw.spaces.inverted_residual import InvertedResidualSpace
from ofa_hw.spaces.published import PublishedNetwork, read_network_config
from ofa_hw.spaces.registry import get_space, space_names
from ofa_hw.spaces.spec import SubnetSpec


def spec_from_config(
    config: str | Path | Mapping[str, Any],
    resolution: int | None = None,
    *,
    space: SearchSpace | str | None = None,
) -> SubnetSpec:
    """The sub-network that a published file describes.

    Args:
        config: See `read_network_config`.
        resolution: See `read_network_config`.
        space: The space that must contain it; by default the first known one that does.

    Raises:
        SpecError: If the file cannot be read, or no such space contains the network; the message
            says for each why not.
    """
    network = read_network_config(config, resolution)
    reasons = []
    for name in space_names() if space is None else (space,):
        candidate = get_space(name) if isinstance(name, str) else name
        try:
            return _spec_in(candidate, network)
        except SpecError as error:
            reasons.append(f"{candidate.name}: {error}")
    raise SpecError(
        f"no space contains this {network.family} ({'; '.join(reasons)}); "
        "read_network_config(...).ops still build it as a plain network"
    )


def _spec_in(space: SearchSpace, network: PublishedNetwork) -> SubnetSpec:
    if not isinstance(space, InvertedResidualSpace):
        raise SpecError("it has no inverted residuals")
    ops = network.ops
    frame = space.ops(space.largest())
    count = len(space.block_channels())
    head = len(ops) - (len(frame) - 2 - count)
    # Resolutions are compared last, so that another family is called so at any resolution.
    for op, own in zip(ops[:2] + ops[head:], frame[:2] + frame[2 + count :], strict=False):
        if op != replace(own, resolution=op.resolution):
            raise SpecError(f"it has {own} where the network has {op}")
    if network.norm_eps != space.net.norm_eps:
        raise SpecError(f"its batch norms have epsilon {space.net.norm_eps}")
    depths, kernel_sizes, expand_ratios = _genes(space, ops[2:head])
    spec = space.spec(
        resolution=ops[0].resolution,
        depths=depths,
        kernel_sizes=kernel_sizes,
        expand_ratios=expand_ratios,
    )
    for op, own in zip(ops, space.ops(spec), strict=True):
        if op != own:
            raise SpecError(f"it has {own} where the network has {op}")
    return spec


def _genes(
    space: InvertedResidualSpace, blocks: Sequence[OpSpec]
) -> tuple[list[int], list[int], list[float]]:
    """Depths, kernel sizes and expansions, full length, of a network's elastic blocks."""
    starts = [
        i
        for i, op in enumerate(blocks)
        if i == 0 or op.stride > 1 or op.in_channels != op.out_channels
    ]
    units = [blocks[a:b] for a, b in pairwise([*starts, len(blocks)])]
    if len(units) != len(space.net.units):
        raise SpecError(f"it has {len(space.net.units)} units, the network {len(units)}")
    kernel_sizes: list[int] = []
    expand_ratios: list[float] = []
    for unit, ops in zip(space.net.units, units, strict=True):
        most = max(unit.depths)
        if len(ops) > most:
            raise SpecError(f"its unit of {unit.channels} channels has up to {most} blocks")
        kernel_sizes += [op.kernel_size for op in ops] + [0] * (most - len(ops))
        expand_ratios += [_expand_ratio(space, op) for op in ops] + [0] * (most - len(ops))
    return [len(ops) for ops in units], kernel_sizes, expand_ratios


def _expand_ratio(space: InvertedResidualSpace, op: OpSpec) -> float:
    for ratio in space.expand_ratios:
        if space.middle_channels(op.in_channels, ratio) == op.mid_channels:
            return ratio
    listed = ", ".join(map(str, space.expand_ratios))
    raise SpecError(f"none of its expansions {listed} gives {op}")
